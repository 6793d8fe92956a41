"""`validate --on` with data of every kind: the report is the one of this machine, except for the device."""

import numpy as np
import pytest
import torch
from support.named_models import Conditioned, Policy, conditioned_arrays, exported, policy_arrays, run_policy
from support.sshd import Fleet, missing_sshd
from support.text_models import CHARACTERS, exported_model, quantized_model
from support.wav_files import write_wav
from torch import nn

import lstm_edge
from lstm_edge_runtime.session import Session

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing_sshd()), reason=missing_sshd() or "there is one"),
]


class Loudness(nn.Module):
    """Two classes from features: the last state of a GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(24, 8, batch_first=True), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.gru(x)[1][-1])


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    with Fleet(tmp_path_factory.mktemp("fleet"), 1) as servers:
        yield servers


@pytest.fixture
def compared(fleet):
    """Return a function that validates here and on the device; it compares the reports and returns the device's."""

    def validate(candidate, reference, data, **options):
        options = {"max_drop": "90%"} | options
        here = lstm_edge.validate(candidate, reference, str(data), **options).to_json()
        device = {"on": fleet.devices[0].to, "known_hosts": fleet.known_hosts, "identity": fleet.key}
        there = lstm_edge.validate(
            candidate, reference, str(data), **options, **device, device_command=str(fleet.program)
        ).to_json()
        assert here.pop("device") is None
        assert there.pop("device")["host"] == fleet.devices[0].to
        assert there == here
        return there

    return validate


def text_file(path, characters=5000):
    random = np.random.default_rng(0)
    path.write_text("".join(random.choice(list(CHARACTERS.tokens[2:]), characters)))
    return path


def int8_of(path):
    made = path.with_suffix(".int8.onnx")
    lstm_edge.quantize(path, made)
    return made


def test_a_text(compared, tmp_path):
    report = compared(quantized_model(), exported_model(), text_file(tmp_path / "made.txt"))
    assert (report["samples"], report["samples_are"], report["metric"]) == (4998, "tokens", "perplexity")
    assert report["drop"] != 0


def test_a_file_against_itself(compared, tmp_path):
    """Two streams of one file on one device, which must not continue each other's state."""
    report = compared(exported_model(), exported_model(), text_file(tmp_path / "made.txt"), metric="agreement")
    assert (report["max_abs_difference"], report["agreement"]) == (0.0, 1.0)


def test_ids_beside_a_vector_and_two_outputs(compared, tmp_path):
    source = exported(Conditioned, tmp_path)
    arrays = conditioned_arrays()
    session = Session(source)
    arrays["target.logits"] = np.zeros(arrays["ids"].shape, np.int64)
    for row, (ids, speaker, length) in enumerate(zip(arrays["ids"], arrays["speaker"], arrays["lengths"], strict=True)):
        answer, _ = session.run({"ids": ids[None, :length], "speaker": speaker[None].astype(np.float32)})
        arrays["target.logits"][row, :length] = answer["logits"][0].argmax(axis=-1)
    np.savez(tmp_path / "data.npz", **arrays)
    report = compared(int8_of(source), source, tmp_path / "data.npz", metric="accuracy:output=logits")
    assert (report["reference"], report["samples"]) == (1.0, int(arrays["lengths"].sum()))


def test_one_step_per_call_with_states_in_the_data(compared, tmp_path):
    source = exported(Policy, tmp_path)
    arrays = policy_arrays(episodes=6)
    found = run_policy(source, arrays)
    np.savez(tmp_path / "data.npz", **arrays, **{f"target.{name}": np.stack(rows) for name, rows in found.items()})
    report = compared(int8_of(source), source, tmp_path / "data.npz", metric="mse:output=action", max_drop="1")
    assert report["reference"] < 1e-10
    assert report["candidate"] > 1e-10


def test_wav_files(compared, tmp_path):
    pytest.importorskip("soundfile")
    torch.manual_seed(0)
    source = tmp_path / "front.onnx"
    inputs = ["x: float32[batch, time, 24]"]
    lstm_edge.export(Loudness().eval(), output=source, inputs=inputs, front_end="log-mel:24,rate=8000")
    rng = np.random.default_rng(0)
    for label, level in (("loud", 0.5), ("quiet", 0.01)):
        for number in range(6):
            samples = np.clip(level * rng.standard_normal(1000 + 40 * number), -1, 1)
            write_wav(tmp_path / "words" / label / f"{number}.wav", samples, rate=8000)
    report = compared(int8_of(source), source, tmp_path / "words", max_drop="90pt")
    assert report["samples"] == 12
    assert 0 < report["max_abs_difference"] < 1
