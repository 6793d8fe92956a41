"""Quantization of any ONNX file with recurrent layers, whatever wrote it: a new file and a coverage table."""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lstm_edge_exporters.functions import DOMAIN
from lstm_edge_exporters.graph import constant_of, drop_unused, parse_model, with_weights
from lstm_edge_exporters.inputs import InputMaker
from lstm_edge_exporters.quantize.dense import (
    is_embedding,
    is_linear,
    layer_name,
    quantize_embedding,
    quantize_linear,
)
from lstm_edge_exporters.quantize.difference import difference_to
from lstm_edge_exporters.quantize.nodes import Outcome, Refusal
from lstm_edge_exporters.quantize.recurrent import is_recurrent, is_recurrent_operator, quantize_recurrent
from lstm_edge_exporters.quantize.rounding import Scheme
from lstm_edge_exporters.tidy import strip
from lstm_edge_exporters.write import (
    MINIMUM_ONNXRUNTIME,
    Artifact,
    assemble,
    fewest_steps,
    make_golden,
    serialize,
    write,
)
from lstm_edge_runtime.artifact import check_target, read_model_bytes
from lstm_edge_runtime.card import Coverage, ModelCard, Quantization, Streaming
from lstm_edge_runtime.errors import CoverageError, OutputError, QuantizationError
from lstm_edge_runtime.session import Session

__all__ = ["LAYERS", "SCHEMES", "QuantizationReport", "Scheme", "parse_scheme", "quantize", "quantize_bytes"]

SCHEMES = ("int8", "int4")
# What is quantized: every layer that has a quantized form, or recurrent ones alone.
LAYERS = ("all", "recurrent")
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
    layers: str = "all",
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
        layers: ``"all"``, or ``"recurrent"`` to leave linear layers and embeddings as they are.
        allow_unquantized: let recurrent layers that have no int8 form stay float32.
        progress: called with one line for each thing that is being done.

    Raises:
        CoverageError: a recurrent layer stayed float32 and ``allow_unquantized`` is False; the message says why.
        QuantizationError: unknown scheme or ``layers``, or nothing in the file to quantize.
        ArtifactError, IntegrityError: the file cannot be read.
        OutputError: the path cannot be written, or is the source.
    """
    target = check_target(path)
    if target.exists() and Path(source).exists() and target.samefile(source):
        raise OutputError(f"{path}: this is the file that is read; give the result another name")
    data = with_weights(read_model_bytes(source), Path(source).parent)
    artifact = quantize_bytes(
        data, scheme=scheme, layers=layers, allow_unquantized=allow_unquantized, progress=progress
    )
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
    layers: str = "all",
    allow_unquantized: bool = False,
    plain: bool = False,
    progress: Progress | None = None,
) -> Artifact:
    """Quantize a model in memory; ``plain`` inlines the functions, the rest as ``quantize``."""
    say = progress or (lambda _message: None)
    chosen = parse_scheme(scheme)
    if layers not in LAYERS:
        raise QuantizationError(f"layers is {layers!r}; known ones are {', '.join(LAYERS)}")
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
    ids_below = smallest_table(model)
    with np.errstate(all="ignore"):  # a weight that is NaN or infinite is refused in a sentence, without a warning
        coverage = _rewrite(model, chosen, layers)
    if layers == "recurrent" and not any(is_recurrent_operator(row.operator) for row in coverage):
        raise QuantizationError("the model has no recurrent layer, and only such were asked for: nothing to quantize")
    _check_coverage(coverage, chosen, allow_unquantized=allow_unquantized)
    drop_unused(model)
    strip(model)
    body = serialize(model, plain=plain)
    least = fewest_steps(card.parity)

    say("comparing with the float32 parent")
    maker = InputMaker(card.inputs, ids_below=ids_below, values=settings_of(session))
    card = card.replace(
        layers=tuple(_requantized(layer, model, chosen) for layer in card.layers),
        quantization=Quantization(
            scheme=str(chosen), parent_sha256=hashlib.sha256(data).hexdigest(), coverage=coverage
        ),
        parity=difference_to(data, body, card, maker, least=least),
    )
    say("making golden vectors and running the self-test")
    return assemble(body, card, make_golden(body, card, maker, least=least))


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


def _rewrite(model: ir.Model, scheme: Scheme, layers: str) -> tuple[Coverage, ...]:
    """Quantize every layer that has a quantized form, in place; a row for each layer, in graph order."""
    rows = []
    dense = (quantize_linear, _quantize_table) if layers == "all" else (_leave, _leave)
    for node in list(model.graph.all_nodes()):
        if is_recurrent(node):
            rows.append(_quantize_layer(node, node.name or node.op_type, quantize_recurrent, scheme))
        elif is_linear(node):
            rows.append(_quantize_layer(node, layer_name(node), dense[0], scheme))
        elif is_embedding(node):
            rows.append(_quantize_layer(node, layer_name(node), dense[1], Scheme()))
    for function in model.functions.values():
        rows += [
            _row(
                f"{function.name}/{node.name}", node.op_type, f"{_left(node)}: it stands inside a local function", 0, 0
            )
            for node in function.all_nodes()
            if is_recurrent(node)
        ]
    return tuple(rows)


def _quantize_table(node: ir.Node, _scheme: Scheme) -> Outcome:
    """Tables of embeddings are int8 by row in every scheme: a row is looked up, not summed over."""
    return quantize_embedding(node)


def _leave(_node: ir.Node, _scheme: Scheme) -> Outcome:
    raise Refusal("only recurrent layers were asked for")


def _quantize_layer(
    node: ir.Node, layer: str, quantizer: Callable[[ir.Node, Scheme], Outcome], scheme: Scheme
) -> Coverage:
    operator = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
    try:
        before, after, note = quantizer(node, scheme)
    except Refusal as refusal:
        size = sum(array.nbytes for array in (constant_of(value) for value in node.inputs) if array is not None)
        return _row(layer, operator, f"{_left(node)}: {refusal}", size, size)
    return _row(layer, operator, f"{scheme}: {note}" if note else str(scheme), before, after)


def _left(node: ir.Node) -> str:
    """What a layer is that was not quantized; ``DynamicQuantizeLSTM`` was int8 before."""
    return FLOAT32 if node.domain in ("", "ai.onnx", DOMAIN) else "as it is"


def _row(layer: str, operator: str, scheme: str, before: int, after: int) -> Coverage:
    return Coverage(layer=layer, operator=operator, scheme=scheme, bytes_before=before, bytes_after=after)


def _check_coverage(coverage: Sequence[Coverage], scheme: Scheme, *, allow_unquantized: bool) -> None:
    if not coverage:
        raise QuantizationError("the model has no float32 recurrent, linear or embedding layer: nothing to quantize")
    stayed = [row for row in coverage if is_recurrent_operator(row.operator) and not row.scheme.startswith(str(scheme))]
    if stayed and not allow_unquantized:
        reasons = "; ".join(f"{row.layer} ({row.operator}) stays {row.scheme}" for row in stayed)
        raise CoverageError(f"{reasons}. Nothing was written; --allow-unquantized accepts that")


def smallest_table(model: ir.Model) -> int:
    """Rows of the smallest embedding table: integer inputs are drawn below it."""
    tables = [constant_of(node.inputs[0]) for node in model.graph.all_nodes() if is_embedding(node)]
    return min((table.shape[0] for table in tables if table is not None), default=2)


def settings_of(session: Session) -> dict[str, Array]:
    """Return the integers without axes, such as a sample rate, that the file's golden vectors were made with."""
    golden = session.golden()
    vector = golden.vectors[0].inputs if golden is not None and golden.vectors else {}
    names = [spec.name for spec in session.inputs if not spec.axes and spec.dtype in ("int32", "int64")]
    return {name: vector[name] for name in names if name in vector}


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
