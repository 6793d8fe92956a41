"""The RNN's oracle against PyTorch, against steps by hand, and wrong equations that the comparator must catch."""

import math
from collections.abc import Callable
from typing import Literal
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn

from lstm_edge import reference
from lstm_edge_exporters.verify.compare import CLOSE, FLOAT64, assert_close
from lstm_edge_runtime.errors import InputError, ParityError

Activation = Literal["tanh", "relu"]
SIZES = {"hidden_size": 5, "num_layers": 2, "bidirectional": True}
LENGTHS = np.array([6, 0, 3, 1])


def make(activation: Activation, *, bias: bool = True) -> nn.RNN:
    torch.manual_seed(3)
    rnn = nn.RNN(3, 5, 2, bias=bias, bidirectional=True, nonlinearity=activation).double()
    with torch.no_grad():
        for parameter in rnn.parameters():  # PyTorch's own are small: tanh would stay close to its argument
            parameter.copy_(torch.randn(parameter.shape) * 0.6)
    return rnn


def draw() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    return rng.standard_normal((6, 4, 3)), rng.uniform(-0.9, 0.9, (4, 4, 5))


def answer(rnn: nn.RNN, lengths: np.ndarray | None = None, change: Callable = dict) -> dict[str, np.ndarray]:
    x, h = draw()
    weights = change({name: value.numpy() for name, value in rnn.state_dict().items()})
    activation: Activation = "relu" if rnn.nonlinearity == "relu" else "tanh"
    y, last = reference.rnn(x, weights, **SIZES, activation=activation, state=h, lengths=lengths)
    return {"y": y, "h": last}


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "lengths"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_reference_equals_torch_in_float64(activation: Activation, bias: bool, lengths: np.ndarray | None) -> None:
    """One row at a time, so that packing takes no part."""
    rnn, (x, h) = make(activation, bias=bias), map(torch.from_numpy, draw())
    y, last = torch.zeros(6, 4, 10, dtype=torch.float64), h.clone()
    for row, length in enumerate([6] * 4 if lengths is None else lengths.tolist()):
        if length:
            b = slice(row, row + 1)
            with torch.no_grad():
                y[:length, b], last[:, b] = rnn(x[:length, b].contiguous(), h[:, b].contiguous())
    got = answer(rnn, lengths)
    assert_close("y", got["y"], y.numpy(), FLOAT64)
    assert_close("h", got["h"], last.numpy(), FLOAT64)


@pytest.mark.parametrize(("activation", "squash"), [("tanh", math.tanh), ("relu", lambda a: max(a, 0.0))])
def test_one_step_by_hand(activation: Activation, squash: Callable[[float], float]) -> None:
    """H = 2, I = 1, B = 1, in scalars; the second cell's sum is negative."""
    x, h1, h2 = 0.7, 0.2, -0.4
    first = 0.1 * x + 0.01 + 0.11 * h1 + 0.12 * h2 + 0.3
    second = -0.2 * x + 0.02 + 0.21 * h1 + 0.22 * h2 - 0.3
    weights = {
        "weight_ih_l0": np.array([[0.1], [-0.2]]),
        "weight_hh_l0": np.array([[0.11, 0.12], [0.21, 0.22]]),
        "bias_ih_l0": np.array([0.01, 0.02]),
        "bias_hh_l0": np.array([0.3, -0.3]),
    }
    state = np.array([[[h1, h2]]])
    y, h = reference.rnn(np.array([[[x]]]), weights, hidden_size=2, activation=activation, state=state)
    assert_close("y", y, np.array([[[squash(first), squash(second)]]]), FLOAT64)
    assert_close("h", h, y, FLOAT64)


def test_what_does_not_fit_is_named() -> None:
    x, _ = draw()
    weights = {name: value.numpy() for name, value in make("tanh").state_dict().items()}
    with pytest.raises(InputError, match=r"^weight_ih_l0: got shape \(5, 3\), expected \(4, 3\)$"):
        reference.rnn(x, weights, hidden_size=4)
    with pytest.raises(InputError, match=r"^weights: bias_hh_l0 is missing, expected an array of shape \(5,\)$"):
        reference.rnn(x, {name: w for name, w in weights.items() if name != "bias_hh_l0"}, hidden_size=5)
    with pytest.raises(InputError, match=r"^activation: got 'sigmoid', expected tanh or relu$"):
        reference.rnn(x, weights, hidden_size=5, activation="sigmoid")  # type: ignore[arg-type]


def without(name: str) -> Callable[[dict], dict]:
    return lambda weights: {key: np.zeros_like(w) if key.startswith(name) else w for key, w in weights.items()}


WRONG: dict[str, Callable[[dict], dict]] = {
    "no recurrent bias": without("bias_hh"),
    "no recurrence": without("weight_hh"),
    "weights 1 % too large": lambda weights: {name: w * 1.01 for name, w in weights.items()},
    "recurrent weights transposed": lambda weights: {n: w.T if "_hh" in n else w for n, w in weights.items()},
    "directions exchanged": lambda weights: {
        name: weights[name.removesuffix("_reverse") if name.endswith("_reverse") else f"{name}_reverse"]
        for name in weights
    },
}


@pytest.mark.parametrize("name", WRONG)
def test_the_comparator_catches_wrong_weights(name: str) -> None:
    rnn = make("tanh")
    right, wrong = answer(rnn), answer(rnn, change=WRONG[name])
    with pytest.raises(ParityError, match=r"tolerance CLOSE"):
        assert_close("y", wrong["y"].astype(np.float32), right["y"].astype(np.float32), CLOSE)


def test_the_comparator_catches_another_activation() -> None:
    right = answer(make("tanh"))
    with mock.patch.object(reference.np, "tanh", lambda a: np.maximum(a, 0.0)):
        wrong = answer(make("tanh"))
    with pytest.raises(ParityError):
        assert_close("y", wrong["y"].astype(np.float32), right["y"].astype(np.float32), CLOSE)
