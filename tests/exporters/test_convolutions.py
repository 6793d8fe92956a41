"""Convolutions in int8 with fixed activation scales: forms, chains, the rule, the bound, requests, the same bits."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from support.convolution_files import Stage, calibrated, file_of, inputs_of
from support.networks import operators, snr_db

from lstm_edge_exporters.quantize import Convolutions, Scheme, quantize_bytes
from lstm_edge_exporters.quantize.convolutions.rounding import LARGEST_WEIGHT
from lstm_edge_runtime.errors import CoverageError, QuantizationError
from lstm_edge_runtime.session import Session

pytestmark = pytest.mark.slow

STATIC = Scheme(kind="int8", static=True)
# The int8 LSTM of six cells alone leaves about 30 dB here. A wrong zero point, scale or padding leaves less than 10.
LEAST_DB = 25.0

BIG = Stage(weight=(24, 12, 9), attributes={"pads": [4, 4]})
FORMS = {
    "wide": ([BIG], 0),
    "strided and dilated": (
        [Stage(weight=(16, 20, 5), attributes={"pads": [3, 1], "strides": [2], "dilations": [2]})],
        0,
    ),
    "depthwise": ([Stage(weight=(10, 1, 3), attributes={"group": 10, "pads": [1, 1]})], 0),
    "grouped": ([Stage(weight=(12, 5, 3), attributes={"group": 2}, behind=("Relu",))], 0),
    "one by one": ([Stage(weight=(17, 9, 1))], 0),
    "automatic padding": ([Stage(weight=(16, 7, 4), attributes={"auto_pad": "SAME_UPPER"}, behind=("Clip",))], 0),
    "two dimensions": (
        [
            Stage(weight=(8, 1, 3, 5), attributes={"pads": [1, 2, 1, 2]}, behind=("BatchNormalization", "Relu")),
            Stage(weight=(16, 8, 3, 3), attributes={"pads": [1, 1, 1, 1], "strides": [1, 2]}, behind=("Relu",)),
        ],
        11,
    ),
    "three in a row": (
        [
            Stage(weight=(16, 8, 7), behind=("BatchNormalization", "Relu", "MaxPool"), attributes={"pads": [3, 3]}),
            Stage(weight=(18, 16, 3), behind=("Relu",), attributes={"pads": [2, 0]}),
            Stage(weight=(20, 18, 1)),
        ],
        0,
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_is_close_and_the_same_to_the_bit_in_any_batch_and_on_any_threads(name):
    stages, width = FORMS[name]
    data = file_of(stages, width=width)
    artifact = quantize_bytes(
        data,
        convolutions=Convolutions(gathered=calibrated(data).convolutions, take="required"),
    )
    names = operators(artifact.data)
    assert names.count("QLinearConv") == len(stages)
    # Between two convolutions values stay in eight bits; what is folded in is gone.
    assert names.count("QuantizeLinear") == 1
    assert not {"Conv", "BatchNormalization", "Relu", "Clip"} & set(names)
    x = np.concatenate(inputs_of(data, count=5, seed=7))
    parent, session = Session(data), Session(artifact.data, kernels="off")
    y = session.run(x)[0]["y"]
    assert snr_db(y, parent.run(x)[0]["y"]) > LEAST_DB
    if not width:  # a mean over the width is a float32 sum
        assert not artifact.card.quantization.inexact
    rows = [session.run(np.ascontiguousarray(x[row : row + 1]))[0]["y"] for row in range(len(x))]
    assert np.array_equal(np.concatenate(rows, axis=2), y)
    assert np.array_equal(Session(artifact.data, kernels="off", threads=3).run(x)[0]["y"], y)


def test_weights_keep_to_seven_bits_so_that_no_processor_saturates():
    data = file_of([BIG])
    artifact = quantize_bytes(data, convolutions=Convolutions(gathered=calibrated(data).convolutions))
    graph = onnx.ModelProto.FromString(artifact.data).graph
    [w] = [numpy_helper.to_array(item) for item in graph.initializer if item.name == "conv0.int8.w"]
    assert w.dtype == np.int8
    assert 60 < np.abs(w.astype(int)).max() <= LARGEST_WEIGHT == 64
    assert 2 * 255 * LARGEST_WEIGHT < 2**15


MANY = [
    Stage(weight=(16, 4, 3), attributes={"pads": [1, 1]}),
    Stage(weight=(24, 16, 9), attributes={"pads": [4, 4]}, behind=("Relu",)),
    Stage(weight=(24, 12, 9), attributes={"group": 2}),
    Stage(weight=(8, 24, 5)),
]


def test_the_rule_takes_what_is_faster_by_its_shape_and_one_line_says_what_is_left_and_what_takes_it():
    data = file_of(MANY)
    said: list[str] = []
    artifact = quantize_bytes(
        data, convolutions=Convolutions(gathered=calibrated(data).convolutions), progress=said.append
    )
    rows = {row.layer: row for row in artifact.card.quantization.coverage}
    assert rows["conv1"].scheme == "int8, fixed activation scales"
    assert rows["conv1"].bytes_after < rows["conv1"].bytes_before / 3
    assert rows["conv0"].scheme == "float32: a result adds 12 products, and int8 is faster from 96 on"
    assert rows["conv2"].scheme == "float32: it has 2 groups, and float32 is faster then"
    assert rows["conv3"].scheme == "float32: it has 8 output channels, and int8 is faster from 16 on"
    assert artifact.card.quantization.parts["conv1"] == "int8:static"
    assert artifact.card.quantization.scheme == "int8"
    [line] = [line for line in said if "convolutions are int8" in line]
    assert line.startswith("1 of 4 convolutions are int8. Left float32: conv0 (a result adds 12 products")
    assert line.endswith("--convolutions required takes all that can be, --part NAME=int8:static one")
    again = quantize_bytes(data, convolutions=Convolutions(gathered=calibrated(data).convolutions))
    assert again.data == artifact.data


def test_a_convolution_that_ruins_the_outputs_is_left_by_the_bound():
    """A quiet signal beside rare loud steps: fixed scales round it away, and the layer behind lives on it."""
    data = file_of([BIG])
    inputs = inputs_of(data, count=24)
    for number, x in enumerate(inputs):
        np.multiply(x, 0.02, out=x)
        if number % 12 == 0:
            x[:, :, 20] *= 100_000
    gathered = calibrated(data, inputs).convolutions
    artifact = quantize_bytes(data, convolutions=Convolutions(gathered=gathered))
    [row] = [row for row in artifact.card.quantization.coverage if row.layer == "conv0"]
    assert row.scheme.startswith("float32: with it the signal to noise of y falls from ")
    assert "QLinearConv" not in operators(artifact.data)
    forced = quantize_bytes(data, convolutions=Convolutions(gathered=gathered, take="required"))
    assert "QLinearConv" in operators(forced.data)


def test_parts_take_one_and_leave_one():
    data = file_of(MANY)
    gathered = calibrated(data).convolutions
    taken = quantize_bytes(data, parts={"conv0": STATIC}, convolutions=Convolutions(gathered=gathered, take="off"))
    assert operators(taken.data).count("QLinearConv") == 1
    assert taken.card.quantization.parts["conv0"] == "int8:static"
    left = quantize_bytes(
        data, parts={"conv1": Scheme(kind="float32")}, convolutions=Convolutions(gathered=gathered, take="required")
    )
    assert operators(left.data).count("QLinearConv") == 3
    assert left.card.quantization.parts["conv1"] == "float32"
    # Another scheme by default is asked for the convolutions by name alone.
    four = quantize_bytes(data, scheme="int4", convolutions=Convolutions(gathered=gathered))
    assert "QLinearConv" not in operators(four.data)


def test_what_cannot_be_is_refused():
    data = file_of(MANY)
    with pytest.raises(
        QuantizationError,
        match=r"^conv1: int8:static needs the scales of its activations: give calibration data, --data$",
    ):
        quantize_bytes(data, parts={"conv1": STATIC})
    gathered = calibrated(data).convolutions
    with pytest.raises(QuantizationError, match=r"^lstm: int8:static is for convolutions, and this is a recurrent "):
        quantize_bytes(data, parts={"lstm": STATIC}, convolutions=Convolutions(gathered=gathered))
    with pytest.raises(QuantizationError, match=r"^fixed activation scales are for int8, not for int4, block 128$"):
        Scheme(kind="int4", static=True)
    silent = calibrated(data, [np.zeros_like(x) for x in inputs_of(data)]).convolutions
    with pytest.raises(
        CoverageError, match=r"conv0 \(Conv\) stays float32: its input or result is zero throughout the calibration"
    ):
        quantize_bytes(data, convolutions=Convolutions(gathered=silent, take="required"))
    assert Scheme.parse("int8:static") == STATIC
    assert STATIC.text == "int8:static"


def test_without_data_one_line_says_what_data_would_do():
    said: list[str] = []
    artifact = quantize_bytes(file_of(MANY), progress=said.append)
    assert "QLinearConv" not in operators(artifact.data)
    assert "convolutions stay float32: conv1; with calibration data, --data, they may become int8" in said
