"""`lstm-edge quantize` as a person uses it: the coverage table, the exit codes, and nothing left behind."""

import json
import os

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from lstm_edge.cli import app
from lstm_edge.cli.export import Scheme
from lstm_edge_exporters.quantize import SCHEMES
from lstm_edge_runtime.session import Session

I, H = 3, 5  # noqa: E741  # the equations' own letters


def quantize(*arguments, exit_code=0):
    """Run `lstm-edge quantize`; asserts the exit code, one sentence of error on stderr, and no traceback."""
    result = CliRunner().invoke(app, ["quantize", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    assert result.exit_code == exit_code, result.output
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == (1 if exit_code else 0), result.stderr
    return result


def write_recurrent(path, *operators, **attributes):
    """Write a file of recurrent nodes in a row, as another exporter would: x float32 [time, batch, I], y [..., H]."""
    random = np.random.default_rng(0)
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}
    nodes, weights, x, width = [], [numpy_helper.from_array(np.array([1]), "axis")], "x", I
    for index, operator in enumerate(operators):
        for name, shape in (("W", (1, gates[operator] * H, width)), ("R", (1, gates[operator] * H, H))):
            array = random.uniform(-0.5, 0.5, shape).astype(np.float32)
            weights.append(numpy_helper.from_array(array, f"{name}{index}"))
        inputs = [x, f"W{index}", f"R{index}"]
        name = f"layer{index}"
        own = attributes | ({"clip": 0.25} if operator == "RNN" else {})  # an RNN that has no int8 form
        nodes.append(helper.make_node(operator, inputs, [f"y{index}"], name=name, hidden_size=H, **own))
        x = "y" if index == len(operators) - 1 else f"flat{index}"
        nodes.append(helper.make_node("Squeeze", [f"y{index}", "axis"], [x]))
        width = H
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("time", "batch", I))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ("time", "batch", H))],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


def test_a_foreign_file_is_covered_and_the_table_says_so(tmp_path):
    source, target = write_recurrent(tmp_path / "in.onnx", "LSTM", "LSTM"), tmp_path / "out.onnx"
    before = source.read_bytes()
    result = quantize(source, "-o", target, "--scheme", "int8")
    assert source.read_bytes() == before
    for text in ("layer0", "layer1", "LSTM", "int8", "worst difference to the float32 file on random inputs: "):
        assert text in result.stdout
    x = np.random.default_rng(1).normal(size=(7, 2, I)).astype(np.float32)
    expected, answer = (Session(path).run(x)[0]["y"] for path in (source, target))
    # int8 weights and activations: 1/254 of the largest value each, over 8 inputs.
    assert 0 < np.abs(answer - expected).max() < 0.05
    assert "· rounding weights to int8" in result.stderr


def test_the_commands_schemes_are_the_librarys():
    assert {scheme.value for scheme in Scheme} <= set(SCHEMES)


def test_the_json_is_one_object(tmp_path):
    source, target = write_recurrent(tmp_path / "in.onnx", "LSTM"), tmp_path / "out.onnx"
    report = json.loads(quantize(source, "-o", target, "--json").stdout)
    assert (report["scheme"], report["path"]) == ("int8", str(target))
    assert (report["parent_bytes"], report["size_bytes"]) == (source.stat().st_size, target.stat().st_size)
    [row] = report["coverage"]
    assert (row["layer"], row["operator"], row["scheme"]) == ("layer0", "LSTM", "int8")
    # W and R as float32; as int8 with one float32 scale for each of the 2 x 20 rows, and the 20 biases (zeros here,
    # which this file leaves out) that the int8 operator always has.
    assert (row["bytes_before"], row["bytes_after"]) == (4 * 20 * 8, 20 * 8 + 2 * 20 * 4 + 20 * 4)


def test_what_stays_float32_is_exit_1_unless_accepted(tmp_path):
    source, target = write_recurrent(tmp_path / "in.onnx", "LSTM", "RNN", "GRU"), tmp_path / "out.onnx"
    result = quantize(source, "-o", target, exit_code=1)
    assert "layer1 (RNN) stays float32" in result.stderr
    assert "GRU" not in result.stderr
    assert "Nothing was written; --allow-unquantized accepts that" in result.stderr
    assert os.listdir(tmp_path) == ["in.onnx"]
    accepted = quantize(source, "-o", target, "--allow-unquantized")
    assert "float32" in accepted.stdout
    assert "int8" in accepted.stdout
    x = np.zeros((3, 1, I), np.float32)
    assert Session(target).run(x)[0]["y"].shape == (3, 1, H)


@pytest.mark.slow
def test_an_attribute_that_has_no_int8_form_is_named(tmp_path):
    source = write_recurrent(tmp_path / "in.onnx", "LSTM", clip=0.25)
    result = quantize(source, "-o", tmp_path / "out.onnx", exit_code=1)
    assert "layer0 (LSTM) stays float32: " in result.stderr
    assert "clip" in result.stderr
    assert os.listdir(tmp_path) == ["in.onnx"]


@pytest.mark.parametrize("link", [False, True])
def test_the_input_is_never_the_output(tmp_path, link):
    source = write_recurrent(tmp_path / "in.onnx", "LSTM")
    before = source.read_bytes()
    target = source
    if link:
        target = tmp_path / "link.onnx"
        target.symlink_to(source)
    result = quantize(source, "-o", target, exit_code=2)
    assert "this is the file that is read; give the result another name" in result.stderr
    assert source.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "exit_code", "sentence"),
    [
        (b"", 2, "in.onnx: the file is empty; an .onnx file was expected"),
        (b"hello", 2, "in.onnx: "),
        (None, 2, "in.onnx: no such file"),
    ],
)
def test_a_broken_input_is_named(tmp_path, content, exit_code, sentence):
    source = tmp_path / "in.onnx"
    if content is not None:
        source.write_bytes(content)
    result = quantize(source, "-o", tmp_path / "out.onnx", exit_code=exit_code)
    assert sentence in result.stderr
    assert not (tmp_path / "out.onnx").exists()


def test_a_damaged_file_is_exit_1(tmp_path):
    source, target = write_recurrent(tmp_path / "in.onnx", "LSTM"), tmp_path / "int8.onnx"
    quantize(source, "-o", target)
    data = bytearray(target.read_bytes())
    data[len(data) // 3] ^= 16
    target.write_bytes(data)
    result = quantize(target, "-o", tmp_path / "again.onnx", exit_code=1)
    assert "the file is damaged: its SHA-256 differs from the one in its integrity trailer" in result.stderr


def test_a_target_that_cannot_be_written_is_exit_2(tmp_path):
    source = write_recurrent(tmp_path / "in.onnx", "LSTM")
    for target, sentence in (("none/out.onnx", "does not exist; make it first"), (".", "this is a directory")):
        assert sentence in quantize(source, "-o", tmp_path / target, exit_code=2).stderr
    assert os.listdir(tmp_path) == ["in.onnx"]


def test_a_file_without_layers_is_exit_2(tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("batch", "time", 2))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ("batch", "time", 2))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, tmp_path / "in.onnx")
    result = quantize(tmp_path / "in.onnx", "-o", tmp_path / "out.onnx", exit_code=2)
    assert "no float32 recurrent, linear or embedding layer: nothing to quantize" in result.stderr


def test_float32_calls_operators_with_kernels_and_rounds_nothing(tmp_path):
    source, target = write_recurrent(tmp_path / "in.onnx", "LSTM", "GRU"), tmp_path / "out.onnx"
    result = quantize(source, "-o", target, "--scheme", "float32")
    assert "lstm_edge::LstmV2" in result.stdout
    assert "lstm_edge::GruV1" in result.stdout
    assert "worst difference to the float32 file on random inputs: 0" in result.stdout
    x = {"x": np.random.default_rng(0).standard_normal((4, 2, I)).astype(np.float32)}
    bodies, before = Session(target, kernels="off"), Session(source)
    np.testing.assert_array_equal(bodies.run(x)[0]["y"], before.run(x)[0]["y"])
    inspected = CliRunner().invoke(app, ["inspect", str(target)])
    assert "lstm_edge operators: 2" in inspected.stdout
    checked = CliRunner().invoke(app, ["check", str(target)])
    assert checked.exit_code == 0, checked.output
    refused = quantize(
        source, "-o", tmp_path / "no.onnx", "--scheme", "float32", "--data", "japanese-vowels", exit_code=2
    )
    assert "error: --scheme float32 rounds nothing, so that it takes no calibration data" in refused.stderr
    assert not (tmp_path / "no.onnx").exists()


def test_float32_refuses_a_layer_without_a_kernel_unless_that_is_accepted(tmp_path):
    source, target = write_recurrent(tmp_path / "in.onnx", "LSTM", "RNN"), tmp_path / "out.onnx"
    refused = quantize(source, "-o", target, "--scheme", "float32", exit_code=1)
    assert "layer1 (RNN) stays float32: no float32 operator has a kernel for RNN" in refused.stderr
    assert not target.exists()
    result = quantize(source, "-o", target, "--scheme", "float32", "--allow-unquantized")
    assert "lstm_edge::LstmV2" in result.stdout
