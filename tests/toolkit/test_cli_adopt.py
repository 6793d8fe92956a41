"""`lstm-edge adopt` as a person uses it, and every other command on what it wrote."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from lstm_edge.cli import app

I, H = 3, 5  # noqa: E741  # the equations' own letters


def call(command, *arguments, exit_code=0, stdin=None):
    """Run a command; asserts the exit code, one sentence of error on stderr, and no traceback."""
    result = CliRunner().invoke(app, [command, *map(str, arguments)], input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == exit_code, result.output
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == (1 if exit_code else 0), result.stderr
    return result


def write(path, *, frames=False, rate=False):
    """An LSTM with a hidden state: x [n, rows, I] and y [n, rows, H], or frames [rows, I] and y [rows, H]."""
    random = np.random.default_rng(0)
    arrays = {"W": (1, 4 * H, I), "R": (1, 4 * H, H)}
    weights = [numpy_helper.from_array(random.uniform(-0.5, 0.5, s).astype(np.float32), n) for n, s in arrays.items()]
    weights += [numpy_helper.from_array(np.array([1]), "one"), numpy_helper.from_array(np.array([0]), "zero")]
    nodes = [helper.make_node("LSTM", ["step" if frames else "x", "W", "R"], ["Y", "hn"], name="rnn", hidden_size=H)]
    axes, last = (["rows", I], ["rows", H]) if frames else (["n", "rows", I], ["n", "rows", H])
    if frames:
        nodes.insert(0, helper.make_node("Unsqueeze", ["x", "zero"], ["step"], name="step"))
    nodes.append(
        helper.make_node("Squeeze", ["hn" if frames else "Y", "zero" if frames else "one"], ["flat"], name="f")
    )
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, axes)]
    if rate:
        inputs.append(helper.make_tensor_value_info("sr", TensorProto.INT64, []))
        weights.append(numpy_helper.from_array(np.array(16000), "wanted"))
        nodes.append(helper.make_node("Equal", ["sr", "wanted"], ["same"], name="equal"))
        nodes.append(helper.make_node("Cast", ["same"], ["factor"], name="cast", to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Mul", ["flat", "factor"], ["y"], name="mul"))
    else:
        nodes.append(helper.make_node("Identity", ["flat"], ["y"], name="last"))
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, last)]
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8), path)
    return path


def test_every_command_works_on_an_adopted_file(tmp_path):
    source, adopted, int8 = write(tmp_path / "in.onnx"), tmp_path / "out.onnx", tmp_path / "int8.onnx"
    before = source.read_bytes()
    result = call("adopt", source, "-o", adopted, "--stateful")
    assert source.read_bytes() == before
    words = " ".join(result.stdout.split())
    for part in ("rnn LSTM 3 > 5 initializers h absent, c absent", "rnn.h rnn.h_out h", "streaming: every-step"):
        assert part in words
    assert "note: opset 16 was converted to 18" in words
    assert "undetermined: the task, labels and vocabulary: the file does not say them" in words
    assert "passed" in call("check", adopted).stdout
    assert "streaming: every-step" in call("inspect", adopted).stdout
    x = np.random.default_rng(1).standard_normal((6, 1, I)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    call("run", adopted, tmp_path / "x.npy", "-o", tmp_path / "y.npy")
    lines = "".join(json.dumps(frame[0].tolist()) + "\n" for frame in x)
    streamed = [json.loads(line) for line in call("run", adopted, "--stream", stdin=lines).stdout.splitlines()]
    np.testing.assert_allclose(np.array(streamed), np.load(tmp_path / "y.npy")[:, 0], atol=1e-6)
    call("quantize", adopted, "-o", int8, "--scheme", "int8")
    assert "passed" in call("check", int8).stdout
    report = json.loads(call("bench", int8, "--steps", "20", "--repeats", "3", "--time-steps", "5", "--json").stdout)
    assert report["step"]["calls"] == 20


def test_a_file_that_takes_one_frame_a_call_is_streamed_and_measured(tmp_path):
    source, adopted = write(tmp_path / "in.onnx", frames=True, rate=True), tmp_path / "out.onnx"
    report = json.loads(call("adopt", source, "-o", adopted, "--stateful", "--json").stdout)
    assert report["card"]["streaming"]["verdict"] == "each-call"
    assert [spec["name"] for spec in report["card"]["inputs"]] == ["x", "sr"]
    frames = np.random.default_rng(1).standard_normal((4, I)).tolist()
    lines = "".join(json.dumps({"x": frame, "sr": 16000}) + "\n" for frame in frames)
    answers = [json.loads(line) for line in call("run", adopted, "--stream", stdin=lines).stdout.splitlines()]
    whole = write(tmp_path / "whole.onnx")
    import onnxruntime

    expected = onnxruntime.InferenceSession(whole).run(None, {"x": np.array(frames, np.float32)[:, None]})[0]
    np.testing.assert_allclose(np.array(answers), expected[:, 0], atol=1e-6)
    int8 = tmp_path / "int8.onnx"
    call("quantize", adopted, "-o", int8)
    measured = json.loads(call("bench", int8, "--steps", "20", "--json").stdout)
    assert (measured["step"]["calls"], measured["sequence"]) == (20, None)
    fixed = tmp_path / "fixed.onnx"
    call("adopt", source, "-o", fixed, "--stateful", "--fix", "sr=16000")
    np.save(tmp_path / "x.npy", np.array(frames[:1], np.float32))
    outputs = json.loads(call("run", fixed, tmp_path / "x.npy").stdout)
    np.testing.assert_allclose(np.array(outputs["y"]), expected[0], atol=1e-6)


def test_long_names_show_their_beginning_and_their_end():
    from lstm_edge.cli._frame import shortened

    names = [f"If_0_{side}_branch__Inline_0__/decoder/rnn/LSTM" for side in ("then", "else")]
    assert shortened([*names, "lstm.0"]) == ("If_0_the…coder/rnn/LSTM", "If_0_els…coder/rnn/LSTM", "lstm.0")
    alike = [f"model/encoder/{side}/recurrent/layer/LSTM" for side in ("left", "right")]
    assert shortened(alike) == tuple(alike), "two names that would look the same stay whole"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--fix", "sr"], "--fix 'sr' must look like"),
        (["--fix", "x=a"], "--fix 'x=a' must look like"),
        (["--input", "x=batch,batch"], "input 'x=batch,batch' must look like"),
        (["--input", "nothing: float32[batch]"], "--input nothing: the file has no such input; its inputs are x"),
        (["--state", "x"], "--state 'x' must look like"),
        (["--state", "x=nothing"], "the file has no output 'nothing'"),
    ],
)
def test_wrong_options_are_one_sentence(tmp_path, options, words):
    result = call("adopt", write(tmp_path / "in.onnx"), "-o", tmp_path / "out.onnx", *options, exit_code=2)
    assert words in " ".join(result.stderr.split())
    assert [path.name for path in tmp_path.iterdir()] == ["in.onnx"]


def test_damaged_files_and_wrong_paths_are_one_sentence(tmp_path):
    source = write(tmp_path / "in.onnx")
    (tmp_path / "cut.onnx").write_bytes(source.read_bytes()[:200])
    (tmp_path / "text.onnx").write_text("this is not a model")
    for name, exit_code in (("cut.onnx", 1), ("text.onnx", 2), ("missing.onnx", 2)):
        call("adopt", tmp_path / name, "-o", tmp_path / "out.onnx", exit_code=exit_code)
    assert "this is the file that is read" in call("adopt", source, "-o", source, exit_code=2).stderr
    assert not (tmp_path / "out.onnx").exists()


def test_validate_compares_an_adopted_file_with_its_int8_form(tmp_path):
    adopted, int8 = tmp_path / "out.onnx", tmp_path / "int8.onnx"
    random = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(random.uniform(-0.5, 0.5, shape).astype(np.float32), name)
        for name, shape in (("W", (1, 4 * H, 12)), ("R", (1, 4 * H, H)))
    ] + [numpy_helper.from_array(np.array([0]), "zero")]
    nodes = [
        helper.make_node("Transpose", ["x"], ["xt"], name="t", perm=[1, 0, 2]),
        helper.make_node("LSTM", ["xt", "W", "R"], ["", "hn"], name="rnn", hidden_size=H),
        helper.make_node("Squeeze", ["hn", "zero"], ["y"], name="f"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", "t", 12])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["b", H])],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), tmp_path / "in.onnx")
    card = json.loads(call("adopt", tmp_path / "in.onnx", "-o", adopted, "--stateful", "--json").stdout)["card"]
    assert card["streaming"]["verdict"] == "last-step"
    call("quantize", adopted, "-o", int8)
    x = random.standard_normal((6 * 9, 12)).astype(np.float32)  # six sequences of nine steps, stacked
    np.savez(tmp_path / "data.npz", x=x, lengths=np.full(6, 9), y=random.integers(0, H, 6))
    arguments = ["--against", adopted, "--data", tmp_path / "data.npz", "--metric", "accuracy", "--max-drop", "100pt"]
    assert "accuracy" in call("validate", int8, *arguments).stdout
