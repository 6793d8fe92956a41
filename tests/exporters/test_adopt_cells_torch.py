"""Cells that PyTorch's exporters take apart: folded, and equal to the module."""

import io
import warnings
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
import torch
from support.fallen_cells import BATCHES, FOLDED, H, I, assert_folded, feeds_of

from lstm_edge_exporters.adopt import adopt_bytes
from lstm_edge_exporters.verify.compare import assert_close
from lstm_edge_runtime.providers import open_session


class Single(torch.nn.Module):
    def __init__(self, cell: torch.nn.RNNCellBase) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor | None = None) -> Any:
        return self.cell(x, h) if c is None else self.cell(x, (h, c))


class Loop(torch.nn.Module):
    """Both cells in a Python loop over three steps, the second fed by the first."""

    def __init__(self) -> None:
        super().__init__()
        self.lower = torch.nn.LSTMCell(I, H)
        self.upper = torch.nn.GRUCell(H, 4)

    def forward(self, x: torch.Tensor) -> Any:
        h = c = x.new_zeros(x.shape[0], H)
        u = x.new_zeros(x.shape[0], 4)
        steps = []
        for t in range(3):
            h, c = self.lower(x[:, t], (h, c))
            u = self.upper(h, u)
            steps.append(u)
        return torch.stack(steps, 1), h, c


def export(module: torch.nn.Module, args: tuple[torch.Tensor, ...], *, dynamo: bool) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's remarks on its own names and on its older exporter
        return _export(module, args, dynamo=dynamo)


def _export(module: torch.nn.Module, args: tuple[torch.Tensor, ...], *, dynamo: bool) -> bytes:
    names = ["x", "h", "c"][: len(args)]
    if dynamo:
        shapes = tuple({0: torch.export.Dim("b")} for _ in args)
        program = torch.onnx.export(module, args, dynamo=True, dynamic_shapes=shapes, input_names=names, verbose=False)
        assert program is not None
        return bytes(program.model_proto.SerializeToString())
    stream = io.BytesIO()
    axes = {name: {0: "b"} for name in names}
    torch.onnx.export(module, args, stream, dynamo=False, dynamic_axes=axes, input_names=names, opset_version=18)  # type: ignore[arg-type]
    return stream.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dynamo", [True, False])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_torchs_cells(kind: str, dynamo: bool, bias: bool) -> None:
    torch.manual_seed(0)
    cell = {"LSTM": torch.nn.LSTMCell, "GRU": torch.nn.GRUCell}[kind](I, H, bias=bias)
    module = Single(cell).eval()
    args = tuple(torch.randn(3, size) for size in (I, H, H)[: 3 if kind == "LSTM" else 2])
    data = export(module, args, dynamo=dynamo)
    folded, sentences = assert_folded(data, [kind])
    assert sentences == (f"cell: {kind} cell of single operators, folded into one {kind} node with one time step",)
    for batch in BATCHES:
        feeds = feeds_of(data, batch)
        with torch.no_grad():
            wanted = module(*(torch.from_numpy(array) for array in feeds.values()))
        wanted = wanted if isinstance(wanted, tuple) else (wanted,)
        for want, got in zip(wanted, open_session(folded).run(None, feeds), strict=True):
            assert_close(kind, np.asarray(got), want.numpy(), FOLDED)


@pytest.mark.slow
@pytest.mark.parametrize("dynamo", [True, False])
def test_a_loop_that_was_unrolled(dynamo: bool) -> None:
    torch.manual_seed(0)
    data = export(Loop().eval(), (torch.randn(2, 3, I),), dynamo=dynamo)
    folded, sentences = assert_folded(data, ["LSTM", "GRU"] * 3)
    assert sentences == (
        "lower: LSTM cell of single operators with the same weights 3 times, a loop unrolled over time, folded step by "
        "step into 3 LSTM nodes with one time step: lower, lower_1, lower_2",
        "upper: GRU cell of single operators with the same weights 3 times, a loop unrolled over time, folded step by "
        "step into 3 GRU nodes with one time step: upper, upper_1, upper_2",
    )
    # The steps share their weights: W, R and B of each layer once.
    sizes = [tensor.ByteSize() for tensor in onnx.load_from_string(folded).graph.initializer]
    assert sum(size > 4 * H * 4 for size in sizes) == 6


def test_the_state_of_an_unrolled_loop_leaves_by_its_last_step() -> None:
    """Two calls of three steps, the state handed on, are the loop over six steps."""
    torch.manual_seed(0)
    module = Loop().eval()
    found = adopt_bytes(export(module, (torch.randn(2, 3, I),), dynamo=False), stateful=True)
    names = [f"{layer}.{kind}" for layer, kind in (("lower", "h"), ("lower", "c"), ("upper", "h"))]
    assert [spec.input for spec in found.artifact.card.states] == names
    session = open_session(found.artifact.data)
    x = torch.randn(2, 6, I)
    feeds = {spec.input: np.zeros((1, 2, int(spec.axes[2])), np.float32) for spec in found.artifact.card.states}
    outputs = [found.artifact.card.outputs[0].name, *(spec.output for spec in found.artifact.card.states)]
    pieces = []
    for part in x.split(3, dim=1):
        y, *left = (np.asarray(array) for array in session.run(outputs, {"x": part.numpy(), **feeds}))
        feeds = dict(zip(feeds, left, strict=True))
        pieces.append(y)
    h = c = torch.zeros(2, H)
    u = torch.zeros(2, 4)
    steps = []
    for t in range(6):
        with torch.no_grad():
            h, c = module.lower(x[:, t], (h, c))
            u = module.upper(h, u)
        steps.append(u)
    assert_close("y", np.concatenate(pieces, axis=1), torch.stack(steps, 1).numpy(), FOLDED)
    for name, want in zip(names, (h, c, u), strict=True):
        assert_close(name, feeds[name][0], want.numpy(), FOLDED)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_a_single_cell_is_adopted(kind: str) -> None:
    """All outputs are states: h' leaves a second time as the answer; steps one by one are the loop over the cell."""
    torch.manual_seed(0)
    cell = {"LSTM": torch.nn.LSTMCell, "GRU": torch.nn.GRUCell}[kind](I, H)
    args = tuple(torch.randn(3, size) for size in (I, H, H)[: 3 if kind == "LSTM" else 2])
    found = adopt_bytes(export(Single(cell).eval(), args, dynamo=False))
    card = found.artifact.card
    assert [spec.name for spec in card.outputs] == ["y"]
    assert [spec.input for spec in card.states] == ["h", "c"][: len(args) - 1]
    assert [(layer.name, layer.operator) for layer in card.layers] == [("cell", kind)]
    first = card.states[0].output
    sentence = f"which output is the answer: all are states, so {first!r} leaves a second time, as 'y'"
    assert sentence in card.undetermined
    session = open_session(found.artifact.data)
    state = [torch.zeros(2, H) for _ in card.states]
    feeds = {spec.input: np.zeros((2, H), np.float32) for spec in card.states}
    for x in torch.randn(4, 2, I):
        with torch.no_grad():
            new = cell(x, tuple(state) if kind == "LSTM" else state[0])
        state = list(new) if kind == "LSTM" else [new]
        names = ["y", *(spec.output for spec in card.states)]
        y, *left = (np.asarray(array) for array in session.run(names, {"x": x.numpy(), **feeds}))
        feeds = dict(zip(feeds, left, strict=True))
        for got, want in zip([y, *left], [state[0], *state], strict=True):
            assert_close(kind, got, want.numpy(), FOLDED)
