"""Quantization of any ONNX file with recurrent layers, whatever wrote it: a new file and a coverage table."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lstm_edge_exporters.graph import constant_of, drop_unused, parse_model
from lstm_edge_exporters.inputs import InputMaker
from lstm_edge_exporters.parity import random_lengths, random_state
from lstm_edge_exporters.quantize.dense import (
    is_embedding,
    is_linear,
    layer_name,
    quantize_embedding,
    quantize_linear,
)
from lstm_edge_exporters.quantize.recurrent import Refusal, is_float_recurrent, quantize_recurrent
from lstm_edge_exporters.tidy import strip
from lstm_edge_exporters.write import MINIMUM_ONNXRUNTIME, Artifact, assemble, make_golden, serialize, write
from lstm_edge_runtime.artifact import check_target, read_model_bytes
from lstm_edge_runtime.card import BATCH, TIME, Coverage, ModelCard, Parity, Quantization, Streaming
from lstm_edge_runtime.errors import CoverageError, OutputError, QuantizationError
from lstm_edge_runtime.providers import open_session
from lstm_edge_runtime.session import Session

__all__ = ["SCHEMES", "QuantizationReport", "quantize", "quantize_bytes"]

SCHEMES = ("int8",)
FLOAT32 = "float32"

# Our functions and ReduceMax with axes as an input need this opset; older files are refused, not upgraded in silence.
LEAST_OPSET = 18

Progress = Callable[[str], None]
Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class QuantizationReport:
    """What quantization did: the files' sizes in bytes, the coverage per layer, the difference to the parent.

    ``max_abs_difference`` is the worst over a few random inputs, in the outputs' unit: a hint, not a verdict; the
    verdict is ``validate`` on the task's own metric.
    """

    path: str
    scheme: str
    parent_bytes: int
    size_bytes: int
    coverage: tuple[Coverage, ...]
    max_abs_difference: float


def quantize(
    source: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    scheme: str = "int8",
    allow_unquantized: bool = False,
    progress: Progress | None = None,
) -> QuantizationReport:
    """Quantize a model file; the file that is read is never changed.

    Args:
        source: any ONNX file with recurrent layers.
        path: where the new file goes; another one than ``source``.
        scheme: ``"int8"``: recurrent and linear layers with activation scales per row and step, embeddings by row.
        allow_unquantized: let recurrent layers that have no int8 form stay float32.
        progress: called with one line for each thing that is being done.

    Raises:
        CoverageError: a recurrent layer stayed float32 and ``allow_unquantized`` is False; the message says why.
        QuantizationError: unknown scheme, or nothing in the file to quantize.
        ArtifactError, IntegrityError: the file cannot be read.
        OutputError: the path cannot be written, or is the source.
    """
    target = check_target(path)
    if target.exists() and Path(source).exists() and target.samefile(source):
        raise OutputError(f"{path}: this is the file that is read; give the result another name")
    data = read_model_bytes(source)
    artifact = quantize_bytes(data, scheme=scheme, allow_unquantized=allow_unquantized, progress=progress)
    write(artifact, path)
    return report_of(artifact, path, parent_bytes=len(data))


def report_of(artifact: Artifact, path: str | os.PathLike[str], *, parent_bytes: int) -> QuantizationReport:
    """Return the report on a quantized artifact that was written to ``path``."""
    quantization, parity = artifact.card.quantization, artifact.card.parity
    assert quantization is not None and parity is not None
    return QuantizationReport(
        path=os.fspath(path),
        scheme=quantization.scheme,
        parent_bytes=parent_bytes,
        size_bytes=len(artifact.data),
        coverage=quantization.coverage,
        max_abs_difference=parity.max_abs_difference,
    )


def quantize_bytes(
    data: bytes,
    *,
    scheme: str = "int8",
    allow_unquantized: bool = False,
    plain: bool = False,
    progress: Progress | None = None,
) -> Artifact:
    """Quantize a model in memory; ``plain`` inlines the functions, the rest as ``quantize``."""
    say = progress or (lambda message: None)
    if scheme not in SCHEMES:
        raise QuantizationError(f"unknown scheme {scheme!r}; known ones are {', '.join(SCHEMES)}")
    model = parse_model(data)
    opset = model.opset_imports.get("", 0)
    if opset < LEAST_OPSET:
        raise QuantizationError(
            f"the model has opset {opset}, int8 needs {LEAST_OPSET}: convert it first with onnx.version_converter"
        )
    session = Session(data)
    card = session.card or _inferred_card(session)
    say(f"rounding weights to {scheme}")
    ids_below = _smallest_table(model)
    coverage = _rewrite(model)
    _check_coverage(coverage, allow_unquantized=allow_unquantized)
    drop_unused(model)
    strip(model)
    body = serialize(model, plain=plain)

    say("comparing with the float32 parent")
    maker = InputMaker(card.inputs, ids_below=ids_below)
    card = card.replace(
        layers=tuple(_requantized(layer, model) for layer in card.layers),
        quantization=Quantization(scheme=scheme, parent_sha256=hashlib.sha256(data).hexdigest(), coverage=coverage),
        parity=_difference(data, body, card, maker),
    )
    say("making golden vectors and running the self-test")
    return assemble(body, card, make_golden(body, card, maker))


def _rewrite(model: ir.Model) -> tuple[Coverage, ...]:
    """Quantize every layer that has an int8 form, in place; a row for each layer, in graph order."""
    rows = []
    for node in list(model.graph.all_nodes()):
        if is_float_recurrent(node):
            rows.append(_quantize_layer(node, node.name or node.op_type, quantize_recurrent))
        elif is_linear(node):
            rows.append(_quantize_layer(node, layer_name(node), quantize_linear))
        elif is_embedding(node):
            rows.append(_quantize_layer(node, layer_name(node), quantize_embedding))
    for function in model.functions.values():
        rows += [
            _row(f"{function.name}/{node.name}", node.op_type, f"{FLOAT32}: it stands inside a local function", 0, 0)
            for node in function
            if is_float_recurrent(node)
        ]
    return tuple(rows)


def _quantize_layer(node: ir.Node, layer: str, quantizer: Callable[[ir.Node], tuple[int, int]]) -> Coverage:
    operator = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
    try:
        before, after = quantizer(node)
    except Refusal as refusal:
        size = sum(array.nbytes for array in (constant_of(value) for value in node.inputs) if array is not None)
        return _row(layer, operator, f"{FLOAT32}: {refusal}", size, size)
    return _row(layer, operator, "int8", before, after)


def _row(layer: str, operator: str, scheme: str, before: int, after: int) -> Coverage:
    return Coverage(layer=layer, operator=operator, scheme=scheme, bytes_before=before, bytes_after=after)


def _check_coverage(coverage: Sequence[Coverage], *, allow_unquantized: bool) -> None:
    recurrent = [row for row in coverage if "Lstm" in row.operator or row.operator in ("LSTM", "GRU", "RNN")]
    if not coverage:
        raise QuantizationError("the model has no float32 recurrent, linear or embedding layer: nothing to quantize")
    stayed = [row for row in recurrent if row.scheme != "int8"]
    if stayed and not allow_unquantized:
        reasons = "; ".join(f"{row.layer} ({row.operator}) stays {row.scheme}" for row in stayed)
        raise CoverageError(f"{reasons}. Nothing was written; --allow-unquantized accepts that")


def _smallest_table(model: ir.Model) -> int:
    """Rows of the smallest embedding table: integer inputs are drawn below it."""
    tables = [constant_of(node.inputs[0]) for node in model.graph.all_nodes() if is_embedding(node)]
    return min((table.shape[0] for table in tables if table is not None), default=2)


def _requantized(layer: Any, model: ir.Model) -> Any:
    import dataclasses

    names = {node.name: node for node in model.graph.all_nodes()}
    node = names.get(f"{layer.name}/int8")
    return layer if node is None else dataclasses.replace(layer, operator=f"{node.domain}::{node.op_type}")


def _inferred_card(session: Session) -> ModelCard:
    """A card for a file that had none: what the graph says, and that the rest is unknown."""
    return ModelCard(
        producer="unknown",
        inputs=session.inputs,
        outputs=session.outputs,
        states=session.states,
        streaming=Streaming(verdict="none", reason="the original file had no model card: its states are unknown"),
        minimum_onnxruntime=MINIMUM_ONNXRUNTIME,
    )


def _difference(parent: bytes, candidate: bytes, card: ModelCard, maker: InputMaker) -> Parity:
    """Run both on a few random inputs; what is measured goes into the card without a verdict."""
    sessions = [open_session(data) for data in (parent, candidate)]
    rng = np.random.default_rng(11)
    worst, shapes = 0.0, []
    for batch, time in ((2, 9), (1, 1)):
        feeds: dict[str, Array] = dict(maker.make(rng, batch, time)) | random_state(card.states, rng, batch, zero=False)
        if card.lengths:
            feeds[card.lengths] = random_lengths(rng, batch, time)
        answers: list[Mapping[str, Array]] = [
            dict(zip([output.name for output in session.get_outputs()], session.run(None, feeds), strict=True))
            for session in sessions
        ]
        for name, expected in answers[0].items():
            worst = max(worst, float(np.max(np.abs(answers[1][name].astype(np.float64) - expected))))
        shapes.append(f"{BATCH} {batch}, {TIME} {time}")
    return Parity(
        against="the float32 parent, random inputs", max_abs_difference=worst, tolerance=None, shapes=tuple(shapes)
    )
