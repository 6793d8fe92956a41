"""Golden vectors do not stand in the way: large inputs, many states, and models that amplify a small change."""

import dataclasses

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.onnx_files import FLOAT, model

from lstm_edge_exporters.artifact import assemble
from lstm_edge_exporters.streaming.rewriter import POSITION
from lstm_edge_exporters.verify.golden import golden_choices
from lstm_edge_exporters.verify.inputs import InputMaker
from lstm_edge_exporters.verify.open_model import OpenModel
from lstm_edge_runtime.card import BATCH, TIME, ModelCard, StateSpec, Streaming, TensorSpec
from lstm_edge_runtime.errors import ArtifactError
from lstm_edge_runtime.golden import MOST_TEXT_BYTES, Golden, decode_golden, encode_golden
from lstm_edge_runtime.selftest import self_test


def card_of(inputs, outputs, states=()):
    return ModelCard(
        producer="test",
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        states=tuple(states),
        streaming=Streaming(verdict="none", reason="test"),
        minimum_onnxruntime="1.18",
    )


def image_network(axes, dtype="float32", kind=FLOAT):
    """The sum of each row of an image: every element counts."""
    nodes = [
        helper.make_node("Cast", ["image"], ["numbers"], to=FLOAT),
        helper.make_node("ReduceMean", ["numbers", "rest"], ["y"], keepdims=0),
    ]
    arrays = {"rest": np.arange(1, len(axes))}
    data = model(nodes, {"image": (kind, ["batch", *axes[1:]])}, {"y": ["batch"]}, arrays)
    spec = TensorSpec(name="image", dtype=dtype, axes=axes)
    return data, card_of([spec], [TensorSpec(name="y", dtype="float32", axes=(BATCH,))])


@pytest.mark.parametrize(
    ("axes", "dtype", "kind"),
    [
        ((BATCH, 3, 60, 160), "float32", FLOAT),
        ((BATCH, 1, 128, 1024), "float32", FLOAT),
        ((BATCH, 700_000), "float32", FLOAT),
        ((BATCH, 60_000), "int64", TensorProto.INT64),
    ],
)
def test_a_large_fixed_input_repeats_a_block(axes, dtype, kind):
    data, card = image_network(axes, dtype, kind)
    maker = InputMaker(card.inputs, ids_below=9)
    artifact = assemble(data, card, golden_choices(OpenModel.of(data), card, maker))
    report = self_test(artifact.data)
    assert (report.passed, report.vectors) == (True, 2)
    golden = artifact.session.golden()
    image = golden.vectors[0].inputs["image"]
    assert (image.shape, image.dtype.name) == ((2, *axes[1:]), dtype)
    assert not np.array_equal(image[0], image[1])  # the block and the rows have no common divisor
    assert len(encode_golden(golden)) <= MOST_TEXT_BYTES


@pytest.mark.slow
def test_an_input_that_no_vector_can_hold_is_said_to_be_too_large():
    data, card = image_network((BATCH, 5_000_000))
    with pytest.raises(
        ArtifactError,
        match=r"^no golden vectors: the golden vectors have [\d,]+ bytes of inputs and outputs, at most 16,777,216 are",
    ):
        next(golden_choices(OpenModel.of(data), card, InputMaker(card.inputs)))


def test_many_large_states_get_smaller_samples():
    count, size = 12, 2048
    names = [f"h{index}" for index in range(count)]
    nodes = [helper.make_node("Tanh", [name], [f"{name}_out"]) for name in names]
    nodes.append(helper.make_node("Tanh", ["x"], ["y"]))
    entering = {name: (FLOAT, [1, "batch", size]) for name in names} | {"x": (FLOAT, ["batch", "time", 3])}
    leaving = {f"{name}_out": [1, "batch", size] for name in names} | {"y": ["batch", "time", 3]}
    data = model(nodes, entering, leaving, {})
    x = TensorSpec(name="x", dtype="float32", axes=(BATCH, TIME, 3))
    states = [
        StateSpec(input=name, output=f"{name}_out", kind="h", module="m", layer=0, axes=(1, BATCH, size))
        for name in names
    ]
    card = card_of([x], [dataclasses.replace(x, name="y")], states)
    artifact = assemble(data, card, golden_choices(OpenModel.of(data), card, InputMaker([x])))
    first = artifact.session.golden().vectors[0]
    assert first.inputs["x"].shape == (2, 5, 3)
    assert set(first.outputs) == set(leaving)
    assert all(first.outputs[f"{name}_out"].size >= 32 for name in names)
    assert np.any(first.inputs["h7"] != 0)
    assert self_test(artifact.data).passed


def stepping_network():
    """Rows of which an element is over 1 step where x does: any change of it may move the answer by 1."""
    nodes = [
        helper.make_node("Mul", ["x", "steps"], ["scaled"]),
        helper.make_node("Floor", ["scaled"], ["stepped"]),
        helper.make_node("Abs", ["x"], ["magnitude"]),
        helper.make_node("ReduceMax", ["magnitude"], ["largest"], keepdims=1),
        helper.make_node("Greater", ["largest", "one"], ["over"]),
        helper.make_node("Where", ["over", "stepped", "x"], ["y"]),
    ]
    arrays = {"steps": np.float32(64), "one": np.float32(1)}
    return model(nodes, {"x": (FLOAT, ["batch", "time", 3])}, {"y": ["batch", "time", 3]}, arrays)


def test_the_chosen_inputs_do_not_amplify_a_small_change():
    data = stepping_network()
    x = TensorSpec(name="x", dtype="float32", axes=(BATCH, TIME, 3))
    card = card_of([x], [dataclasses.replace(x, name="y")])
    golden = next(golden_choices(OpenModel.of(data), card, InputMaker([x])))
    assert [vector.inputs["x"].shape for vector in golden.vectors] == [(2, 5, 3), (1, 1, 3)]
    assert max(float(np.abs(vector.inputs["x"]).max()) for vector in golden.vectors) <= 1


@pytest.mark.parametrize(
    ("name", "kind", "tolerance"),
    [
        (POSITION, FLOAT, 1e-5),
        (POSITION, TensorProto.INT64, 1e-5),
        ("count", TensorProto.INT64, 1e-5),
        ("level", FLOAT, 240e-5),
    ],
)
def test_a_count_does_not_loosen_the_tolerance_of_the_answers(name, kind, tolerance):
    nodes = [
        helper.make_node("Sigmoid", ["x"], ["y"]),
        helper.make_node("Mul", [name, "zero"], ["none"]),
        helper.make_node("Add", ["none", "many"], [f"{name}_out"]),
    ]
    number = helper.tensor_dtype_to_np_dtype(kind)
    data = model(
        nodes,
        {"x": (FLOAT, ["batch", "time", 3]), name: (kind, [1])},
        {"y": ["batch", "time", 3], f"{name}_out": [1]},
        {"zero": np.zeros(1, number), "many": np.full(1, 240, number)},
        kinds={f"{name}_out": kind},
    )
    x = TensorSpec(name="x", dtype="float32", axes=(BATCH, TIME, 3))
    state = StateSpec(
        input=name, output=f"{name}_out", kind="cache", module="m", layer=0, axes=(1,), dtype=np.dtype(number).name
    )
    card = card_of([x], [dataclasses.replace(x, name="y")], [state])
    golden = next(golden_choices(OpenModel.of(data), card, InputMaker([x])))
    assert golden.tolerance_kernels == pytest.approx(tolerance)
    assert golden.tolerance("y", kernels=True) == pytest.approx(1e-5)  # not that of a large state beside it
    assert golden.tolerance(f"{name}_out", kernels=True) == pytest.approx(tolerance)


def test_the_next_choice_is_taken_where_the_self_test_fails():
    """Inputs may be chosen badly; a file whose every choice fails is refused, and the sentence says how many did."""
    data, card = image_network((BATCH, 8))
    good = next(golden_choices(OpenModel.of(data), card, InputMaker(card.inputs)))
    wrong = [
        dataclasses.replace(vector, outputs={"y": vector.outputs["y"] + np.float32(0.25)}) for vector in good.vectors
    ]
    bad = Golden(vectors=tuple(wrong), tolerance_bodies=1e-5, tolerance_kernels=1e-5)
    kept = assemble(data, card, [bad, good]).session.golden()
    assert np.array_equal(kept.vectors[0].outputs["y"], good.vectors[0].outputs["y"])
    sentence = r"^the new file fails its own self-test with bodies: worst difference 0\.25, and 2 more choices of"
    with pytest.raises(ArtifactError, match=sentence):
        assemble(data, card, [bad, bad, bad])


def test_what_is_written_is_read_again():
    data, card = image_network((BATCH, 1_900_000))
    golden = next(golden_choices(OpenModel.of(data), card, InputMaker(card.inputs)))
    [vector] = decode_golden(encode_golden(golden)).vectors
    assert vector.inputs["image"].shape == (1, 1_900_000)
