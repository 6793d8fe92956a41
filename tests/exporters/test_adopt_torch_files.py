"""What PyTorch's legacy exporter writes: sorted lengths, and two equal example tensors that become one."""

import io
import warnings
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lstm_edge_exporters.adopt import adopt_bytes
from lstm_edge_runtime import Session
from lstm_edge_runtime.errors import InputError

pytestmark = pytest.mark.slow


def export(module: nn.Module, args: tuple[Any, ...], names: list[str], outs: list[str], axes: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the legacy exporter warns that it is one
        torch.onnx.export(
            module.eval(), args, stream, dynamo=False, opset_version=16, input_names=names, output_names=outs,
            dynamic_axes=axes,
        )  # type: ignore[arg-type]  # fmt: skip
    return stream.getvalue()


class Packed(nn.Module):
    """A layer over a packed batch, its rows in any order."""

    def __init__(self, cell: type[nn.RNNBase], *, sides: bool, tokens: bool, ordered: bool = False) -> None:
        super().__init__()
        self.table = nn.Embedding(40, 16) if tokens else nn.Identity()
        self.rnn = cell(16, 12, bidirectional=sides, batch_first=True)  # type: ignore[call-arg, arg-type]
        self.head = nn.Linear(24 if sides else 12, 5)
        self.ordered = ordered

    def forward(self, x: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
        packed = pack_padded_sequence(self.table(x), n, batch_first=True, enforce_sorted=self.ordered)
        return self.head(pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=x.shape[1])[0])


@pytest.mark.parametrize(
    ("cell", "sides", "tokens", "ordered"),
    [(nn.GRU, True, True, False), (nn.LSTM, False, False, False), (nn.LSTM, True, True, True)],
)
def test_lengths_that_the_graph_sorts(cell: type[nn.RNNBase], sides: bool, tokens: bool, ordered: bool) -> None:
    torch.manual_seed(0)
    module = Packed(cell, sides=sides, tokens=tokens, ordered=ordered)
    x = torch.randint(0, 40, (3, 7)) if tokens else torch.randn(3, 7, 16)
    n = torch.tensor([7, 4, 2] if ordered else [4, 7, 2])
    axes = {"x": {0: "batch", 1: "seq"}, "n": {0: "batch"}, "y": {0: "batch", 1: "seq"}}
    adopted = adopt_bytes(export(module, (x, n), ["x", "n"], ["y"], axes))
    session = Session(adopted.artifact.data)
    assert session.lengths == "n"
    got = session.run({"x": x.numpy()}, lengths=n.tolist())[0]["y"]
    np.testing.assert_allclose(got, module(x, n).detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("declared", [1, 2, 4])
def test_a_wrong_number_of_axes_is_corrected_in_one_sentence(declared: int, capfd: pytest.CaptureFixture[str]) -> None:
    proto = onnx.load_from_string(pair(torch.randn(1, 2, 4), torch.randn(1, 2, 4)))
    dims = proto.graph.output[0].type.tensor_type.shape.dim
    del dims[:]
    for index in range(declared):
        dims.add().dim_param = f"axis{index}"
    capfd.readouterr()
    adopted = adopt_bytes(proto.SerializeToString())
    assert f"output 'y' was declared with {declared} axes and has 3: corrected" in adopted.notes
    assert adopted.artifact.card.outputs[0].axes == ("time", "batch", 4)
    assert capfd.readouterr().err == ""


class Pair(nn.Module):
    """Two layers with a state each, or one layer with h and c."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.GRU(4, 4), nn.GRU(4, 4)

    def forward(self, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y, a = self.first(x, a)
        y, b = self.second(y, b)
        return y, a, b


def pair(a: torch.Tensor, b: torch.Tensor) -> bytes:
    torch.manual_seed(0)
    axes = {"x": {0: "t", 1: "n"}, "y": {0: "t", 1: "n"}} | {name: {1: "n"} for name in ("a", "b", "aN", "bN")}
    return export(Pair(), (torch.randn(5, 2, 4), a, b), ["x", "a", "b"], ["y", "aN", "bN"], axes)


def test_an_input_that_no_node_reads_is_said_and_no_state() -> None:
    """As an exporter leaves it that merged two equal example tensors."""
    proto = onnx.load_from_string(pair(torch.randn(1, 2, 4), torch.randn(1, 2, 4)))
    for node in proto.graph.node:
        node.input[:] = ["a" if name == "b" else name for name in node.input]
    data = proto.SerializeToString()
    card = adopt_bytes(data).artifact.card
    said = [text for text in card.undetermined if "reads the input" in text]
    assert len(said) == 1
    assert said[0].startswith("no node of the file reads the input 'b', so that what is fed to it changes nothing.")
    assert "and 'a' has its shape: export the model again with different numbers" in said[0]
    with pytest.raises(InputError, match="--state b=bN: no node of the file reads the input 'b'"):
        adopt_bytes(data, states={"b": "bN"})


def test_two_different_examples_are_two_states() -> None:
    card = adopt_bytes(pair(torch.randn(1, 2, 4), torch.randn(1, 2, 4))).artifact.card
    assert [(state.input, state.output) for state in card.states] == [("a", "aN"), ("b", "bN")]
    assert not [text for text in card.undetermined if "reads the input" in text]
