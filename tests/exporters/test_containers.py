"""Inputs and outputs in dicts, tuples, named tuples and dataclasses are flattened under stable names."""

from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict

import numpy as np
import pytest
import torch
from support.networks import build, seeded
from torch import Tensor, nn

from lstm_edge_exporters.pytorch.containers import flat_forward
from lstm_edge_exporters.pytorch.given import read_inputs
from lstm_edge_exporters.pytorch.outputs import flatten_outputs
from lstm_edge_runtime.errors import CaptureError
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.state import State

PAST, KNOWN = torch.randn(2, 7, 3), torch.randn(2, 7, 1)


class Fields(TypedDict):
    past: Tensor
    known: Tensor


class Pair(NamedTuple):
    past: Tensor
    known: Tensor


@dataclass(frozen=True)
class Batch:
    past: Tensor
    more: dict[str, Any]
    rate: int = 16000


@dataclass
class Result:
    y: Tensor
    state: tuple[Tensor, Tensor]


class Forecast(nn.Module):
    """One argument that holds several tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(4, 5, batch_first=True), nn.Linear(5, 2)

    def forward(self, batch):
        return self.head(self.rnn(torch.cat([batch["past"], batch["known"]], -1))[0])


class Annotated(Forecast):
    def forward(self, batch: Fields) -> Tensor:
        return super().forward(batch)


class OfPair(Forecast):
    def forward(self, batch: Pair) -> Tensor:
        return super().forward(batch._asdict())


class OfBatch(Forecast):
    def forward(self, batch: Batch) -> Tensor:
        return super().forward({"past": batch.past * (batch.rate / 8000), "known": batch.more["z"][0]})


class OfLists(Forecast):
    def forward(self, x: list[Tensor]) -> Tensor:
        return super().forward({"past": x[0], "known": x[1]})


class KeywordOnly(Forecast):
    def forward(self, past: Tensor, mask: Tensor | None = None, *, known: Tensor) -> Tensor:
        y = super().forward({"past": past, "known": known})
        return y if mask is None else y * mask


class WithState(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(3, 5, batch_first=True)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> Result:
        y, state = self.rnn(x, state)
        return Result(y=y, state=state)


def names_of(module, examples, inputs=()):
    module = module.eval()
    given = read_inputs(module, examples, inputs)
    kind = type(module)
    with torch.no_grad(), flat_forward(module, given.structure):
        answer = module(*given.examples.values()) if given.examples else None
    assert type(module) is kind
    return list(given.examples) or [spec.name for spec in given.specs], answer


@pytest.mark.parametrize(
    ("module", "examples", "names"),
    [
        (Forecast(), {"batch": {"past": PAST, "known": KNOWN}}, ["past", "known"]),
        (Forecast(), ({"past": PAST, "known": KNOWN},), ["past", "known"]),
        (Forecast(), {"past": PAST, "known": KNOWN}, ["past", "known"]),
        (OfPair(), Pair(PAST, KNOWN), ["past", "known"]),
        (OfBatch(), Batch(PAST, {"z": (KNOWN,)}), ["past", "more_z_0"]),
        (OfLists(), ([PAST, KNOWN],), ["x_0", "x_1"]),
        (KeywordOnly(), {"known": KNOWN, "past": PAST}, ["known", "past"]),
        (WithState(), (PAST, tuple(torch.zeros(2, 1, 2, 5))), ["x", "state_0", "state_1"]),
    ],
)
def test_the_tensors_of_examples_have_stable_names(module, examples, names):
    found, answer = names_of(module, examples)
    assert found == names
    own = {
        Forecast: lambda: module({"past": PAST, "known": KNOWN}),
        OfPair: lambda: module(Pair(PAST, KNOWN)),
        OfBatch: lambda: module(Batch(PAST, {"z": (KNOWN,)})),
        OfLists: lambda: module([PAST, KNOWN]),
        KeywordOnly: lambda: module(PAST, known=KNOWN),
        WithState: lambda: module(PAST, tuple(torch.zeros(2, 1, 2, 5))),
    }
    with torch.no_grad():
        expected = own[type(module)]()
    for got, wanted in zip(flatten_outputs(answer, ()).values(), flatten_outputs(expected, ()).values(), strict=True):
        torch.testing.assert_close(got, wanted)


def test_what_cannot_be_an_input_is_named():
    packed = nn.utils.rnn.pack_padded_sequence(PAST, torch.tensor([7, 7]), batch_first=True)
    for examples, sentence in (
        (
            ({"past": PAST, "known": {1, 2}},),
            "example input batch['known'] is of type set, expected a torch.Tensor, or a",
        ),
        ((packed,), "example input batch is a PackedSequence: give the padded tensor and its lengths"),
        (({"a_b": PAST, "a": {"b": KNOWN}},), "example input batch['a']['b']: another tensor is called 'a_b' already"),
        (({},), "the example inputs hold no tensor: give what forward takes"),
    ):
        with pytest.raises(CaptureError) as caught:
            read_inputs(Forecast().eval(), examples, ())
        assert str(caught.value).startswith(sentence)


def test_outputs_are_called_after_their_fields_and_keys():
    y, h = torch.zeros(2, 3), torch.ones(2, 3)
    assert list(flatten_outputs(Result(y=y, state=(y, h)), ())) == ["y", "state_0", "state_1"]
    assert list(flatten_outputs(Pair(y, h), ())) == ["past", "known"]
    assert list(flatten_outputs({"a": Pair(y, h), "b": [y]}, ())) == ["a_past", "a_known", "b_0"]
    assert list(flatten_outputs({"": y, "b": h}, ())) == ["output_0", "b"]
    assert list(flatten_outputs({"a": {"": y}, "b": h}, ())) == ["a_0", "b"]
    assert list(flatten_outputs({"y": y, "h": h}, (), taken=["x", "h"])) == ["y", "h_out"]
    with pytest.raises(CaptureError, match=r"^two outputs of forward are called 'a_b': give output_names$"):
        flatten_outputs({"a_b": y, "a": {"b": h}}, ())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "inputs"),
    [
        (Forecast, ["past: float32[B, T, 3]", "known: float32[B, T, 1]"]),
        (Forecast, ["batch.past: float32[B, T, 3]", "batch.known: float32[B, T, 1]"]),
        (Annotated, ["known: float32[B, T, 1]", "past: float32[B, T, 3]"]),
        (OfPair, ["past: float32[B, T, 3]", "known: float32[B, T, 1]"]),
        (KeywordOnly, ["past: float32[B, T, 3]", "known: float32[B, T, 1]"]),
        (OfLists, ["x.0: float32[B, T, 3]", "x.1: float32[B, T, 1]"]),
    ],
)
def test_specifications_alone_say_the_structure(kind, inputs):
    module = seeded(kind())
    session = Session(build(module, None, inputs=inputs).data, kernels="off")
    names = [text.partition(":")[0] for text in inputs]
    assert [spec.name for spec in session.inputs] == names
    assert session.card.layers[0].name == "rnn.0"  # no path is another one
    past, known = torch.randn(3, 9, 3), torch.randn(3, 9, 1)
    arrays = {name: (known if "known" in name or name == "x.1" else past).numpy() for name in names}
    with torch.no_grad():
        expected = Forecast.forward(module, {"past": past, "known": known}).numpy()
    assert np.abs(session.run(arrays)[0]["output"] - expected).max() < 1e-5


@pytest.mark.slow
def test_a_state_in_a_tuple_that_leaves_in_a_dataclass():
    module = seeded(WithState())
    session = Session(build(module, (PAST, tuple(torch.zeros(2, 1, 2, 5)))).data, kernels="off")
    assert [(spec.input, spec.output) for spec in session.states] == [
        ("state_0", "state_0_out"),
        ("state_1", "state_1_out"),
    ]
    assert session.card.streaming.verdict == "every-step"
    x, state = torch.randn(4, 5, 3), torch.randn(2, 1, 4, 5)
    with torch.no_grad():
        expected = module(x, tuple(state))
    start = State.from_arrays(session.states, {"state_0": state[0].numpy(), "state_1": state[1].numpy()})
    outputs, after = session.run(x.numpy(), start)
    assert np.abs(outputs["y"] - expected.y.numpy()).max() < 1e-5
    assert np.abs(after["state_1"] - expected.state[1].numpy()).max() < 1e-5
