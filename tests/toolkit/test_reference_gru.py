"""The GRU's oracle against PyTorch, against steps by hand, and wrong equations that the comparator must catch."""

import dataclasses
import math
from collections.abc import Callable
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn

from lstm_edge import reference
from lstm_edge.reference import GruWeights, sigmoid
from lstm_edge_exporters.verify.compare import CLOSE, EXACT, FLOAT64, assert_close
from lstm_edge_runtime.errors import InputError, ParityError


@dataclasses.dataclass(frozen=True, kw_only=True)
class GruCase:
    name: str
    input: int = 3
    hidden: int = 5
    layers: int = 1
    batch: int = 4
    time: int = 6
    bidirectional: bool = False
    bias: bool = True
    lengths: tuple[int, ...] | None = None

    def __str__(self) -> str:
        return self.name

    def module(self) -> nn.GRU:
        torch.manual_seed(3)
        gru = nn.GRU(self.input, self.hidden, self.layers, bias=self.bias, bidirectional=self.bidirectional).double()
        with torch.no_grad():
            for parameter in gru.parameters():  # PyTorch's own are small: the gates would stay near one half
                parameter.copy_(torch.randn(parameter.shape))
        return gru

    def inputs(self) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(5)
        count = self.layers * (2 if self.bidirectional else 1)
        x = rng.standard_normal((self.time, self.batch, self.input))
        return x, rng.uniform(-0.9, 0.9, (count, self.batch, self.hidden))


CASES = (
    GruCase(name="standard"),
    GruCase(name="no-bias", bias=False),
    GruCase(name="2-layers", layers=2),
    GruCase(name="3-layers-bidirectional", layers=3, bidirectional=True, batch=2),
    GruCase(name="bidirectional", bidirectional=True),
    GruCase(name="one-step", time=1, batch=3),
    GruCase(name="one-row", batch=1, time=9),
    GruCase(name="one-cell", hidden=1, input=2),
    GruCase(name="wide", hidden=40, input=17, time=12, batch=3),
    GruCase(name="lengths", lengths=(6, 0, 3, 1)),
    GruCase(name="lengths-2-layers-bidirectional", layers=2, bidirectional=True, lengths=(2, 6, 0, 5)),
)


def weights_of(case: GruCase) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in case.module().state_dict().items()}


def answer(case: GruCase, *, reset_after: bool = True, weights: dict | None = None) -> dict[str, np.ndarray]:
    x, h = case.inputs()
    y, last = reference.gru(
        x,
        weights or weights_of(case),
        hidden_size=case.hidden,
        num_layers=case.layers,
        bidirectional=case.bidirectional,
        reset_after=reset_after,
        state=h,
        lengths=None if case.lengths is None else np.array(case.lengths),
    )
    return {"y": y, "h": last}


def torch_answer(case: GruCase) -> dict[str, np.ndarray]:
    """nn.GRU in float64, one row at a time, so that packing takes no part."""
    gru, (x, h) = case.module(), map(torch.from_numpy, case.inputs())
    y = torch.zeros(case.time, case.batch, case.hidden * (2 if case.bidirectional else 1), dtype=torch.float64)
    last = h.clone()
    for b, length in enumerate(case.lengths or (case.time,) * case.batch):
        rows = slice(b, b + 1)
        if length > 0:
            with torch.no_grad():
                y[:length, rows], last[:, rows] = gru(x[:length, rows].contiguous(), h[:, rows].contiguous())
    return {"y": y.numpy(), "h": last.numpy()}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_reference_equals_torch_in_float64(case: GruCase) -> None:
    expected, got = torch_answer(case), answer(case)
    for part, want in expected.items():
        assert_close(part, got[part], want, FLOAT64)


def logistic(a: float) -> float:
    return 1.0 / (1.0 + math.exp(-a))


@pytest.mark.parametrize("reset_after", [False, True])
def test_one_step_by_hand(reset_after: bool) -> None:
    """H = 2, I = 1, B = 1: every gate spelled out in scalars, in both forms."""
    x, h1, h2 = 0.7, 0.2, -0.4
    w_x = [0.1, -0.2, 0.3, -0.4, 0.5, -0.6]
    w_h = [[0.11, 0.12], [0.21, 0.22], [-0.31, 0.32], [0.41, -0.42], [0.51, 0.52], [-0.8, 0.9]]
    b_x, b_h = [0.01, 0.02, 0.03, 0.04, 0.05, 0.06], [-0.3, 0.3, 0.2, -0.2, 0.1, -0.7]

    def recurrent(row: int, seen1: float, seen2: float) -> float:
        return w_h[row][0] * seen1 + w_h[row][1] * seen2 + b_h[row]

    r1, r2, z1, z2 = (logistic(w_x[k] * x + b_x[k] + recurrent(k, h1, h2)) for k in range(4))
    if reset_after:
        s1, s2 = r1 * recurrent(4, h1, h2), r2 * recurrent(5, h1, h2)
    else:
        s1, s2 = recurrent(4, r1 * h1, r2 * h2), recurrent(5, r1 * h1, r2 * h2)
    n1, n2 = math.tanh(w_x[4] * x + b_x[4] + s1), math.tanh(w_x[5] * x + b_x[5] + s2)
    want = np.array([[[(1 - z1) * n1 + z1 * h1, (1 - z2) * n2 + z2 * h2]]])
    y, h = reference.gru(
        np.array([[[x]]]),
        {
            "weight_ih_l0": np.array(w_x)[:, None],
            "weight_hh_l0": np.array(w_h),
            "bias_ih_l0": np.array(b_x),
            "bias_hh_l0": np.array(b_h),
        },
        hidden_size=2,
        reset_after=reset_after,
        state=np.array([[[h1, h2]]]),
    )
    assert_close("h", h, want, FLOAT64)
    assert_close("y", y, h, EXACT)


def test_lengths_stop_the_state_and_zero_the_output() -> None:
    case = CASES[-1]
    got, (_, h) = answer(case), case.inputs()
    assert case.lengths is not None
    for row, length in enumerate(case.lengths):
        np.testing.assert_array_equal(got["y"][length:, row], 0.0)
        assert (got["y"][:length, row] != 0).all()
    np.testing.assert_array_equal(got["h"][:, 2], h[:, 2])


def test_a_missing_state_is_zeros_and_missing_biases_are_zeros() -> None:
    case, (x, _) = CASES[0], CASES[0].inputs()
    weights = weights_of(case)
    zeros = {name: np.zeros_like(value) if name.startswith("bias") else value for name, value in weights.items()}
    without = {name: value for name, value in weights.items() if not name.startswith("bias")}
    y, h = reference.gru(x, without, hidden_size=case.hidden)
    want = reference.gru(x, zeros, hidden_size=case.hidden, state=np.zeros((1, case.batch, case.hidden)))
    assert_close("y", y, want[0], EXACT)
    assert_close("h", h, want[1], EXACT)


def test_what_does_not_fit_is_named() -> None:
    case, (x, h) = CASES[0], CASES[0].inputs()
    weights = weights_of(case)
    with pytest.raises(InputError, match=r"^weights: weight_hh_l1 is missing, expected an array of shape \(15, 5\)$"):
        reference.gru(x, weights | {"weight_ih_l1": np.zeros((15, 5))}, hidden_size=5, num_layers=2)
    with pytest.raises(InputError, match=r"^weight_ih_l0: got shape \(15, 3\), expected \(12, 3\)$"):
        reference.gru(x, weights, hidden_size=4)
    with pytest.raises(InputError, match=r"^h: got shape \(1, 4, 5\), expected \(2, 4, 5\)$"):
        reference.gru(x, weights, hidden_size=5, num_layers=2, state=h)


def _gates(order: tuple[int, ...]) -> Callable[[dict], dict]:
    return lambda weights: {
        name: np.concatenate([np.split(value, 3)[gate] for gate in order]) for name, value in weights.items()
    }


def _without(*names: str) -> Callable[[dict], dict]:
    return lambda weights: {
        name: np.zeros_like(value) if name.startswith(names) else value for name, value in weights.items()
    }


WRONG_WEIGHTS: dict[str, Callable[[dict], dict]] = {
    "r and z swapped (ONNX's order)": _gates((1, 0, 2)),
    "z and n swapped": _gates((0, 2, 1)),
    "no recurrent bias": _without("bias_hh"),
    "no input bias": _without("bias_ih"),
    "no recurrence": _without("weight_hh"),
    "biases exchanged": lambda w: w | {"bias_ih_l0": w["bias_hh_l0"], "bias_hh_l0": w["bias_ih_l0"]},
    "weights 1 % too large": lambda w: {name: value * 1.01 for name, value in w.items()},
    "recurrent weights transposed": lambda w: (
        w | {"weight_hh_l0": np.concatenate([block.T for block in np.split(w["weight_hh_l0"], 3)])}
    ),
}


@pytest.mark.parametrize("name", WRONG_WEIGHTS)
def test_comparator_catches_wrong_weights(name: str) -> None:
    case = CASES[0]
    right, wrong = answer(case), answer(case, weights=WRONG_WEIGHTS[name](weights_of(case)))
    for part in ("y", "h"):
        with pytest.raises(ParityError, match=rf"^{part}: differs by .* tolerance CLOSE is 2e-06$"):
            assert_close(part, wrong[part].astype(np.float32), right[part].astype(np.float32), CLOSE)


def _cell(update: Callable, seen: Callable) -> Callable:
    def cell(x: np.ndarray, h: np.ndarray, w: GruWeights, *, reset_after: bool) -> np.ndarray:
        assert reset_after
        r = sigmoid(w.xr @ x + w.bxr + w.hr @ h + w.bhr)
        z = sigmoid(w.xz @ x + w.bxz + w.hz @ h + w.bhz)
        return update(z, np.tanh(w.xn @ x + w.bxn + seen(r, h, w)), h)

    return cell


def right_update(z, n, h):
    return (1 - z) * n + z * h


def right_seen(r, h, w):
    return r * (w.hn @ h + w.bhn)


WRONG_CELLS = {
    "z and 1 - z exchanged": _cell(lambda z, n, h: z * n + (1 - z) * h, right_seen),
    "h not kept": _cell(lambda z, n, h: (1 - z) * n, right_seen),
    "reset before": _cell(right_update, lambda r, h, w: w.hn @ (r * h) + w.bhn),
    "bias outside of the reset gate": _cell(right_update, lambda r, h, w: r * (w.hn @ h) + w.bhn),
    "no reset gate": _cell(right_update, lambda r, h, w: w.hn @ h + w.bhn),
}


@pytest.mark.parametrize("name", WRONG_CELLS)
def test_comparator_catches_the_wrong_equation(name: str) -> None:
    case = CASES[0]
    right = answer(case)
    with mock.patch.object(reference, "gru_cell", _cell(right_update, right_seen)):
        assert_close("y", answer(case)["y"], right["y"], EXACT)  # the template of the mutations is right
    with mock.patch.object(reference, "gru_cell", WRONG_CELLS[name]):
        wrong = answer(case)
    with pytest.raises(ParityError):
        assert_close("y", wrong["y"].astype(np.float32), right["y"].astype(np.float32), CLOSE)
