"""Which shapes golden vectors and comparisons may have: none that the original refuses, none without an answer."""

import numpy as np
import pytest
from onnx import helper
from support.onnx_files import FLOAT, I, model

from lstm_edge_exporters.verify.cases import Case, Comparison, fewest_steps
from lstm_edge_exporters.verify.chunks import judge_streaming
from lstm_edge_exporters.verify.golden import golden_choices
from lstm_edge_exporters.verify.inputs import InputMaker
from lstm_edge_exporters.verify.open_model import OpenModel
from lstm_edge_runtime.card import BATCH, TIME, ModelCard, StateSpec, Streaming, TensorSpec
from lstm_edge_runtime.errors import ArtifactError

X = TensorSpec(name="x", dtype="float32", axes=(BATCH, TIME, I))
INPUTS = {"x": (FLOAT, ["batch", "time", I])}


def compared(ran, refused=()):
    return Comparison(
        against="x",
        max_abs_difference=0.0,
        tolerance=1e-5,
        ran=tuple(Case(batch=batch, time=time, zero_state=zero) for batch, time, zero in ran),
        refused=tuple((Case(batch=batch, time=time), "RuntimeError") for batch, time in refused),
    )


def card():
    return ModelCard(
        producer="test",
        inputs=(X,),
        outputs=(TensorSpec(name="y", dtype="float32", axes=(BATCH, TIME, I)),),
        streaming=Streaming(verdict="none", reason="test"),
        minimum_onnxruntime="1.18",
    )


def network(*nodes, arrays=None):
    return model(list(nodes), INPUTS, {"y": ["batch", "steps", I]}, arrays or {})


def chosen(data, least=1):
    return next(golden_choices(OpenModel.of(data), card(), InputMaker([X]), least=least))


def golden_times(data, least):
    vectors = chosen(data, least).vectors
    return [vector.inputs["x"].shape[1] for vector in vectors]


TANH = helper.make_node("Tanh", ["x"], ["y"], name="tanh")


@pytest.mark.parametrize(
    ("found", "fewest"),
    [
        (compared([(3, 7, False), (1, 1, False)]), 1),
        (compared([(3, 7, False), (2, 5, False)]), 1),
        (compared([(3, 7, True), (2, 5, False)], [(4, 1)]), 5),
        (compared([(1, 11, False), (5, 23, False)], [(2, 5)]), 11),
        (compared([(3, 0, True)], [(4, 0)]), 1),
    ],
)
def test_the_fewest_steps_are_those_that_ran(found, fewest):
    assert found.fewest_steps == fewest
    # The text in a file's card says the same.
    assert fewest_steps(found.for_card()) == fewest
    assert fewest_steps(None) == 1


@pytest.mark.parametrize(
    ("case", "text"),
    [
        (Case(batch=3, time=7, zero_state=True), "batch 3, time 7, zero state"),
        (Case(batch=3, time=0), "batch 3"),
        (Case(batch=0, time=0), "fixed shapes"),
        (Case(batch=0, time=0, zero_state=True, values=(("sr", "16000"),)), "fixed shapes, zero state, sr 16000"),
        (Case(batch=2, time=12, chunks=(5, 7)), "batch 2, time 12 in chunks of 5 and 7"),
    ],
)
def test_a_case_becomes_text_in_the_card(case, text):
    found = Comparison(against="x", max_abs_difference=0.5, tolerance=None, ran=(case,), refused=((case, "no"),))
    assert (found.for_card().shapes, found.for_card().refused) == ((text,), (f"{text}: no",))


def test_no_vector_is_shorter_than_what_the_original_takes():
    assert [golden_times(network(TANH), least) for least in (1, 5, 23)] == [[5, 1], [5], [23]]


def test_an_empty_answer_is_no_vector():
    """The second half of the steps, from the third on: a single step leaves none."""
    cut = helper.make_node("Slice", ["x", "from", "to", "axis"], ["y"], name="cut")
    arrays = {"from": np.array([2]), "to": np.array([99]), "axis": np.array([1])}
    assert golden_times(network(cut, arrays=arrays), 1) == [5]


def test_a_model_without_golden_vectors_gets_the_one_reason():
    nothing = helper.make_node("Sub", ["x", "x"], ["zero"], name="sub")
    infinite = helper.make_node("Reciprocal", ["zero"], ["y"], name="reciprocal")
    noise = helper.make_node("RandomNormalLike", ["x"], ["y"], name="noise")
    for data, reason in (
        (network(nothing, infinite), "the output 'y' is NaN or infinite"),
        (network(noise), "the output 'y' is another one each time"),
    ):
        with pytest.raises(ArtifactError, match=rf"^no golden vectors: at batch 2, time 5 {reason}; at batch 1,"):
            chosen(data)


def test_single_steps_are_not_tried_where_the_original_refuses_them():
    """Of a pooled sequence nothing is left then, and onnxruntime's GRU over zero steps ends the process."""
    state = StateSpec(input="h", output="h_out", kind="h", module="m", layer=0, axes=(1, BATCH, I))
    verdict = judge_streaming(
        OpenModel(b"never opened", None),
        InputMaker([X]),
        outputs=(),
        states=(state,),
        layers=(),
        lengths=None,
        fewest=5,
    )
    assert verdict.verdict == "none"
    assert verdict.reason.startswith("sequences of fewer than 5 steps were refused: something besides")


@pytest.mark.parametrize(("scale", "expected"), [(1.0, 1e-5), (5000.0, 1e-5 * 5000)])
def test_the_tolerance_grows_with_answers_above_one(scale, expected):
    """tanh stays below 1, and the largest of some dozen values comes near to it."""
    scaled = [helper.make_node("Tanh", ["x"], ["t"]), helper.make_node("Mul", ["t", "scale"], ["y"])]
    found = chosen(network(*scaled, arrays={"scale": np.float32([scale])}))
    largest = max(1.0, *(float(np.abs(vector.outputs["y"]).max()) for vector in found.vectors))
    assert found.tolerance_bodies == found.tolerance_kernels == pytest.approx(1e-5 * largest)
    assert 0.5 * expected < found.tolerance_bodies <= expected
