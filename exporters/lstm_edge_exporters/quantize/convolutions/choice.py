"""Which convolutions become int8: by a rule on shapes, and by a bound on the signal to noise that the outputs lose.

A convolution that the rule takes is int8 as long as the outputs on the calibration data lose little by all of them
together. Otherwise the convolution that adds the most noise alone is left, and the rest is measured again. Nothing
here depends on time, so that the same input gives the same bytes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
import onnx_ir as ir

from lstm_edge_exporters.onnx_graph.names import unique_names
from lstm_edge_exporters.onnx_graph.reading import read_proto
from lstm_edge_exporters.onnx_graph.writing import serialize
from lstm_edge_exporters.quantize.convolutions.emit import emit_convolution
from lstm_edge_exporters.quantize.convolutions.reading import read_convolution, why_slower
from lstm_edge_exporters.quantize.convolutions.rounding import Rounded, round_convolution
from lstm_edge_exporters.quantize.convolutions.statistics import Gathered
from lstm_edge_exporters.quantize.feedforward import Conv
from lstm_edge_exporters.quantize.layer import Refusal
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.providers import open_session

__all__ = ["ENOUGH_DB", "LARGEST_LOSS_DB", "Choice", "Convolutions", "Take", "apply", "choose"]

Take = Literal["auto", "off", "required"]

# An output that loses at most this is accepted: convolutions may add as much noise as all other int8 layers (3.01 dB
# are half the power).
LARGEST_LOSS_DB = 3.0
# An output that keeps this is accepted, whatever it loses: the noise is a thousandth of its power. One int8 convolution
# alone leaves 32 to 38 dB. A published detector with all convolutions in int8 is left with 4 to 22 dB, and decides
# otherwise on 18 of 1,463 frames.
ENOUGH_DB = 30.0


@dataclass(frozen=True, kw_only=True)
class Convolutions:
    """A request for int8 convolutions: what calibration gathered, and which are taken.

    ``take``: ``auto``: by the rule and the bound; ``off``: those that parts name; ``required``: all, or an error.
    """

    gathered: Gathered
    take: Take = "auto"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What became of one convolution: its constants, or the reason why it stays float32.

    ``must``: it was asked for by name or by ``required``.
    """

    reader: Conv
    key: str
    rounded: Rounded | None = None
    reason: str = ""
    must: bool = False
    size_bytes: int = 0


def choose(
    graph: ir.Graph,
    named: Mapping[Conv, bool],
    request: Convolutions,
    base: Callable[[], bytes],
    reference: Callable[[Mapping[str, Array]], Mapping[str, Array]],
) -> tuple[Choice, ...]:
    """Choose among convolutions that no part gives another scheme.

    Args:
        graph: the model's main graph.
        named: the convolutions, and whether a part asks for each by name.
        request: statistics and mode.
        base: makes the model's bytes with all other layers quantized.
        reference: the float32 model's answers to a feed.
    """
    choices = [
        _round(graph, reader, request, must=asked or request.take == "required") for reader, asked in named.items()
    ]
    tried = [choice for choice in choices if choice.rounded is not None and not choice.must]
    if not tried:
        return tuple(choices)
    left = _bounded(choices, request.gathered.feeds, base(), reference)
    return tuple(left.get(choice.key, choice) for choice in choices)


def _round(graph: ir.Graph, reader: Conv, request: Convolutions, *, must: bool) -> Choice:
    key = str(reader.node.outputs[0].name)
    try:
        convolution = read_convolution(reader, graph)
        known = request.gathered.found.get(key)
        if known is None or known.last != str(convolution.last.outputs[0].name):
            raise Refusal("calibration saw no activations of it")
        slower = why_slower(convolution)
        if slower and not must:
            raise Refusal(slower)
        rounded = round_convolution(convolution, known)
    except Refusal as refusal:
        return Choice(reader=reader, key=key, reason=str(refusal), must=must)
    return Choice(reader=reader, key=key, rounded=rounded, must=must, size_bytes=convolution.size_bytes)


def apply(model: ir.Model, chosen: Mapping[str, Rounded]) -> None:
    """Write convolutions as int8, by key, in place and in graph order."""
    for node in list(model.graph):
        if not Conv.takes(node) or str(node.outputs[0].name) not in chosen:
            continue
        reader = Conv(node=node)
        convolution = read_convolution(reader, model.graph)
        emit_convolution(convolution, chosen[convolution.key], reader.name)


def _bounded(
    choices: Sequence[Choice],
    feeds: Sequence[Mapping[str, Array]],
    base: bytes,
    reference: Callable[[Mapping[str, Array]], Mapping[str, Array]],
) -> dict[str, Choice]:
    """The convolutions that are left so that the outputs keep the bound, by key, with the reason."""
    expected = [reference(feed) for feed in feeds]
    signal = _power(expected, None)
    fixed = {choice.key: choice.rounded for choice in choices if choice.rounded is not None and choice.must}
    free = {choice.key: choice for choice in choices if choice.rounded is not None and not choice.must}

    def noise(keys: Sequence[str]) -> dict[str, float]:
        chosen = {key: rounded for key in keys if (rounded := free[key].rounded) is not None}
        return _power(expected, _answers(_with(base, fixed | chosen), feeds, list(signal)))

    floor, kept, left = noise(()), list(free), {}
    alone: dict[str, float] = {}
    while kept:
        loss = _loss(signal, floor, noise(kept))
        if loss is None:
            break
        if not alone:
            alone = {key: _worst(signal, floor, noise((key,))) for key in kept}
        worst = max(kept, key=lambda key: alone[key])
        kept.remove(worst)
        left[worst] = _left(free[worst], loss)
    return left


def _left(choice: Choice, loss: tuple[str, float, float]) -> Choice:
    output, before, after = loss
    fell = f"to {after:.1f} dB" if np.isinf(before) else f"from {before:.1f} to {after:.1f} dB"
    reason = f"with it the signal to noise of {output} falls {fell} on the calibration data"
    return Choice(reader=choice.reader, key=choice.key, reason=reason, size_bytes=choice.size_bytes)


def _with(base: bytes, chosen: Mapping[str, Rounded]) -> bytes:
    if not chosen:
        return base
    model = read_proto(onnx.ModelProto.FromString(base))
    with unique_names(model):
        apply(model, chosen)
    return serialize(model)


def _answers(model: bytes, feeds: Sequence[Mapping[str, Array]], names: list[str]) -> list[Mapping[str, Array]]:
    session = open_session(model)
    return [dict(zip(names, map(np.asarray, session.run(names, dict(feed))), strict=True)) for feed in feeds]


def _power(expected: Sequence[Mapping[str, Array]], got: Sequence[Mapping[str, Array]] | None) -> dict[str, float]:
    """The sum of squares of each float32 output, or of its error."""
    sums: dict[str, float] = {}
    for number, answers in enumerate(expected):
        for name, array in answers.items():
            if array.dtype == np.float32:
                values = array.astype(np.float64)
                values = values if got is None else got[number][name] - values
                sums[name] = sums.get(name, 0.0) + float(np.square(values).sum())
    return sums


def _ratio_db(signal: float, noise: float) -> float:
    return float("inf") if noise <= 0 else 10 * float(np.log10(max(signal, 1e-300) / noise))


def _loss(
    signal: Mapping[str, float], floor: Mapping[str, float], noise: Mapping[str, float]
) -> tuple[str, float, float] | None:
    """The output that loses most, with its signal to noise before and after; None where all keep the bound."""
    worst: tuple[str, float, float] | None = None
    for name, power in signal.items():
        before, after = _ratio_db(power, floor[name]), _ratio_db(power, noise[name])
        lost = before - after
        if (after < ENOUGH_DB and not lost <= LARGEST_LOSS_DB) and (worst is None or lost > worst[1] - worst[2]):
            worst = (name, before, after)
    return worst


def _worst(signal: Mapping[str, float], floor: Mapping[str, float], noise: Mapping[str, float]) -> float:
    """The greatest noise that is added to an output, as a share of its signal."""
    return max((max(noise[name] - floor[name], 0.0) / max(signal[name], 1e-300) for name in signal), default=0.0)
