"""Unrolled layers, a node or a decomposed cell for each step, become one layer where it is certain."""

import io
import warnings
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from support.unrolled_files import Unrolled, unrolled
from torch import nn

from lstm_edge_exporters.adopt import Adopted, adopt_bytes
from lstm_edge_exporters.quantize import quantize_bytes
from lstm_edge_runtime.providers import open_session
from lstm_edge_runtime.session import Session

CLOSE = 2e-6  # float32 sums in another order, twenty steps


def kinds(adopted: Adopted) -> list[str]:
    nodes = onnx.load_from_string(adopted.artifact.data).graph.node
    return [node.op_type for node in nodes if node.op_type in ("LSTM", "GRU", "RNN")]


def operators(adopted: Adopted) -> list[str]:
    return [node.op_type for node in onnx.load_from_string(adopted.artifact.data).graph.node]


def assert_same(data: bytes, adopted: Adopted, batch: int = 3) -> None:
    session = open_session(data)
    rng = np.random.default_rng(batch)
    feeds = {
        entry.name: rng.standard_normal([batch if not isinstance(s, int) else s for s in entry.shape]).astype(
            np.float32
        )
        for entry in session.get_inputs()
    }
    ours = open_session(adopted.artifact.data)
    names = [output.name for output in session.get_outputs()]
    for name, want, got in zip(names, session.run(names, feeds), ours.run(names, feeds), strict=True):
        np.testing.assert_allclose(np.asarray(got), np.asarray(want), atol=CLOSE, rtol=0, err_msg=name)


FORMS = {
    "LSTM of 20 steps, Split": Unrolled(),
    "GRU of 5, Slice": Unrolled(kind="GRU", steps=5, cut="Slice"),
    "RNN of 7, Gather, time first": Unrolled(kind="RNN", steps=7, cut="Gather", time=0),
    "weights copied for each step": Unrolled(steps=6, apart=True),
    "states in and out, Y joined": Unrolled(steps=4, state=True, answer="wide"),
    "features in one row": Unrolled(kind="GRU", steps=4, answer="flat"),
    "the last step alone": Unrolled(steps=9, answer="last", cut="Slice"),
    "some of the steps": Unrolled(steps=5, total=9, order=(2, 3, 4, 5, 6), cut="Gather"),
    "two steps": Unrolled(kind="GRU", steps=2, inputs=3, hidden=2),
}


@pytest.mark.parametrize("form", FORMS)
def test_one_step_nodes_become_one_layer(form: str) -> None:
    wanted = FORMS[form]
    data = unrolled(wanted)
    adopted = adopt_bytes(data)
    assert kinds(adopted) == [wanted.kind]
    assert "Concat" not in operators(adopted)
    assert_same(data, adopted)
    note = f"cell0: {wanted.steps} {wanted.kind} nodes of one step each over 'x' became one layer"
    assert note in adopted.notes
    (layer,) = adopted.artifact.card.layers
    assert (layer.name, layer.hidden_size, layer.input_size) == ("cell0", wanted.hidden, wanted.inputs)


def test_from_the_end() -> None:
    """The steps of x from the last to the first: a layer that runs backwards; its answers are joined as they come."""
    form = Unrolled(kind="GRU", steps=6, order=(5, 4, 3, 2, 1, 0), cut="Gather")
    data = unrolled(form)
    adopted = adopt_bytes(data)
    assert kinds(adopted) == ["GRU"]
    assert_same(data, adopted)
    (node,) = [n for n in onnx.load_from_string(adopted.artifact.data).graph.node if n.op_type == "GRU"]
    assert {a.name: a.s for a in node.attribute}["direction"] == b"reverse"


LEFT = {
    "other weights at one step": (
        Unrolled(steps=6, change="weights"),
        "cell3 has other weights than cell2, and reads the next",
    ),
    "a step starts from an older state": (
        Unrolled(steps=6, change="skip"),
        "cell2 and cell3 both start from the state of cell1",
    ),
    "a step of x is left out": (
        Unrolled(steps=5, total=6, order=(0, 1, 2, 4, 5), cut="Gather"),
        "it does not read 'x' step after step, but [0, 1, 2, 4, 5]",
    ),
    "x in another order": (
        Unrolled(kind="GRU", steps=5, order=(0, 2, 1, 3, 4), cut="Slice"),
        "it does not read 'x' step after",
    ),
    "a step of x twice": (Unrolled(steps=4, order=(0, 1, 1, 2), cut="Slice"), "it does not read 'x' step after step"),
    "an inner c leaves the graph": (Unrolled(steps=4, change="c"), "the c of cell1, 'c1', is an output of the graph"),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_is_not_certain_stays(name: str) -> None:
    form, reason = LEFT[name]
    data = unrolled(form)
    adopted = adopt_bytes(data)
    assert kinds(adopted) == [form.kind] * len(form.sequence)
    assert_same(data, adopted)
    (note,) = [note for note in adopted.notes if "stay" in note]
    assert reason in note


def test_steps_whose_axes_are_others_stay() -> None:
    """Steps [I, 1] of one row are turned to [1, I] by adding and removing axes alone; the sequence's order differs."""
    form = Unrolled(steps=4, cut="Gather")
    proto = onnx.load_from_string(unrolled(form))
    (x,) = [value for value in proto.graph.input if value.name == "x"]
    for axis, size in zip(x.type.tensor_type.shape.dim, (form.inputs, form.steps, 1), strict=True):
        axis.Clear()
        axis.dim_value = size
    for node in proto.graph.node:
        if node.name.startswith("take"):
            node.output[0] += "w"
        if node.name == "rows":
            node.op_type, node.input[:] = "Identity", ["at1"]
            del node.attribute[:]
    for count in range(form.steps):
        narrow = onnx.helper.make_node("Squeeze", [f"x{count}w", "at1"], [f"x{count}n"], name=f"narrow{count}")
        wide = onnx.helper.make_node("Unsqueeze", [f"x{count}n", "at0"], [f"x{count}"], name=f"row{count}")
        place = next(k for k, node in enumerate(proto.graph.node) if node.name == f"take{count}")
        proto.graph.node.insert(place + 1, wide)
        proto.graph.node.insert(place + 1, narrow)
    onnx.checker.check_model(proto)
    data = proto.SerializeToString()
    adopted = adopt_bytes(data)
    assert kinds(adopted) == ["LSTM"] * 4
    assert_same(data, adopted)
    assert any("are not the batch and the features of the steps" in note for note in adopted.notes)


class Loop(nn.Module):
    """Cells in a Python loop over a fixed number of steps."""

    def __init__(self, cell: type[nn.RNNCellBase], steps: int, *, layers: int = 1, form: str = "stack") -> None:
        super().__init__()
        self.steps, self.form = steps, form
        self.cells = nn.ModuleList([cell(4 if layer == 0 else 5, 5) for layer in range(layers)])
        self.back = cell(4, 5)
        self.head = nn.Linear(5, 3)

    def over(self, cell: nn.Module, xs: list[torch.Tensor]) -> list[torch.Tensor]:
        h = c = xs[0].new_zeros(xs[0].shape[0], 5)
        ys = []
        for x in xs:
            h, c = cell(x, (h, c)) if isinstance(cell, nn.LSTMCell) else (cell(x, h), c)
            ys.append(h)
        return ys

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        xs = list(x.unbind(1)) if self.form == "unbind" else [x[:, t] for t in range(self.steps)]
        ys = [torch.tanh(step) for step in xs] if self.form == "head" else xs
        for cell in self.cells:
            ys = self.over(cell, ys)
        if self.form == "last":
            return self.head(ys[-1])
        if self.form == "head":
            ys = [torch.relu(self.head(y)) for y in ys]
        if self.form == "both":
            ys = [torch.cat(pair, 1) for pair in zip(ys, self.over(self.back, xs[::-1])[::-1], strict=True)]
        return torch.stack(ys, 1)


def exported(module: nn.Module, steps: int) -> bytes:
    """As torch's legacy exporter writes it: the cells taken apart, once for each step."""
    stream = io.BytesIO()
    options: dict[str, Any] = {"dynamo": False, "dynamic_axes": {"x": {0: "b"}}, "input_names": ["x"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's remarks on its older exporter
        torch.onnx.export(module.eval(), (torch.randn(2, steps, 4),), stream, opset_version=18, **options)
    return stream.getvalue()


LOOPS: dict[str, tuple[nn.Module, int, list[str], set[str]]] = {
    "lstm": (Loop(nn.LSTMCell, 6, form="unbind"), 6, ["LSTM"], {"Transpose", "Squeeze"}),
    "two layers": (Loop(nn.GRUCell, 4, layers=2), 4, ["GRU", "GRU"], {"Transpose", "Squeeze"}),
    "last": (Loop(nn.LSTMCell, 5, form="last"), 5, ["LSTM"], {"Transpose", "Squeeze", "Gemm"}),
    "tanh before, a head behind": (
        Loop(nn.LSTMCell, 4, form="head"),
        4,
        ["LSTM"],
        {"Transpose", "Squeeze", "Tanh", "MatMul", "Add", "Relu"},
    ),
    "both directions": (Loop(nn.GRUCell, 4, form="both"), 4, ["GRU", "GRU"], {"Transpose", "Squeeze", "Concat"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LOOPS)
def test_cells_in_a_python_loop(name: str) -> None:
    module, steps, layers, others = LOOPS[name]
    data = exported(module, steps)
    adopted = adopt_bytes(data)
    assert kinds(adopted) == layers
    assert set(operators(adopted)) <= {*layers, *others}
    assert_same(data, adopted)
    x = np.random.default_rng(0).standard_normal((2, steps, 4)).astype(np.float32)
    with torch.no_grad():
        wanted = module(torch.from_numpy(x)).numpy()
    (got,) = Session(adopted.artifact.data).run(x)[0].values()
    np.testing.assert_allclose(got, wanted, atol=CLOSE, rtol=0)
    quantization = quantize_bytes(adopted.artifact.data).card.quantization
    assert quantization is not None
    assert {row.scheme for row in quantization.coverage} == {"int8"}
    assert len(quantization.coverage) == len(layers) + ("Gemm" in others) + ("MatMul" in others)


@pytest.mark.slow
def test_a_decoder_that_reads_its_own_answers_stays_and_its_encoder_is_rolled_up() -> None:
    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.decoder, self.head = nn.GRUCell(4, 5), nn.GRUCell(3, 5), nn.Linear(5, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = x.new_zeros(x.shape[0], 5)
            for t in range(5):
                h = self.encoder(x[:, t], h)
            y, ys = x[:, 0, :3], []
            for _ in range(3):
                h = self.decoder(y, h)
                y = self.head(h)
                ys.append(y)
            return torch.stack(ys, 1)

    data = exported(Decoder(), 5)
    adopted = adopt_bytes(data)
    assert kinds(adopted) == ["GRU"] * 4
    assert_same(data, adopted)
    assert any(note.startswith("encoder: 5 GRU nodes of one step each over 'x'") for note in adopted.notes)
    (note,) = [note for note in adopted.notes if " stay " in note]
    assert note.startswith("decoder to decoder_2: stay 3 GRU nodes of one step each: ")
