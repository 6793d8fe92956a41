"""Axis names are the user's: which axis is batch and which is time follows from what the recurrent layers see."""

import numpy as np
import pytest
import torch
from support.networks import build, seeded
from support.onnx_files import lstm_model
from torch import Tensor, nn

from lstm_edge_exporters.adopt.axes import name_roles
from lstm_edge_exporters.onnx_graph.reading import parse_model
from lstm_edge_exporters.pytorch.calls import recurrent_modules
from lstm_edge_exporters.pytorch.given import input_specs, read_inputs
from lstm_edge_exporters.pytorch.options import ExportOptions
from lstm_edge_runtime.errors import CaptureError, InputError
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.state import State


def axes_of(module: nn.Module, inputs=(), examples=None, **options) -> list[tuple]:
    """Return the axes of each input as the export takes them."""
    module.eval()
    options = ExportOptions(inputs=inputs, **options)
    given = read_inputs(module, examples, inputs)
    return [spec.axes for spec in input_specs(module, recurrent_modules(module), given, options)]


class Spectrum(nn.Module):
    """Channels first, as spectrograms are."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.LSTM(17, 6, batch_first=True), nn.Linear(6, 17)

    def forward(self, mag: Tensor) -> Tensor:
        return self.out(self.rnn(mag.transpose(1, 2))[0]).transpose(1, 2).sigmoid()


class Cell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.out = nn.LSTMCell(6, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h, c = self.cell(x, (h, c))
        return self.out(h), h, c


class Loop(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        h, found = x.new_zeros(x.shape[0], 4), []
        for step in x.unbind(1):
            h = self.cell(step, h)
            found.append(h)
        return torch.stack(found, 1)


class DualPath(nn.Module):
    """One layer runs along frequency with time folded into its rows, the other along time."""

    def __init__(self) -> None:
        super().__init__()
        self.across, self.along = nn.GRU(4, 6, batch_first=True), nn.GRU(6, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        rows, steps, bands, features = x.shape
        y = self.across(x.reshape(rows * steps, bands, features))[0].reshape(rows, steps, bands, 6)
        y = self.along(y.transpose(1, 2).reshape(rows * bands, steps, 6))[0]
        return y.reshape(rows, bands, steps, 4).transpose(1, 2)


class Image(nn.Module):
    """A stride hides a small change of the width."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.rnn = nn.Conv2d(3, 4, 5, stride=(20, 8)), nn.LSTM(12, 5, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(self.conv(x).flatten(1, 2).permute(2, 0, 1))[0]


class Attend(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(6, 8, batch_first=True)

    def forward(self, x: Tensor, h: Tensor, memory: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, h = self.gru(x, h)
        return y, (y @ memory.transpose(1, 2)).softmax(-1), h


class Packed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.gru = nn.Embedding(9, 4), nn.GRU(4, 5, batch_first=True)

    def forward(self, ids: Tensor, n: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(self.table(ids), n, batch_first=True, enforce_sorted=False)
        return nn.utils.rnn.pad_packed_sequence(self.gru(packed)[0], batch_first=True)[0]


class Policy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru, self.out = nn.GRU(6, 8), nn.Linear(8, 3)

    def forward(self, obs: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        y, h = self.gru(obs[None], h)
        return self.out(y[0]), h


@pytest.mark.parametrize(
    ("module", "inputs", "expected"),
    [
        (Spectrum(), ["mag: float32[B, 17, T]"], [("batch", 17, "time")]),
        (Spectrum(), ["mag: float32[batch, 17, T]"], [("batch", 17, "time")]),
        (Spectrum(), ["mag: float32[time, 17, frames]"], [("time", 17, "frames")]),  # what is named has its meaning
        (nn.GRU(6, 8), ["input: float32[seq, N, 6]", "hx: float32[1, N, 8]"], [("time", "batch", 6), (1, "batch", 8)]),
        (nn.GRU(6, 8), ["input: float32[steps, 6]"], [("time", 6)]),
        (
            Cell(),
            ["x: float32[N, 6]", "h: float32[N, 8]", "c: float32[N, 8]"],
            [("batch", 6), ("batch", 8), ("batch", 8)],
        ),
        (Loop(), ["x: float32[rows, columns, 3]"], [("batch", "time", 3)]),
        (DualPath(), ["x: float32[B, T, F, 4]"], [("batch", "time", "F", 4)]),
        (DualPath(), ["x: float32[B, T, 11, 4]"], [("batch", "time", 11, 4)]),
        (Image(), ["x: float32[N, 3, 60, W]"], [("batch", 3, 60, "time")]),
        (
            Attend(),
            ["x: float32[N, frames, 6]", "h: float32[1, N, 8]", "memory: float32[N, source, 8]"],
            [("batch", "time", 6), (1, "batch", 8), ("batch", "source", 8)],
        ),
        (Packed(), ["ids: int64[B, L]", "n: int64[B]"], [("batch", "time"), ("batch",)]),
    ],
)
def test_the_layers_say_which_axis_is_which(module, inputs, expected):
    assert axes_of(module, inputs) == expected


def test_where_the_layers_do_not_say_the_option_does():
    inputs = ["x: float32[B, p, q, 4]"]
    with pytest.raises(CaptureError) as caught:
        axes_of(DualPath(), inputs)
    assert str(caught.value) == (
        "the steps of the recurrent layers follow several axes of the inputs, p, q: --time-axis (time_axis=) says "
        "which one is time"
    )
    assert axes_of(DualPath(), inputs, time_axis="p") == [("batch", "time", "q", 4)]
    assert axes_of(DualPath(), inputs, time_axis="q", batch_axis="B") == [("batch", "p", "time", 4)]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"time_axis": "t"}, "--time-axis t: no input has such an axis; the axes are batch, T"),
        ({"batch_axis": "T"}, "--batch-axis T: another axis is called 'batch'; give it another name"),
    ],
)
def test_an_option_names_an_axis_that_is_there(options, sentence):
    with pytest.raises(InputError) as caught:
        axes_of(Spectrum(), ["mag: float32[batch, 17, T]"], **options)
    assert str(caught.value) == sentence
    with pytest.raises(InputError, match=r"^--batch-axis and --time-axis both name 'T': they are two axes$"):
        axes_of(Spectrum(), ["mag: float32[B, 17, T]"], batch_axis="T", time_axis="T")


def test_an_axis_of_one_size_is_no_ones_fault():
    with pytest.raises(CaptureError) as caught:
        axes_of(Spectrum(), ["mag: float32[B, bins, T]"])
    assert str(caught.value).startswith("the module itself fails on mag [5, 5, 5]: RuntimeError: ")
    assert str(caught.value).endswith(" If an axis can have only one size, give that number instead of a name")


@pytest.mark.parametrize(
    ("module", "examples", "expected"),
    [
        (Spectrum(), torch.randn(2, 17, 20), [("batch", 17, "time")]),
        (Policy(), (torch.randn(1, 6), torch.zeros(1, 1, 8)), [("batch", 6), (1, "batch", 8)]),
        (Policy(), (torch.randn(4, 6), torch.zeros(1, 4, 8)), [("batch", 6), (1, "batch", 8)]),
        (Cell(), (torch.randn(1, 6), *torch.zeros(2, 1, 8)), [("batch", 6), ("batch", 8), ("batch", 8)]),
        (Image(), torch.randn(1, 3, 60, 160), [("batch", 3, 60, "time")]),
        (Packed(), (torch.randint(0, 9, (2, 7)), torch.tensor([7, 3])), [("batch", "time"), ("batch",)]),
        (nn.GRU(6, 8), torch.randn(4, 2, 6), [("time", "batch", 6)]),  # as the layer has them
    ],
)
def test_the_module_says_which_axes_of_the_examples_are_which(module, examples, expected):
    assert axes_of(module, (), examples) == expected


class FixedShape(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(6, 8)

    def forward(self, obs: Tensor) -> Tensor:
        return self.gru(obs.reshape(1, 1, 6))[0]


def test_what_cannot_be_told_asks_for_inputs():
    """The module runs on its example; the sentence does not say that it fails."""
    with pytest.raises(CaptureError) as caught:
        axes_of(FixedShape(), (), torch.randn(2, 3))
    assert str(caught.value) == (
        "which axes of the example inputs (obs [2, 3]) are batch and time cannot be told: the module runs on them and "
        "at no other size that was tried; give inputs=[...] to say which axis is which"
    )


@pytest.mark.slow
def test_a_file_of_named_axes_answers_as_the_module():
    module = seeded(Spectrum())
    session = Session(build(module, None, inputs=["mag: float32[B, 17, T]"]).data, kernels="off")
    assert session.card.streaming.verdict == "every-step"
    mag = torch.randn(3, 17, 13)
    with torch.no_grad():
        expected = module(mag).numpy()
    assert np.abs(session.run(mag.numpy())[0]["output"] - expected).max() < 1e-5
    image = Session(build(seeded(Image()), torch.randn(1, 3, 60, 160)).data, kernels="off")
    # Behind the stride the steps are none of an input's: the card says that they are not fixed.
    assert image.outputs[0].axes == ("output_0", "batch", 10)
    assert image.run(np.zeros((2, 3, 60, 99), np.float32))[0]["output"].shape == (12, 2, 10)


@pytest.mark.slow
def test_an_axis_of_an_input_keeps_its_name_in_an_output():
    inputs = ["x: float32[batch, time, 6]", "h: float32[1, batch, 8]", "memory: float32[batch, source, 8]"]
    session = Session(build(seeded(Attend()), None, inputs=inputs).data, kernels="off")
    assert [spec.axes for spec in session.outputs] == [("batch", "time", 8), ("batch", "time", "source")]
    policy = seeded(Policy())
    session = Session(build(policy, (torch.randn(1, 6), torch.zeros(1, 1, 8))).data, kernels="off")
    assert session.card.streaming.verdict == "each-call"
    obs, h = torch.randn(5, 6), torch.randn(1, 5, 8)
    with torch.no_grad():
        action, after = policy(obs, h)
    outputs, state = session.run(obs.numpy(), State.from_arrays(session.states, {"h": h.numpy()}))
    assert np.abs(outputs["output_0"] - action.numpy()).max() < 1e-5
    assert np.abs(state["h"] - after.numpy()).max() < 1e-5


def test_adopt_names_axes_by_option_too():
    model = parse_model(lstm_model())
    names = [str(dim) for dim in model.graph.inputs[0].shape]
    name_roles(model, batch_axis=None, time_axis=None)
    assert [str(dim) for dim in model.graph.inputs[0].shape] == names
    with pytest.raises(InputError, match=r"^--time-axis nowhere: no input has such an axis; the axes are "):
        name_roles(model, batch_axis=None, time_axis="nowhere")
