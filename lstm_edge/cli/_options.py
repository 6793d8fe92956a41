"""Options that several commands share, each written once: one name, one meaning, one grammar."""

from collections.abc import Mapping
from enum import Enum
from typing import Annotated, Any

import typer

__all__ = [
    "METRIC_NAMES",
    "AllowUnquantized",
    "AsJson",
    "BatchSize",
    "ColumnSpec",
    "Confidence",
    "Kernels",
    "MaxDrop",
    "MetricName",
    "Model",
    "Provider",
    "StatePairs",
    "Threads",
    "arguments",
]

# Repeats the keys of lstm_edge_runtime.metrics.METRICS, which would load NumPy before `--help`; a test compares.
METRIC_NAMES = (
    "accuracy",
    "cross-entropy",
    "mean-squared-error",
    "mean-absolute-error",
    "perplexity",
    "bits-per-character",
    "macro-f1",
    "auc",
    "agreement",
    "word-error-rate",
    "character-error-rate",
)


def arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what typer read as the arguments of the command's function: choices as text, without what is not given."""
    plain = {name: value.value if isinstance(value, Enum) else value for name, value in given.items()}
    return {name: value for name, value in plain.items() if value is not None}


Model = Annotated[str, typer.Argument(help="The .onnx file.", metavar="MODEL.onnx")]

AllowUnquantized = Annotated[
    bool, typer.Option("--allow-unquantized", help="Accept recurrent layers that stay float32.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")]
ColumnSpec = Annotated[
    str | None,
    typer.Option(help="Which columns of a CSV mean what, as `sequence=id,step=t,target=y,features=a+b`."),
]
Confidence = Annotated[
    float | None,
    typer.Option(
        help="Let the bound of a paired bootstrap at this confidence decide, such as 0.95. The report has "
        "two-sided intervals at this confidence, or at 0.95."
    ),
]
Kernels = Annotated[str, typer.Option(help="Fused kernels: auto, required or off.")]
MaxDrop = Annotated[
    str | None,
    typer.Option(
        help="How much worse the candidate may be: `0.5pt` in points of the metric (accuracy: percentage points), "
        "`0.5%` of the reference's value. By default 0.5pt of a metric that is named, and of accuracy.",
    ),
]
MetricName = Annotated[
    str | None,
    typer.Option(
        help=f"One of {', '.join(METRIC_NAMES)}; or a function of your own, `package.module:function`, with "
        "`:more` or `:less` behind it for what is better (docs/data.md). By default accuracy for classes, "
        "mean-squared-error for values, perplexity for a text.",
    ),
]
Provider = Annotated[str, typer.Option(help="Execution provider: cpu or cuda.")]
StatePairs = Annotated[
    list[str] | None,
    typer.Option("--state", metavar="IN=OUT", help="An input that is the state left by an output. Repeatable."),
]
Threads = Annotated[int, typer.Option(help="Threads that compute.", min=1)]
BatchSize = Annotated[int, typer.Option(help="Rows side by side.", min=1)]
