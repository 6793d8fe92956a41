"""The equations of LSTM, GRU and RNN in NumPy, float64: the reference for all other implementations.

Letters: T time, B batch, I input features, H hidden (cell) size, P projection size (0 = none), L layers,
D directions. It reads weights by ``nn.LSTM``'s, ``nn.GRU``'s and ``nn.RNN``'s names (gates stacked i f g o and r z n)
and shares no code with the exporters.

The LSTM is the LSTM with full-matrix peepholes. The diagonal peephole LSTM (Gers and Schmidhuber, "Recurrent nets
that time and count", 2000) is the case of diagonal W_ci, W_cf, W_co and no W_cg; the standard LSTM has no W_c at all.

The GRU is that of Cho et al. ("Learning phrase representations using RNN encoder-decoder", 2014), whose reset gate acts
on h before the recurrent product, or the variant of cuDNN and PyTorch, in which it acts on the product.

The RNN is that of Elman ("Finding structure in time", 1990), with tanh or relu.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lstm_edge_runtime.errors import InputError

__all__ = ["CellWeights", "GruWeights", "gru", "gru_cell", "lstm", "lstm_cell", "rnn", "rnn_cell", "sigmoid"]

Array = npt.NDArray[np.float64]
State = tuple[Array, Array]
# From x [I, B] and h [H, B] to the new h [H, B].
Step = Callable[[Array, Array], Array]


@dataclass(frozen=True, kw_only=True, eq=False)
class CellWeights:
    """One cell's weights, float64: ``x*`` [H, I], ``h*`` [H, P or H], ``c*`` [H, H], ``b*`` [H, 1].

    The second letter is the gate: i input, f forget, g candidate (the paper's c with a tilde), o output.
    """

    xi: Array
    xf: Array
    xg: Array
    xo: Array
    hi: Array
    hf: Array
    hg: Array
    ho: Array
    ci: Array
    cf: Array
    cg: Array
    co: Array
    bi: Array
    bf: Array
    bg: Array
    bo: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class GruWeights:
    """One GRU cell's weights, float64: ``x*`` [H, I], ``h*`` [H, H]; biases ``bx*`` and ``bh*`` [H, 1].

    The last letter is the gate: r reset, z update, n candidate.
    """

    xr: Array
    xz: Array
    xn: Array
    hr: Array
    hz: Array
    hn: Array
    bxr: Array
    bxz: Array
    bxn: Array
    bhr: Array
    bhz: Array
    bhn: Array


def sigmoid(a: Array) -> Array:
    """Return 1 / (1 + exp(-a)), elementwise, without overflow for any finite float64."""
    return np.exp(-np.logaddexp(0.0, -a))


def lstm_cell(x: Array, h: Array, c: Array, w: CellWeights) -> State:
    """One step. The output gate sees the new cell state.

    Args:
        x: [I, B], columns are batch rows, so that the products are those of the paper.
        h: [H, B] ([P, B] under a projection), the previous output.
        c: [H, B], the previous cell state.
        w: the weights.

    Returns:
        The new h [H, B], before any projection, and the new c [H, B].
    """
    i = sigmoid(w.xi @ x + w.hi @ h + w.ci @ c + w.bi)
    f = sigmoid(w.xf @ x + w.hf @ h + w.cf @ c + w.bf)
    g = np.tanh(w.xg @ x + w.hg @ h + w.cg @ c + w.bg)
    c_new = f * c + i * g
    o = sigmoid(w.xo @ x + w.ho @ h + w.co @ c_new + w.bo)
    h_new = o * np.tanh(c_new)
    return h_new, c_new


def gru_cell(x: Array, h: Array, w: GruWeights, *, reset_after: bool) -> Array:
    """One step of the GRU.

    Args:
        x: [I, B], columns are batch rows.
        h: [H, B], the previous output.
        w: the weights.
        reset_after: the reset gate acts on the recurrent product and its bias, else on h before the product.

    Returns:
        The new h [H, B].
    """
    r = sigmoid(w.xr @ x + w.bxr + w.hr @ h + w.bhr)
    z = sigmoid(w.xz @ x + w.bxz + w.hz @ h + w.bhz)
    seen = r * (w.hn @ h + w.bhn) if reset_after else w.hn @ (r * h) + w.bhn
    n = np.tanh(w.xn @ x + w.bxn + seen)
    return (1.0 - z) * n + z * h


def rnn_cell(x: Array, h: Array, w_x: Array, w_h: Array, b: Array, *, activation: str) -> Array:
    """One step of the RNN: x [I, B], h [H, B], w_x [H, I], w_h [H, H], b [H, 1] (both biases) to the new h [H, B]."""
    a = w_x @ x + w_h @ h + b
    if activation not in ("tanh", "relu"):
        raise InputError(f"activation: got {activation!r}, expected tanh or relu")
    return np.tanh(a) if activation == "tanh" else np.maximum(a, 0.0)


def lstm(
    x: npt.NDArray[Any],
    weights: Mapping[str, npt.NDArray[Any]],
    *,
    hidden_size: int,
    num_layers: int = 1,
    bidirectional: bool = False,
    peephole: Literal["none", "diagonal", "full"] = "none",
    proj_size: int = 0,
    state: tuple[npt.NDArray[Any], npt.NDArray[Any]] | None = None,
    lengths: npt.NDArray[Any] | None = None,
) -> tuple[Array, State]:
    """Run a stack of LSTM layers over a batch of sequences, in float64.

    Args:
        x: [T, B, I].
        weights: as in a state dict: ``weight_ih_l{k}`` [4H, I], ``weight_hh_l{k}`` [4H, P or H], ``bias_ih_l{k}`` and
            ``bias_hh_l{k}`` [4H] (both or neither), ``weight_hr_l{k}`` [P, H], ``weight_ch_l{k}`` ([3H] in the order
            i f o for diagonal, [4H, H] for full peepholes); the reverse direction's end in ``_reverse``.
        hidden_size: H.
        num_layers: L.
        bidirectional: D = 2 instead of 1.
        peephole: kind of peepholes (W_c).
        proj_size: P, or 0 for none.
        state: initial h [L*D, B, P or H] and c [L*D, B, H]; zeros when None. Layer 0 forward comes first, then
            layer 0 reverse, then layer 1, as in PyTorch.
        lengths: integers [B] from 0 to T. A row's state stops at its last valid step, its reverse direction starts
            there, its outputs after it are zero; length 0 keeps the initial state. None means T for every row.

    Returns:
        y [T, B, D*P or D*H] and the final (h, c), shaped as ``state``.

    Raises:
        InputError: an array is missing or has another shape than the sizes say, or a length is out of range.
    """
    inputs = _as_float64("x", x, (None, None, None))
    T, B, _ = inputs.shape
    suffixes = ("", "_reverse") if bidirectional else ("",)
    count, width = num_layers * len(suffixes), proj_size or hidden_size
    h0, c0 = (np.zeros((count, B, width)), np.zeros((count, B, hidden_size))) if state is None else state
    h0, c0 = _as_float64("h", h0, (count, B, width)), _as_float64("c", c0, (count, B, hidden_size))
    valid = _valid_steps(lengths, T, B)
    final_h, final_c = np.empty_like(h0), np.empty_like(c0)
    for k in range(num_layers):
        outputs = []
        for d, suffix in enumerate(suffixes):
            s = k * len(suffixes) + d
            cell = _cell_weights(
                weights, f"_l{k}{suffix}", inputs=inputs.shape[2], hidden=hidden_size, width=width, peephole=peephole
            )
            projection = _projection(weights, f"_l{k}{suffix}", hidden_size, proj_size)
            steps = range(T) if suffix == "" else range(T - 1, -1, -1)
            y, final_h[s], final_c[s] = _direction(
                inputs, h0[s], c0[s], cell=cell, projection=projection, valid=valid, steps=steps
            )
            outputs.append(y)
        inputs = np.concatenate(outputs, axis=2)
    return inputs, (final_h, final_c)


def gru(
    x: npt.NDArray[Any],
    weights: Mapping[str, npt.NDArray[Any]],
    *,
    hidden_size: int,
    num_layers: int = 1,
    bidirectional: bool = False,
    reset_after: bool = True,
    state: npt.NDArray[Any] | None = None,
    lengths: npt.NDArray[Any] | None = None,
) -> tuple[Array, Array]:
    """Run a stack of GRU layers over a batch of sequences, in float64.

    Args:
        x: [T, B, I].
        weights: as in a state dict: ``weight_ih_l{k}`` [3H, I], ``weight_hh_l{k}`` [3H, H], ``bias_ih_l{k}`` and
            ``bias_hh_l{k}`` [3H] (both or neither); the reverse direction's end in ``_reverse``.
        hidden_size: H.
        num_layers: L.
        bidirectional: D = 2 instead of 1.
        reset_after: where the reset gate acts, as in ``gru_cell``; ``nn.GRU`` has it after.
        state: initial h [L*D, B, H]; zeros when None. The order is that of ``lstm``.
        lengths: as in ``lstm``.

    Returns:
        y [T, B, D*H] and the final h [L*D, B, H].

    Raises:
        InputError: an array is missing or has another shape than the sizes say, or a length is out of range.
    """

    def step_of(suffix: str, inputs: int) -> Step:
        cell = _gru_weights(weights, suffix, inputs=inputs, hidden=hidden_size)
        return lambda x, h: gru_cell(x, h, cell, reset_after=reset_after)

    return _layers(x, step_of, hidden_size, num_layers, bidirectional=bidirectional, state=state, lengths=lengths)


def rnn(
    x: npt.NDArray[Any],
    weights: Mapping[str, npt.NDArray[Any]],
    *,
    hidden_size: int,
    num_layers: int = 1,
    bidirectional: bool = False,
    activation: Literal["tanh", "relu"] = "tanh",
    state: npt.NDArray[Any] | None = None,
    lengths: npt.NDArray[Any] | None = None,
) -> tuple[Array, Array]:
    """Run a stack of RNN layers over a batch of sequences, in float64.

    Arguments, answers and errors are those of ``gru``, with one gate (``weight_ih_l{k}`` [H, I]); ``activation`` is
    ``nn.RNN``'s ``nonlinearity``.
    """

    def step_of(suffix: str, inputs: int) -> Step:
        w_x, w_h, b = _rnn_weights(weights, suffix, inputs=inputs, hidden=hidden_size)
        return lambda x, h: rnn_cell(x, h, w_x, w_h, b, activation=activation)

    return _layers(x, step_of, hidden_size, num_layers, bidirectional=bidirectional, state=state, lengths=lengths)


def _layers(
    x: npt.NDArray[Any],
    step_of: Callable[[str, int], Step],
    hidden_size: int,
    num_layers: int,
    *,
    bidirectional: bool,
    state: npt.NDArray[Any] | None,
    lengths: npt.NDArray[Any] | None,
) -> tuple[Array, Array]:
    """Run layers whose only state is h; ``step_of`` gives a direction's step by its weights' suffix and its inputs."""
    inputs = _as_float64("x", x, (None, None, None))
    T, B, _ = inputs.shape
    suffixes = ("", "_reverse") if bidirectional else ("",)
    shape = (num_layers * len(suffixes), B, hidden_size)
    first = _as_float64("h", np.zeros(shape) if state is None else state, shape)
    valid = _valid_steps(lengths, T, B)
    final = np.empty_like(first)
    for k in range(num_layers):
        outputs = []
        for d, suffix in enumerate(suffixes):
            s = k * len(suffixes) + d
            step = step_of(f"_l{k}{suffix}", inputs.shape[2])
            y, h = np.zeros((T, B, hidden_size)), first[s].T
            for t in range(T) if suffix == "" else range(T - 1, -1, -1):
                h_new = step(inputs[t].T, h)
                h = np.where(valid[t], h_new, h)
                y[t] = np.where(valid[t], h_new, 0.0).T
            outputs.append(y)
            final[s] = h.T
        inputs = np.concatenate(outputs, axis=2)
    return inputs, final


def _rnn_weights(
    weights: Mapping[str, npt.NDArray[Any]], suffix: str, *, inputs: int, hidden: int
) -> tuple[Array, Array, Array]:
    names = [name for name in (f"bias_ih{suffix}", f"bias_hh{suffix}") if name in weights]
    w_x = _take(weights, f"weight_ih{suffix}", (hidden, inputs))
    w_h = _take(weights, f"weight_hh{suffix}", (hidden, hidden))
    b = np.zeros(hidden)
    for name in (f"bias_ih{suffix}", f"bias_hh{suffix}") if names else ():
        b = b + _take(weights, name, (hidden,))
    return w_x, w_h, b[:, None]


def _gru_weights(weights: Mapping[str, npt.NDArray[Any]], suffix: str, *, inputs: int, hidden: int) -> GruWeights:
    w_x = _blocks(weights, f"weight_ih{suffix}", (3 * hidden, inputs), 3)
    w_h = _blocks(weights, f"weight_hh{suffix}", (3 * hidden, hidden), 3)
    b_x = b_h = [np.zeros(hidden)] * 3
    if f"bias_ih{suffix}" in weights or f"bias_hh{suffix}" in weights:
        b_x = _blocks(weights, f"bias_ih{suffix}", (3 * hidden,), 3)
        b_h = _blocks(weights, f"bias_hh{suffix}", (3 * hidden,), 3)
    return GruWeights(
        **dict(zip(("xr", "xz", "xn"), w_x, strict=True)),
        **dict(zip(("hr", "hz", "hn"), w_h, strict=True)),
        **dict(zip(("bxr", "bxz", "bxn"), [bias[:, None] for bias in b_x], strict=True)),
        **dict(zip(("bhr", "bhz", "bhn"), [bias[:, None] for bias in b_h], strict=True)),
    )


def _direction(
    x: Array,
    h: Array,
    c: Array,
    *,
    cell: CellWeights,
    projection: Array,
    valid: npt.NDArray[np.bool_],
    steps: range,
) -> tuple[Array, Array, Array]:
    """Run the cell over the time steps in the order given; x [T, B, I], h [B, P], c [B, H], valid [T, B]."""
    y = np.zeros((x.shape[0], *h.shape))
    h, c = h.T, c.T
    for t in steps:
        h_new, c_new = lstm_cell(x[t].T, h, c, cell)
        h_new = projection @ h_new
        h = np.where(valid[t], h_new, h)
        c = np.where(valid[t], c_new, c)
        y[t] = np.where(valid[t], h_new, 0.0).T
    return y, h.T, c.T


def _valid_steps(lengths: npt.NDArray[Any] | None, T: int, B: int) -> npt.NDArray[np.bool_]:
    """Return bool [T, B]: whether step t of row b is within the row's length."""
    if lengths is None:
        return np.ones((T, B), dtype=np.bool_)
    values = np.asarray(lengths)
    if values.shape != (B,) or values.dtype.kind not in "iu":
        raise InputError(f"lengths: got {values.dtype} {values.shape}, expected integers ({B},)")
    if ((values < 0) | (values > T)).any():
        raise InputError(f"lengths: got {values.tolist()}, expected values from 0 to {T}")
    valid: npt.NDArray[np.bool_] = np.arange(T)[:, None] < values[None, :]
    return valid


def _cell_weights(
    weights: Mapping[str, npt.NDArray[Any]], suffix: str, *, inputs: int, hidden: int, width: int, peephole: str
) -> CellWeights:
    w_x = _blocks(weights, f"weight_ih{suffix}", (4 * hidden, inputs), 4)
    w_h = _blocks(weights, f"weight_hh{suffix}", (4 * hidden, width), 4)
    b = [np.zeros(hidden)] * 4
    if f"bias_ih{suffix}" in weights or f"bias_hh{suffix}" in weights:
        b_x = _blocks(weights, f"bias_ih{suffix}", (4 * hidden,), 4)
        b_h = _blocks(weights, f"bias_hh{suffix}", (4 * hidden,), 4)
        b = [from_x + from_h for from_x, from_h in zip(b_x, b_h, strict=True)]
    w_c = [np.zeros((hidden, hidden))] * 4
    if peephole == "full":
        w_c = _blocks(weights, f"weight_ch{suffix}", (4 * hidden, hidden), 4)
    elif peephole == "diagonal":
        ci, cf, co = _blocks(weights, f"weight_ch{suffix}", (3 * hidden,), 3)
        w_c = [np.diag(ci), np.diag(cf), np.zeros((hidden, hidden)), np.diag(co)]
    elif peephole != "none":
        raise InputError(f"peephole: got {peephole!r}, expected none, diagonal or full")
    columns = [bias[:, None] for bias in b]
    return CellWeights(
        **dict(zip(("xi", "xf", "xg", "xo"), w_x, strict=True)),
        **dict(zip(("hi", "hf", "hg", "ho"), w_h, strict=True)),
        **dict(zip(("ci", "cf", "cg", "co"), w_c, strict=True)),
        **dict(zip(("bi", "bf", "bg", "bo"), columns, strict=True)),
    )


def _projection(weights: Mapping[str, npt.NDArray[Any]], suffix: str, H: int, P: int) -> Array:
    # The identity if there is no projection: a product with it changes no bit of a float64.
    return _take(weights, f"weight_hr{suffix}", (P, H)) if P else np.eye(H)


def _blocks(weights: Mapping[str, npt.NDArray[Any]], name: str, shape: tuple[int, ...], gates: int) -> list[Array]:
    return list(np.split(_take(weights, name, shape), gates))


def _take(weights: Mapping[str, npt.NDArray[Any]], name: str, shape: tuple[int, ...]) -> Array:
    if name not in weights:
        raise InputError(f"weights: {name} is missing, expected an array of shape {shape}")
    return _as_float64(name, weights[name], shape)


def _as_float64(name: str, value: npt.NDArray[Any], shape: tuple[int | None, ...]) -> Array:
    array = np.asarray(value, dtype=np.float64)
    fits = array.ndim == len(shape) and all(want in (None, got) for want, got in zip(shape, array.shape, strict=True))
    if not fits:
        raise InputError(f"{name}: got shape {array.shape}, expected {shape}")
    return array
