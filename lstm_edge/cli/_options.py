"""Options that several commands share, each written once: one name, one meaning, one grammar."""

from collections.abc import Mapping
from enum import Enum, StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from lstm_edge.cli._option_form import typer_option
from lstm_edge_runtime.cli import options

__all__ = [
    "METRIC_FORMS",
    "AllowUnquantized",
    "AsJson",
    "BatchAxis",
    "BatchSize",
    "ColumnSpec",
    "Confidence",
    "Example",
    "Kernels",
    "KernelsName",
    "Labels",
    "MaxDrop",
    "MetricName",
    "MinimumVersion",
    "MissingName",
    "MissingRule",
    "Model",
    "ModelTask",
    "SignatureForm",
    "SignatureName",
    "SignedName",
    "StatePairs",
    "StepEvery",
    "Targets",
    "TaskChoice",
    "TaskName",
    "TaskOfModel",
    "Threads",
    "TimeAxis",
    "TrustedKeys",
    "arguments",
]

# Repeats lstm_edge_runtime.metrics.metric_forms, which would load NumPy before `--help`; a test compares.
METRIC_FORMS = (
    "accuracy",
    "cross-entropy",
    "mean-squared-error",
    "mean-absolute-error",
    "mse",
    "mae",
    "pearson",
    "si-sdr[:silence=refuse|skip]",
    "sdr[:silence=refuse|skip]",
    "perplexity",
    "bits-per-character",
    "macro-f1",
    "f1[:threshold=NUMBER, background=CLASS]",
    "event-f1[:tolerance=STEPS, threshold=NUMBER, background=CLASS, match=onset|both|point]",
    "auc",
    "agreement",
    "word-error-rate",
    "character-error-rate",
)


def arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return typer's values as arguments of the command's function: choices as text, options that are None left out."""
    plain = {name: value.value if isinstance(value, Enum) else value for name, value in given.items()}
    return {name: value for name, value in plain.items() if value is not None}


TABLES = "Tables (CSV, TSV, JSON Lines, Parquet)"


class TaskName(StrEnum):
    """What `--task` takes."""

    CLASSIFICATION = "classification"
    TAGGING = "tagging"
    FORECAST = "forecast"


class ModelTask(StrEnum):
    """What `--task` of `export` and `adopt` takes: the card's tasks."""

    CLASSIFICATION = "classification"
    TAGGING = "tagging"
    FORECAST = "forecast"
    LANGUAGE_MODEL = "language-model"
    GENERIC = "generic"


class MissingName(StrEnum):
    """What `--missing` takes."""

    REFUSE = "refuse"
    FFILL = "ffill"
    DROP = "drop"


class SignatureName(StrEnum):
    """What `--format` takes."""

    LSTM_EDGE = "lstm-edge"
    MODEL_SIGNING = "model-signing"


class KernelsName(StrEnum):
    """What `--kernels` takes."""

    AUTO = "auto"
    REQUIRED = "required"
    OFF = "off"


TaskOfModel = Annotated[ModelTask | None, typer.Option("--task", help="What the model is for, as its card says it.")]
Labels = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES",
        help="Names of the classes, in the order of the output: yes,no or @FILE with one a line. `run` prints them.",
    ),
]
Model = Annotated[str, typer_option(options.MODEL)]

AllowUnquantized = Annotated[
    bool, typer.Option("--allow-unquantized", help="Accept recurrent layers that stay float32.")
]
AsJson = Annotated[bool, typer_option(options.AS_JSON)]
ColumnSpec = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=TABLES,
        help="Roles of the columns, as `sequence=id,step=t,target=y,features=a+b` (docs/data.md).",
    ),
]
StepEvery = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=TABLES,
        help="Expected spacing of the steps: `1s`, `100ms`, `0.5`, or `any`. By default 1 for integers, and any even "
        "spacing otherwise.",
    ),
]
Targets = Annotated[
    str | None,
    typer.Option(metavar="Y.npy", help="Targets of the data, if these are an `.npy` file: another `.npy` file."),
]
TaskChoice = Annotated[TaskName | None, typer.Option(help="Task of the targets. By default it follows from the data.")]
MissingRule = Annotated[
    MissingName,
    typer.Option(
        rich_help_panel=TABLES,
        help="Missing cells and steps: refuse them, fill them with the step before (ffill), or drop the steps.",
    ),
]
Confidence = Annotated[
    float | None,
    typer.Option(
        help="Decide by the upper bound of a paired bootstrap at this confidence level, such as 0.95. Also the level "
        "of the report's two-sided intervals. By default the estimate decides, and the intervals have 0.95."
    ),
]
Example = Annotated[
    Path | None,
    typer.Option(help="An .npy or .npz file of inputs that the model is made for; random inputs keep to its range."),
]
Kernels = Annotated[KernelsName, typer_option(options.KERNELS)]
MaxDrop = Annotated[
    str | None,
    typer.Option(
        help="Budget, the largest allowed loss: `0.5pt` in points of the metric (shares: percentage points), `0.5dB`, "
        "`0.01` in the metric's unit, or `0.5%` of the reference's value. By default 0.5pt for a named metric and for "
        "accuracy.",
    ),
]
MetricName = Annotated[
    str | None,
    typer.Option(
        help=f"Metric: {', '.join(f'`{form}`' for form in METRIC_FORMS)}; each with `output=NAME` as a last option if "
        "the model has several outputs; or your own function, `package.module:function`, followed by `:more` or "
        "`:less` for the better direction (docs/data.md). By default accuracy for classes, mean-squared-error for "
        "values, perplexity for a text.",
    ),
]
StatePairs = Annotated[
    list[str] | None,
    typer.Option(
        "--state", metavar="IN=OUT", help="Declare input IN as the state that output OUT returns. Repeatable."
    ),
]
TrustedKeys = Annotated[list[Path] | None, typer_option(options.TRUSTED_KEYS)]
SignedName = Annotated[str | None, typer_option(options.SIGNED_NAME)]
MinimumVersion = Annotated[str | None, typer_option(options.MINIMUM_VERSION)]
SignatureForm = Annotated[SignatureName, typer_option(options.SIGNATURE_FORMAT)]
Threads = Annotated[int, typer_option(options.THREADS)]
BatchAxis = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Name of the inputs' axis that is the batch, where the model does not show it."),
]
TimeAxis = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Name of the inputs' axis that is time, where the model does not show it."),
]
BatchSize = Annotated[int, typer_option(options.BATCH_SIZE)]
