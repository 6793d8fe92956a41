"""The export pipeline: load the source, build the float32 file, optionally quantize and validate it, then write."""

import contextlib
import dataclasses
import inspect
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lstm_edge._imports import current_folder_last, extra_named, import_object
from lstm_edge.amounts import beside_scale
from lstm_edge.refusals import KERAS_FILES, is_factory, refuse_checkpoint
from lstm_edge.refused_options import check_export_options
from lstm_edge_exporters.pytorch.options import ExportOptions
from lstm_edge_runtime.card import ModelCard
from lstm_edge_runtime.errors import BudgetError, CaptureError, InputError, first_line
from lstm_edge_runtime.files import read_arrays
from lstm_edge_runtime.writing import check_target, write_atomically

if TYPE_CHECKING:
    from torch import nn

    from lstm_edge.data import TableOptions
    from lstm_edge.validation.judge import AnyData, ValidationReport

__all__ = ["ExportRequest", "PipelineReport", "load_source", "run_export"]

Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """The request of `lstm-edge export`; the fields are its options.

    ``source`` may be a module, with ``example_inputs`` for it. ``metric`` and ``max_drop`` are None if not given; they
    require ``data``.
    """

    source: "str | nn.Module"
    output: Path
    example_inputs: Any = None
    example: Path | None = None
    weights: Path | None = None
    weights_key: str | None = None
    weights_prefix: str | None = None
    options: ExportOptions = field(default_factory=ExportOptions)
    scheme: str | None = None
    allow_unquantized: bool = False
    data: str | None = None
    table: "TableOptions | None" = None
    metric: str | None = None
    max_drop: str | None = None
    confidence: float | None = None
    threads: int = 1


@dataclass(frozen=True, kw_only=True)
class PipelineReport:
    """The result of an export: the file and its card, sizes in bytes, the validation or None, time in seconds.

    ``passed`` is False if the drop is over the budget: then nothing was written.
    """

    path: str
    passed: bool
    size_bytes: int
    float32_bytes: int
    card: ModelCard
    validation: "ValidationReport | None"
    elapsed_s: float
    output_scale: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        from lstm_edge_runtime.card import card_to_json

        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values["card"] = card_to_json(self.card)
        values["validation"] = None if self.validation is None else self.validation.to_json()
        return values

    def rows(self) -> list[tuple[str, str]]:
        """Return the report as the rows of a table."""
        card, parity = self.card, self.card.parity
        rows = [
            ("written", "yes" if self.passed else "no: over the budget"),
            ("file size", f"{self.size_bytes:,} bytes"),
            ("recurrent layers", ", ".join(sorted({layer.operator for layer in card.layers}))),
            ("streaming", card.streaming.verdict),
        ]
        if parity is not None:
            shown = beside_scale(parity.max_abs_difference, self.output_scale)
            rows.append((f"worst difference to {parity.against}", shown))
        if card.quantization is not None:
            rows.append(("float32 size", f"{self.float32_bytes:,} bytes"))
        if self.validation is not None:
            rows += self.validation.rows()
        return [*rows, ("time", f"{self.elapsed_s:.1f} s")]

    def check(self) -> None:
        """Raise if the drop is over the budget.

        Raises:
            BudgetError: ``passed`` is false; the message has the figures.
        """
        if self.validation is not None:
            try:
                self.validation.check()
            except BudgetError as error:
                raise BudgetError(f"{error}. Nothing was written") from error


def run_export(request: ExportRequest, progress: Progress) -> PipelineReport:
    """Run the pipeline; the file is written only if all checks passed.

    Raises:
        LstmEdgeError: the source cannot be read or captured, parity failed, a recurrent layer stayed float32, or the
            output cannot be written.
    """
    start = time.monotonic()
    dataset = _check_request(request, progress)
    if isinstance(request.source, str):
        progress(f"loading {request.source}")
        refuse_checkpoint(request.source, request.weights)
    with extra_named("export"):
        import torch  # noqa: F401  first: its extra installs the other packages too

        from lstm_edge_exporters.pytorch.export import build
        from lstm_edge_exporters.quantize import Parent, quantize_bytes

    module = _load(request, progress)
    _say_of_other_scheme(module, request, progress)
    # A user's forward may import modules on its first call.
    with (
        current_folder_last()
        if isinstance(request.source, str) and is_factory(request.source)
        else contextlib.nullcontext()
    ):
        built = build(module, _examples(request), request.options, progress)
    artifact = exported = built.artifact
    validation = None
    if request.scheme is not None:
        artifact = quantize_bytes(
            Parent.built(exported, built.proto),
            scheme=request.scheme,
            allow_unquantized=request.allow_unquantized,
            plain=request.options.plain,
            progress=progress,
        )
        if dataset is None:
            progress("not validated, because --data is not given")
        else:
            validation = _validate(request, dataset, artifact.data, exported.data, progress)
    passed = validation is None or validation.passed
    if passed:
        write_atomically(request.output, artifact.data)
    return PipelineReport(
        path=os.fspath(request.output),
        passed=passed,
        size_bytes=len(artifact.data),
        float32_bytes=len(exported.data),
        card=artifact.card,
        validation=validation,
        elapsed_s=round(time.monotonic() - start, 2),
        # A float32 file keeps the parity of the export, and so its scale.
        output_scale=(exported if artifact.card.parity == exported.card.parity else artifact).output_scale,
    )


def _check_request(request: ExportRequest, progress: Progress) -> "AnyData | None":
    """Check the request before anything slow starts; returns the validation data, or None."""
    check_target(request.output, ".onnx")
    check_export_options(vars(request))
    if request.data is None:
        for option, value in (
            ("--columns, --step-every, --missing or --targets", request.table),
            ("--threads", None if request.threads == 1 else request.threads),
        ):
            if value is not None:
                raise InputError(f"{option} requires validation data: give --data, or leave it out")
        return None
    from lstm_edge.validation.judge import choose_budget, load_data

    dataset = load_data(request.data, request.metric, table=request.table, say=progress)
    choose_budget(request.max_drop, request.metric, dataset)
    return dataset


def _load(request: ExportRequest, progress: Progress) -> "nn.Module":
    """Return the module to export; refuse options that do not apply to it."""
    if not isinstance(request.source, str):
        if request.weights is not None:
            raise InputError("--weights requires package.module:factory; a module has its own weights")
        return request.source
    module = load_source(
        request.source, request.weights, key=request.weights_key, prefix=request.weights_prefix, say=progress
    )
    if not request.options.inputs and request.example is None and not hasattr(module, "describe_model"):
        raise InputError(
            f"{request.source}: the inputs of forward are unknown; give one --input for each argument, "
            'such as --input "x: float32[batch, time, 40]"'
        )
    if request.options.lengths and getattr(module, "masks", False):
        raise InputError(
            f"{request.source}: the model's mask (mask_zero or Masking) marks the valid steps: leave --lengths out"
        )
    return module


def _examples(request: ExportRequest) -> Any:
    """Return the example inputs: those of Python, or the arrays of the file, by name."""
    if request.example is None:
        return request.example_inputs
    if request.example_inputs is not None:
        raise InputError("--example and example_inputs exclude one another: give one of them")
    import torch

    arrays = read_arrays(request.example)
    if isinstance(arrays, dict):
        return {name: torch.from_numpy(array) for name, array in arrays.items()}
    return torch.from_numpy(arrays)


def _say_of_other_scheme(module: "nn.Module", request: ExportRequest, progress: Progress) -> None:
    """Report if a model trained for one scheme is quantized to another, which may increase the loss."""
    trained_for = getattr(getattr(module, "config", None), "trained_for", None)
    if request.scheme is None or trained_for is None:
        return
    from lstm_edge_exporters.quantize import parse_scheme

    asked = parse_scheme(request.scheme).text
    if trained_for != asked:
        name = request.source if isinstance(request.source, str) else "the module"
        progress(f"{name} was trained quantization-aware for {trained_for}, and becomes {asked}")


def _validate(
    request: ExportRequest,
    dataset: "AnyData",
    candidate: bytes,
    reference: bytes,
    progress: Progress,
) -> "ValidationReport":
    from lstm_edge.data.text import TextData
    from lstm_edge.validation.judge import default_metric, validate

    metric = request.metric or default_metric(dataset, reference)
    unit = "characters" if isinstance(dataset, TextData) else "sequences"
    progress(f"validating {metric} on {dataset.name}: {len(dataset):,} {unit}")
    return validate(
        candidate,
        reference,
        dataset,
        metric=request.metric,
        max_drop=request.max_drop,
        confidence=request.confidence,
        threads=request.threads,
    )


def load_source(
    source: str,
    weights: Path | None = None,
    *,
    key: str | None = None,
    prefix: str | None = None,
    say: Progress = lambda _line: None,
) -> "nn.Module":
    """Load a module: a checkpoint of lstm-edge, a Keras file, or the result of a factory, with weights.

    Args:
        source: path of a ``.safetensors`` file that lstm-edge wrote, of a ``.keras``, ``.h5`` or ``.hdf5`` file, of a
            ``.json`` file with its ``.weights.h5`` beside it, or ``package.module:factory``.
        weights: for a factory: ``.safetensors``, or a file of ``torch.save`` (read with ``weights_only=True``).
        key: the key of the weights in that file, if it is a checkpoint; None: it is looked for.
        prefix: the prefix of their names; None: it is looked for.
        say: called with one line that says what was unwrapped, if anything was.

    Raises:
        ArtifactError: a file is missing, damaged, or holds a pickle of more than tensors.
        InputError: there is no such key or prefix, or weights are given to a source that has its own.
        CaptureError: the factory cannot be imported or called, the weights do not fit the module, or a Keras file has a
            layer that cannot be exported.
    """
    if source.endswith(KERAS_FILES) or (Path(source).is_dir() and not source.endswith(".safetensors")):
        from lstm_edge_exporters.keras import load_keras

        if weights is not None:
            raise InputError("--weights requires package.module:factory; a Keras file has its own weights")
        return load_keras(source)
    if not is_factory(source):
        from lstm_edge.checkpoint import load_checkpoint

        if weights is not None:
            raise InputError("--weights requires package.module:factory; a checkpoint has its own weights")
        return load_checkpoint(source)
    module = _call_factory(source)
    if weights is not None:
        from lstm_edge.weights import load_weights

        load_weights(module, weights, source=source, key=key, prefix=prefix, say=say)
    return module.eval()


def _needs_arguments(factory: Callable[..., Any]) -> bool:
    try:
        inspect.signature(factory).bind()
    except TypeError:
        return True
    except ValueError:  # a callable of C may have no signature
        return False
    return False


def _call_factory(source: str) -> "nn.Module":
    from torch import nn

    factory = import_object(source, CaptureError, what=source, expected="package.module:factory")
    module = factory if isinstance(factory, nn.Module) else None
    if module is None and callable(factory):
        try:
            with current_folder_last():
                module = factory()
        except (Exception, SystemExit) as error:  # user code may raise anything
            advice = ". It is called without arguments: name a function that gives them" * _needs_arguments(factory)
            raise CaptureError(
                f"{source}: the factory raised {type(error).__name__}: {first_line(error)}{advice}"
            ) from error
        if not isinstance(module, nn.Module):
            raise CaptureError(f"{source}: the factory returned {type(module).__name__}, expected a torch.nn.Module")
    if module is None:
        raise CaptureError(
            f"{source}: is a {type(factory).__name__}, expected a callable that returns a torch.nn.Module"
        )
    return module
