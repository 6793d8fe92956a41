"""Weights that a hook or a wrapper makes from other parameters: normalized, pruned, dropped; also after loading."""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from support.fingerprint import fingerprint
from support.networks import build, operators
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm

from lstm_edge.layers import LSTM
from lstm_edge_exporters.artifact import Artifact
from lstm_edge_exporters.quantize import quantize_bytes
from lstm_edge_runtime.errors import CaptureError
from lstm_edge_runtime.session import Session

pytestmark = pytest.mark.slow


class Net(nn.Module):
    def __init__(self, recurrent: nn.Module, width: int = 5) -> None:
        super().__init__()
        self.rnn = recurrent
        self.head = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0])


class WeightDrop(nn.Module):
    """As language models have it: the weight is a parameter ``_raw``, and forward sets what the layer uses."""

    def __init__(self, recurrent: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.inner, self.names = recurrent, names
        for name in names:
            raw = getattr(recurrent, name)
            del recurrent._parameters[name]
            self.register_parameter(f"{name}_raw", nn.Parameter(raw.detach()))

    def forward(self, x: Tensor) -> Any:
        for name in self.names:
            raw = getattr(self, f"{name}_raw")
            setattr(self.inner, name, nn.functional.dropout(raw, 0.5, self.training))
        return self.inner(x)


class Reassigned(nn.LSTM):
    """Weight drop without a wrapper: the instance's forward is replaced."""

    def __init__(self) -> None:
        super().__init__(3, 5, batch_first=True)
        forward = self.forward
        self.weight_hh_l0_raw = nn.Parameter(self.weight_hh_l0.detach())
        del self._parameters["weight_hh_l0"]

        def dropped(*arguments: Any) -> Any:
            self.weight_hh_l0 = nn.functional.dropout(self.weight_hh_l0_raw, 0.5, self.training)
            return forward(*arguments)

        self.forward = dropped  # type: ignore[method-assign]


class Steps(nn.Module):
    """A cell in a loop over time, with a normalized weight."""

    def __init__(self, kind: type[nn.LSTMCell] | type[nn.GRUCell]) -> None:
        super().__init__()
        self.cell = kind(3, 5)
        parametrizations.weight_norm(self.cell, "weight_hh")

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        state, found = None, []
        for t in range(x.size(1)):
            state = self.cell(x[:, t], state)
            found.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(found, 1), None


class Squashed(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight.tanh()


class Hyper(nn.Module):
    """The weights depend on the input."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.GRU(3, 5, batch_first=True)
        self.raw = nn.Parameter(self.inner.weight_hh_l0.detach())
        del self.inner._parameters["weight_hh_l0"]

    def forward(self, x: Tensor) -> Any:
        self.inner.weight_hh_l0 = self.raw * x.mean()
        return self.inner(x)


def made(layer: nn.Module, how: Callable[..., Any], *names: str) -> nn.Module:
    """Apply ``how`` to the weights of a layer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older functions are deprecated, and in use
        for name in names:
            how(layer, name)
    return layer


def lstm(**options: Any) -> nn.LSTM:
    return nn.LSTM(3, 5, batch_first=True, **options)


def gru(**options: Any) -> nn.GRU:
    return nn.GRU(3, 5, batch_first=True, **options)


def pruned(layer: nn.Module, name: str) -> None:
    prune.l1_unstructured(layer, name, 0.5)


def normed_conv() -> nn.Module:
    """A normalized linear layer beside the recurrent one: the graph computes with it, too."""
    net = Net(made(gru(), weight_norm, "weight_ih_l0"))
    made(net.head, weight_norm, "weight")
    return net


BOTH = ("weight_hh_l0", "weight_ih_l0_reverse")
MODULES: dict[str, Callable[[], nn.Module]] = {
    "weight-norm": lambda: Net(made(lstm(), weight_norm, "weight_hh_l0")),
    "weight-norm-both-layers": lambda: Net(
        made(gru(num_layers=2), weight_norm, "weight_hh_l0", "weight_ih_l1"),
    ),
    "weight-norm-of-the-head": normed_conv,
    "spectral-norm-bidirectional": lambda: Net(made(lstm(bidirectional=True), spectral_norm, *BOTH), 10),
    "pruned-projected": lambda: Net(made(lstm(proj_size=4), pruned, "weight_hh_l0", "weight_hr_l0"), 4),
    "pruned-twice": lambda: Net(made(gru(), pruned, "weight_hh_l0", "weight_hh_l0", "bias_ih_l0")),
    "pruned-own-lstm": lambda: Net(made(LSTM(3, 5, batch_first=True), pruned, "weight_hh_l0")),
    "parametrized-weight-norm": lambda: Net(made(lstm(), parametrizations.weight_norm, "weight_ih_l0")),
    "parametrized-spectral-norm": lambda: Net(made(gru(), parametrizations.spectral_norm, "weight_hh_l0")),
    "orthogonal": lambda: Net(made(lstm(num_layers=2), parametrizations.orthogonal, "weight_hh_l0", "weight_hh_l1")),
    "own-parametrization": lambda: Net(
        made(gru(), lambda m, n: parametrize.register_parametrization(m, n, Squashed()), "weight_hh_l0")
    ),
    "weight-drop": lambda: Net(WeightDrop(lstm(), ("weight_hh_l0",))),
    "weight-drop-two-layers": lambda: Net(WeightDrop(gru(num_layers=2), ("weight_hh_l0", "weight_hh_l1"))),
    "weight-drop-in-the-instance": lambda: Net(Reassigned()),
    "cell-lstm": lambda: Net(Steps(nn.LSTMCell)),
    "cell-gru": lambda: Net(Steps(nn.GRUCell)),
}


@pytest.mark.parametrize("name", MODULES)
def test_weights_made_in_forward_are_those_of_the_loaded_parameters(name: str) -> None:
    make = MODULES[name]
    torch.manual_seed(1)
    trained = make()
    with torch.no_grad():
        trained(torch.randn(2, 3, 3))
    torch.manual_seed(2)
    module = make()
    module.load_state_dict(trained.state_dict())
    module.eval()
    before = fingerprint(module)
    data = export(module).data
    assert fingerprint(module) == before
    check(data, module)


@pytest.mark.parametrize("name", ["weight-norm", "weight-norm-of-the-head", "spectral-norm-bidirectional"])
def test_a_module_that_ran_with_gradients_is_exported_as_well(name: str) -> None:
    """Its computed weights are not leaves, which deepcopy refuses."""
    torch.manual_seed(1)
    module = MODULES[name]()
    module(torch.randn(2, 3, 3)).sum().backward()
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(module)
    module.eval()
    check(export(module).data, module)


def test_a_normalized_head_is_one_constant_and_can_be_quantized() -> None:
    torch.manual_seed(1)
    artifact = export(normed_conv().eval())
    quantized = quantize_bytes(artifact.data, scheme="int8")
    assert quantized.card.quantization is not None
    assert quantized.card.quantization.parts == {"rnn.0": "int8", "head": "int8"}
    assert "lstm_edge::LinearInt8V1" in operators(quantized.data)


def test_weights_that_depend_on_the_input_are_refused() -> None:
    with pytest.raises(CaptureError, match=r"rnn.inner: the weights are not the same in every call of the layer"):
        export(Net(Hyper()).eval())


def export(module: nn.Module) -> Artifact:
    return build(module, None, inputs=["x: float32[batch, time, 3]"])


def check(data: bytes, module: nn.Module) -> None:
    x = torch.randn(2, 9, 3)
    answers, _ = Session(data, kernels="off").run(x.numpy())
    with torch.no_grad():
        np.testing.assert_allclose(answers["output"], module(x).numpy(), atol=1e-5)
