"""What each option of the command line means: one row a name, the same meaning in every command that has it."""

from support.device_option_meanings import DEVICE_MEANINGS, FLEET
from support.fleet_option_meanings import FLEET_MEANINGS
from support.training_option_meanings import LOGITS, SEQUENCES, TRAIN, TRAINING_MEANINGS, Row

__all__ = ["MEANINGS"]

EVERY = (
    *TRAIN,
    *FLEET,
    *("adopt", "bench", "bundle", "check", "data check", "export", "inspect", "keygen", "quantize", "run", "select"),
    *("sign", "validate", "zoo get", "zoo list"),
)

MEANINGS = {
    **TRAINING_MEANINGS,
    **DEVICE_MEANINGS,
    **FLEET_MEANINGS,
    "--against": Row("path", "The reference that the candidate is compared with.", ("validate",)),
    "--allow-unquantized": Row(
        "flag",
        "Accept recurrent layers that stay float32.",
        (
            "export",
            "quantize",
        ),
    ),
    "--batch-axis": Row("text", "Name of the inputs' axis that is the batch.", ("export", "adopt")),
    "--batch-size": Row(
        "integer",
        "Rows (sequences, or rows of a text) computed together.",
        (
            "select",
            "run",
            "bench",
            *TRAIN,
        ),
    ),
    "--bidirectional": Row(
        "flag",
        "Layers read in both directions.",
        (
            "select",
            *SEQUENCES,
        ),
    ),
    "--block": Row("integer", "Inputs that share a scale of int4.", ("quantize",)),
    "--calls": Row("flag", "Answer calls with archives of arrays.", ("run",)),
    "--calibration-samples": Row("integer", "Samples that activations are collected on.", ("quantize",)),
    "--clip/--no-clip": Row("flag", "Whether quantization scales may cut outlier weights off.", ("quantize",)),
    "--convolutions": Row("choice", "Which convolutions become int8 with fixed activation scales.", ("quantize",)),
    "--columns": Row(
        "text",
        "Which columns of a table mean what.",
        (
            "data check",
            "select",
            "export",
            "quantize",
            "validate",
            *SEQUENCES,
        ),
    ),
    "--compensate/--no-compensate": Row(
        "flag", "Whether rounding makes up for the errors of other weights.", ("quantize",)
    ),
    "--confidence": Row(
        "number",
        "Confidence of the bound that decides about the budget.",
        (
            "export",
            "quantize",
            "validate",
        ),
    ),
    "--data": Row(
        "text",
        "Data that the command works on: trains, tunes, calibrates or judges.",
        (
            "select",
            "export",
            "quantize",
            "validate",
            *TRAIN,
        ),
    ),
    "--densities": Row("text", "Densities of the recurrent layers to compare.", ("select",)),
    "--dropout": Row(
        "number",
        "Share of values dropped in training.",
        (
            "select",
            *TRAIN,
        ),
    ),
    "--epochs": Row(
        "integer",
        "The most epochs of a training.",
        (
            "select",
            *TRAIN,
        ),
    ),
    "--example": Row("path", "Inputs that the model is made for.", ("export", "adopt")),
    "--fix": Row("texts", "An input that becomes a constant.", ("adopt",)),
    "--folds": Row("integer", "Folds of the cross-validation.", ("select",)),
    "--force": Row("flag", "Overwrite the report's .json without asking.", ("quantize",)),
    "--front-end": Row(
        "text", "Features of samples, which the exported file computes.", ("export", "train classification")
    ),
    "--gates": Row("flag", "Let the gates of an LSTM have different schemes.", ("quantize",)),
    "--held-out-data": Row(
        "text",
        "Data held out instead of a part of --data.",
        (
            "quantize",
            *TRAIN,
        ),
    ),
    "--hidden-sizes": Row("text", "Sizes of the hidden state to compare.", ("select",)),
    "--input": Row(
        "texts",
        "Name, dtype and axes of an input.",
        (
            "export",
            "adopt",
        ),
    ),
    "--json": Row(
        "flag",
        "Print the result as JSON.",
        (
            *FLEET,
            "data check",
            "select",
            "export",
            "adopt",
            "zoo list",
            "zoo get",
            "quantize",
            "validate",
            "inspect",
            "check",
            "run",
            "bench",
            "keygen",
            "sign",
            "bundle",
            *TRAIN,
        ),
    ),
    "--kernels": Row(
        "choice",
        "Whether the fused kernels are used.",
        (
            "check",
            "run",
            "bench",
            "validate",
        ),
    ),
    "--layer-counts": Row("text", "Numbers of layers to compare.", ("select",)),
    "--layer-kinds": Row("choice", "Which kinds of layers are quantized.", ("quantize",)),
    "--learning-rate": Row(
        "number",
        "Learning rate at the start.",
        (
            "select",
            *TRAIN,
        ),
    ),
    "--labels": Row("text", "Names of the classes.", ("export", "adopt")),
    "--lengths": Row("flag", "Give the exported file an input for the valid steps of each row.", ("export",)),
    "--load-state": Row("path", "File that the state is read from before a run.", ("run",)),
    "--max-bytes": Row(
        "text",
        "Limit on the bytes of the int8 model.",
        (
            "select",
            "train language-model",
        ),
    ),
    "--metrics": Row("path", "The file that counters and samples of a stream are written to.", ("run",)),
    "--metrics-every": Row("integer", "Every how many pushes one is sampled.", ("run",)),
    "--metrics-format": Row("choice", "Form of the file of metrics.", ("run",)),
    "--max-drop": Row(
        "text",
        "How much worse than the reference a model may be.",
        (
            "export",
            "quantize",
            "validate",
        ),
    ),
    "--max-evaluations": Row("integer", "Limit on the files that a search builds and judges.", ("quantize",)),
    "--max-step-us": Row("text", "Limit on the microseconds of a step on this machine.", ("select",)),
    "--metric": Row(
        "text",
        "What a model is judged by.",
        (
            "select",
            "export",
            "quantize",
            "validate",
        ),
    ),
    "--missing": Row(
        "choice",
        "What becomes of missing cells and steps of a table.",
        (
            "data check",
            "select",
            "export",
            "quantize",
            "validate",
            *SEQUENCES,
        ),
    ),
    "--on-bad-line": Row("choice", "What a line that cannot be run does to a stream.", ("run",)),
    "--output-name": Row("texts", "Name of an output of the exported file.", ("export",)),
    "--output/-o": Row(
        "path",
        "File to write the result to.",
        (
            "select",
            "export",
            "adopt",
            "zoo get",
            "quantize",
            "run",
            "sign",
            "bundle",
            *TRAIN,
        ),
    ),
    "--part": Row("texts", "Quantization scheme of a part of a layer.", ("quantize",)),
    "--patience": Row(
        "integer",
        "Epochs without a lower held-out loss before training stops.",
        (
            "select",
            *TRAIN,
        ),
    ),
    "--peephole": Row(
        "choice",
        "Peephole connections from the cell state.",
        (
            "select",
            *TRAIN,
        ),
    ),
    "--plain": Row("flag", "Inline the lstm_edge functions.", ("export",)),
    "--plot": Row(
        "path",
        "File to draw the result into.",
        (
            "select",
            *TRAIN,
        ),
    ),
    "--prefer": Row("choice", "What the search makes small: size or latency.", ("quantize",)),
    "--prompt": Row("text", "Text that a language model continues.", ("run",)),
    "--provider": Row(
        "choice",
        "Execution provider of onnxruntime.",
        (
            "inspect",
            "check",
            "run",
            "bench",
        ),
    ),
    "--repeats": Row("integer", "Whole sequences that are timed.", ("bench",)),
    "--quiet/-q": Row("flag", "Print results and errors only.", EVERY),
    "--reference-data": Row("text", "Data whose distribution the card records.", ("quantize",)),
    "--report": Row("path", "HTML report of a search.", ("quantize",)),
    "--resume": Row(
        "flag",
        "Continue interrupted work.",
        (
            "quantize",
            *TRAIN,
        ),
    ),
    "--row-lengths": Row("text", "Valid steps of each row of the input.", ("run",)),
    "--save-state": Row("path", "File that the state is written to after a run.", ("run",)),
    "--scale-search/--no-scale-search": Row("flag", "Whether quantization scales are searched.", ("quantize",)),
    "--scheme": Row(
        "choice",
        "Quantization scheme of the file.",
        (
            "export",
            "quantize",
        ),
    ),
    "--score": Row("text", "Text whose tokens get their log-probabilities.", ("run",)),
    "--seed": Row(
        "integer",
        "Seed of the random draws.",
        (
            "select",
            "quantize",
            "validate",
            "run",
            *TRAIN,
        ),
    ),
    "--split": Row("choice", "How sequences are put into folds.", ("select",)),
    "--show-labels": Row("flag", "Print the names of the classes.", ("run",)),
    "--state": Row("texts", "An input and the output that leaves its next value.", ("export", "adopt")),
    "--sequence": Row("flag", "Loop over time: a file of one step per call takes a whole sequence.", ("adopt",)),
    "--stateful": Row("flag", "Make the hidden zero states of a file explicit.", ("adopt",)),
    "--states": Row("choice", "Whether the states of a module become inputs and outputs.", ("export",)),
    "--sparse": Row("choice", "What becomes of zero blocks of recurrent weights.", ("quantize",)),
    "--step-every": Row(
        "text",
        "Expected spacing of the steps of a table.",
        (
            "data check",
            "select",
            "export",
            "quantize",
            "validate",
            *SEQUENCES,
        ),
    ),
    "--steps": Row("integer", "Streaming steps that are timed.", ("bench",)),
    "--storage": Row("text", "Database through which several processes share the work.", ("quantize", "select")),
    "--stream": Row("flag", "Run line by line from standard input.", ("run",)),
    "--task": Row("choice", "What the targets are for.", ("select", "data check", "export", "adopt")),
    "--temperature": Row("number", "Divisor of logits before the softmax.", ("run", *LOGITS)),
    "--targets": Row(
        "text",
        "The file of the targets, for data in a file of one array.",
        (
            "data check",
            "export",
            "quantize",
            "validate",
        ),
    ),
    "--threads": Row(
        "integer",
        "Threads that compute.",
        (
            "select",
            "export",
            "quantize",
            "validate",
            "check",
            "run",
            "bench",
            *TRAIN,
        ),
    ),
    "--time-axis": Row("text", "Name of the inputs' axis that is time.", ("export", "adopt")),
    "--time-steps": Row("integer", "Length of the timed sequences.", ("bench",)),
    "--tokens": Row("integer", "Limit on the tokens that a language model writes.", ("run",)),
    "--top-k": Row("integer", "Draw only from the k most probable tokens.", ("run",)),
    "--top-p": Row("number", "Draw only from the most probable tokens of this share.", ("run",)),
    "--verbose/-v": Row("flag", "Print also what happens.", EVERY),
    "--weights": Row("path", "Weights for the module of a factory.", ("export",)),
    "--weights-key": Row("text", "Which of a checkpoint's dicts holds the weights.", ("export",)),
    "--weights-prefix": Row("text", "The prefix of the names of the weights.", ("export",)),
    "--workers": Row("integer", "Processes that share the work.", ("quantize",)),
    "--zero-points": Row("flag", "Whether each int4 block has a zero point.", ("quantize",)),
}
