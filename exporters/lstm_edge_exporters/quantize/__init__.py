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

from lstm_edge_exporters.functions import DOMAIN
from lstm_edge_exporters.graph import constant_of, drop_unused, parse_model, with_weights
from lstm_edge_exporters.inputs import InputMaker
from lstm_edge_exporters.parity import answers_of, random_lengths, random_state
from lstm_edge_exporters.quantize.dense import (
    is_embedding,
    is_linear,
    layer_name,
    quantize_embedding,
    quantize_linear,
)
from lstm_edge_exporters.quantize.recurrent import Refusal, is_float_recurrent, quantize_recurrent
from lstm_edge_exporters.quantize.rounding import Scheme
from lstm_edge_exporters.tidy import strip
from lstm_edge_exporters.write import MINIMUM_ONNXRUNTIME, Artifact, assemble, make_golden, serialize, write
from lstm_edge_runtime.artifact import check_target, read_model_bytes
from lstm_edge_runtime.card import BATCH, TIME, Coverage, ModelCard, Parity, Quantization, Streaming
from lstm_edge_runtime.errors import ArtifactError, CoverageError, OutputError, ParityError, QuantizationError
from lstm_edge_runtime.providers import RUNTIME_ERRORS, first_line, open_session
from lstm_edge_runtime.session import Session

__all__ = ["SCHEMES", "QuantizationReport", "Scheme", "parse_scheme", "quantize", "quantize_bytes"]

SCHEMES = ("int8", "int4")
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
    scheme: str | Scheme = "int8",
    allow_unquantized: bool = False,
    progress: Progress | None = None,
) -> QuantizationReport:
    """Quantize a model file; the file that is read is never changed.

    Args:
        source: any ONNX file with recurrent layers; weights in a file beside it, as ``torch.onnx.export`` leaves
            them, are read with it.
        path: where the new file goes; another one than ``source``.
        scheme: ``"int8"``: recurrent and linear layers with activation scales per row and step, embeddings by row;
            ``"int4"``: their weights in four bits, blocks of 32 inputs, symmetric (a ``Scheme`` says otherwise).
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
    data = with_weights(read_model_bytes(source), Path(source).parent)
    artifact = quantize_bytes(data, scheme=scheme, allow_unquantized=allow_unquantized, progress=progress)
    write(artifact, path)
    return report_of(artifact, path, parent_bytes=len(data))


def report_of(artifact: Artifact, path: str | os.PathLike[str], *, parent_bytes: int) -> QuantizationReport:
    """Return the report on a quantized artifact that was written to ``path``."""
    quantization, parity = artifact.card.quantization, artifact.card.parity
    assert quantization is not None
    assert parity is not None
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
    scheme: str | Scheme = "int8",
    allow_unquantized: bool = False,
    plain: bool = False,
    progress: Progress | None = None,
) -> Artifact:
    """Quantize a model in memory; ``plain`` inlines the functions, the rest as ``quantize``."""
    say = progress or (lambda _message: None)
    chosen = parse_scheme(scheme)
    model = parse_model(data)
    opset = model.opset_imports.get("", 0)
    if opset < LEAST_OPSET:
        raise QuantizationError(
            f"the model has opset {opset}, quantization needs {LEAST_OPSET}: "
            "convert it first with onnx.version_converter"
        )
    session = Session(data, kernels="off")
    card = session.card or _inferred_card(session)
    _refuse_quantized(model, card)
    say(f"rounding weights to {chosen}")
    ids_below = _smallest_table(model)
    with np.errstate(all="ignore"):  # a weight that is NaN or infinite is refused in a sentence, without a warning
        coverage = _rewrite(model, chosen)
    _check_coverage(coverage, chosen, allow_unquantized=allow_unquantized)
    drop_unused(model)
    strip(model)
    body = serialize(model, plain=plain)

    say("comparing with the float32 parent")
    maker = InputMaker(card.inputs, ids_below=ids_below)
    card = card.replace(
        layers=tuple(_requantized(layer, model, chosen) for layer in card.layers),
        quantization=Quantization(
            scheme=str(chosen), parent_sha256=hashlib.sha256(data).hexdigest(), coverage=coverage
        ),
        parity=_difference(data, body, card, maker),
    )
    say("making golden vectors and running the self-test")
    return assemble(body, card, make_golden(body, card, maker))


def parse_scheme(scheme: str | Scheme, *, block: int = 32, symmetric: bool = True) -> Scheme:
    """Return a scheme by its name; ``block`` and ``symmetric`` are for int4.

    Raises:
        QuantizationError: unknown name, or a block of neither 32 nor 128.
    """
    if isinstance(scheme, Scheme):
        return scheme
    if scheme not in SCHEMES:
        raise QuantizationError(f"unknown scheme {scheme!r}; known ones are {', '.join(SCHEMES)}")
    if scheme == "int8" and (block != 32 or not symmetric):
        raise QuantizationError("blocks and zero points are for int4: int8 has one scale a column")
    if block not in (32, 128):
        raise QuantizationError(f"the block is {block}: int4 has blocks of 32 or 128 inputs")
    return Scheme(kind="int4" if scheme == "int4" else "int8", block=128 if block == 128 else 32, symmetric=symmetric)


def _refuse_quantized(model: ir.Model, card: ModelCard) -> None:
    """A quantized file has float32 tables of scales: quantizing it again would round those."""
    ours = [node.op_type for node in model.graph.all_nodes() if node.domain == DOMAIN]
    quantized = [name for name in ours if "Int8" in name or "Int4" in name]
    if quantized or card.quantization is not None:
        scheme = quantized[0] if card.quantization is None else card.quantization.scheme
        raise QuantizationError(
            f"the model is quantized already ({scheme}): start from the float32 file it was made from"
        )


def _rewrite(model: ir.Model, scheme: Scheme) -> tuple[Coverage, ...]:
    """Quantize every layer that has a quantized form, in place; a row for each layer, in graph order."""
    rows = []
    for node in list(model.graph.all_nodes()):
        if is_float_recurrent(node):
            rows.append(_quantize_layer(node, node.name or node.op_type, quantize_recurrent, scheme))
        elif is_linear(node):
            rows.append(_quantize_layer(node, layer_name(node), quantize_linear, scheme))
        elif is_embedding(node):
            rows.append(_quantize_layer(node, layer_name(node), _quantize_table, Scheme()))
    for function in model.functions.values():
        rows += [
            _row(f"{function.name}/{node.name}", node.op_type, f"{FLOAT32}: it stands inside a local function", 0, 0)
            for node in function.all_nodes()
            if is_float_recurrent(node)
        ]
    return tuple(rows)


def _quantize_table(node: ir.Node, _scheme: Scheme) -> tuple[int, int]:
    """Tables of embeddings are int8 by row in every scheme: a row is looked up, not summed over."""
    return quantize_embedding(node)


def _quantize_layer(
    node: ir.Node, layer: str, quantizer: Callable[[ir.Node, Scheme], tuple[int, int]], scheme: Scheme
) -> Coverage:
    operator = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
    try:
        before, after = quantizer(node, scheme)
    except Refusal as refusal:
        size = sum(array.nbytes for array in (constant_of(value) for value in node.inputs) if array is not None)
        return _row(layer, operator, f"{FLOAT32}: {refusal}", size, size)
    return _row(layer, operator, str(scheme), before, after)


def _row(layer: str, operator: str, scheme: str, before: int, after: int) -> Coverage:
    return Coverage(layer=layer, operator=operator, scheme=scheme, bytes_before=before, bytes_after=after)


def _check_coverage(coverage: Sequence[Coverage], scheme: Scheme, *, allow_unquantized: bool) -> None:
    recurrent = [row for row in coverage if "Lstm" in row.operator or row.operator in ("LSTM", "GRU", "RNN")]
    if not coverage:
        raise QuantizationError("the model has no float32 recurrent, linear or embedding layer: nothing to quantize")
    stayed = [row for row in recurrent if row.scheme != str(scheme)]
    if stayed and not allow_unquantized:
        reasons = "; ".join(f"{row.layer} ({row.operator}) stays {row.scheme}" for row in stayed)
        raise CoverageError(f"{reasons}. Nothing was written; --allow-unquantized accepts that")


def _smallest_table(model: ir.Model) -> int:
    """Rows of the smallest embedding table: integer inputs are drawn below it."""
    tables = [constant_of(node.inputs[0]) for node in model.graph.all_nodes() if is_embedding(node)]
    return min((table.shape[0] for table in tables if table is not None), default=2)


def _requantized(layer: Any, model: ir.Model, scheme: Scheme) -> Any:
    import dataclasses

    names = {node.name: node for node in model.graph.all_nodes()}
    node = names.get(f"{layer.name}/{scheme.kind}")
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
    """Run both on a few random inputs; what is measured goes into the card without a verdict.

    Raises:
        ArtifactError: the parent runs on none of the inputs that were made from its description.
        ParityError: the quantized model gives NaN or infinity where the parent does not.
    """
    sessions = [open_session(data) for data in (parent, candidate)]
    rng = np.random.default_rng(11)
    worst, shapes, refused = 0.0, [], []
    for batch, time in ((2, 9), (1, 1), (1, 23)):
        feeds: dict[str, Array] = dict(maker.make(rng, batch, time)) | random_state(card.states, rng, batch, zero=False)
        if card.lengths:
            feeds[card.lengths] = random_lengths(rng, batch, time)
        where = f"{BATCH} {batch}, {TIME} {time}"
        try:
            expected = answers_of(sessions[0], feeds)
        except RUNTIME_ERRORS as error:
            refused.append(f"{where}: {first_line(error)}")
            continue
        worst = max(worst, _worst(answers_of(sessions[1], feeds), expected))
        shapes.append(where)
    if not shapes:
        raise ArtifactError(
            "the model does not run on random inputs made from its own description, so nothing can be compared: "
            + "; ".join(refused)
        )
    if not np.isfinite(worst):
        raise ParityError("the quantized model gives NaN or infinity where its float32 parent does not")
    return Parity(
        against="the float32 parent, random inputs", max_abs_difference=worst, tolerance=None, shapes=tuple(shapes)
    )


def _worst(got: Mapping[str, Array], expected: Mapping[str, Array]) -> float:
    """The greatest absolute difference over all outputs; infinite where only one side is finite."""
    worst = 0.0
    for name, array in expected.items():
        left, right = got[name].astype(np.float64), array.astype(np.float64)
        if not np.array_equal(np.isfinite(left), np.isfinite(right)):
            return float("inf")
        same = np.isfinite(left)
        worst = max(worst, float(np.max(np.abs(left[same] - right[same]), initial=0.0)))
    return worst
