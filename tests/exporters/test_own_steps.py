"""``lstm_edge.Recurrent``: cells of one's own in PyTorch, exported, streamed with lengths, quantized; refusals."""

import functools

import numpy as np
import onnx
import pytest
import torch
from support.networks import build, snr_db
from support.own_steps import MEMBERS, Given, Stacked
from torch import Tensor, nn

from lstm_edge.recurrent import Recurrent
from lstm_edge_exporters.quantize import quantize_bytes
from lstm_edge_runtime.errors import CaptureError, InputError
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.state import State

pytestmark = pytest.mark.slow

LINEARS = {
    "layer-normalized LSTM": {"cell.steps.step.w", "cell.steps.step.r"},
    "coupled gates": {"cell.steps.step.w", "cell.steps.step.r"},
    "minGRU": {"cell.steps.step.z", "cell.steps.step.candidate"},
    "ConvLSTM": set(),
    "smoother": set(),
}
CLOSE = 1e-5


@functools.cache
def exported(name: str) -> bytes:
    module, axes = MEMBERS[name]
    return build(module.eval(), None, inputs=[f"x: float32[{axes}]"], lengths=True).data


def draw(name: str, batch: int, time: int) -> np.ndarray:
    shape = [int(size) for size in MEMBERS[name][1].split(", ")[2:]]
    return np.random.default_rng(3).standard_normal((batch, time, *shape)).astype(np.float32)


def by_hand(name: str, x: np.ndarray) -> np.ndarray:
    """Call the step in a loop that knows nothing of ``Recurrent``."""
    module, _ = MEMBERS[name]
    step, shapes = module.cell.steps.step, module.cell.steps.state
    parts = tuple(torch.zeros(len(x), *shape) for shape in shapes)
    outputs = []
    with torch.no_grad():
        for t in range(x.shape[1]):
            y, new = step(torch.from_numpy(x[:, t]), parts if len(parts) > 1 else parts[0])
            parts = new if len(parts) > 1 else (new,)
            outputs.append(module.head(y.flatten(1)))
    return torch.stack(outputs, 1).numpy()


@pytest.mark.long
@pytest.mark.parametrize("name", MEMBERS)
def test_a_cell_is_one_scan_and_gives_the_steps_answers(name: str) -> None:
    proto = onnx.load_from_string(exported(name))
    operators = [node.op_type for node in proto.graph.node]
    assert operators.count("Scan") == 1
    session = Session(exported(name), kernels="off")
    (state,) = session.states
    assert (state.input, state.axes[:2]) == ("cell.steps.0.h", (1, "batch"))
    assert session.card.streaming.verdict == "every-step"
    assert not session.card.layers
    for batch, time in ((1, 1), (3, 13)):
        x = draw(name, batch, time)
        expected = by_hand(name, x)
        np.testing.assert_allclose(session.run({"x": x})[0]["output"], expected, atol=CLOSE, rtol=0)
        with torch.no_grad():
            np.testing.assert_allclose(MEMBERS[name][0](torch.from_numpy(x)), expected, atol=CLOSE, rtol=0)


@pytest.mark.parametrize("name", MEMBERS)
def test_chunks_and_lengths(name: str) -> None:
    session, x = Session(exported(name), kernels="off"), draw(name, 3, 12)
    whole, last = session.run({"x": x})
    state: State | None = None
    pieces = []
    for start, stop in ((0, 1), (1, 6), (6, 12)):
        piece, state = session.run({"x": x[:, start:stop]}, state)
        pieces.append(piece["output"])
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), whole["output"], atol=CLOSE, rtol=0)
    short, left = session.run({"x": x}, None, [12, 0, 5])
    assert not short["output"][1].any()
    assert not short["output"][2, 5:].any()
    np.testing.assert_allclose(short["output"][2, :5], whole["output"][2, :5], atol=CLOSE, rtol=0)
    (key,) = left
    assert not left[key][:, 1].any()
    _, at_five = session.run({"x": x[2:, :5]})
    np.testing.assert_allclose(left[key][:, 2], at_five[key][:, 0], atol=CLOSE, rtol=0)
    np.testing.assert_allclose(left[key][:, 0], last[key][:, 0], atol=CLOSE, rtol=0)


@pytest.mark.parametrize("scheme", ["int8", "int4"])
@pytest.mark.parametrize("name", [name for name, linears in LINEARS.items() if linears])
def test_the_linears_of_a_step_are_quantized_inside_the_scan(name: str, scheme: str) -> None:
    quantized = quantize_bytes(exported(name), scheme=scheme)
    assert quantized.card.quantization is not None
    rows = {row.layer: row.scheme.split(",")[0] for row in quantized.card.quantization.coverage}
    assert rows == dict.fromkeys(LINEARS[name] | {"head"}, scheme)
    proto = onnx.load_from_string(quantized.data)
    (scan,) = [node for node in proto.graph.node if node.op_type == "Scan"]
    body = next(attribute.g for attribute in scan.attribute if attribute.name == "body")
    assert [node.op_type for node in body.node].count(f"Linear{scheme.capitalize()}V1") == 2
    session, x = Session(quantized.data), draw(name, 2, 20)
    got = session.run({"x": x})[0]["output"]
    assert snr_db(by_hand(name, x), got) > (25 if scheme == "int8" else 8)
    state: State | None = None
    for t in range(20):  # the same bits, step by step
        piece, state = session.run({"x": x[:, t : t + 1]}, state)
        np.testing.assert_array_equal(piece["output"], got[:, t : t + 1])
    np.testing.assert_array_equal(session.run({"x": x[:1]})[0]["output"], got[:1])


@pytest.mark.long
def test_several_cells_in_one_network_with_lengths() -> None:
    card = build(Stacked().eval(), None, inputs=["x: float32[time, batch, 6]"], lengths=True).card
    names = ["first.steps.0.h", "middle.0.h", "middle.0.c", "last.steps.0.h"]
    assert [state.input for state in card.states] == names
    assert card.streaming.verdict == "every-step"
    assert [layer.name for layer in card.layers] == ["middle.0"]


def test_a_state_that_forward_takes_and_returns_is_a_state() -> None:
    card = build(Given().eval(), None, inputs=["x: float32[batch, time, 6]", "h: float32[1, batch, 14]"]).card
    assert [(state.input, state.output) for state in card.states] == [("h", "output_1")]
    assert card.streaming.verdict == "every-step"


class Hidden(nn.Module):
    """A step that keeps an LSTMCell in it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.LSTMCell(6, 5)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h, _ = self.inner(x, (h, h))
        return h, h


class Wrong(nn.Module):
    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        return x, h[:, :2]


class OwnLoop(nn.Module):
    """A loop over a cell of its own that is not wrapped."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(11, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[0], 5)
        for t in range(x.shape[1]):
            h = torch.tanh(self.linear(torch.cat([x[:, t], h], dim=1)))
        return h


class ByMethod(nn.Module):
    """The equations are in a method of the name ``step``; a state of three parts, given back as a list."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(6, 4)

    def step(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, list[Tensor]]:
        mean, largest, count = state
        mean, largest, count = 0.5 * mean + 0.5 * self.mix(x), torch.maximum(largest, x), count + 1
        return torch.cat([mean / count, largest], dim=-1), [mean, largest, count]


INPUT = ["x: float32[batch, time, 6]"]


def test_what_cannot_be_a_step_is_refused_by_name() -> None:
    hidden = Recurrent(Hidden(), state=[(5,)], features=(6,)).eval()
    with pytest.raises(
        CaptureError, match=r"contains a recurrent layer \(step\.inner: LSTMCell\), whose state would be"
    ):
        build(hidden, None, inputs=INPUT)
    with pytest.raises(
        InputError, match=r"^Wrong: a step returned a state of shapes \[\(2,\)\] \(without batch\), expec"
    ):
        Recurrent(Wrong(), state=[(5,)], features=(6,))(torch.zeros(1, 2, 6))
    with pytest.raises(InputError, match=r"^Bilinear: a step returned Tensor, expected \(y, state\)$"):
        Recurrent(nn.Bilinear(6, 5, 5), state=[(5,)], features=(6,))(torch.zeros(1, 2, 6))
    for arguments in (
        {"state": [], "features": (6,)},
        {"state": [(0,)], "features": (6,)},
        {"state": [(5,)], "features": ()},
    ):
        with pytest.raises(InputError, match=r"^(state|features): got .*, expected shapes of positive sizes"):
            Recurrent(Wrong(), **arguments)


def test_a_method_called_step_and_a_state_of_three_parts() -> None:
    module = Recurrent(ByMethod(), state=[(4,), (6,), (1,)], features=(6,)).eval()
    session = Session(build(module, None, inputs=INPUT).data, kernels="off")
    (state,) = session.states
    assert state.axes == (1, "batch", 11)
    x = np.random.default_rng(0).standard_normal((2, 7, 6)).astype(np.float32)
    outputs, left = session.run({"x": x})
    with torch.no_grad():
        y, h = module(torch.from_numpy(x))
    np.testing.assert_allclose(outputs["output"], y, atol=CLOSE, rtol=0)
    np.testing.assert_allclose(left[state.input], h, atol=CLOSE, rtol=0)
    assert (left[state.input][..., -1] == 7).all()


def test_the_refusal_of_a_loop_of_ones_own_names_the_wrapper() -> None:
    with pytest.raises(
        CaptureError, match=r"exported when its step is wrapped as lstm_edge\.Recurrent\(step, \.\.\.\)$"
    ):
        build(OwnLoop().eval(), None, inputs=INPUT)


def test_export_leaves_the_step_as_it_was_and_it_trains() -> None:
    module, axes = MEMBERS["coupled gates"]
    before = {name: value.clone() for name, value in module.state_dict().items()}
    step = module.cell.steps.step
    build(module.eval(), None, inputs=[f"x: float32[{axes}]"])
    assert module.cell.steps.step is step
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    module(torch.randn(2, 4, 6)).sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())
    module.zero_grad()
