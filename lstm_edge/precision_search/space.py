"""The axes of the search: the parts of a model, their schemes, and the evaluation of each alone."""

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lstm_edge.precision_search.measure import Evaluation
from lstm_edge.precision_search.search import Axis, Mix, Option
from lstm_edge_exporters.quantize import LayerPart
from lstm_edge_runtime.errors import QuantizationError

__all__ = [
    "APART",
    "PLAIN",
    "STATIC",
    "UNIFORM",
    "Prefer",
    "SearchPart",
    "mix_of",
    "parts_of",
    "search_axes",
    "search_parts",
    "spelled",
    "uniform",
]

Prefer = Literal["size", "latency"]

FLOAT32 = "float32"
# From fine to coarse. Blocks of 128 with zero points are between two of these, and only available with `--part`.
SCHEMES = ("float16", "int8", "int4:32:zero", "int4:32", "int4:128")
# Schemes of a recurrent layer whose W and R differ, which one fused operator has.
APART = ("W=int8,R=int4:128", "W=int4:128,R=int8")
# Of a convolution, for the lowest latency only: what `--scheme int8 --data` takes by shape is judged by time here.
STATIC = "int8:static"
# The baselines: one scheme for all parts. Those that are judged on the held-out data in any case are the plain files
# that `--scheme` writes; int4 is calibrated.
PLAIN = ("float16", "int8")
UNIFORM = (*PLAIN, "int4:128")
# Quantizing a convolution in front of an LSTM can ruin the model even if the LSTM tolerates it (docs/silero.md: of
# 1,463 decisions onnxruntime's tool changed 1,123). A convolution takes part only if it alone costs at most this share
# of the budget.
HARMLESS = 0.1
# Losses that the metric does not show (no sample of a small set changed its class) are ordered by the noise of the
# outputs, which counts for at most this share of the budget.
TIE = 0.01


@dataclass(frozen=True, kw_only=True)
class SearchPart:
    """One part of the search: its address, the kind of its layer, and its schemes besides float32.

    ``sparse_saving``: bytes that its int8 weights take less in a layer that is int8 or int4 as a whole, where zero
    blocks are left out, than in the part alone.
    """

    part: str
    layer: str
    kind: str
    schemes: tuple[str, ...]
    sparse_saving: int = 0


def search_parts(
    layers: Sequence[LayerPart], *, prefer: Prefer, gates: bool, pinned: Mapping[str, str]
) -> tuple[SearchPart, ...]:
    """Return the parts to decide on, without those with a fixed scheme.

    LSTM layers are split into W and R, and with ``gates`` into gates. For the lowest latency they are not split: W or R
    alone in int8 or int4, and gates with different schemes, have no fused operator. Layers with more matrices (a full
    peephole, a projection) are not split either. A recurrent layer that is not split has also the schemes ``APART``.
    For the lowest latency a convolution has ``STATIC``.

    Raises:
        QuantizationError: nothing is left to decide on.
    """
    found = []
    for layer in layers:
        for part in _addresses(layer, prefer=prefer, gates=gates):
            covered = any(part == pin or part.startswith(f"{pin}.") for pin in pinned)
            schemes = _schemes(layer, part, prefer=prefer, pinned=pinned)
            saving = layer.sparse_savings.get(part, 0)
            if schemes and not covered:
                row = SearchPart(part=part, layer=layer.layer, kind=layer.kind, schemes=schemes, sparse_saving=saving)
                found.append(row)
    if not found:
        raise QuantizationError(
            "the model has no layer that the search could quantize and that has no fixed scheme (--part)"
        )
    return tuple(found)


def _schemes(layer: LayerPart, part: str, *, prefer: Prefer, pinned: Mapping[str, str]) -> tuple[str, ...]:
    """The schemes of a part, from fine to coarse."""
    known = {scheme.text for scheme in layer.schemes}
    schemes = tuple(scheme for scheme in SCHEMES if scheme in known)
    inner = [scheme for pin, scheme in pinned.items() if part == layer.layer and pin.startswith(f"{part}.")]
    if inner and prefer == "latency":
        # Beside a matrix or gate with a fixed scheme, only what can be one operator with it.
        return tuple(scheme for scheme in schemes if all(_is_integer(scheme) == _is_integer(pin) for pin in inner))
    more: tuple[str, ...] = ()
    if not inner and f"{part}.R" in layer.parts and "int4:128" in schemes:
        # Coarser than int8 and finer than int4.
        more = APART
    elif prefer == "latency" and layer.kind == "convolution":
        more = (STATIC,)
    if "int8" not in schemes:
        return schemes
    place = schemes.index("int8") + 1
    return (*schemes[:place], *more, *schemes[place:])


def _is_integer(scheme: str) -> bool:
    return scheme.startswith("int")


def spelled(part: str, scheme: str) -> dict[str, str]:
    """Return a scheme of the search as ``quantize`` takes it: by part; nothing for float32.

    What belongs to R in an LSTM (a projection, the matrices of a full peephole) has R's scheme.
    """
    if scheme == FLOAT32:
        return {}
    if scheme not in APART:
        return {part: scheme}
    w, r = (text.partition("=")[2] for text in scheme.split(","))
    return {part: r, f"{part}.W": w}


def _addresses(layer: LayerPart, *, prefer: Prefer, gates: bool) -> tuple[str, ...]:
    finer = [part for part in layer.parts if part != layer.layer]
    gatewise = tuple(part for part in finer if part.rpartition(".")[2] in ("i", "f", "g", "o"))
    matrices = tuple(part for part in finer if part not in gatewise)
    if prefer == "latency" or not matrices or layer.operator != "LSTM":
        return (layer.layer,)
    return gatewise if gates and gatewise else matrices


def search_axes(
    parts: Sequence[SearchPart],
    alone: Mapping[tuple[str, str], Evaluation],
    *,
    base: Evaluation,
    prefer: Prefer,
    allowed: float,
    loss_limit: float = math.inf,
) -> tuple[Axis, ...]:
    """Return the axes of the search from the cost and the loss of each part alone.

    Args:
        parts: the parts to decide on.
        alone: the evaluation of each part in each scheme, with everything else as in ``base``.
        base: the evaluation of the model with the fixed schemes only.
        prefer: the cost: bytes, or microseconds per step.
        allowed: the budget, in the metric's unit.
        loss_limit: largest loss of the outputs of a result; it counts like a drop of ``allowed``.
    """
    noise = {key: found.output_loss or 0.0 for key, found in alone.items()}
    loudest = max(noise.values(), default=0.0) or 1.0
    axes = []
    for part in parts:
        options = {"": Option(scheme=FLOAT32, cost=0.0, loss=0.0)}
        for scheme in part.schemes:
            found = alone.get((part.part, scheme))
            if found is None:
                continue
            if part.kind == "convolution" and (found.high is None or found.high > HARMLESS * allowed):
                continue
            # Equal bytes of weights and equal answers mean that two schemes are the same rounding.
            rounding = f"{found.saved} {found.value} {found.snr_db}"
            if rounding in options:
                twin = options[rounding]
                options[rounding] = dataclasses.replace(twin, also=(*twin.also, scheme))
                continue
            own = noise[part.part, scheme]
            loss = max(found.drop or 0.0, allowed * own / (loss_limit or 1.0), 0.0) + TIE * allowed * own / loudest
            # Bytes of weights only: function bodies, card and golden vectors of one part do not predict those of a
            # combination.
            cost = float(base.saved - found.saved) if prefer == "size" else found.cost(prefer) - base.cost(prefer)
            if prefer == "size" and scheme == "int8":
                cost -= part.sparse_saving
            options[rounding] = Option(scheme=scheme, cost=cost, loss=loss)
        axes.append(Axis(part=part.part, layer=part.layer, options=tuple(options.values())))
    return tuple(axis for axis in axes if len(axis.options) > 1)


def parts_of(mix: Mix, axes: Sequence[Axis], pinned: Mapping[str, str]) -> dict[str, str]:
    """Return the schemes by part; parts without an entry are float32.

    If several schemes name one rounding, use the scheme that another part of the layer already has, because a layer of
    one scheme has a fused operator.
    """
    options = [axis.options[number] for axis, number in zip(axes, mix, strict=True)]
    parts = dict(pinned)
    for axis, option in zip(axes, options, strict=True):
        fixed = {o.scheme for a, o in zip(axes, options, strict=True) if a.layer == axis.layer and not o.also}
        scheme = next((name for name in (option.scheme, *option.also) if name in fixed), option.scheme)
        parts |= spelled(axis.part, scheme)
    return parts


def mix_of(parts: Mapping[str, str], axes: Sequence[Axis]) -> Mix | None:
    """Return the assignment of these schemes, or None if an axis has no such option or a part is not an axis."""
    numbers = []
    for axis in axes:
        own = {part: parts[part] for part in (axis.part, f"{axis.part}.W") if part in parts}
        found = [
            n for n, o in enumerate(axis.options) if any(own == spelled(axis.part, s) for s in (o.scheme, *o.also))
        ]
        if not found:
            return None
        numbers.append(found[0])
    return tuple(numbers)


def uniform(
    parts: Sequence[SearchPart],
    scheme: str,
    pinned: Mapping[str, str],
    alone: Collection[tuple[str, str]],
) -> dict[str, str]:
    """Return the same scheme for every part that supports it; convolutions stay unchanged."""
    named = {p.part: scheme for p in parts if (p.part, scheme) in alone and p.kind != "convolution"}
    return dict(pinned) | named
