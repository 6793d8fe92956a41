"""`lstm-edge run --stream --metrics`, the text of the metrics in another parser, and what `quantize` records."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

import lstm_edge
from lstm_edge.cli import app
from lstm_edge_runtime import InputError, Metrics, Session
from lstm_edge_runtime.errors import REASONS

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "tests" / "device" / "models"
TAGGER = MODELS / "tagger.onnx"


def samples_of(text):
    """Return each sample of a Prometheus text by its name and sorted labels, and the types by family."""
    families = list(text_string_to_metric_families(text))
    samples = {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}
    assert len(samples) == sum(len(f.samples) for f in families)
    return samples, {family.name: family.type for family in families}


def test_another_parser_reads_the_same_numbers():
    hard = 'a"b\\c\nd'
    metrics = Metrics(every=2, labels={"model": hard})
    stream = Session(TAGGER).stream(metrics=metrics)
    for frame in np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32):
        stream.push(frame)
    with pytest.raises(InputError):
        stream.push(np.zeros(2, np.float32))
    samples, types = samples_of(metrics.to_prometheus())
    label = ("model", hard)
    assert samples["lstm_edge_pushes_total", (label,)] == 9
    assert samples["lstm_edge_refusals_total", (label, ("reason", "shape"))] == 1
    assert {labels[1][1] for name, labels in samples if name == "lstm_edge_refusals_total"} == set(REASONS)
    for name in ("lstm_edge_push_seconds", "lstm_edge_input_value"):
        buckets = {dict(key[1])["le"]: value for key, value in samples.items() if key[0] == f"{name}_bucket"}
        assert list(buckets.values()) == sorted(buckets.values())
        assert sorted(buckets, key=float) == list(buckets)
        [count] = [value for key, value in samples.items() if key[0] == f"{name}_count"]
        assert buckets["+Inf"] == count == (4 if name.endswith("seconds") else 12)
    assert types == {
        "lstm_edge_pushes": "counter",
        "lstm_edge_steps": "counter",
        "lstm_edge_refusals": "counter",
        "lstm_edge_streams": "gauge",
        "lstm_edge_metrics_write_errors": "counter",
        "lstm_edge_push_seconds": "histogram",
        "lstm_edge_state_norm": "summary",
        "lstm_edge_saturated_share": "summary",
        "lstm_edge_input_value": "histogram",
    }


def run(lines, *arguments):
    command = [sys.executable, "-c", "from lstm_edge.cli import main; main()", "run", str(TAGGER), "--stream"]
    return subprocess.run([*command, *map(str, arguments)], input=lines, capture_output=True, text=True, check=False)


LINES = '[1, 2, 3]\n[[[1, 2, 3], [4, 5, 6]]]\n[NaN, 1]\n\n[1, 2]\n{"reset": true}\n[7, 8, 9]\n'


@pytest.mark.slow
def test_a_pipe_is_counted_exactly(tmp_path):
    path = tmp_path / "run.prom"
    ran = run(LINES, "--on-bad-line", "skip", "--metrics", path, "--metrics-every", 1)
    assert (ran.returncode, len(ran.stdout.splitlines()), ran.stderr) == (0, 5, "")
    samples, _ = samples_of(path.read_text())
    assert samples["lstm_edge_pushes_total", ()] == samples["lstm_edge_push_seconds_count", ()] == 3
    assert samples["lstm_edge_steps_total", ()] == 4
    counted = {dict(labels)["reason"]: value for (name, labels), value in samples.items() if "refusals" in name}
    assert {reason: value for reason, value in counted.items() if value} == {"line": 1, "shape": 1}


@pytest.mark.slow
def test_a_bad_line_that_ends_the_stream_is_in_the_file(tmp_path):
    path = tmp_path / "run.log"
    ran = run(LINES, "--metrics", path, "--metrics-format", "jsonl")
    assert ran.returncode == 2
    first, last = (json.loads(line) for line in (path.read_text().splitlines()[0], path.read_text().splitlines()[-1]))
    assert (first["pushes"], last["pushes"], last["steps"], last["refusals"]["line"]) == (0, 2, 3, 1)


@pytest.mark.slow
def test_a_metrics_file_that_cannot_be_written_is_said_once_and_the_stream_goes_on(tmp_path):
    ran = run("[1, 2, 3]\n" * 5, "--metrics", tmp_path / "no" / "m.prom", "--metrics-every", 1)
    assert (ran.returncode, len(ran.stdout.splitlines())) == (0, 5)
    [line] = ran.stderr.splitlines()
    assert "does not exist; make it first; the stream goes on" in line


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--metrics", "m.prom"], "--metrics requires --stream"),
        (["--metrics-every", "5"], "require --metrics FILE"),
        (["--metrics-format", "jsonl"], "require --metrics FILE"),
    ],
)
def test_options_that_belong_together(arguments, sentence):
    result = CliRunner().invoke(app, ["run", str(TAGGER), "x.npy", *arguments])
    assert (result.exit_code, sentence in result.stderr) == (2, True)


def test_quantize_records_the_inputs_of_its_data(tmp_path):
    x = np.random.default_rng(0).normal(size=(30, 50, 3)).astype(np.float32)
    np.savez(tmp_path / "d.npz", x=x, y=np.zeros((30, 50), np.int64))
    np.savez(tmp_path / "other.npz", x=x + 5, y=np.zeros((30, 50), np.int64))
    data, other = str(tmp_path / "d.npz"), str(tmp_path / "other.npz")
    for number, options in enumerate(
        ({"data": data}, {"data": data, "reference_data": other}, {"reference_data": other})
    ):
        path = tmp_path / f"{number}.onnx"
        lstm_edge.quantize(TAGGER, path, **options)
        card = Session(path).card
        features = card.reference.inputs["x"]
        assert [sum(feature.counts) for feature in features] == [1500] * 3
        shift = 5 if "reference_data" in options else 0
        medians = np.quantile(x.reshape(-1, 3) + np.float32(shift), 0.5, axis=0, method="inverted_cdf")
        assert [feature.edges[4] for feature in features] == pytest.approx(medians.tolist(), rel=1e-6)
    lstm_edge.quantize(TAGGER, tmp_path / "plain.onnx")
    assert Session(tmp_path / "plain.onnx").card.reference is None


def test_ids_have_no_distribution_to_record(tmp_path):
    with pytest.raises(InputError, match="no float input with known axes"):
        lstm_edge.quantize(MODELS / "language_model.onnx", tmp_path / "o.onnx", reference_data="king-james")
    with pytest.raises(InputError, match="--reference-data requires a fixed scheme"):
        lstm_edge.quantize(TAGGER, tmp_path / "o.onnx", scheme="auto", reference_data="japanese-vowels")
