"""Models of one operator each, with seeded weights and inputs, and what the NumPy model of the operator answers."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from support.stored_weights import stored, tried

from lstm_edge_exporters.functions import function_for
from lstm_edge_exporters.functions import simulation as numpy_model
from lstm_edge_exporters.functions.names import (
    DOMAIN,
    CellVariant,
    GruVariant,
    RnnVariant,
    Variant,
    all_cells,
    all_grus,
    all_rnns,
)
from lstm_edge_exporters.quantize.rounding import Scheme, round_matrix
from lstm_edge_runtime.arrays import Array

__all__ = [
    "CELLS",
    "FILLS",
    "GRUS",
    "INT4",
    "INT8",
    "LINEARS",
    "RNNS",
    "STATE",
    "Operator",
    "answers",
    "assert_bits",
    "cell",
    "feeds_of",
    "golden_operators",
    "gru",
    "linear",
    "one_node",
    "one_state",
    "resized",
    "rnn",
    "with_scheme",
]

CELLS = tried(all_cells())
GRUS = tried(all_grus())
RNNS = tried(all_rnns())
LINEARS = ("LinearInt8V1", "LinearInt4V1")
STATE = ("y", "h_out", "c_out")
# Scheme of each precision's weights; the int4 variants differ in block and zero points.
INT8 = Scheme()
INT4 = (
    Scheme(kind="int4", block=32),
    Scheme(kind="int4", block=128),
    Scheme(kind="int4", block=32, symmetric=False),
    Scheme(kind="int4", block=128, symmetric=False),
)

TINY = np.float32(2.0**-149)  # the smallest denormal

# Values at the edges of the operators' domain, made of random ones.
FILLS: dict[str, Callable[[Array], Array]] = {
    "zeros": np.zeros_like,
    "minus zeros": lambda array: np.full_like(array, -0.0),
    "denormals": lambda array: np.sign(array) * TINY * np.float32(1000),
    "below the smallest scale": lambda array: array * np.float32(2.0**-110),
    "around the smallest scale": lambda array: array * np.float32(2.0**-100),
    "huge": lambda array: array * np.float32(1e30),
    "one huge element": lambda array: np.where(np.arange(array.shape[-1]) == 0, np.float32(1e30), array),
    "the largest float": lambda array: np.copysign(np.finfo(np.float32).max, array),
    "saturating": lambda array: np.sign(array) * np.float32(50),
    "halves": lambda array: np.rint(array * 4) / np.float32(2),  # ties of the rounding
}


@dataclass(frozen=True, kw_only=True)
class Operator:
    """One operator with its constants. ``variant`` is None for a linear one; sizes are I, H, P (I, H, H; K, N, N)."""

    name: str
    sizes: tuple[int, int, int]
    weights: Mapping[str, Array]
    variant: Variant | None = None
    model: bytes = field(repr=False)

    def __str__(self) -> str:
        return f"{self.name}-{'x'.join(map(str, self.sizes))}"

    @property
    def outputs(self) -> tuple[str, ...]:
        """The outputs' names, in order."""
        if isinstance(self.variant, GruVariant | RnnVariant):
            return STATE[:2]
        return ("y",) if self.variant is None else STATE

    @property
    def exact(self) -> bool:
        """Whether kernels give the NumPy model's bits: all but float32 sums, whose order is free."""
        return self.variant is None or self.variant.storage != "float32"

    def expected(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Return the NumPy model's answer."""
        if self.variant is None:
            return {"y": numpy_model.linear(self.name, feeds["x"], self.weights)}
        if isinstance(self.variant, GruVariant):
            last = numpy_model.gru(self.variant, feeds["x"], feeds["h"], self.weights, feeds.get("lengths"))
            return dict(zip(STATE, last, strict=False))
        if isinstance(self.variant, RnnVariant):
            last = numpy_model.rnn(self.variant, feeds["x"], feeds["h"], self.weights, feeds.get("lengths"))
            return dict(zip(STATE, last, strict=False))
        answers = numpy_model.lstm(self.variant, feeds["x"], feeds["h"], feeds["c"], self.weights, feeds.get("lengths"))
        return dict(zip(STATE, answers, strict=True))


def with_scheme(variant: Variant) -> tuple[Scheme | None, ...]:
    """Return the schemes that a variant's weights may have; None stands for float32."""
    if "int4" in (variant.storage, variant.w_storage):
        return INT4
    return (None,) if variant.storage == "float32" else (INT8,)


def cell(
    variant: CellVariant, inputs: int, hidden: int, outputs: int, scheme: Scheme | None, seed: int = 0
) -> Operator:
    """Make an LSTM operator: matrices of deviation 1 / sqrt(rows), biases and diagonals of deviation 0.3."""
    rng = np.random.default_rng(seed)
    P = outputs if variant.projected else hidden
    shapes = {"w": (inputs, 4 * hidden), "r": (P, 4 * hidden), "b": (4 * hidden,), "po": (hidden, hidden)}
    shapes |= {"p": (3, hidden) if variant.peephole == "diagonal" else (hidden, 3 * hidden), "v": (hidden, P)}
    weights: dict[str, Array] = {}
    for name in (name for name in variant.weights if "_" not in name):
        shape = shapes[name]
        matrix = variant.is_quantized(name)
        values = (rng.standard_normal(shape) * (shape[0] ** -0.5 if matrix else 0.3)).astype(np.float32)
        weights |= stored(variant, name, values, scheme, rng)
    model = one_node(variant.name, variant.inputs, STATE, weights)
    return Operator(name=variant.name, sizes=(inputs, hidden, P), weights=weights, variant=variant, model=model)


def gru(variant: GruVariant, inputs: int, hidden: int, scheme: Scheme, seed: int = 0) -> Operator:
    """Make a GRU operator: matrices of deviation 1 / sqrt(rows), biases of deviation 0.3."""
    rng = np.random.default_rng(seed)
    weights: dict[str, Array] = {}
    for name, rows in (("w", inputs), ("r", hidden)):
        values = (rng.standard_normal((rows, 3 * hidden)) * rows**-0.5).astype(np.float32)
        weights |= stored(variant, name, values, scheme, rng)
    weights["b"] = (rng.standard_normal(3 * hidden) * 0.3).astype(np.float32)
    if variant.reset_after:
        weights["rb"] = (rng.standard_normal(hidden) * 0.3).astype(np.float32)
    model = one_node(variant.name, variant.inputs, STATE[:2], weights)
    return Operator(name=variant.name, sizes=(inputs, hidden, hidden), weights=weights, variant=variant, model=model)


def rnn(variant: RnnVariant, inputs: int, hidden: int, scheme: Scheme, seed: int = 0) -> Operator:
    """Make an RNN operator: matrices of deviation 1 / sqrt(rows), a bias of deviation 0.3."""
    rng = np.random.default_rng(seed)
    weights: dict[str, Array] = {}
    for name, rows in (("w", inputs), ("r", hidden)):
        values = (rng.standard_normal((rows, hidden)) * rows**-0.5).astype(np.float32)
        weights |= stored(variant, name, values, scheme, rng)
    weights["b"] = (rng.standard_normal(hidden) * 0.3).astype(np.float32)
    model = one_node(variant.name, variant.inputs, STATE[:2], weights)
    return Operator(name=variant.name, sizes=(inputs, hidden, hidden), weights=weights, variant=variant, model=model)


def one_state(
    variant: GruVariant | RnnVariant, inputs: int, hidden: int, scheme: Scheme | None, seed: int = 0
) -> Operator:
    """Make a GRU or an RNN operator."""
    assert scheme is not None
    if isinstance(variant, RnnVariant):
        return rnn(variant, inputs, hidden, scheme, seed=seed)
    return gru(variant, inputs, hidden, scheme, seed=seed)


def linear(name: str, k: int, n: int, scheme: Scheme, *, rank: int = 3, seed: int = 0) -> Operator:
    """Make a linear operator whose input has ``rank`` axes."""
    rng = np.random.default_rng(seed)
    values = (rng.standard_normal((k, n)) * k**-0.5).astype(np.float32)
    weights = {"w" + suffix: array for suffix, array in round_matrix("w", values, scheme).items()}
    weights["b"] = rng.standard_normal(n).astype(np.float32)
    model = one_node(name, ("x", *weights), ("y",), weights, rank=rank)
    return Operator(name=name, sizes=(k, n, n), weights=weights, model=model)


def one_node(
    name: str,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    weights: Mapping[str, Array],
    *,
    rank: int = 3,
    body: bool = True,
    types: Mapping[str, Any] | None = None,
) -> bytes:
    """Serialize a model that calls one operator; inputs that are no weights are the graph's, of any sizes.

    ``types`` gives the dtype of a graph input other than float32 (lengths are int64 by themselves); ``body`` False
    leaves the function out, so that only a kernel can run the model.
    """
    kinds = {"lengths": np.int64, **(types or {})}

    def info(tensor: str) -> onnx.ValueInfoProto:
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(kinds.get(tensor, np.float32)))
        axes = ["n"] if tensor == "lengths" else [f"{tensor}{axis}" for axis in range(rank)]
        return helper.make_tensor_value_info(tensor, kind, axes)

    moving = [info(tensor) for tensor in inputs if tensor and tensor not in weights]
    results = [info(tensor) for tensor in outputs if tensor]
    # ascontiguousarray would make an array of one element of a scalar.
    constants = [numpy_helper.from_array(np.asarray(array, order="C"), key) for key, array in weights.items()]
    node = helper.make_node(name, list(inputs), list(outputs), domain=DOMAIN)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, 1)]
    functions = [function_for(name)] if body else []
    graph = helper.make_graph([node], "operator", moving, results, constants)
    model = helper.make_model(graph, functions=functions, opset_imports=opsets, ir_version=8)
    return bytes(model.SerializeToString())


def feeds_of(operator: Operator, time: int, batch: int, *, seed: int = 1) -> dict[str, Array]:
    """Draw inputs: x normal, h uniform, c normal, lengths from 0 to T with both ends in it."""
    rng = np.random.default_rng(seed)
    K, hidden, outputs = operator.sizes
    x = rng.standard_normal((time, batch, K)).astype(np.float32)
    if operator.variant is None:
        return {"x": x}
    feeds: dict[str, Array] = {
        "x": x,
        "h": rng.uniform(-0.9, 0.9, (1, batch, outputs)).astype(np.float32),
    }
    if isinstance(operator.variant, CellVariant):
        feeds["c"] = rng.standard_normal((1, batch, hidden)).astype(np.float32)
    if operator.variant.ragged:
        feeds["lengths"] = np.array([0, time, *rng.integers(0, time + 1, max(0, batch - 2))], np.int64)[-batch:]
    return feeds


def golden_operators() -> Iterator[tuple[Operator, int, int]]:
    """Yield every operator at sizes that show mistakes, each with T and B: what any machine must answer alike."""
    sizes = ((12, 32, 8), (5, 17, 3), (1, 1, 1), (1, 3, 2), (40, 100, 30))
    shapes = ((20, 1), (7, 3), (1, 1), (3, 19), (9, 7))
    for number, variant in enumerate(CELLS):
        for index, scheme in enumerate(with_scheme(variant)):
            # Every operator at two of the sizes, all sizes over the operators; int4's schemes count as operators.
            # Where W is stored otherwise than R both products are those of other operators: one size.
            for at in {(number + index) % 5, (number + index + 2 * (variant.w_storage is None)) % 5}:
                yield cell(variant, *sizes[at], scheme, seed=number), *shapes[at]
    for number, made in (*enumerate(GRUS), *enumerate(RNNS)):
        for index, scheme in enumerate(with_scheme(made)):
            for at in {(number + index) % 5, (number + index + 2 * (made.w_storage is None)) % 5}:
                yield one_state(made, *sizes[at][:2], scheme, seed=number), *shapes[at]
    plain = CellVariant(storage="int8")
    yield cell(plain, 1100, 24, 24, INT8), 3, 2  # sums up to 2^24: exact only if the columns' sums are bounded
    yield cell(plain, 16, 64, 64, INT8), 100, 2
    yield cell(CellVariant(storage="int4"), 200, 40, 40, INT4[3]), 5, 2
    for name, schemes in zip(LINEARS, ((INT8,), INT4), strict=True):
        for index, scheme in enumerate(schemes):
            for k, n in ((33, 5), (200, 70), (1, 1)):
                yield linear(name, k, n, scheme, seed=index), 5, 7


def answers(session: Any, operator: Operator, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Run a model of one operator; returns its outputs by name."""
    return dict(zip(operator.outputs, session.run(list(operator.outputs), feeds), strict=True))


def assert_bits(got: Mapping[str, Array], expected: Mapping[str, Array], where: str) -> None:
    """Fail unless every output has the expected shape and bytes; the message says where and how far off."""
    for name, want in expected.items():
        assert got[name].shape == want.shape, where
        assert got[name].tobytes() == want.tobytes(), (
            f"{where}: {name} differs in {np.count_nonzero(got[name] != want)} of {want.size} elements, "
            f"worst {np.abs(got[name] - want).max()}"
        )


def resized(array: Array, axis: int, by: int) -> Array:
    """Return the array with one axis longer (``by`` 1) or shorter (-1) by one."""
    if by < 0:
        return np.delete(array, -1, axis)
    return np.concatenate([array, np.take(array, [0], axis)], axis)
