"""The options of `lstm-edge train`, each written once; `lstm_edge.commands.task_options` has which task has which."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from lstm_edge.cli._options import ColumnSpec, MissingRule, StepEvery

__all__ = [
    "KINDS",
    "TEXT_KINDS",
    "VALUE_LOSS",
    "BatchSize",
    "Bidirectional",
    "DataSpec",
    "Dropout",
    "Epochs",
    "LearningRate",
    "MaxBytes",
    "Output",
    "Patience",
    "Peephole",
    "PeepholeKind",
    "Threads",
]

MODEL, TRAINING, DATA, RUN, DEVICE = "The model", "The training", "The data", "The run", "The device"


class Peephole(StrEnum):
    """What `--peephole` takes."""

    NONE = "none"
    DIAGONAL = "diagonal"
    FULL = "full"


class Precision(StrEnum):
    """What `--precision` takes."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class Optimizer(StrEnum):
    """What `--optimizer` takes."""

    SGD = "sgd"
    ADAM = "adam"
    ADAMW = "adamw"


class Schedule(StrEnum):
    """What `--schedule` takes."""

    CONSTANT = "constant"
    COSINE = "cosine"
    STEP = "step"
    PLATEAU = "plateau"


class LossOfClasses(StrEnum):
    """What `--loss` takes where classes or tokens are learnt."""

    CROSS_ENTROPY = "cross-entropy"


class LossOfValues(StrEnum):
    """What `--loss` takes where values are learnt."""

    MSE = "mse"
    MAE = "mae"


class VocabularyKind(StrEnum):
    """What `--vocabulary` takes."""

    CHARACTER = "character"
    BYTE = "byte"
    WORD = "word"
    BPE = "bpe"


class Pad(StrEnum):
    """What `--pad` and `--truncate` take."""

    POST = "post"
    PRE = "pre"
    RANDOM = "random"


DATA_HELP = (
    "Training data: `japanese-vowels` (its training split), or a file of sequences: `.npz`, `.csv` (long form), "
    "`.tsv`, `.jsonl` or `.parquet` (docs/data.md)."
)

# `lstm-edge select` has these options too.
DataSpec = Annotated[str, typer.Option(help=DATA_HELP, show_default=False)]
Output = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        help="The `.safetensors` file to write. By default the task, such as tagging.safetensors; of `select` "
        "selected.safetensors.",
    ),
]
PeepholeKind = Annotated[
    Peephole, typer.Option(rich_help_panel=MODEL, help="Peephole connections from the cell state.")
]
Bidirectional = Annotated[
    bool, typer.Option("--bidirectional", rich_help_panel=MODEL, help="Process each sequence in both directions.")
]
Dropout = Annotated[
    float, typer.Option(rich_help_panel=MODEL, help="Dropout probability between layers and before the last one.")
]
Epochs = Annotated[
    int, typer.Option(rich_help_panel=TRAINING, help="Largest number of epochs; early stopping may end before.", min=1)
]
BatchSize = Annotated[int, typer.Option(rich_help_panel=TRAINING, help="Sequences in a batch.", min=1)]
LearningRate = Annotated[float, typer.Option(rich_help_panel=TRAINING, help="Initial learning rate.")]
MaxBytes = Annotated[
    str | None, typer.Option(rich_help_panel=DEVICE, help="Largest size of the int8 model in bytes, such as 100k.")
]
Patience = Annotated[
    int,
    typer.Option(rich_help_panel=TRAINING, help="Epochs without a lower held-out loss before training stops.", min=1),
]
Threads = Annotated[int, typer.Option(rich_help_panel=RUN, help="Number of compute threads.", min=1)]


def _option(kind: Any, panel: str, text: str, *flags: str, **more: Any) -> Any:
    return Annotated[kind, typer.Option(*flags, rich_help_panel=panel, help=text, **more)]


# Parameter name -> the annotation that typer reads.
KINDS: dict[str, Any] = {
    "data": DataSpec,
    "output": Output,
    "columns": ColumnSpec,
    "step_every": StepEvery,
    "missing": MissingRule,
    "front_end": _option(
        str | None,
        DATA,
        "For a folder of WAV files by label: the features to train on, as for `export`, such as log-mel:40.",
        metavar="KIND",
    ),
    "peephole": PeepholeKind,
    "bidirectional": Bidirectional,
    "dropout": Dropout,
    "epochs": Epochs,
    "batch_size": BatchSize,
    "learning_rate": LearningRate,
    "max_bytes": MaxBytes,
    "patience": Patience,
    "threads": Threads,
    "held_out_data": _option(str | None, DATA, "Held-out data, in the form of --data, instead of a share of --data."),
    "held_out": _option(float, DATA, "Share of the data held out."),
    "pad": _option(Pad, DATA, "Side of the padding; it never changes an answer."),
    "truncate": _option(Pad, DATA, "Side at which steps over --max-length are dropped."),
    "max_length": _option(int | None, DATA, "Largest number of steps in a sequence.", min=1),
    "bucket": _option(bool, DATA, "Group sequences of similar lengths into batches.", "--bucket/--no-bucket"),
    "pack": _option(
        bool, DATA, "Pack sequences of different lengths: slower, but skips the padding.", "--pack/--no-pack"
    ),
    "vocabulary": _option(VocabularyKind, DATA, "Kind of token."),
    "vocabulary_size": _option(int | None, DATA, "Keep the most frequent tokens only."),
    "max_vocabulary": _option(int | None, DATA, "Refuse a larger vocabulary; the device's limit, in tokens."),
    "lines": _option(bool, DATA, "Treat each line as a separate text that ends with an end token.", "--lines"),
    "embedding": _option(
        int | None, MODEL, "Size of a token's embedding. By default 64; with --tied the output's size."
    ),
    "hidden": _option(int, MODEL, "Size of the hidden state.", min=1),
    "layers": _option(int, MODEL, "Number of LSTM layers.", min=1),
    "projection": _option(int, MODEL, "Size of the projected output; 0: no projection.", min=0),
    "tied": _option(bool, MODEL, "Share the embedding matrix with the last layer.", "--tied"),
    "input_noise": _option(float, MODEL, "Standard deviation of the noise added to the standardized inputs."),
    "forget_bias": _option(float, MODEL, "Initial bias of the forget gates."),
    "window": _option(int, TRAINING, "Length of truncated back-propagation, in tokens.", min=1),
    "reset_probability": _option(float, TRAINING, "Probability that a row of text starts a window from a zero state."),
    "precision": _option(
        Precision, TRAINING, "Arithmetic of the passes; bfloat16 is about twice as fast where the processor has it."
    ),
    "loss": _option(LossOfClasses, TRAINING, "Loss to minimize."),
    "label_smoothing": _option(float, TRAINING, "Share of probability spread over all classes."),
    "optimizer": _option(Optimizer, TRAINING, "Optimizer."),
    "momentum": _option(float, TRAINING, "Momentum of sgd."),
    "weight_decay": _option(float, TRAINING, "Weight decay of the matrices; biases do not decay."),
    "schedule": _option(Schedule, TRAINING, "Learning-rate schedule."),
    "warmup": _option(float, TRAINING, "Share of the training in which the learning rate rises from 0."),
    "step_epochs": _option(
        int, TRAINING, "step: epochs between reductions of the rate; plateau: epochs without a lower loss.", min=1
    ),
    "step_factor": _option(float, TRAINING, "step, plateau: factor of each reduction."),
    "clip_norm": _option(float, TRAINING, "Largest norm of the gradient; 0: no clipping.", min=0.0),
    "max_minutes": _option(
        float | None,
        TRAINING,
        "Time limit in minutes; the schedule follows the clock. Such a run is not reproducible bit for bit.",
    ),
    "max_updates": _option(int | None, TRAINING, "Largest number of updates in all; the schedule follows them.", min=1),
    "quantize_aware": _option(
        str | None,
        TRAINING,
        "Scheme of quantization-aware training: int8, int4 (int4:128), int4:32, int4:32:zero or int4:128:zero. Best "
        "with --from.",
        metavar="SCHEME",
    ),
    "sparse": _option(
        str | None,
        TRAINING,
        "Final density of the recurrent layers in blocks of 16 outputs by 4 inputs: 0.33, w=0.5,r=0.25 or "
        "i=0.5,f=0.2,g=0.3,o=0.3. Best with --from.",
        metavar="DENSITY",
    ),
    "sparse_begin": _option(float, TRAINING, "Share of the training at which pruning begins."),
    "sparse_end": _option(float, TRAINING, "Share of the training at which the final density is reached."),
    "sparse_diagonal": _option(
        bool, TRAINING, "Keep the blocks on the diagonals of the recurrent matrices.", "--sparse-diagonal"
    ),
    "start": _option(
        Path | None,
        TRAINING,
        "Start from this trained `.safetensors` model of the same task and sizes.",
        "--from",
        metavar="MODEL",
    ),
    "teacher": _option(
        Path | None,
        TRAINING,
        "Distillation: learn also from this trained `.safetensors` model of the same task, inputs and outputs, of any "
        "size.",
        metavar="MODEL",
    ),
    "temperature": _option(
        float | None, TRAINING, "Divides the logits of teacher and student, 0.01 to 1000. By default 2."
    ),
    "alpha": _option(float | None, TRAINING, "Share of the teacher in the loss, 0 to 1. By default 0.5."),
    "seed": _option(
        int, TRAINING, "Random seed of the initial weights, the order, the noise and the held-out part.", min=0
    ),
    "resume_file": _option(
        Path | None, RUN, "File of the training state during training. By default OUTPUT with `.resume` appended."
    ),
    "resume": _option(bool, RUN, "Continue an interrupted training from that file.", "--resume"),
    "plot": _option(Path | None, RUN, "Plot the curves to this file: .svg, .png or .pdf."),
    "as_json": _option(bool, RUN, "Print each epoch, then the report, as a line of JSON.", "--json"),
}

VALUE_LOSS = _option(LossOfValues, TRAINING, "Loss to minimize: squared or absolute error.")

# Options with another type or meaning for a text.
TEXT_KINDS: dict[str, Any] = {
    "data": Annotated[
        str,
        typer.Option(
            help="Training data: `king-james` (bundled), or a text file in UTF-8. The first 90 % are trained on, the "
            "next 5 % held out, the last 5 % never read.",
            show_default=False,
        ),
    ],
    "batch_size": _option(int, TRAINING, "Rows of text in a batch.", min=1),
    "seed": _option(int, TRAINING, "Random seed of the initial weights, the dropout and the resets.", min=0),
    "threads": _option(int | None, RUN, "Number of compute threads. By default one per core.", min=1),
}
