"""Caches of every kind in files of one frame per call: proved as states, streamed as the original calls in a row."""

import numpy as np
import pytest
import torch
from onnx import helper
from support.cached_modules import CASES, FRAME, cached, export_frame
from support.onnx_files import FLOAT, H, model, weights
from torch import Tensor, nn

from lstm_edge_exporters.adopt import adopt_bytes
from lstm_edge_exporters.verify.compare import STREAM, assert_close
from lstm_edge_runtime.errors import ArtifactError, InputError
from lstm_edge_runtime.providers import open_session
from lstm_edge_runtime.session import Session

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", CASES)
def test_a_cache_is_proved_and_streamed_as_the_original_calls_in_a_row(name):
    data, caches = cached(name)
    adopted = adopt_bytes(data)
    card = adopted.artifact.card
    assert {spec.input: spec.output for spec in card.states} == caches
    assert [spec.name for spec in card.inputs] == ["x"]
    assert card.streaming.verdict == "each-call"
    assert card.parity.shapes[-1] == "fixed shapes, 3 calls in a row"
    assert not any("may be a state" in sentence for sentence in card.undetermined)
    original, stream = open_session(data), Session(adopted.artifact.data).stream()
    state = {i.name: np.zeros(i.shape, np.float32) for i in original.get_inputs() if i.name != "x"}
    names = [output.name for output in original.get_outputs()]
    for index, x in enumerate(np.random.default_rng(0).standard_normal((25, 1, FRAME)).astype(np.float32)):
        answers = dict(zip(names, original.run(names, {"x": x, **state}), strict=True))
        state = {entering: answers[leaving] for entering, leaving in caches.items()}
        assert_close(f"{name}, frame {index}", stream.push(x), answers["y"], STREAM)


class Residual(nn.Module):
    """The answer has the shape of the data and lets them through; a GRU over time keeps the only state."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.rnn, self.gain = nn.GRU(FRAME, FRAME), gain

    def forward(self, audio_in: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        y, h = self.rnn(audio_in.unsqueeze(0), h)
        return self.gain * audio_in + y[0], h


@pytest.mark.parametrize("gain", [1.0, 0.5])
def test_data_that_the_answer_lets_through_are_no_state(gain):
    data = export_frame(Residual(gain), {"audio_in": (1, FRAME), "h": (1, 1, FRAME)}, ["audio_out", "hn"])
    card = adopt_bytes(data).artifact.card
    assert [spec.input for spec in card.states] == ["h"]
    assert [spec.name for spec in card.inputs] == ["audio_in"]
    assert not any("may be a state" in sentence for sentence in card.undetermined), "it is the only input that is left"


class Masked(nn.Module):
    """A mask from features on a spectrum: each element of the answer is a share of its own, as of a statistic."""

    def __init__(self, *, through: bool) -> None:
        super().__init__()
        self.rnn, self.through = nn.GRU(3, FRAME), through

    def forward(self, spec: Tensor, features: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        mask, h = self.rnn(features.unsqueeze(0), h)
        out = spec * torch.sigmoid(mask[0])
        return torch.cat([spec[:, :4], out[:, 4:]], 1) if self.through else out, h


@pytest.mark.parametrize("through", [False, True])
def test_a_masked_spectrum_is_no_state(through):
    shapes = {"spec_in": (1, FRAME), "features": (1, 3), "h": (1, 1, FRAME)}
    data = export_frame(Masked(through=through), shapes, ["y" if through else "spec_out", "hn"])
    card = adopt_bytes(data).artifact.card
    assert [spec.input for spec in card.states] == ["h"]
    assert any(text.startswith("input 'spec_in' may be a state") for text in card.undetermined)


class Crossed(nn.Module):
    """Two registers of one shape whose outputs come in the other order."""

    def forward(self, x: Tensor, one: Tensor, two: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        first, second = torch.cat([one, x], 1), torch.cat([two, x * x], 1)
        return first.mean(1) - second.amax(1), second[:, FRAME:], first[:, FRAME:]


def test_registers_of_one_shape_leave_by_what_became_of_them():
    shapes = {"x": (1, FRAME), "a": (1, 3 * FRAME), "b": (1, 3 * FRAME)}
    card = adopt_bytes(export_frame(Crossed(), shapes, ["y", "a_out", "b_out"])).artifact.card
    assert {spec.input: spec.output for spec in card.states} == {"a": "b_out", "b": "a_out"}


class Idle(nn.Module):
    """A count that nothing looks at, beside a register that the answer comes from."""

    def forward(self, x: Tensor, cache: Tensor, count: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        joined = torch.cat([cache, x], 1)
        return joined.cumsum(1)[:, -1:], joined[:, FRAME:], count + 1


def test_a_state_that_changes_no_answer_is_none():
    shapes = {"x": (1, FRAME), "cache": (1, 2 * FRAME), "count": (1,)}
    data = export_frame(Idle(), shapes, ["y", "cache_out", "count_out"])
    card = adopt_bytes(data).artifact.card
    assert [spec.input for spec in card.states] == ["cache"]
    sentence = "the state 'count', which leaves by 'count_out', changes no output but states"
    assert f"{sentence}: it stays an ordinary input and output" in card.undetermined
    with pytest.raises(InputError, match=f"--state count=count_out: {sentence}, so nothing would be streamed by it"):
        adopt_bytes(data, states={"count": "count_out"})


def test_a_layer_without_a_part_in_the_answer_is_not_made_stateful():
    arrays = {f"{k}{i}": a for i in (0, 1) for k, a in weights(1, seed=i).items() if k != "P"}
    nodes = [
        helper.make_node("LSTM", ["x", f"W{i}", f"R{i}", f"B{i}"], [f"Y{i}"], name=f"l{i}", hidden_size=H)
        for i in (0, 1)
    ]
    arrays |= {"none": np.zeros(1, np.float32)}
    nodes += [
        helper.make_node("Mul", ["Y1", "none"], ["nothing"], name="drop"),
        helper.make_node("Add", ["Y0", "nothing"], ["y"], name="add"),
    ]
    data = model(nodes, {"x": (FLOAT, ["n", "rows", 3])}, {"y": ["n", 1, "rows", H]}, arrays)
    with pytest.raises(ArtifactError, match=r"the layer 'l1' has no part in the answer; adopt without --stateful"):
        adopt_bytes(data, stateful=True)
