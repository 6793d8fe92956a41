"""``--sequence``: a file of one step per call as one call over a sequence, equal to the calls in a row to the bit."""

import numpy as np
import pytest
import torch
from support.cached_modules import CASES, FRAME, cached, export_frame
from support.foreign_files import hidden
from torch import Tensor, nn

from lstm_edge_exporters.adopt import adopt_bytes
from lstm_edge_exporters.quantize import quantize_bytes
from lstm_edge_runtime.card import TIME
from lstm_edge_runtime.errors import ArtifactError
from lstm_edge_runtime.session import Session

pytestmark = pytest.mark.slow

STEPS = 9


@pytest.mark.parametrize("name", [CASES[1], "running mean and variance", "ring", "bands"])
def test_a_sequence_is_one_call_and_every_bit_that_of_the_steps(name):
    data, caches = cached(name)
    step, whole = Session(adopt_bytes(data).artifact.data), adopt_bytes(data, sequence=True).artifact
    session = Session(whole.data)
    assert whole.card.streaming.verdict == "every-step"
    assert session.inputs[0].axes == (TIME, 1, FRAME)
    assert {spec.input: spec.output for spec in session.states} == caches
    x = np.random.default_rng(1).standard_normal((STEPS, 1, FRAME)).astype(np.float32)
    stream = step.stream()
    expected = np.stack([stream.push(frame) for frame in x])
    answers, state = session.run(x)
    assert np.array_equal(answers["y"], expected)
    assert dict(state).keys() == dict(stream.state).keys()
    assert all(np.array_equal(state[key], stream.state[key]) for key in state)
    chunks = session.stream()
    assert np.array_equal(np.concatenate([chunks.push(x[:4]), chunks.push(x[4])[None], chunks.push(x[5:])]), expected)


class Step(nn.Module):
    """Two LSTM layers of one step, the state inside; x [1, 24]."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(24, 32, 2), nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x.unsqueeze(0))[0][0])


def test_a_sequence_of_made_states_is_quantized_within_the_loop():
    torch.manual_seed(2)
    data = export_frame(Step(), {"x": (1, 24)}, ["y"])
    step, whole = (adopt_bytes(data, stateful=True, sequence=sequence).artifact.data for sequence in (False, True))
    x = np.random.default_rng(1).standard_normal((STEPS, 1, 24)).astype(np.float32)
    small, large = (quantize_bytes(made) for made in (step, whole))
    assert len(large.data) < 0.6 * len(whole)
    stream = Session(small.data).stream()
    answers, _state = Session(large.data).run(x)
    assert np.array_equal(answers["y"], np.stack([stream.push(frame) for frame in x])), "int8 has the same bits"


def test_what_is_no_step_is_refused():
    with pytest.raises(ArtifactError, match="--sequence is for a file of one step per call with states"):
        adopt_bytes(hidden(), sequence=True)
    with pytest.raises(ArtifactError, match="the streaming of this one is every-step"):
        adopt_bytes(hidden(), stateful=True, sequence=True)
