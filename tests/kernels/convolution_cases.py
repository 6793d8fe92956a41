"""Int8 convolutions as quantize writes them (``QuantizeLinear``, ``QLinearConv``), and their bits by exact arithmetic.

Sums are integers of any size here, so a kernel that saturates on the way, in 16 bits, gives other bits.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto, helper, numpy_helper

__all__ = ["Case", "golden_convolutions"]

# Weights of magnitude 64 at most: see lstm_edge_exporters.quantize.convolutions.rounding.
LARGEST = 64
INPUT_SCALE = np.float32(0.02)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Input [N, C, ...] and weight [M, C / groups, ...] with the attributes of one axis each."""

    x: tuple[int, ...]
    weight: tuple[int, ...]
    stride: int = 1
    dilation: int = 1
    pads: tuple[int, int] = (0, 0)
    group: int = 1


SHAPES = (
    Shape(x=(2, 64, 40), weight=(48, 64, 3), pads=(1, 1)),
    Shape(x=(1, 64, 1), weight=(128, 64, 3), pads=(1, 1)),
    Shape(x=(1, 22, 90), weight=(33, 22, 25), pads=(12, 12)),
    Shape(x=(3, 1, 50), weight=(8, 1, 7), stride=2),
    Shape(x=(1, 5, 20), weight=(7, 5, 3), pads=(2, 0)),
    Shape(x=(2, 40, 31), weight=(40, 1, 3), pads=(2, 2), dilation=2, group=40),
    Shape(x=(1, 16, 31), weight=(32, 4, 3), group=4),
    Shape(x=(1, 300, 9), weight=(130, 300, 1)),
    Shape(x=(2, 3, 12, 9), weight=(17, 3, 3, 3), pads=(1, 1)),
    Shape(x=(1, 32, 7, 13), weight=(32, 32, 3, 5), pads=(2, 2), stride=2),
    Shape(x=(1, 16, 9, 11), weight=(16, 1, 3, 3), pads=(1, 1), group=16),
)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model from x float32 to y uint8, an input, and the answer."""

    name: str
    model: bytes
    x: np.ndarray
    y: np.ndarray


def golden_convolutions() -> Iterator[Case]:
    """Yield each shape with random numbers, and with the extremes that saturate most easily."""
    for number, shape in enumerate(SHAPES):
        rng = np.random.default_rng(number)
        for zeros, extreme in (((128, 131), False), ((0, 0), False), ((0, 0), True), ((200, 30), True)):
            yield _case(f"conv-{number}-{zeros[0]}{'-extreme' * extreme}", shape, zeros, rng, extreme=extreme)


def _case(name: str, shape: Shape, zeros: tuple[int, int], rng: np.random.Generator, *, extreme: bool) -> Case:
    outputs, products = shape.weight[0], int(np.prod(shape.weight[1:]))
    if extreme:
        w = np.full(shape.weight, LARGEST)
        w[1::2] = -LARGEST
        x = np.where(rng.random(shape.x) < 0.9, 99.0, -99.0).astype(np.float32)
    else:
        w = rng.integers(-LARGEST, LARGEST + 1, shape.weight)
        x = rng.normal(0, 1.2, shape.x).astype(np.float32)
    w_scale = rng.uniform(1e-3, 3e-3, outputs).astype(np.float32)
    bias = rng.integers(-3000, 3000, outputs)
    # A typical sum, or the largest one, fills the output's range.
    typical = LARGEST * 255.0 * products / 2 if extreme else LARGEST * 40 * products**0.5
    y_scale = np.float32(INPUT_SCALE * 2e-3 * typical / 60)
    q = (np.rint(x / INPUT_SCALE) + zeros[0]).clip(0, 255).astype(np.int64)
    sums = _convolve(q - zeros[0], w, shape) + bias.reshape(1, -1, *[1] * (x.ndim - 2))
    ratio = (INPUT_SCALE * w_scale / y_scale).astype(np.float32).reshape(1, -1, *[1] * (x.ndim - 2))
    y = (np.rint(sums.astype(np.float32) * ratio) + zeros[1]).clip(0, 255).astype(np.uint8)
    arrays = {
        "w": w.astype(np.int8),
        "w_scale": w_scale,
        "w_zero": np.zeros(outputs, np.int8),
        "b": bias.astype(np.int32),
        "x_scale": INPUT_SCALE,
        "x_zero": np.uint8(zeros[0]),
        "y_scale": y_scale,
        "y_zero": np.uint8(zeros[1]),
    }
    return Case(name=name, model=_model(shape, arrays), x=x, y=y)


def _convolve(x: np.ndarray, w: np.ndarray, shape: Shape) -> np.ndarray:
    """Return the sums int64 [N, M, ...], kernel position by kernel position."""
    rank, kernel = x.ndim - 2, w.shape[2:]
    padded = np.pad(x, [(0, 0), (0, 0), *[shape.pads] * rank])
    sizes = [
        (length - (k - 1) * shape.dilation - 1) // shape.stride + 1
        for length, k in zip(padded.shape[2:], kernel, strict=True)
    ]
    batch, group = len(x), shape.group
    total = np.zeros((batch, len(w), *sizes), np.int64)
    for position in itertools.product(*map(range, kernel)):
        cut = tuple(
            slice(p * shape.dilation, p * shape.dilation + (size - 1) * shape.stride + 1, shape.stride)
            for p, size in zip(position, sizes, strict=True)
        )
        part = padded[(slice(None), slice(None), *cut)].reshape(batch, group, -1, *sizes)
        weight = w[(slice(None), slice(None), *position)].reshape(group, -1, w.shape[1])
        total += np.einsum("gmc,bgc...->bgm...", weight, part).reshape(total.shape)
    return total


def _model(shape: Shape, arrays: dict[str, np.ndarray]) -> bytes:
    rank = len(shape.x) - 2
    begin, end = shape.pads
    attributes = {
        "strides": [shape.stride] * rank,
        "dilations": [shape.dilation] * rank,
        "pads": [begin] * rank + [end] * rank,
        "group": shape.group,
    }
    names = ["q", "x_scale", "x_zero", "w", "w_scale", "w_zero", "y_scale", "y_zero", "b"]
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["x", "x_scale", "x_zero"], ["q"]),
            helper.make_node("QLinearConv", names, ["y"], **attributes),
        ],
        "convolution",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None] * len(shape.x))],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, [None] * len(shape.x))],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()],
    )
    imports = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()
