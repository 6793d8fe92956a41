"""Which shapes golden vectors and comparisons may have: none that the original refuses, none without an answer."""

import numpy as np
import pytest
from onnx import helper
from support.onnx_files import FLOAT, I, model

from lstm_edge_exporters.artifact import fewest_steps, make_golden
from lstm_edge_exporters.verify.chunks import judge_streaming
from lstm_edge_exporters.verify.inputs import InputMaker
from lstm_edge_runtime.card import BATCH, TIME, ModelCard, Parity, StateSpec, Streaming, TensorSpec
from lstm_edge_runtime.errors import ArtifactError

X = TensorSpec(name="x", dtype="float32", axes=(BATCH, TIME, I))
INPUTS = {"x": (FLOAT, ["batch", "time", I])}


def parity(shapes, refused=()):
    return Parity(against="x", max_abs_difference=0.0, tolerance=1e-5, shapes=tuple(shapes), refused=tuple(refused))


def card(measured):
    return ModelCard(
        producer="test",
        inputs=(X,),
        outputs=(TensorSpec(name="y", dtype="float32", axes=(BATCH, TIME, I)),),
        streaming=Streaming(verdict="none", reason="test"),
        parity=measured,
        minimum_onnxruntime="1.18",
    )


def network(*nodes, arrays=None):
    return model(list(nodes), INPUTS, {"y": ["batch", "steps", I]}, arrays or {})


def golden_times(data, measured):
    vectors = make_golden(data, card(measured), InputMaker([X])).vectors
    return [vector.inputs["x"].shape[1] for vector in vectors]


TANH = helper.make_node("Tanh", ["x"], ["y"], name="tanh")


@pytest.mark.parametrize(
    ("measured", "fewest"),
    [
        (None, 1),
        (parity(["batch 3, time 7", "batch 1, time 1"]), 1),
        (parity(["batch 3, time 7, zero state", "batch 2, time 5"], ["batch 4, time 1: RuntimeError"]), 5),
        (parity(["batch 1, time 11", "batch 5, time 23"], ["batch 2, time 5: RuntimeError"]), 11),
    ],
)
def test_the_fewest_steps_are_those_that_ran(measured, fewest):
    assert fewest_steps(measured) == fewest


def test_no_vector_is_shorter_than_what_the_original_takes():
    assert golden_times(network(TANH), None) == [5, 1]
    refused = parity(["batch 3, time 7", "batch 2, time 5"], ["batch 4, time 1: RuntimeError"])
    assert golden_times(network(TANH), refused) == [5]
    long = parity(["batch 5, time 23"], ["batch 1, time 11: RuntimeError"])
    assert golden_times(network(TANH), long) == [23]


def test_an_empty_answer_is_no_vector():
    """The second half of the steps, from the third on: a single step leaves none."""
    cut = helper.make_node("Slice", ["x", "from", "to", "axis"], ["y"], name="cut")
    arrays = {"from": np.array([2]), "to": np.array([99]), "axis": np.array([1])}
    assert golden_times(network(cut, arrays=arrays), None) == [5]


def test_an_answer_that_is_not_finite_or_not_the_same_again_is_no_vector():
    nothing = helper.make_node("Sub", ["x", "x"], ["zero"], name="sub")
    infinite = helper.make_node("Reciprocal", ["zero"], ["y"], name="reciprocal")
    noise = helper.make_node("RandomNormalLike", ["x"], ["y"], name="noise")
    for data in (network(nothing, infinite), network(noise)):
        with pytest.raises(ArtifactError, match="its answers are empty, not finite or different each time"):
            make_golden(data, card(None), InputMaker([X]))


def test_single_steps_are_not_tried_where_the_original_refuses_them():
    """Of a pooled sequence nothing is left then, and onnxruntime's GRU over zero steps ends the process."""
    state = StateSpec(input="h", output="h_out", kind="h", module="m", layer=0, axes=(1, BATCH, I))
    verdict = judge_streaming(
        b"never opened",
        InputMaker([X]),
        outputs=(),
        states=(state,),
        layers=(),
        lengths=None,
        parity=parity(["batch 2, time 5"], ["batch 1, time 1: RuntimeError"]),
    )
    assert verdict.verdict == "none"
    assert verdict.reason.startswith("sequences of fewer than 5 steps were refused: something besides")


@pytest.mark.parametrize(("scale", "expected"), [(1.0, 1e-5), (5000.0, 1e-5 * 5000)])
def test_the_tolerance_grows_with_answers_above_one(scale, expected):
    """tanh stays below 1, and the largest of some dozen values comes near to it."""
    scaled = [helper.make_node("Tanh", ["x"], ["t"]), helper.make_node("Mul", ["t", "scale"], ["y"])]
    found = make_golden(network(*scaled, arrays={"scale": np.float32([scale])}), card(None), InputMaker([X]))
    largest = max(1.0, *(float(np.abs(vector.outputs["y"]).max()) for vector in found.vectors))
    assert found.tolerance_bodies == found.tolerance_kernels == pytest.approx(1e-5 * largest)
    assert 0.5 * expected < found.tolerance_bodies <= expected
