"""`lstm-edge quantize --sparse`: choices, the table, the JSON, and pruned models in `--scheme auto`."""

import json

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from support.auto_cases import command, search
from support.budget_models import write_classifier, write_data
from support.networks import operators
from support.pruned import prune, pruned_file, recurrent_weights
from typer.testing import CliRunner

import lstm_edge
from lstm_edge.cli import app
from lstm_edge_runtime.errors import CoverageError
from lstm_edge_runtime.session import Session

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pruned(tmp_path_factory):
    path = tmp_path_factory.mktemp("pruned") / "gru.onnx"
    arrays = recurrent_weights("GRU", 30, 128, {"W": 0.9, "R": 0.3})
    path.write_bytes(pruned_file("GRU", arrays, linear_before_reset=1))
    return path


def ours(path):
    return [name for name in operators(path.read_bytes()) if "::" in name]


def test_the_table_and_the_json_say_density_and_bytes(pruned, tmp_path):
    shown = " ".join(command(pruned, "-o", tmp_path / "a.onnx").stdout.split())
    assert "density" in shown
    assert "W 0.901, R 0.299" in shown
    report = json.loads(command(pruned, "-o", tmp_path / "b.onnx", "--json").stdout)
    (row,) = report["coverage"]
    assert row["scheme"] == "W int8, R sparse int8"
    assert row["density"] == {"W": pytest.approx(0.9, abs=0.01), "R": pytest.approx(0.3, abs=0.01)}
    # 384 columns of W with 30 inputs; 231 blocks of R; the scales, the biases and the candidate's recurrent bias.
    blocks = round(row["density"]["R"] * 24 * 32)
    assert row["bytes_after"] == 384 * 30 + blocks * 68 + 8 + 4 * (384 * 3 + 128)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    card = CliRunner().invoke(app, ["inspect", str(tmp_path / "a.onnx")]).stdout
    assert {"density", "0.901", "0.299"} <= set(card.replace(",", " ").split())
    dense = command(pruned, "-o", tmp_path / "c.onnx", "--sparse", "off").stdout
    assert "sparse" not in dense
    assert ours(tmp_path / "c.onnx") == ["lstm_edge::GruResetAfterInt8V1"]


def test_the_other_commands_take_a_sparse_file(pruned, tmp_path):
    sparse, dense = tmp_path / "sparse.onnx", tmp_path / "dense.onnx"
    lstm_edge.quantize(pruned, sparse, sparse="required")
    lstm_edge.quantize(pruned, dense, sparse="off")
    assert lstm_edge.check(sparse).passed
    x = np.random.default_rng(0).standard_normal((6, 2, 30)).astype(np.float32)
    inputs, state = {"x": x}, {"h0": np.zeros((1, 2, 128), np.float32)}
    answers = [Session(path).run(inputs | state) for path in (sparse, dense)]
    for name, array in answers[1][0].items():
        np.testing.assert_array_equal(answers[0][0][name], array)
    assert lstm_edge.bench(sparse, steps=5, repeats=2).sequence is not None


def test_refusals_say_what_to_do(pruned, tmp_path):
    out = tmp_path / "no.onnx"
    result = command(pruned, "-o", out, "--scheme", "int4", "--sparse", "required", exit_code=2)
    assert "--sparse required is for int8 weights, and no layer becomes int8; leave it out" in result.stderr
    auto = ["--scheme", "auto", "--sparse", "required", "--data", "d.npz", "--max-drop", "1%"]
    assert "requires a fixed scheme, not --scheme auto" in command(pruned, "-o", out, *auto, exit_code=2).stderr
    dense = write_classifier(tmp_path / "dense.onnx")
    result = command(dense, "-o", out, "--sparse", "required", exit_code=1)
    assert "lstm (W has density 1.000, R has density 1.000)" in " ".join(result.stderr.split())
    with pytest.raises(CoverageError, match="sparse weights are required of every recurrent layer"):
        lstm_edge.quantize(dense, out, sparse="required")
    assert not out.exists()


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A classifier of 64 cells, which auto would leave dense, with a quarter of the blocks of W and R."""
    folder = tmp_path_factory.mktemp("budget")
    model = onnx.load(write_classifier(folder / "dense.onnx", hidden=64))
    for tensor in model.graph.initializer:
        if tensor.name in ("W", "R"):
            (rows,) = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(prune(rows, 0.25, gates=4)[None], tensor.name))
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx", write_data(folder / "data.npz", folder / "model.onnx")


@pytest.mark.parametrize("prefer", ["size", "latency"])
def test_a_search_takes_sparse_weights_where_they_are_the_smallest(classifier, tmp_path, prefer, monkeypatch):
    schemes = ("int8", "int4:128")
    monkeypatch.setattr("lstm_edge.precision_search.space.SCHEMES", schemes)
    monkeypatch.setattr("lstm_edge.precision_search.smallest.UNIFORM", ("float16", *schemes))
    report = search(classifier, tmp_path, max_drop="50%", prefer=prefer)
    found = {frozenset(entry.parts.items()): entry for entry in report.evaluations}
    if prefer == "latency":
        # W and R apart were measured, each as one operator; every evaluation has its time.
        assert frozenset({"lstm": "int4:128", "lstm.W": "int8"}.items()) in found
        assert all(entry.step_us is not None for entry in report.evaluations)
        return
    assert report.result is not None
    row = next(row for row in Session(tmp_path / "out.onnx").card.quantization.coverage if row.layer == "lstm")
    assert row.scheme == "sparse int8"
    assert Session(tmp_path / "out.onnx").card.quantization.parts["lstm"] == "int8:sparse"
    off = search(classifier, tmp_path, max_drop="50%", output=tmp_path / "off.onnx", sparse="off")
    assert report.result.bytes < off.result.bytes
    assert "sparse" not in str(Session(tmp_path / "off.onnx").card.quantization.coverage)
