"""Quantizes any ONNX file with recurrent layers, from any exporter: a new file and a coverage table.

May import ``functions``, ``front_end``, ``onnx_graph``, ``verify``, ``artifact``, ``gates`` and the runtime, but not
torch.
"""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from lstm_edge_exporters.artifact import (
    Artifact,
    assemble,
    write,
)
from lstm_edge_exporters.functions import DOMAIN
from lstm_edge_exporters.onnx_graph.carried import free_carried
from lstm_edge_exporters.onnx_graph.edit import drop_unused
from lstm_edge_exporters.onnx_graph.liveness import drop_shape_only
from lstm_edge_exporters.onnx_graph.quiet import quiet
from lstm_edge_exporters.onnx_graph.reading import parse_model, read_proto, with_weights
from lstm_edge_exporters.onnx_graph.tidy import strip
from lstm_edge_exporters.onnx_graph.writing import serialize
from lstm_edge_exporters.quantize.cards import answers_of, inferred_card, requantized, settings_of
from lstm_edge_exporters.quantize.convolutions.choice import Convolutions
from lstm_edge_exporters.quantize.convolutions.stage import candidates, say_without_data, take_convolutions
from lstm_edge_exporters.quantize.feedforward import Embedding
from lstm_edge_exporters.quantize.inexact import inexact_outputs
from lstm_edge_exporters.quantize.layer import LayerKind
from lstm_edge_exporters.quantize.layers import find_layers
from lstm_edge_exporters.quantize.parts import LayerPart, describe_parts, resolve
from lstm_edge_exporters.quantize.pointwise import linear_convolutions
from lstm_edge_exporters.quantize.requantize import leave_out_zero_blocks
from lstm_edge_exporters.quantize.request import LayerRequest
from lstm_edge_exporters.quantize.rewrite import Row, check_rows, rewrite
from lstm_edge_exporters.quantize.rounding import MatrixRounder, round_matrix
from lstm_edge_exporters.quantize.schemes import NO_BLOCKS, Scheme
from lstm_edge_exporters.quantize.zero_blocks import Sparse, parse_sparse
from lstm_edge_exporters.verify.cases import fewest_steps
from lstm_edge_exporters.verify.difference import difference_to
from lstm_edge_exporters.verify.golden import golden_choices
from lstm_edge_exporters.verify.inputs import InputMaker
from lstm_edge_exporters.verify.open_model import OpenModel
from lstm_edge_runtime.artifact import read_model_bytes
from lstm_edge_runtime.card import Coverage, ModelCard, Quantization
from lstm_edge_runtime.errors import OutputError, QuantizationError
from lstm_edge_runtime.reference_data import ReferenceData
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.writing import check_target

__all__ = [
    "LAYERS",
    "SCHEMES",
    "Convolutions",
    "LayerPart",
    "MatrixRounder",
    "Parent",
    "QuantizationReport",
    "Scheme",
    "describe_parts",
    "parse_scheme",
    "quantize",
    "quantize_bytes",
]

SCHEMES = ("int8", "int4", "float16", "float32")
# What is quantized: every layer that has a quantized form, or recurrent ones alone.
LAYERS = ("all", "recurrent")
# What ``quantization.scheme`` says where layers differ by request.
MIXED = "mixed"


# Our functions and ReduceMax with axes as an input need this opset; older files are refused, not upgraded in silence.
LEAST_OPSET = 18

Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class QuantizationReport:
    """What quantization did: the files' sizes in bytes, the coverage per layer, the difference to the parent.

    ``max_abs_difference`` is the worst over a few random inputs, in the outputs' unit: a hint, not a verdict; the
    verdict is ``validate`` on the task's own metric. ``output_scale`` is the greatest absolute answer of the parent
    on these inputs in the output with the worst difference; None: nothing was run, because the answers are the same by
    construction.
    """

    path: str
    scheme: str
    parent_bytes: int
    size_bytes: int
    coverage: tuple[Coverage, ...]
    max_abs_difference: float
    output_scale: float | None = None


def quantize(
    source: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    scheme: str | Scheme = "int8",
    layers: str = "all",
    parts: Mapping[str, Scheme] = MappingProxyType({}),
    sparse: str = "auto",
    rounder: MatrixRounder = round_matrix,
    calibration_sha256: str | None = None,
    convolutions: Convolutions | None = None,
    reference: ReferenceData | None = None,
    allow_unquantized: bool = False,
    progress: Progress | None = None,
) -> QuantizationReport:
    """Quantize a model file; the file that is read is never changed.

    Args:
        source: any ONNX file with recurrent layers; weights in a file beside it, as ``torch.onnx.export`` leaves
            them, are read with it.
        path: where the new file goes; must differ from ``source``.
        scheme: ``"int8"``: recurrent and linear layers with activation scales per row and step, embeddings by row;
            ``"int4"``: their weights in four bits, blocks of 128 inputs, symmetric (a ``Scheme`` or a text such as
            ``"int4:32"`` says otherwise), but embeddings int8; ``"float16"``: weights stored so; ``"float32"``: with
            ``parts`` only what they name is changed; without, LSTM and GRU layers call the float32 operators that have
            kernels, and no number changes. Convolutions stay float32 unless a part names them.
        layers: ``"all"``, or ``"recurrent"`` to leave linear layers and embeddings as they are.
        parts: schemes of single layers, or of the matrices and gates of an LSTM (``describe_parts`` lists their names);
            the most specific part wins, what none names has ``scheme``.
        sparse: zero blocks of int8 matrices W and R (docs/sparse.md): ``"auto"`` leaves them out where the file becomes
            smaller and no step slower, ``"off"`` never, ``"smaller"`` where the file becomes smaller. ``"required"`` is
            ``"smaller"``, but fails if that is neither W nor R of a recurrent layer.
        rounder: rounds the matrices of recurrent and linear layers, by name (``"lstm.r"``, ``"head.weight"``).
        calibration_sha256: of the data that the rounder was made with, for the card.
        convolutions: int8 convolutions with fixed activation scales: what calibration gathered, and which are taken;
            None leaves them float32.
        reference: the distribution of the inputs, for the card; None keeps that of the source.
        allow_unquantized: let recurrent layers that have no int8 form stay float32.
        progress: called with one line for each step.

    Raises:
        CoverageError: a recurrent layer, or one that a part names, stayed float32 although that was not asked, and
            ``allow_unquantized`` is False; or sparse weights are required, and a recurrent layer has none; the message
            says why.
        QuantizationError: unknown scheme, part, ``layers`` or ``sparse``, or nothing in the file to quantize.
        ArtifactError, IntegrityError: the file cannot be read.
        OutputError: the path cannot be written, or is the source.
    """
    target = check_target(path, ".onnx")
    if target.exists() and Path(source).exists() and target.samefile(source):
        raise OutputError(f"{path}: this is the file that is read; give the result another name")
    data = with_weights(read_model_bytes(source), Path(source).parent)
    made = _quantize(
        data,
        scheme=scheme,
        layers=layers,
        parts=parts,
        sparse=sparse,
        rounder=rounder,
        calibration_sha256=calibration_sha256,
        convolutions=convolutions,
        reference=reference,
        allow_unquantized=allow_unquantized,
        progress=progress,
    )
    write(made.artifact, path)
    return QuantizationReport(
        path=os.fspath(path),
        scheme=made.scheme,
        parent_bytes=len(data),
        size_bytes=len(made.artifact.data),
        coverage=made.coverage,
        max_abs_difference=made.max_abs_difference,
        output_scale=made.artifact.output_scale,
    )


@dataclass(frozen=True, kw_only=True)
class _Made:
    """A quantized artifact, and what a report says of it."""

    artifact: Artifact
    scheme: str
    coverage: tuple[Coverage, ...]
    max_abs_difference: float


@dataclass(frozen=True, kw_only=True)
class Parent:
    """A float32 model to quantize: its file, its graph, which is rewritten, and a session of the file."""

    data: bytes
    model: ir.Model
    session: Session

    @classmethod
    def read(cls, data: bytes) -> "Parent":
        """Read an untrusted file.

        Raises:
            ArtifactError, IntegrityError: it cannot be read.
        """
        return cls(data=data, model=parse_model(data), session=Session(data, kernels="off"))

    @classmethod
    def built(cls, artifact: Artifact, proto: onnx.ModelProto) -> "Parent":
        """Take what was just exported: it is neither parsed nor opened again."""
        return cls(data=artifact.data, model=read_proto(proto), session=artifact.session)


def quantize_bytes(source: bytes | Parent, **options: Any) -> Artifact:
    """Quantize a model in memory; ``plain`` inlines the functions, the rest as ``quantize``."""
    return _quantize(source, **options).artifact


@quiet()
def _quantize(
    source: bytes | Parent,
    *,
    scheme: str | Scheme = "int8",
    layers: str = "all",
    parts: Mapping[str, Scheme] = MappingProxyType({}),
    sparse: str = "auto",
    rounder: MatrixRounder = round_matrix,
    calibration_sha256: str | None = None,
    convolutions: Convolutions | None = None,
    reference: ReferenceData | None = None,
    allow_unquantized: bool = False,
    plain: bool = False,
    progress: Progress | None = None,
) -> _Made:
    say = progress or (lambda _message: None)
    chosen, zero_blocks = parse_scheme(scheme), parse_sparse(sparse)
    if layers not in LAYERS:
        raise QuantizationError(f"layers is {layers!r}, expected one of {', '.join(LAYERS)}")
    parent = source if isinstance(source, Parent) else Parent.read(source)
    model, session = parent.model, parent.session
    opset = model.opset_imports.get("", 0)
    if opset < LEAST_OPSET:
        raise QuantizationError(
            f"the model has opset {opset}, quantization needs {LEAST_OPSET}: "
            "adopt it first, with lstm-edge adopt IN.onnx -o OUT.onnx"
        )
    card = session.card or inferred_card(session)
    card = card.replace(reference=reference or card.reference)
    smaller = _without_zero_blocks(model, card, session, zero_blocks) if chosen.kind == "int8" and not parts else None
    if smaller is not None:
        return smaller
    _refuse_quantized(model, card)
    free_carried(model)
    drop_shape_only(model)
    if layers == "all" and chosen.kind in ("int8", "int4"):
        linear_convolutions(model, {reader.node for reader in find_layers(model) if reader.kind == "recurrent"})
    found = find_layers(model)
    fused = chosen.kind == "float32" and not parts
    requests = resolve(found, parts, lambda kind: _default(kind, chosen, layers, fused=fused))
    by_default = chosen.kind == "int8" and layers == "all"
    name = _name_of(requests, chosen)
    say("calling float32 operators that have kernels" if fused else f"rounding weights to {name}")
    wanted = candidates(found, requests, convolutions, by_default=by_default)
    ids_below = smallest_table(model)
    with np.errstate(all="ignore"):  # a weight that is NaN or infinite is refused in a sentence, without a warning
        rows = rewrite(model, found, requests, rounder, default=chosen, sparse=zero_blocks)
    if layers == "recurrent" and not any(row.recurrent for row in rows):
        raise QuantizationError(
            "the model has no recurrent layer, and only recurrent layers were requested: nothing to quantize"
        )
    if wanted and convolutions is not None:
        say("choosing convolutions")
        rows += take_convolutions(model, wanted, convolutions, answers_of(session), say)
    elif convolutions is None and by_default:
        say_without_data(model.graph, found, say)
    check_rows(rows, allow_unquantized=allow_unquantized, sparse=zero_blocks)
    drop_unused(model)
    strip(model)
    integers = any(text.startswith(("int8", "int4")) for row in rows for text in row.parts.values())
    inexact = inexact_outputs(model) if integers else None
    body = OpenModel.of(serialize(model, plain=plain))
    least = fewest_steps(card.parity)

    say("comparing with the float32 parent")
    opened = OpenModel(parent.data, session.onnxruntime_session)
    maker = InputMaker(card.inputs, ids_below=ids_below, values=settings_of(session))
    difference = difference_to(opened, body, card, maker, least=least)
    noted = None if fused else _quantization(name, parent.data, rows, calibration_sha256, inexact)
    # A float32 model as before: what was measured when it was made holds.
    parity = (fused and card.parity) or difference.for_card()
    card = card.replace(layers=requantized(card.layers, model), quantization=noted, parity=parity)
    say("making golden vectors and running the self-test")
    return _Made(
        artifact=assemble(
            body.data, card, golden_choices(body, card, maker, least=least), output_scale=difference.scale
        ),
        scheme=name,
        coverage=tuple(row.coverage for row in rows),
        max_abs_difference=difference.max_abs_difference,
    )


def parse_scheme(scheme: str | Scheme, *, block: int | None = None, symmetric: bool = True) -> Scheme:
    """Return a scheme by its name or compact text; ``block`` (128 by default) and ``symmetric`` go with ``int4``.

    Raises:
        QuantizationError: unknown name, or a block of neither 32 nor 128.
    """
    if isinstance(scheme, Scheme):
        return scheme
    parsed = Scheme.parse(scheme)
    if block is None and symmetric:
        return parsed
    if scheme != "int4":
        raise QuantizationError(
            f"blocks and zero points are for int4: {NO_BLOCKS.get(parsed.kind, 'its text has them')}"
        )
    if block not in (None, 32, 128):
        raise QuantizationError(f"the block is {block}: int4 has blocks of 32 or 128 inputs")
    return Scheme(kind="int4", block=32 if block == 32 else 128, symmetric=symmetric)


def _default(kind: LayerKind, scheme: Scheme, layers: str, *, fused: bool) -> LayerRequest:
    """Return the scheme of a layer that no part names."""
    float32 = Scheme(kind="float32")
    if fused:
        return LayerRequest(scheme=float32, fused=kind == "recurrent")
    if kind == "convolution":
        # int8 convolutions in front of an LSTM ruined a published VAD whose LSTM quantizes cleanly: they are chosen
        # last, by what they change.
        return LayerRequest(scheme=float32)
    if kind != "recurrent" and layers == "recurrent":
        return LayerRequest(scheme=float32, reason="only recurrent layers were asked for")
    if kind == "embedding" and scheme.kind == "int4":
        # A row is looked up, not summed over: nothing averages its rounding away.
        return LayerRequest(scheme=Scheme(kind="int8"))
    return LayerRequest(scheme=scheme)


def _name_of(requests: Sequence[LayerRequest], scheme: Scheme) -> str:
    """The scheme of the whole file: ``mixed`` where parts make layers differ."""
    if any(request.gates for request in requests):
        return MIXED
    found = {request.scheme if request.named else scheme for request in requests}
    return str(found.pop()) if len(found) == 1 else MIXED


def _quantization(
    name: str,
    parent: bytes,
    rows: Sequence[Row],
    calibration_sha256: str | None,
    inexact: Mapping[str, tuple[str, ...]] | None,
) -> Quantization:
    # If layers share a name and some were refused, record what the others became: it makes the same file again.
    refused_first = sorted(rows, key=lambda row: not row.refused)
    return Quantization(
        scheme=name,
        parent_sha256=hashlib.sha256(parent).hexdigest(),
        coverage=tuple(row.coverage for row in rows),
        parts={part: text for row in refused_first for part, text in row.parts.items()},
        calibration_sha256=calibration_sha256,
        inexact=inexact,
    )


def _without_zero_blocks(model: ir.Model, card: ModelCard, session: Session, sparse: Sparse) -> _Made | None:
    """A quantized file without zero blocks of int8 weights, which gives the same answers; None if it has none."""
    golden = session.golden()
    after = None if card.quantization is None else leave_out_zero_blocks(model, card.quantization, sparse)
    if golden is None or after is None:
        return None
    drop_unused(model)
    card = card.replace(layers=requantized(card.layers, model), quantization=after)
    return _Made(
        artifact=assemble(serialize(model), card, [golden]),
        scheme=after.scheme,
        coverage=after.coverage,
        max_abs_difference=0.0 if card.parity is None else card.parity.max_abs_difference,
    )


def _refuse_quantized(model: ir.Model, card: ModelCard) -> None:
    """A quantized file has float32 tables of scales: quantizing it again would round those."""
    ours = [node.op_type for node in model.graph.all_nodes() if node.domain == DOMAIN]
    quantized = [name for name in ours if "Int8" in name or "Int4" in name]
    if quantized or card.quantization is not None:
        scheme = quantized[0] if card.quantization is None else card.quantization.scheme
        raise QuantizationError(
            f"the model is quantized already ({scheme}): start from the float32 file it was made from"
        )


def smallest_table(model: ir.Model) -> int:
    """Rows of the smallest embedding table: integer inputs are drawn below it."""
    readers = (reader for reader in find_layers(model) if isinstance(reader, Embedding))
    return min((len(reader.weight) for reader in readers), default=2)
