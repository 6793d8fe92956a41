"""The options of `lstm-edge train`, each written once; `lstm_edge.commands.task_options` has which task has which."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = [
    "KINDS",
    "TEXT_KINDS",
    "VALUE_LOSS",
    "BatchSize",
    "Bidirectional",
    "ColumnSpec",
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
    "`japanese-vowels` (its training split), or a file of sequences: `.npz`, `.csv` (long form) or `.jsonl`; see "
    "docs/data.md."
)

# Those that `lstm-edge select` has too.
DataSpec = Annotated[str, typer.Option(help=DATA_HELP, show_default=False)]
Output = Annotated[Path, typer.Option("-o", "--output", help="The `.safetensors` file to write.", show_default=False)]
ColumnSpec = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=DATA, help="Which columns of a CSV mean what, as `sequence=id,step=t,target=y,features=a+b`."
    ),
]
PeepholeKind = Annotated[
    Peephole, typer.Option(rich_help_panel=MODEL, help="Peephole connections from the cell state.")
]
Bidirectional = Annotated[bool, typer.Option("--bidirectional", rich_help_panel=MODEL, help="Read in both directions.")]
Dropout = Annotated[
    float, typer.Option(rich_help_panel=MODEL, help="Share dropped between layers and before the last one.")
]
Epochs = Annotated[int, typer.Option(rich_help_panel=TRAINING, help="The most epochs; training stops early.")]
BatchSize = Annotated[int, typer.Option(rich_help_panel=TRAINING, help="Sequences in a batch.")]
LearningRate = Annotated[float, typer.Option(rich_help_panel=TRAINING, help="Learning rate at the start.")]
MaxBytes = Annotated[
    str | None, typer.Option(rich_help_panel=DEVICE, help="The device's budget for the int8 model, such as 100k.")
]
Patience = Annotated[
    int, typer.Option(rich_help_panel=TRAINING, help="Epochs without a lower held-out loss before it stops.")
]
Threads = Annotated[int, typer.Option(rich_help_panel=RUN, help="Threads that compute.", min=1)]


def _option(kind: Any, panel: str, text: str, *flags: str, **more: Any) -> Any:
    return Annotated[kind, typer.Option(*flags, rich_help_panel=panel, help=text, **more)]


# What typer reads each option by, under the name of its parameter.
KINDS: dict[str, Any] = {
    "data": DataSpec,
    "output": Output,
    "columns": ColumnSpec,
    "peephole": PeepholeKind,
    "bidirectional": Bidirectional,
    "dropout": Dropout,
    "epochs": Epochs,
    "batch_size": BatchSize,
    "learning_rate": LearningRate,
    "max_bytes": MaxBytes,
    "patience": Patience,
    "threads": Threads,
    "held_out_data": _option(str | None, DATA, "Hold this data out, like --data, instead of a part of it."),
    "held_out": _option(float, DATA, "Share of the data held out."),
    "pad": _option(Pad, DATA, "Where padding goes; never changes an answer."),
    "truncate": _option(Pad, DATA, "Which steps over --max-length are dropped."),
    "max_length": _option(int | None, DATA, "The most steps of a sequence."),
    "bucket": _option(bool, DATA, "Batches of similar lengths.", "--bucket/--no-bucket"),
    "pack": _option(
        bool, DATA, "Pack sequences of different lengths: slower, no padding computed.", "--pack/--no-pack"
    ),
    "vocabulary": _option(VocabularyKind, DATA, "What a token is."),
    "vocabulary_size": _option(int | None, DATA, "Keep the most frequent tokens only."),
    "max_vocabulary": _option(int | None, DATA, "The device's budget: refuse more tokens than this."),
    "lines": _option(bool, DATA, "Each line is a text of its own, closed by an end token.", "--lines"),
    "embedding": _option(int | None, MODEL, "Size of a token's vector. By default 64; tied: the output's size."),
    "hidden": _option(int, MODEL, "Size of the hidden state."),
    "layers": _option(int, MODEL, "LSTM layers."),
    "projection": _option(int, MODEL, "Size of the projected output; 0: no projection."),
    "tied": _option(bool, MODEL, "Use the embedding as the last layer's matrix too.", "--tied"),
    "input_noise": _option(float, MODEL, "Standard deviation of the noise added to the standardized inputs."),
    "forget_bias": _option(float, MODEL, "First bias of the forget gates."),
    "window": _option(int, TRAINING, "Tokens that the gradient goes back through."),
    "reset_probability": _option(
        float, TRAINING, "Probability with which a row of text starts a window from a fresh state."
    ),
    "loss": _option(LossOfClasses, TRAINING, "What is lowered."),
    "label_smoothing": _option(float, TRAINING, "Share of probability spread over all classes."),
    "optimizer": _option(Optimizer, TRAINING, "What makes the steps."),
    "momentum": _option(float, TRAINING, "Momentum of sgd."),
    "weight_decay": _option(float, TRAINING, "Weight decay of the matrices."),
    "schedule": _option(Schedule, TRAINING, "How the learning rate goes down."),
    "warmup": _option(float, TRAINING, "Share of the training in which the rate rises from 0."),
    "step_epochs": _option(int, TRAINING, "step: epochs between cuts; plateau: epochs without gain."),
    "step_factor": _option(float, TRAINING, "step, plateau: a cut's factor."),
    "clip_norm": _option(float, TRAINING, "Bound of the gradients' norm; 0: no clipping.", min=0.0),
    "max_minutes": _option(
        float | None,
        TRAINING,
        "Stop after this time; the schedule follows the clock. Such a run cannot be repeated to the bit.",
    ),
    "max_updates": _option(
        int | None, TRAINING, "Stop after so many updates in all; the schedule follows them.", min=1
    ),
    "quantize_aware": _option(
        str | None,
        TRAINING,
        "Train with the arithmetic of the quantized file: int8, int4, int4:128, int4:32:zero or int4:128:zero. "
        "Best with --from.",
        metavar="SCHEME",
    ),
    "start": _option(
        Path | None,
        TRAINING,
        "Start from this trained `.safetensors` model of the same task and sizes.",
        "--from",
        metavar="MODEL",
    ),
    "seed": _option(int, TRAINING, "Decides first weights, order, noise and the held-out part."),
    "resume_file": _option(
        Path | None, RUN, "Where the state is kept while it trains. By default: OUTPUT with `.resume` behind."
    ),
    "resume": _option(bool, RUN, "Go on from that state after an interruption.", "--resume"),
    "plot": _option(Path | None, RUN, "Draw the curves into this file: .svg, .png or .pdf."),
    "as_json": _option(bool, RUN, "Print each epoch, then the report, as a line of JSON.", "--json"),
}

VALUE_LOSS = _option(LossOfValues, TRAINING, "What is lowered: squared or absolute error.")

# What means something else for a text, in kind or in words.
TEXT_KINDS: dict[str, Any] = {
    "data": Annotated[
        str,
        typer.Option(
            help="`king-james` (bundled), or a text file in UTF-8: its first 90 % are trained on, the next 5 % held "
            "out, the last 5 % never read.",
            show_default=False,
        ),
    ],
    "batch_size": _option(int, TRAINING, "Rows of text read side by side."),
    "seed": _option(int, TRAINING, "Decides first weights, dropout and resets."),
    "threads": _option(int | None, RUN, "Threads that compute. By default: one a core.", min=1),
}
