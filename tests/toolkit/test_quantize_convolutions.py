"""``quantize --scheme int8 --data``: convolutions become int8, stream with caches, and one line says what was left."""

import numpy as np
import pytest
import torch
from support.streamed_modules import Causal, Recurrent
from torch import Tensor, nn
from typer.testing import CliRunner

import lstm_edge
from lstm_edge.cli import app
from lstm_edge.precision_search.compose import Composer
from lstm_edge_runtime.card import ModelCard
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.session import Session

pytestmark = pytest.mark.slow

FEATURES, STEPS = 20, 60


class Spotter(nn.Module):
    """Two causal convolutions, of which the second is dilated, a GRU, and an answer at each step; x [B, T, 20]."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Causal(FEATURES, 32, 5), Causal(32, 24, 3, dilation=2)
        self.norm = nn.BatchNorm1d(32)
        self.rnn, self.head = Recurrent(24, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm(self.first(x.transpose(1, 2))))
        return self.head(self.rnn(torch.relu(self.second(y))).transpose(1, 2))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("convolutions")
    module = Spotter().eval()
    nn.init.uniform_(module.norm.running_mean, -0.5, 0.5)
    x = np.random.default_rng(0).standard_normal((24, STEPS, FEATURES)).astype(np.float32)
    np.savez(place / "data.npz", x=x, y=np.zeros(24, np.int64))
    lstm_edge.export(module, torch.from_numpy(x[:2]), place / "model.onnx")
    return place


def test_a_stream_with_caches_equals_the_whole_to_the_bit(folder):
    parent = Session(folder / "model.onnx")
    assert [state.kind for state in parent.card.states].count("cache") >= 2
    report = lstm_edge.quantize(folder / "model.onnx", folder / "small.onnx", data=str(folder / "data.npz"))
    schemes = {row.scheme for row in report.coverage if row.operator == "Conv"}
    assert schemes == {"int8, fixed activation scales"}
    for kernels in ("auto", "off"):
        session = Session(folder / "small.onnx", kernels=kernels)
        card: ModelCard = session.card
        assert not card.quantization.inexact
        x = np.random.default_rng(5).standard_normal((1, STEPS, FEATURES)).astype(np.float32)
        whole, state = session.run(x)
        [name] = whole
        stream = session.stream()
        pushed = [stream.push(np.ascontiguousarray(part)) for part in np.split(x, [1, 2, 7, 30, 31], axis=1)]
        assert np.array_equal(np.concatenate(pushed, axis=1), whole[name])
        assert all(np.array_equal(stream.state[key], state[key]) for key in state)
        # The first cache holds what came in, in float32.
        _, before = parent.run(x)
        first = next(spec.input for spec in card.states if spec.kind == "cache")
        assert np.array_equal(state[first], before[first])


def test_the_command_says_what_was_left_and_takes_the_option(folder):
    def run(*options: str):
        out = folder / f"{len(options)}.onnx"
        result = CliRunner().invoke(
            app, ["quantize", str(folder / "model.onnx"), "-o", str(out), "--scheme", "int8", *options]
        )
        return result, out

    data = ("--data", str(folder / "data.npz"))
    left, out = run(*data, "--convolutions", "off")
    assert left.exit_code == 0, left.output
    assert not any(row.operator == "Conv" for row in Session(out).card.quantization.coverage)
    wrong, _ = run("--convolutions", "required")
    assert wrong.exit_code == 2
    assert "--convolutions requires calibration data: give --data" in wrong.output
    one, out = run(*data, "--part", "second.conv=float32", "--convolutions", "required")
    assert one.exit_code == 0, one.output
    rows = {row.layer: row.scheme for row in Session(out).card.quantization.coverage if row.operator == "Conv"}
    assert sorted(rows.values()) == ["float32", "int8, fixed activation scales"]


def test_calibration_without_data_is_refused_from_python(folder):
    with pytest.raises(InputError, match=r"^--convolutions requires calibration data: give --data; leave it out$"):
        lstm_edge.quantize(folder / "model.onnx", folder / "none.onnx", convolutions="required")


def test_the_search_builds_candidates_with_fixed_activation_scales(folder):
    composer = Composer.read(folder / "model.onnx")
    x = np.load(folder / "data.npz")["x"]
    composer.calibrate([{"x": x[:1]}, {"x": x[1:2]}])
    card = composer.artifact({"second.conv": "int8:static"}).card
    assert {row.layer: row.scheme for row in card.quantization.coverage if row.operator == "Conv"} == {
        "second.conv": "int8, fixed activation scales"
    }
