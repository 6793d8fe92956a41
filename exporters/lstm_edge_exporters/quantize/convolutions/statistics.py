"""What calibration data say about convolutions: the range of their input and result, samples of both, a Gram matrix."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lstm_edge_exporters.quantize.convolutions.reading import Convolution, read_convolution
from lstm_edge_exporters.quantize.feedforward import Conv
from lstm_edge_exporters.quantize.layer import Refusal
from lstm_edge_exporters.quantize.layers import find_layers
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.errors import DataError

__all__ = ["MOST_FEEDS", "ConvolutionStatistics", "Gathered", "Spread", "gathering", "patches"]

Float64 = NDArray[np.float64]

# Of each run: values whose rounding error is looked at, and windows whose products are added to the Gram matrix.
SAMPLES = 4096
WINDOWS = 256
# A Gram matrix of 2,048 inputs takes 32 MB; weights with more are rounded to nearest.
MOST_INPUTS = 2048
# Runs that are kept to measure what int8 convolutions change in the model's outputs.
MOST_FEEDS = 32


@dataclass(kw_only=True)
class Spread:
    """Range and samples of one value over all runs."""

    low: float = 0.0
    high: float = 0.0
    samples: list[Array] = field(default_factory=list)

    def add(self, name: str, array: Array) -> None:
        """Take one run's values.

        Raises:
            DataError: they hold NaN or infinity.
        """
        if not array.size:
            return
        if not np.isfinite(array).all():
            raise DataError(f"calibration: {name} is NaN or infinite on this data in the float32 model itself")
        self.low, self.high = min(self.low, float(array.min())), max(self.high, float(array.max()))
        self.samples.append(array.reshape(-1)[:: -(-array.size // SAMPLES)].astype(np.float32))


@dataclass(frozen=True, kw_only=True)
class ConvolutionStatistics:
    """Of one convolution: its input, its result, and Σ a aᵀ over windows a [K], or None."""

    x: Spread = field(default_factory=Spread)
    y: Spread = field(default_factory=Spread)
    gram: Float64 | None = None
    last: str = ""


@dataclass(kw_only=True)
class Gathered:
    """The statistics of all convolutions by ``Convolution.key``, and runs to judge by."""

    found: dict[str, ConvolutionStatistics] = field(default_factory=dict)
    feeds: list[Mapping[str, Array]] = field(default_factory=list)
    _convolutions: tuple[Convolution, ...] = ()
    _seen: int = 0
    _every: int = 1

    def without_graph(self) -> "Gathered":
        """Return the statistics without the nodes of the graph; nothing can be added to them."""
        return replace(self, _convolutions=())

    def values(self) -> list[tuple[ir.Value, ir.Value]]:
        """Return the input and the result of each convolution."""
        pairs = [(convolution.node.inputs[0], convolution.last.outputs[0]) for convolution in self._convolutions]
        return [(x, y) for x, y in pairs if x is not None]

    def add(self, feed: Mapping[str, Array], answers: list[tuple[Array, Array]]) -> None:
        """Take one run: its feed, and for each of ``values`` the input [N, C, ...] and the result [N, M, ...]."""
        for convolution, (x, y) in zip(self._convolutions, answers, strict=True):
            known = self.found[convolution.key]
            known.x.add(f"the input of {convolution.node.name}", x)
            known.y.add(f"the result of {convolution.node.name}", y)
            if known.gram is not None:
                rows = patches(convolution, x, y.shape[2:]).astype(np.float64)
                known.gram[...] += rows.T @ rows
        if self._convolutions and self._seen % self._every == 0:
            self.feeds.append(feed)
            if len(self.feeds) > MOST_FEEDS:  # spread over all runs: half as many, twice as far apart
                self.feeds, self._every = self.feeds[::2], 2 * self._every
        self._seen += 1


def gathering(model: ir.Model) -> Gathered:
    """Prepare to gather the statistics of a float32 model's convolutions."""
    convolutions, found = [], {}
    for reader in find_layers(model):
        if not isinstance(reader, Conv):
            continue
        try:
            convolution = read_convolution(reader, model.graph)
        except Refusal:
            continue  # it stays float32 with this reason when the file is quantized
        convolutions.append(convolution)
        inputs = convolution.products
        gram = np.zeros((inputs, inputs)) if convolution.groups == 1 and inputs <= MOST_INPUTS else None
        found[convolution.key] = ConvolutionStatistics(gram=gram, last=str(convolution.last.outputs[0].name))
    return Gathered(found=found, _convolutions=tuple(convolutions))


def patches(convolution: Convolution, x: Array, sizes: tuple[int, ...]) -> Array:
    """Return windows of an input as the weights [M, K] multiply them, float32 [windows, K]; ``WINDOWS`` at most.

    Args:
        convolution: of one group.
        x: float32 [N, C, ...].
        sizes: of the result's axes behind the channels.
    """
    node, kernel = convolution.node, convolution.weight.shape[2:]
    rank = len(kernel)
    strides, dilations = (_axes(node, name, rank) for name in ("strides", "dilations"))
    reach = [(size - 1) * s + (k - 1) * d + 1 for size, s, k, d in zip(sizes, strides, kernel, dilations, strict=True)]
    before = _padding(node, [max(r - n, 0) for r, n in zip(reach, x.shape[2:], strict=True)])
    widths = [(b, max(r - b - n, 0)) for b, r, n in zip(before, reach, x.shape[2:], strict=True)]
    padded = np.pad(x, [(0, 0), (0, 0), *widths])
    places = len(x) * int(np.prod(sizes))
    if not places:
        return np.zeros((0, convolution.products), np.float32)
    chosen = np.unravel_index(np.arange(0, places, -(-places // WINDOWS)), (len(x), *sizes))
    count = len(chosen[0])
    index = [chosen[0].reshape(count, *[1] * rank)]
    for axis in range(rank):
        offsets = chosen[axis + 1][:, None] * strides[axis] + np.arange(kernel[axis]) * dilations[axis]
        index.append(offsets.reshape(count, *[kernel[axis] if other == axis else 1 for other in range(rank)]))
    windows = np.moveaxis(padded, 1, -1)[tuple(index)]  # [windows, kernel ..., C]
    return np.ascontiguousarray(np.moveaxis(windows, -1, 1).reshape(count, -1))


def _axes(node: ir.Node, name: str, rank: int) -> list[int]:
    attribute = node.attributes.get(name)
    return [1] * rank if attribute is None else [int(value) for value in attribute.value]


def _padding(node: ir.Node, missing: list[int]) -> list[int]:
    """The padding before each axis, of which the input lacks so many elements."""
    attribute = node.attributes.get("auto_pad")
    automatic = "NOTSET" if attribute is None else str(attribute.value)
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        return [(total + (automatic == "SAME_LOWER")) // 2 for total in missing]
    pads = node.attributes.get("pads")
    if pads is None or automatic == "VALID":
        return [0] * len(missing)
    return [int(value) for value in pads.value[: len(missing)]]
