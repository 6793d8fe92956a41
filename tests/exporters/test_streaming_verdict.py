"""The streaming verdict is found by trying, and stream() refuses what the file cannot do, with the file's reason."""

import numpy as np
import pytest
import torch
from support.networks import NETWORKS, build, exported, quantized, random_inputs, seeded, session_of
from torch import Tensor, nn

from lstm_edge_exporters.verify.compare import STREAM, assert_close
from lstm_edge_runtime.errors import StreamingError
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


@pytest.mark.parametrize("how", ["conv-same", "mean", "softmax", "flip", "cumulative-sum", "difference"])
def test_what_looks_across_time_is_not_streamed(how: str) -> None:
    found, reason = verdict(OverTime(how))
    assert found == "none"
    assert reason.startswith("single steps give another output than the whole sequence (difference ")
    assert reason.endswith(
        "): something besides the recurrent layers looks across time, such as convolution, pooling, attention or "
        "normalization"
    )


def test_a_convolution_that_shortens_the_sequence_is_not_streamed() -> None:
    found, reason = verdict(OverTime("conv-valid"))
    assert found == "none"
    assert reason.startswith("sequences of fewer than ")


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


def test_an_input_without_time_is_not_cut() -> None:
    class Conditioned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(3, 5, batch_first=True)

        def forward(self, x: Tensor, speaker: Tensor) -> Tensor:
            return self.lstm(x)[0] * speaker.unsqueeze(1)

    inputs = ["x: float32[batch, time, 3]", "speaker: float32[batch, 5]"]
    card = build(seeded(Conditioned()), None, inputs=inputs).card
    assert card.streaming.verdict == "none"
    assert card.streaming.reason == "input speaker has no time axis to cut along"


def test_quantization_keeps_the_verdict() -> None:
    for name in ("tagger", "full", "classifier", "bidirectional"):
        cards = [session_of(data).card for data in (exported(name), quantized(name))]
        verdicts = {card.streaming for card in cards if card is not None}
        assert len(verdicts) == 1
