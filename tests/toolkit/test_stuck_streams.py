"""Streams that get stuck are found where they are, and healthy ones are not reported."""

import json
import math

import numpy as np
import pytest
import torch
from support.text_models import exported_model
from typer.testing import CliRunner

from lstm_edge.checkpoint import save_checkpoint
from lstm_edge.cli import app
from lstm_edge.data.text import TextData
from lstm_edge.training.models import LanguageModel, LanguageModelConfig
from lstm_edge.validation import stuck_streams
from lstm_edge.validation.judge import validate
from lstm_edge.validation.stuck_streams import StreamCheck
from lstm_edge_runtime.card import Text
from lstm_edge_runtime.generate import score
from lstm_edge_runtime.session import Session

pytestmark = pytest.mark.slow  # its models are exported first

ALPHABET = "abcdefgh!?z"
LATCH, RELEASE = "!", "?"
# Beyond this a sigmoid is 0 or 1 in float32 and a tanh is 1.
SURE = 40.0


def latching_model(strength):
    """A model that knows the next letter of "abcdefgh", until it reads the latch.

    Unit u of the layer is on when token u was just read; one more unit stays on from the latch to the release, and
    then gives ``strength`` to a token that never comes.
    """
    size = len(ALPHABET)
    config = LanguageModelConfig(
        tokens=size,
        embedding=size,
        hidden=size + 1,
        vocabulary=tuple(ALPHABET),
        text=Text(kind="character"),
    )
    model = LanguageModel(config).eval()
    weights = {name: torch.zeros_like(value) for name, value in model.state_dict().items()}
    weights["embedding.weight"] = torch.eye(size)
    # PyTorch's gates: input, forget, cell, output.
    taken, gates = (next(value for name, value in weights.items() if part in name) for part in ("weight_ih", "bias_ih"))
    taken, gates = taken.view(4, size + 1, size), gates.view(4, size + 1)
    gates[0], gates[3] = SURE, SURE
    gates[1] = -SURE
    taken[2, :size] = SURE * torch.eye(size)
    latch = {"unit": size, "on": ALPHABET.index(LATCH), "off": ALPHABET.index(RELEASE)}
    gates[:, latch["unit"]] = torch.tensor([-SURE, SURE, SURE, SURE])
    taken[0, latch["unit"], latch["on"]] = 2 * SURE
    taken[1, latch["unit"], latch["off"]] = -2 * SURE
    head = weights["linear.weight"]
    for unit, token in enumerate(ALPHABET):
        head[(ALPHABET.index(token) + 1) % 8 if token in "abcdefgh" else 0, unit] = 8.0
    head[ALPHABET.index("z"), latch["unit"]] = strength
    model.load_state_dict(weights)
    return model


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("latching")
    for name, strength in (("latching", 30.0), ("healthy", 0.0), ("little", 2.0)):
        save_checkpoint(latching_model(strength), folder / f"{name}.safetensors")
        arguments = ["export", str(folder / f"{name}.safetensors"), "-o", str(folder / f"{name}.onnx")]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
    return folder


def made_text(length, latches=(), releases=()):
    """Return "abcdefgh" over and over; each latch and release is followed by an "a"."""
    places = sorted([*((place, LATCH) for place in latches), *((place, RELEASE) for place in releases)])
    text = ""
    for place, token in places:
        text += ("abcdefgh" * (length // 8 + 1))[: place - len(text)] + token
    return text + ("abcdefgh" * (length // 8 + 1))[: length - len(text)]


def check(file, text, **options):
    data = TextData(name="made", text=text)
    return validate(file, file, data, **({"metric": "perplexity", "max_drop": "0%"} | options))


@pytest.mark.slow
@pytest.mark.parametrize("place", [0, 1, 63, 64, 700, 1023, 2900])
def test_a_stuck_stream_is_found_with_the_token_that_it_is_stuck_since(files, place):
    text = made_text(3300, latches=[place])
    report = check(files / "latching.onnx", text)
    (stuck,) = report.streams.stuck
    assert (stuck.since, stuck.row_start, stuck.to_the_end) == (place, 0, True)
    assert stuck.until == len(text)
    # By hand: the losses of one stream over the text, and those of the same tokens in a text without the latch.
    ids = np.array([ALPHABET.index(token) for token in text])
    nats = -score(Session(files / "latching.onnx"), ids)
    covered = nats[len(nats) - stuck.tokens :]
    assert covered.min() > 10
    assert stuck.carried_nats == pytest.approx(covered.mean(), rel=1e-5)
    assert stuck.fresh_nats < 0.1
    assert stuck.lost_nats == pytest.approx(stuck.tokens * (stuck.carried_nats - stuck.fresh_nats))
    # It is a warning: a file that is as good as its reference passes.
    assert report.passed


def test_a_stream_that_recovers_is_reported_up_to_there(files):
    report = check(files / "latching.onnx", made_text(2000, latches=[400], releases=[1100]))
    (stuck,) = report.streams.stuck
    assert (stuck.since, stuck.to_the_end) == (400, False)
    # The last whole window before the release.
    assert 1100 - 2 * 64 < stuck.until <= 1101 + 64


def test_a_short_fault_is_none(files):
    # Around the window that is read first, which ends with token 975: one half of what counts, and all of it.
    assert check(files / "latching.onnx", made_text(2000, latches=[800], releases=[985])).streams.stuck == ()
    assert len(check(files / "latching.onnx", made_text(2000, latches=[650], releases=[985])).streams.stuck) == 1


def test_each_row_is_a_stream_of_its_own(files):
    # Three rows of 2,133 steps; the second and the third get stuck.
    text = made_text(6400, latches=[3000, 5000])
    report = check(files / "latching.onnx", text)
    assert [(stuck.row_start, stuck.since) for stuck in report.streams.stuck] == [(2133, 3000), (4266, 5000)]
    assert [stuck.until for stuck in report.streams.stuck] == [4267, 6400]


@pytest.mark.parametrize("metric", ["perplexity", "bits-per-character", "agreement"])
def test_whatever_the_metric_is(files, metric):
    report = check(files / "latching.onnx", made_text(2000, latches=[500]), metric=metric)
    assert [stuck.since for stuck in report.streams.stuck] == [500]


def test_healthy_models_are_not_reported(files):
    text = made_text(3300, latches=[700, 1500])
    report = check(files / "healthy.onnx", text)
    assert report.streams.stuck == ()
    assert report.streams.windows > 5
    # Untrained, so that neither state knows anything.
    random = np.random.default_rng(0)
    letters = "".join(random.choice(list("abcdefghijkm"), 5000))
    data = TextData(name="random", text=letters)
    assert validate(exported_model(), exported_model(), data, metric="perplexity", max_drop="0%").streams.stuck == ()
    # A latch that costs 0.01 nats, and one that is never met.
    assert check(files / "little.onnx", text).streams.stuck == ()
    assert check(files / "latching.onnx", made_text(3300)).streams.stuck == ()


def test_the_candidate_is_looked_at_and_not_the_reference(files):
    data = TextData(name="made", text=made_text(2000, latches=[500]))
    options = {"metric": "perplexity", "max_drop": "1%"}
    assert validate(files / "healthy.onnx", files / "latching.onnx", data, **options).streams.stuck == ()
    report = validate(files / "latching.onnx", files / "healthy.onnx", data, **options)
    assert len(report.streams.stuck) == 1
    assert not report.passed


def test_a_text_too_short_for_a_comparison_says_so(files):
    assert check(files / "latching.onnx", made_text(120)).streams == StreamCheck(windows=0, stuck=())
    assert check(files / "latching.onnx", made_text(129)).streams.windows == 1


def test_the_comparison_reads_a_quarter_of_the_tokens(files, monkeypatch):
    read = []
    push = stuck_streams.LanguageStream.push

    def counted(stream, ids):
        read.append(ids.size)
        return push(stream, ids)

    monkeypatch.setattr(stuck_streams.LanguageStream, "push", counted)
    text = made_text(40_000)
    report = check(files / "latching.onnx", text)
    # Both models read the text, the candidate then 128 tokens of each 512.
    assert report.streams.windows == pytest.approx(40_000 / 512, rel=0.05)
    assert sum(read) == pytest.approx(2.25 * 40_000, rel=0.02)


def test_the_command_warns_and_the_budget_alone_decides(files, tmp_path):
    (tmp_path / "t.txt").write_text(made_text(2000, latches=[500]))
    latching, healthy = (str(files / f"{name}.onnx") for name in ("latching", "healthy"))
    command = ["validate", latching, "--data", str(tmp_path / "t.txt"), "--metric", "perplexity", "--against"]
    passed = CliRunner().invoke(app, [*command, latching], env={"COLUMNS": "200"})
    assert passed.exit_code == 0, passed.output
    assert "WARNING, STUCK STREAM" in passed.stdout
    assert "since token 500 to the end (started at 0): " in passed.stdout
    assert "call Stream.reset at the data's boundaries, or train with --reset-probability" in passed.stdout
    broken = CliRunner().invoke(app, [*command, healthy, "--json"])
    assert broken.exit_code == 1
    streams = json.loads(broken.stdout)["streams"]
    assert streams["stuck"][0]["since"] == 500
    assert streams["windows"] == 4
    well = CliRunner().invoke(app, ["validate", healthy, *command[2:], healthy, "--json"])
    assert json.loads(well.stdout)["streams"] == {"windows": 4, "stuck": []}


def test_the_worst_are_shown_and_the_rest_are_counted(files):
    places = [number * 2200 + 900 for number in range(5)]
    report = check(files / "latching.onnx", made_text(11_000, latches=places))
    assert len(report.streams.stuck) == 5
    rows = report.rows()
    assert sum(name == "WARNING, STUCK STREAM" for name, _ in rows) == 3
    assert ("", "and 2 more with smaller losses") in rows
    assert math.isfinite(report.streams.stuck[0].lost_nats)
