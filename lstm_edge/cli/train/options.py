"""The options that several tasks of `lstm-edge train` share, each written once.

The defaults stand in the commands: they repeat those of the library, which would load torch before `--help`. A test
holds the two together.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["LossOfClasses", "LossOfValues", "Optimizer", "Pad", "Peephole", "Schedule"]

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


class Pad(StrEnum):
    """What `--pad` and `--truncate` take."""

    POST = "post"
    PRE = "pre"
    RANDOM = "random"


DATA_HELP = (
    "`japanese-vowels` (its training split), or a file of sequences: `.npz`, `.csv` (long form) or `.jsonl`; see "
    "docs/data.md."
)

DataSpec = Annotated[str, typer.Option(help=DATA_HELP, show_default=False)]
Output = Annotated[Path, typer.Option("-o", "--output", help="The `.safetensors` file to write.", show_default=False)]
HeldOutData = Annotated[
    str | None,
    typer.Option(rich_help_panel=DATA, help="Hold this data out, like --data, instead of a part of it."),
]
ColumnSpec = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=DATA, help="Which columns of a CSV mean what, as `sequence=id,step=t,target=y,features=a+b`."
    ),
]
HeldOut = Annotated[float, typer.Option(rich_help_panel=DATA, help="Share of the data held out.")]
PadAt = Annotated[Pad, typer.Option(rich_help_panel=DATA, help="Where padding goes; never changes an answer.")]
TruncateAt = Annotated[Pad, typer.Option(rich_help_panel=DATA, help="Which steps over --max-length are dropped.")]
MaxLength = Annotated[int | None, typer.Option(rich_help_panel=DATA, help="The most steps of a sequence.")]
Bucket = Annotated[bool, typer.Option("--bucket/--no-bucket", rich_help_panel=DATA, help="Batches of similar lengths.")]
Pack = Annotated[
    bool,
    typer.Option(
        "--pack/--no-pack",
        rich_help_panel=DATA,
        help="Pack sequences of different lengths: slower, no padding computed.",
    ),
]

Hidden = Annotated[int, typer.Option(rich_help_panel=MODEL, help="Size of the hidden state.")]
Layers = Annotated[int, typer.Option(rich_help_panel=MODEL, help="LSTM layers.")]
PeepholeKind = Annotated[
    Peephole, typer.Option(rich_help_panel=MODEL, help="Peephole connections from the cell state.")
]
Projection = Annotated[int, typer.Option(rich_help_panel=MODEL, help="Size of the projected output; 0: no projection.")]
Bidirectional = Annotated[bool, typer.Option("--bidirectional", rich_help_panel=MODEL, help="Read in both directions.")]
Dropout = Annotated[
    float, typer.Option(rich_help_panel=MODEL, help="Share dropped between layers and before the last one.")
]
InputNoise = Annotated[
    float,
    typer.Option(rich_help_panel=MODEL, help="Standard deviation of the noise added to the standardized inputs."),
]
ForgetBias = Annotated[float, typer.Option(rich_help_panel=MODEL, help="First bias of the forget gates.")]

Epochs = Annotated[int, typer.Option(rich_help_panel=TRAINING, help="The most epochs; training stops early.")]
BatchSize = Annotated[int, typer.Option(rich_help_panel=TRAINING, help="Sequences in a batch.")]
LearningRate = Annotated[float, typer.Option(rich_help_panel=TRAINING, help="Learning rate at the start.")]
OptimizerName = Annotated[Optimizer, typer.Option(rich_help_panel=TRAINING, help="What makes the steps.")]
Momentum = Annotated[float, typer.Option(rich_help_panel=TRAINING, help="Momentum of sgd.")]
WeightDecay = Annotated[float, typer.Option(rich_help_panel=TRAINING, help="Weight decay of the matrices.")]
ScheduleName = Annotated[Schedule, typer.Option(rich_help_panel=TRAINING, help="How the learning rate goes down.")]
Warmup = Annotated[
    float, typer.Option(rich_help_panel=TRAINING, help="Share of the training in which the rate rises from 0.")
]
StepEpochs = Annotated[
    int, typer.Option(rich_help_panel=TRAINING, help="step: epochs between cuts; plateau: epochs without gain.")
]
StepFactor = Annotated[float, typer.Option(rich_help_panel=TRAINING, help="step, plateau: a cut's factor.")]
ClipNorm = Annotated[
    float, typer.Option(rich_help_panel=TRAINING, help="Bound of the gradients' norm; 0: no clipping.", min=0.0)
]
LossForClasses = Annotated[LossOfClasses, typer.Option(rich_help_panel=TRAINING, help="What is lowered.")]
LossForValues = Annotated[
    LossOfValues, typer.Option(rich_help_panel=TRAINING, help="What is lowered: squared or absolute error.")
]
LabelSmoothing = Annotated[
    float, typer.Option(rich_help_panel=TRAINING, help="Share of probability spread over all classes.")
]
Patience = Annotated[
    int, typer.Option(rich_help_panel=TRAINING, help="Epochs without a lower held-out loss before it stops.")
]
MaxMinutes = Annotated[
    float | None,
    typer.Option(
        rich_help_panel=TRAINING,
        help="Stop after this time; the schedule follows the clock. Such a run cannot be repeated to the bit.",
    ),
]
MaxUpdates = Annotated[
    int | None,
    typer.Option(rich_help_panel=TRAINING, help="Stop after so many updates in all; the schedule follows them.", min=1),
]
MaxBytes = Annotated[
    str | None, typer.Option(rich_help_panel=DEVICE, help="The device's budget for the int8 model, such as 100k.")
]
QuantizeAware = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=TRAINING,
        metavar="SCHEME",
        help="Train with the arithmetic of the quantized file: int8, int4, int4:128, int4:32:zero or int4:128:zero. "
        "Best with --from.",
    ),
]
Start = Annotated[
    Path | None,
    typer.Option(
        "--from",
        rich_help_panel=TRAINING,
        metavar="MODEL",
        help="Start from this trained `.safetensors` model of the same task and sizes.",
    ),
]
Seed = Annotated[
    int, typer.Option(rich_help_panel=TRAINING, help="Decides first weights, order, noise and the held-out part.")
]

Threads = Annotated[int, typer.Option(rich_help_panel=RUN, help="Threads that compute.", min=1)]
ResumeFile = Annotated[
    Path | None,
    typer.Option(
        rich_help_panel=RUN,
        help="Where the state is kept while it trains. By default: OUTPUT with `.resume` behind.",
    ),
]
Resume = Annotated[
    bool, typer.Option("--resume", rich_help_panel=RUN, help="Go on from that state after an interruption.")
]
Plot = Annotated[
    Path | None, typer.Option(rich_help_panel=RUN, help="Draw the curves into this file: .svg, .png or .pdf.")
]
AsJson = Annotated[
    bool, typer.Option("--json", rich_help_panel=RUN, help="Print each epoch, then the report, as a line of JSON.")
]
