"""The streaming verdict is found by trying, and stream() refuses what the file cannot do, with the file's reason."""

import numpy as np
import pytest
import torch
from support.networks import NETWORKS, build, exported, quantized, random_inputs, seeded, session_of
from torch import Tensor, nn

from lstm_edge_exporters.verify.compare import STREAM, assert_close
from lstm_edge_runtime.errors import InputError, StreamingError
from lstm_edge_runtime.session import Session

pytestmark = pytest.mark.slow

STEPS = 9


class OverTime(nn.Module):
    """A unidirectional LSTM with something behind it that looks across time."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.lstm = nn.LSTM(3, 5, batch_first=True)
        self.conv = nn.Conv1d(5, 4, 3, padding=1 if how == "conv-same" else 0)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.lstm(x)
        if self.how.startswith("conv"):
            return self.conv(y.transpose(1, 2)).transpose(1, 2)
        if self.how == "mean":
            return y.mean(1)
        if self.how == "softmax":
            return torch.softmax(y, dim=1)
        if self.how == "flip":
            return y.flip(1)
        if self.how == "cumulative-sum":
            return y.cumsum(1)
        return x.diff(dim=1, prepend=x[:, :1] * 0) + y[..., :3]


def verdict(module: nn.Module) -> tuple[str, str]:
    """The verdict and its reason; stream() agrees with both."""
    # A convolution without padding does not take sequences shorter than its kernel.
    artifact = build(seeded(module), None, inputs=["x: float32[batch, time, 3]"])
    session = Session(artifact.data)
    streaming = artifact.card.streaming
    if streaming.verdict == "none":
        with pytest.raises(StreamingError) as caught:
            session.stream()
        assert str(caught.value) == f"the model cannot be streamed: {streaming.reason}"
    else:
        session.stream().push(np.zeros(3, np.float32))
    return streaming.verdict, streaming.reason


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("mean", "ReduceMean (ReduceMean) runs over all steps of the sequence"),
        ("softmax", "Softmax (Softmax) runs over all steps of the sequence"),
        ("flip", "Slice (Slice) begins at a step that is no constant, or runs backwards"),
    ],
)
def test_what_needs_the_whole_sequence_is_not_streamed(how: str, reason: str) -> None:
    assert verdict(OverTime(how)) == ("none", reason)


@pytest.mark.parametrize("how", ["conv-same", "conv-valid", "cumulative-sum", "difference"])
def test_what_needs_some_steps_keeps_them(how: str) -> None:
    assert verdict(OverTime(how)) == ("every-step", "")


@pytest.mark.parametrize("name", ["tagger", "language-model", "standard-2-layers", "diagonal", "full", "projected"])
def test_every_step(name: str) -> None:
    session = session_of(exported(name))
    assert session.card is not None
    assert (session.card.streaming.verdict, session.card.streaming.reason) == ("every-step", "")
    inputs = random_inputs(session, 1, STEPS)
    whole, state = session.run(inputs)
    for size in (1, 2, STEPS - 1, STEPS, 4):
        stream = session.stream()
        pieces = []
        for start in range(0, STEPS, size):
            chunk = {key: value[:, start : start + size] for key, value in inputs.items()}
            pieces.append(stream.push(next(iter(chunk.values()))))
        assert_close(f"chunks of {size}", np.concatenate(pieces, axis=1), whole["output"], STREAM)
        for key, array in state.items():
            assert_close(f"chunks of {size}: {key}", stream.state[key], array, STREAM)


@pytest.mark.parametrize("name", ["classifier", "last-step"])
def test_last_step(name: str) -> None:
    session = session_of(exported(name))
    assert session.card is not None
    assert session.card.streaming.verdict == "last-step"
    assert session.card.streaming.reason == "output output has no time axis"
    x = random_inputs(session, 1, STEPS)["x"]
    stream = session.stream()
    for t in range(STEPS):
        answer = stream.push(x[:, t])
        assert_close(f"after step {t}", answer, session.run(x[:, : t + 1])[0]["output"], STREAM)


def test_bidirectional_and_hidden_are_not_streamed() -> None:
    for data, reason in (
        (
            exported("bidirectional"),
            "lstm.0, lstm.1 are bidirectional: their reverse directions need the whole sequence",
        ),
        (
            exported("bidirectional", state="hidden"),
            "lstm.0, lstm.1 are bidirectional: their reverse directions need the whole sequence",
        ),
    ):
        with pytest.raises(StreamingError) as caught:
            session_of(data).stream()
        assert str(caught.value) == f"the model cannot be streamed: {reason}"
    hidden = Session(build(NETWORKS["classifier"](), torch.randn(2, 5, 3), state="hidden").data)
    with pytest.raises(StreamingError, match="the state is hidden inside the graph: export with explicit state"):
        hidden.stream()


class Conditioned(nn.Module):
    """A vector for each row beside the frames."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 5, batch_first=True)

    def forward(self, x: Tensor, speaker: Tensor) -> Tensor:
        return self.lstm(x)[0] * speaker.unsqueeze(1)


CONDITIONED = ["x: float32[batch, time, 3]", "speaker: float32[batch, 5]"]


def test_a_condition_without_time_is_given_once_and_kept() -> None:
    artifact = build(seeded(Conditioned()), None, inputs=CONDITIONED)
    assert artifact.card.streaming.verdict == "every-step"
    session, rng = Session(artifact.data), np.random.default_rng(2)
    x, speaker = rng.standard_normal((1, 9, 3)).astype("f4"), rng.standard_normal((2, 1, 5)).astype("f4")
    first, second = (session.run({"x": x, "speaker": one})[0]["output"] for one in speaker)
    for form, given in (("chunk", speaker[0]), ("frame", speaker[0][0])):
        stream = session.stream()
        with pytest.raises(
            InputError, match="input 'speaker' is missing: it has no time axis, so give it with the first"
        ):
            stream.push(x[:, :1])
        start = x[:, 0] if form == "frame" else x[:, :1]
        pieces = [stream.push({"x": start, "speaker": given}).reshape(1, 1, 5), stream.push(x[:, 1:4])]
        pieces += [stream.push({"x": x[:, 4:6]}), stream.push(x[0, 6]).reshape(1, 1, 5)]
        assert_close(f"kept, {form}", np.concatenate(pieces, 1), np.ascontiguousarray(first[:, :7]), STREAM)
        pieces = [stream.push({"x": x[:, 7:8], "speaker": speaker[1]}), stream.push(x[:, 8:9])]
        assert_close("another one", np.concatenate(pieces, 1), np.ascontiguousarray(second[:, 7:]), STREAM)
        assert stream.steps == 9
        stream.reset()
        with pytest.raises(InputError, match="input 'speaker' is missing"):
            stream.push(x[:, 8:9])


def test_a_condition_of_several_rows_has_its_batch_axis_and_is_finite() -> None:
    session = Session(build(seeded(Conditioned()), None, inputs=CONDITIONED).data)
    stream, x, speaker = session.stream(2), np.ones((2, 3, 3), "f4"), np.ones((2, 5), "f4")
    with pytest.raises(InputError, match=r"input 'speaker' has shape \[5\], expected \[2, 5\]"):
        stream.push({"x": x, "speaker": speaker[0]})
    with pytest.raises(InputError, match=r"step 0: input 'speaker' holds nan at index \[0, 0\]"):
        stream.push({"x": x, "speaker": speaker * np.float32("nan")})
    expected = session.run({"x": x, "speaker": speaker})[0]["output"]
    got = [
        stream.push({"x": x[:, 0], "speaker": speaker})[:, None],
        stream.push(x[:, 1])[:, None],
        stream.push(x[:, 2:]),
    ]
    assert_close("two rows", np.concatenate(got, 1), expected, STREAM)


def test_a_condition_of_a_refused_piece_is_not_held() -> None:
    session, rng = Session(build(seeded(Conditioned()), None, inputs=CONDITIONED).data), np.random.default_rng(4)
    x, speaker = rng.standard_normal((1, 6, 3)).astype("f4"), rng.standard_normal((2, 1, 5)).astype("f4")
    stream, twin = session.stream(), session.stream()
    for one in (stream, twin):
        one.push({"x": x[0, 0], "speaker": speaker[0]})
    before = stream.snapshot()
    for wrong in (np.full((1, 1, 3), np.nan, "f4"), np.full(3, np.nan, "f4")):
        with pytest.raises(InputError, match="input 'x' holds nan"):
            stream.push({"x": wrong, "speaker": speaker[1]})
        np.testing.assert_equal(stream.snapshot(), before)
    for piece in (x[0, 1], x[:, 2:3], x[:, 3:]):
        np.testing.assert_array_equal(stream.push(piece), twin.push(piece))
    for wrong in (np.full(3, np.nan, "f4"), np.full((1, 2, 3), np.nan, "f4")):
        with pytest.raises(InputError, match="input 'x' holds nan"):
            stream.push(wrong)
    assert stream.flush().shape == twin.flush().shape == (1, 0, 5)


def test_an_axis_without_a_meaning_is_not_streamed() -> None:
    class Remembering(Conditioned):
        def forward(self, x: Tensor, memory: Tensor) -> Tensor:
            return self.lstm(x)[0] + memory.mean(1, keepdim=True)

    inputs = ["x: float32[batch, time, 3]", "memory: float32[batch, places, 5]"]
    card = build(seeded(Remembering()), None, inputs=inputs).card
    assert card.streaming.reason == "the axis 'places' of input memory is neither batch nor time"


def test_states_may_come_among_the_inputs() -> None:
    session = session_of(exported("tagger"))
    x = np.random.default_rng(3).standard_normal((2, 4, session.inputs[0].axes[-1])).astype("f4")
    _, state = session.run(x)
    expected, after = session.run(x, state)
    (name,) = [spec.name for spec in session.inputs]
    got, again = session.run({name: x, **state})
    assert all(np.array_equal(got[key], expected[key]) for key in expected)
    assert again == after
    first, second = [spec.input for spec in session.states][:2]
    with pytest.raises(InputError, match=f"the state '{first}' is among the inputs, and state= is given too"):
        session.run({name: x, **state}, state)
    with pytest.raises(InputError, match=f"'{first}' is a state, not an input, and the state '{second}' is missing"):
        session.run({name: x, first: state[first]})


def test_quantization_keeps_the_verdict() -> None:
    for name in ("tagger", "full", "classifier", "bidirectional"):
        cards = [session_of(data).card for data in (exported(name), quantized(name))]
        verdicts = {card.streaming for card in cards if card is not None}
        assert len(verdicts) == 1
