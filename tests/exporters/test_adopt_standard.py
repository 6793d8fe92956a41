"""The standard's own LSTM, GRU and RNN node cases: adopted, and equal afterwards to the cases' own answers."""

import functools
import warnings

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.backend.test.case.test_case import TestCase as NodeCase

from lstm_edge_exporters.adopt import Adopted, adopt_bytes
from lstm_edge_exporters.quantize import quantize_bytes
from lstm_edge_exporters.verify.compare import Tolerance, assert_close
from lstm_edge_runtime.errors import CoverageError
from lstm_edge_runtime.function_check import check_functions
from lstm_edge_runtime.providers import open_session

pytestmark = pytest.mark.slow

STANDARD = Tolerance(
    name="STANDARD",
    absolute=2e-6,
    reason="onnx's NumPy cells against onnxruntime's in float32: the worst seen was 4.8e-7",
)
# Weights and states of the GRU case with lengths are random at scale 1, the others' weights are constant 0.1.
INT8 = Tolerance(
    name="INT8",
    absolute=2e-2,
    reason="two sums of int8 products over at most 7 terms; worst seen 1.1e-2 at weights of scale 1",
)
LSTM = ("defaults", "with_initial_bias", "with_peepholes", "batchwise", "reverse", "bidirectional")
GRU = ("defaults", "with_initial_bias", "seq_length", "batchwise", "reverse", "bidirectional")
RNN = ("defaults", "with_initial_bias", "batchwise", "reverse", "bidirectional")
NAMES = (
    *(f"test_lstm_{name}" for name in LSTM),
    *(f"test_gru_{name}" for name in GRU),
    *(f"test_simple_rnn_{name}" for name in RNN),
    "test_rnn_seq_length",
)
MOVING = ("X", "sequence_lens", "initial_h", "initial_c")


@functools.cache
def cases() -> dict[str, NodeCase]:
    """All cases of recurrent operators; collected once a process, as a second call finds the first one's."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other operators' cases divide by zero on purpose
        found = collect_testcases(None)
    operators = ("LSTM", "GRU", "RNN")
    return {
        case.name: case for case in found if case.model is not None and case.model.graph.node[0].op_type in operators
    }


def read(name: str, *, constant: bool) -> tuple[bytes, dict[str, np.ndarray], list[np.ndarray]]:
    """A case's file, what goes in and what must come out; ``constant``: its weights are initializers, as in a file."""
    case = cases()[name]
    assert case.model is not None
    assert case.data_sets is not None
    inputs, expected = case.data_sets[0]
    proto = onnx.ModelProto()
    proto.CopyFrom(case.model)
    feeds = {value.name: np.asarray(array) for value, array in zip(proto.graph.input, inputs, strict=True)}
    if constant:
        for value in [value for value in proto.graph.input if value.name not in MOVING]:
            proto.graph.input.remove(value)
            proto.graph.initializer.append(numpy_helper.from_array(feeds.pop(value.name), value.name))
    return proto.SerializeToString(), feeds, [np.asarray(array) for array in expected]


@functools.cache
def adopted(name: str, constant: bool) -> Adopted:
    return adopt_bytes(read(name, constant=constant)[0])


def assert_expected(name: str, data: bytes, *, constant: bool, tolerance: Tolerance) -> None:
    _, feeds, expected = read(name, constant=constant)
    assert cases()[name].model is not None
    outputs = [value.name for value in cases()[name].model.graph.output]  # type: ignore[union-attr]  # asserted above
    assert len(outputs) == len(expected)
    for output, got, want in zip(outputs, open_session(data).run(outputs, feeds), expected, strict=True):
        assert_close(f"{name} {output}", np.asarray(got), want, tolerance)


def test_the_names_are_all_there_are() -> None:
    assert set(cases()) == set(NAMES)


@pytest.mark.parametrize("constant", [True, False], ids=["weights-constant", "weights-are-inputs"])
@pytest.mark.parametrize("name", NAMES)
def test_adopted_and_equal(name: str, constant: bool) -> None:
    found = adopted(name, constant)
    assert_expected(name, found.artifact.data, constant=constant, tolerance=STANDARD)
    (layer,) = found.layers
    if constant:
        assert layer.weights == "initializers"
    else:
        assert layer.weights.startswith("graph inputs W, R")
    assert layer.direction == next((d for d in ("reverse", "bidirectional") if name.endswith(d)), "forward")


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("batchwise")])
def test_batch_first_is_rewritten(name: str) -> None:
    found = adopted(name, True)
    (note,) = found.notes
    assert "layout 1 (batch first), which onnxruntime does not run, became layout 0" in note
    nodes = onnx.load_from_string(found.artifact.data).graph.node
    assert not [attribute for node in nodes for attribute in node.attribute if attribute.name == "layout"]


@pytest.mark.parametrize("name", NAMES)
def test_int8(name: str) -> None:
    """Peepholes, directions, lengths and layouts: every LSTM, GRU and RNN case has an int8 form."""
    quantized = quantize_bytes(adopted(name, True).artifact.data)
    assert quantized.card.quantization is not None
    assert [row.scheme for row in quantized.card.quantization.coverage] == ["int8"]
    check_functions(quantized.data)
    assert_expected(name, quantized.data, constant=True, tolerance=INT8)


@pytest.mark.parametrize("name", ["test_lstm_bidirectional", "test_gru_seq_length"])
def test_int8_of_weights_that_are_inputs_is_refused(name: str) -> None:
    with pytest.raises(CoverageError) as caught:
        quantize_bytes(adopted(name, False).artifact.data)
    kind = name.split("_")[1]
    assert str(caught.value) == (
        f"{kind} ({kind.upper()}) stays float32: input W is not constant. Nothing was written; "
        "--allow-unquantized accepts that"
    )
