"""A NumPy float32 model of the operators: the same operations in the same order as docs/operators.md.

It is the reference for function bodies and kernels: a kernel must give these bits, a body these values up to
the last bit of onnxruntime's own sigmoid and tanh. Every operation below is one IEEE float32 operation.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_edge_exporters.functions.names import CellVariant, GruVariant, RnnVariant
from lstm_edge_exporters.functions.storages import Places, Storage, scatter_blocks

__all__ = ["exponential", "gru", "linear", "lstm", "quantize_rows", "rnn", "sigmoid", "tanh", "unpack"]

Float = NDArray[np.float32]
Weights = Mapping[str, NDArray[Any]]

F = np.float32
SMALLEST_AMAX = F(2.0**-100)
LEVELS = F(127.0)

# exp(r) = 1 + r + r²·(E0 + E1·r + ... + E4·r⁴) for |r| ≤ ln(2)/2, fitted by reweighted least squares to a relative
# error of 3.1e-9 before rounding (benchmarks/exponential.py); ln(2) is split in two so that n·LN2_HIGH is exact.
EXPONENTIAL = tuple(
    F(float.fromhex(text))
    for text in ("0x1.fffffcp-2", "0x1.555492p-3", "0x1.5558f2p-5", "0x1.1239e2p-7", "0x1.6a2434p-10")
)
LOG2_E = F(float.fromhex("0x1.715476p+0"))
LN2_HIGH = F(0.693359375)
LN2_LOW = F(float.fromhex("-0x1.bd0106p-13"))
SMALLEST_EXPONENT = F(-86.0)


def exponential(y: Float) -> Float:
    """e**y for y ≤ 0 (float32, any shape); below -86 it stays at e**-86, so that no result is denormal."""
    y = np.maximum(y, SMALLEST_EXPONENT)
    n = np.rint(y * LOG2_E)
    r = (y - n * LN2_HIGH) - n * LN2_LOW
    e0, e1, e2, e3, e4 = EXPONENTIAL
    p = (((e4 * r + e3) * r + e2) * r + e1) * r + e0
    p = (p * (r * r) + r) + F(1)
    power = ((n.astype(np.int32) + 127) << 23).view(np.float32)
    return np.asarray(p * power, np.float32)


def sigmoid(x: Float) -> Float:
    """σ(x) = (x ≥ 0 ? 1 : e) / (1 + e) with e = exp(-|x|); largest error 8.9e-8."""
    e = exponential(-np.abs(x))
    return np.asarray(np.where(x >= 0, F(1), e) / (F(1) + e), np.float32)


def tanh(x: Float) -> Float:
    """Hyperbolic tangent: copysign((1 - e) / (1 + e), x) with e = exp(-2·|x|); largest error 8.9e-8."""
    e = exponential(np.abs(x) * F(-2))
    return np.asarray(np.copysign((F(1) - e) / (F(1) + e), x), np.float32)


def quantize_rows(x: Float) -> tuple[NDArray[np.int32], Float]:
    """Round rows of x [..., K] to q in -127..127 (as int32) with scales s [..., 1], so that x ≈ q·s."""
    m = np.maximum(np.max(np.abs(x), axis=-1, keepdims=True), SMALLEST_AMAX)
    q = np.rint(x * (LEVELS / m))
    return q.astype(np.int32), np.asarray(m / LEVELS, np.float32)


def unpack(nibbles: NDArray[np.uint8], columns: int) -> NDArray[np.int32]:
    """Unpack [K, (N + 1) / 2] bytes to [K, N] integers 0..15: column 2j is the low half of byte j, 2j + 1 the high."""
    pairs = np.stack([nibbles & 15, nibbles >> 4], axis=-1)
    return pairs.reshape(len(nibbles), -1)[:, :columns].astype(np.int32)


def _product(x: Float, name: str, weights: Weights, storage: Storage, gates: int = 1) -> Float:
    """X [..., K] times weight [K, N]; the integer sums are exact and are then scaled in the operators' order.

    ``gates``: of how many gates the columns of a sparse weight are.
    """
    weight = weights[name]
    if storage == "float32":
        return np.asarray(x @ weight, np.float32)
    q, s = quantize_rows(x)
    if storage == "sparse_int8":
        cells = len(weights[f"{name}_scale"]) // gates
        weight = scatter_blocks(weight, weights[f"{name}_index"], Places(int(weights[f"{name}_rows"][0]), gates, cells))
    if storage != "int4":
        total = (q @ weight.astype(np.int32)).astype(np.float32)
        return np.asarray((total * s) * weights[f"{name}_scale"], np.float32)
    return np.asarray(_int4_sum(q, name, weights) * s, np.float32)


def _int4_sum(q: NDArray[np.int32], name: str, weights: Weights) -> Float:
    """Σ_b (Σ_k q·(w - zero)) · scale_b over blocks of inputs, the blocks added in their order."""
    scale = weights[f"{name}_scale"]
    k = weights[name].shape[0]
    block = 32 if len(scale) == -(-k // 32) else 128
    w = unpack(weights[name], scale.shape[1])
    zero = np.broadcast_to(weights[f"{name}_zero"].astype(np.int32), scale.shape)
    total = None
    for b, start in enumerate(range(0, k, block)):
        part = q[..., start : start + block] @ (w[start : start + block] - zero[b])
        scaled = part.astype(np.float32) * scale[b]
        total = scaled if total is None else total + scaled
    return np.asarray(total, np.float32)


def linear(name: str, x: Float, weights: Weights) -> Float:
    """A linear operator by its name: x [..., K] to y [..., N]."""
    return np.asarray(_product(x, "w", weights, "int8" if "Int8" in name else "int4") + weights["b"], np.float32)


def lstm(  # noqa: PLR0917 - the operator's own inputs, in its order
    variant: CellVariant,
    x: Float,
    h: Float,
    c: Float,
    weights: Weights,
    lengths: NDArray[np.int64] | None = None,
) -> tuple[Float, Float, Float]:
    """Any LSTM operator: x [T, B, I], h [1, B, P], c [1, B, H] to y [T, B, P], h_out [1, B, P], c_out [1, B, H]."""

    def product(x: Float, name: str) -> Float:
        return _product(x, name, weights, variant.storage_of(name), gates=4)

    zx = product(x, "w") + weights["b"]
    outputs = []
    for t in range(x.shape[0]):
        z_i, z_f, z_g, z_o = np.split(zx[t] + product(h, "r"), 4, axis=-1)
        if variant.peephole == "diagonal":
            z_i, z_f = z_i + weights["p"][0] * c, z_f + weights["p"][1] * c
        elif variant.peephole == "full":
            c_i, c_f, c_g = np.split(product(c, "p"), 3, axis=-1)
            z_i, z_f, z_g = z_i + c_i, z_f + c_f, z_g + c_g
        c_new = np.asarray(sigmoid(z_f) * c + sigmoid(z_i) * tanh(z_g), np.float32)
        if variant.peephole == "diagonal":
            z_o = z_o + weights["p"][2] * c_new
        elif variant.peephole == "full":
            z_o = z_o + product(c_new, "po")
        h_new = np.asarray(sigmoid(z_o) * tanh(c_new), np.float32)
        if variant.projected:
            h_new = product(h_new, "v")
        valid = np.ones((x.shape[1], 1), bool) if lengths is None else (t < lengths)[:, None]
        outputs.append(np.where(valid, h_new, F(0))[0])
        h, c = np.where(valid, h_new, h), np.where(valid, c_new, c)
    return np.stack(outputs), h, c


def gru(
    variant: GruVariant,
    x: Float,
    h: Float,
    weights: Weights,
    lengths: NDArray[np.int64] | None = None,
    *,
    storage: Storage | None = None,
) -> tuple[Float, Float]:
    """Any GRU operator: x [T, B, I], h [1, B, H] to y [T, B, H], h_out [1, B, H].

    ``storage`` is the variant's; ``"float32"`` says the same equations without rounding, with float32 matrices in
    ``weights``: no operator has that, it is for comparing the equations with others.
    """

    def product(x: Float, name: str) -> Float:
        return _product(x, name, weights, storage or variant.storage_of(name), gates=3)

    zx = product(x, "w") + weights["b"]
    outputs = []
    for t in range(x.shape[0]):
        x_r, x_z, x_n = np.split(zx[t], 3, axis=-1)
        h_r, h_z, h_n = np.split(product(h, "r"), 3, axis=-1)
        r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
        if variant.reset_after:
            n = tanh(x_n + r * (h_n + weights["rb"]))
        else:
            # A column's product does not depend on the other columns: those of n are taken from the whole.
            n = tanh(x_n + np.split(product(r * h, "r"), 3, axis=-1)[2])
        h_new = np.asarray((F(1) - z) * n + z * h, np.float32)
        valid = np.ones((x.shape[1], 1), bool) if lengths is None else (t < lengths)[:, None]
        outputs.append(np.where(valid, h_new, F(0))[0])
        h = np.where(valid, h_new, h)
    return np.stack(outputs), h


def rnn(
    variant: RnnVariant,
    x: Float,
    h: Float,
    weights: Weights,
    lengths: NDArray[np.int64] | None = None,
    *,
    storage: Storage | None = None,
) -> tuple[Float, Float]:
    """Any RNN operator: x [T, B, I], h [1, B, H] to y [T, B, H], h_out [1, B, H]; ``storage`` is as in ``gru``."""

    def product(x: Float, name: str) -> Float:
        return _product(x, name, weights, storage or variant.storage_of(name))

    zx = product(x, "w") + weights["b"]
    outputs = []
    for t in range(x.shape[0]):
        a = np.asarray(zx[t] + product(h, "r"), np.float32)
        h_new = np.where(a <= 0, F(0), a) if variant.relu else tanh(a)
        valid = np.ones((x.shape[1], 1), bool) if lengths is None else (t < lengths)[:, None]
        outputs.append(np.where(valid, h_new, F(0))[0])
        h = np.where(valid, h_new, h)
    return np.stack(outputs), h
