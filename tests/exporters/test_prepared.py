"""Modules that are exported as what they were before: compiled, of half precision. TorchScript is refused."""

import numpy as np
import pytest
import torch
from support.fingerprint import fingerprint
from support.networks import build, seeded
from torch import Tensor, nn

from lstm_edge_exporters.pytorch import export as exporting
from lstm_edge_exporters.pytorch.options import ExportOptions
from lstm_edge_runtime.errors import CaptureError
from lstm_edge_runtime.session import Session

pytestmark = pytest.mark.slow

INPUTS = ["x: float32[batch, time, 3]"]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(3, 5, batch_first=True)
        self.head = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


class Casts(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x.half())[0][:, -1])


def check(data: bytes, module: nn.Module, tolerance: float = 1e-5) -> Session:
    x = torch.randn(3, 9, 3, generator=torch.Generator().manual_seed(1))
    session = Session(data, kernels="off")
    answers, _ = session.run(x.numpy())
    with torch.no_grad():
        expected = module(x.to(next(module.parameters()).dtype)).float()
    np.testing.assert_allclose(answers["output"], expected.numpy(), atol=tolerance)
    return session


def test_a_compiled_module_is_exported_as_the_one_that_was_compiled() -> None:
    module = seeded(Net())
    session = check(build(torch.compile(module), None, inputs=INPUTS).data, module)
    assert [spec.input for spec in session.states] == ["rnn.0.h", "rnn.0.c"]


def test_compiled_submodules_are_exported_under_their_own_names() -> None:
    module = seeded(Net())
    module.rnn, module.head[0] = torch.compile(module.rnn), torch.compile(module.head[0])
    module.eval()
    before = fingerprint(module)
    data = build(module, None, inputs=INPUTS).data
    assert fingerprint(module) == before
    module.rnn, module.head[0] = module.rnn._orig_mod, module.head[0]._orig_mod
    assert [spec.input for spec in check(data, module).states] == ["rnn.0.h", "rnn.0.c"]


def test_a_module_compiled_in_place_is_exported() -> None:
    module = seeded(Net())
    module.compile()
    before = fingerprint(module)
    data = build(module, None, inputs=INPUTS).data
    assert fingerprint(module) == before
    module._compiled_call_impl = None
    check(data, module)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_exported_as_float32_and_stays_what_it_was(dtype: torch.dtype) -> None:
    module = seeded(Net()).to(dtype)
    example = torch.randn(2, 5, 3).to(dtype)
    before = fingerprint(module)
    lines: list[str] = []
    data = exporting.build(module, example, ExportOptions(), lines.append).artifact.data
    assert fingerprint(module) == before
    assert f"converting the module from {str(dtype).removeprefix('torch.')} to float32" in lines
    check(data, seeded(Net()).to(dtype).float())
    check(data, module, tolerance=0.05)


def test_a_recurrent_layer_alone_may_be_half() -> None:
    module = seeded(Net())
    module.rnn.half()
    data = build(module, None, inputs=INPUTS).data
    expected = seeded(Net())
    expected.rnn.half().float()
    check(data, expected)


def test_a_module_that_casts_to_half_is_told_why_it_fails() -> None:
    with pytest.raises(CaptureError, match=r"converted to float32: forward must not cast to torch\.float16 itself$"):
        build(seeded(Casts()).half(), None, inputs=INPUTS)


def test_double_precision_is_refused() -> None:
    with pytest.raises(CaptureError, match=r"rnn\.weight_ih_l0 is torch\.float64 on cpu: expected float32"):
        build(seeded(Net()).double(), None, inputs=INPUTS)


def test_torchscript_is_refused_with_the_line_that_helps() -> None:
    with pytest.raises(CaptureError, match=r"is TorchScript, .* export the module that it was scripted from$"):
        build(torch.jit.script(seeded(Net())), None, inputs=INPUTS)
