"""Files of named arrays against a model's names, axes and types; what is not certain is refused with one sentence."""

import re

import numpy as np
import pytest
from onnx import TensorProto, helper

from lstm_edge.data import Dataset, NamedDataset, load_samples, named_from_arrays
from lstm_edge.data.binding import bind, run_sequence
from lstm_edge.validation.judge import validate
from lstm_edge_runtime.card import ModelCard, StateSpec, Streaming, TensorSpec, serialize_card
from lstm_edge_runtime.errors import DataError, InputError
from lstm_edge_runtime.session import Session

TYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "bool": TensorProto.BOOL}


def model(inputs, *, output="y", states=()):
    """Return a model that gives its first input, as floats, under ``output``; each state plus 1 is the next one."""
    first, spec = next(iter(inputs.items()))
    nodes = [helper.make_node("Cast", [first], [output], to=TensorProto.FLOAT)]
    nodes += [helper.make_node("Add", [name, "one"], [f"{name}_out"]) for name, _ in states]
    one = helper.make_tensor("one", TensorProto.FLOAT, [], [1.0])
    known = [TensorSpec(name=name, dtype=dtype, axes=axes) for name, (dtype, axes) in inputs.items()]
    answer = TensorSpec(name=output, dtype="float32", axes=spec[1])
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(one.name, TYPES[one.dtype], one.axes) for one in known]
        + [helper.make_tensor_value_info(name, TensorProto.FLOAT, axes) for name, axes in states],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, answer.axes)]
        + [helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, axes) for name, axes in states],
        [one],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    card = ModelCard(
        inputs=tuple(known),
        outputs=(answer,),
        states=tuple(
            StateSpec(input=name, output=f"{name}_out", kind="h", module=name, layer=0, axes=axes)
            for name, axes in states
        ),
        streaming=Streaming(verdict="none", reason="made by hand"),
        minimum_onnxruntime="1.18",
    )
    helper.set_model_props(made, {"lstm_edge": serialize_card(card)})
    return made.SerializeToString()


def fed(source, arrays, index=0):
    """Return what the model sees of one sequence, in all its runs."""
    session = Session(source)
    bound = bind(named_from_arrays("d.npz", arrays), session, model="model m.onnx")
    return [run["y"] for run in run_sequence(session, bound, index)], bound


def counted(*shape, dtype=np.float32):
    return np.arange(np.prod(shape), dtype=dtype).reshape(shape)


MEL = model({"x": ("float32", ("batch", 40, "time"))})
IMAGE = model({"x": ("float32", ("batch", 3, 8, "time"))})
MAJOR = model({"x": ("float32", ("time", "batch", 5))})
STEP = model({"obs": ("float32", ("batch", 4)), "start": ("bool", ("batch",))}, states=[("h", (2, "batch", 3))])
SOUND = model({"x": ("float32", ("batch", 1, "time"))})


@pytest.mark.parametrize(
    ("source", "arrays", "expected"),
    [
        (MEL, {"x": counted(6, 40, 9)}, lambda x: x[4]),
        (MEL, {"x": counted(6, 9, 40)}, lambda x: x[4].T),
        (MEL, {"x": counted(6, 40, 40), "layout": np.array("model")}, lambda x: x[4]),
        (MEL, {"x": counted(6, 40, 40), "layout": np.array("time-first")}, lambda x: x[4].T),
        (MEL, {"x": counted(30, 40), "lengths": np.full(6, 5)}, lambda x: x[20:25].T),
        (MEL, {"x": counted(6, 40, 9), "lengths": np.array([9, 1, 2, 3, 4, 5])}, lambda x: x[4, :, :4]),
        (MEL, {"x": counted(6, 9, 40), "lengths": np.array([9, 1, 2, 3, 4, 5])}, lambda x: x[4, :4].T),
        (IMAGE, {"x": counted(6, 3, 8, 5)}, lambda x: x[4]),
        (IMAGE, {"x": counted(6, 5, 8, 3)}, lambda x: x[4].transpose(2, 1, 0)),
        (IMAGE, {"x": counted(6, 8, 5, 3)}, lambda x: x[4].transpose(2, 0, 1)),
        (IMAGE, {"x": counted(12, 8, 3), "lengths": np.full(6, 2)}, lambda x: x[8:10].transpose(2, 1, 0)),
        (MAJOR, {"x": counted(7, 6, 5), "y": counted(6)}, lambda x: x[:, 4]),
        (MAJOR, {"x": counted(6, 7, 5), "y": counted(6)}, lambda x: x[4]),
        (MAJOR, {"x": counted(7, 6, 5), "layout": np.array("time-major")}, lambda x: x[:, 4]),
        (MAJOR, {"x": counted(6, 6, 5), "layout": np.array("time-first")}, lambda x: x[4]),
        (MAJOR, {"x": counted(6, 6, 5), "layout": np.array("time-major")}, lambda x: x[:, 4]),
        (SOUND, {"x": counted(6, 9)}, lambda x: x[4][None]),
        (SOUND, {"x": counted(6, 9, dtype=np.int16)}, lambda x: x[4][None]),
        (SOUND, {"x": counted(6), "lengths": np.ones(6, int)}, lambda x: x[4][None, None]),
    ],
)
def test_the_model_sees_each_sequence_in_its_own_order_of_axes(source, arrays, expected):
    [seen], bound = fed(source, arrays, 4)
    want = expected(arrays["x"]).astype(np.float32)
    batch = bound.inputs["x"].batch
    assert np.array_equal(np.take(seen, 0, axis=batch), want)
    assert bound.lengths[4] == want.shape[bound.inputs["x"].fit.time]


def test_steps_without_a_time_axis_carry_the_states():
    arrays = {
        "obs": counted(5, 3, 4),
        "start": np.array([[1, 0, 0]] * 5),
        "h": counted(5, 2, 3),
    }
    seen, bound = fed(STEP, arrays, 2)
    assert [row[0].tolist() for row in seen] == arrays["obs"][2].tolist()
    session = Session(STEP)
    assert bound.by_step
    assert np.array_equal(bound.state(session, 2)["h"], arrays["h"][2][:, None])
    turned, _ = fed(STEP, arrays | {"h": arrays["h"].transpose(1, 0, 2)}, 2)
    assert np.array_equal(turned, seen)
    single, bound = fed(STEP, {"obs": counted(5, 4), "start": np.zeros(5, bool)}, 2)
    assert (bound.by_step, len(single), bound.lengths.tolist()) == (False, 1, [1] * 5)


def test_a_constant_input_is_given_once():
    source = model({"x": ("float32", ("batch", "time")), "rate": ("int64", ())})
    [seen], _ = fed(source, {"x": counted(4, 6), "rate": np.array(16000)}, 1)
    assert np.array_equal(seen[0], counted(4, 6)[1])


def test_arrays_of_another_rate_have_their_own_lengths():
    data = named_from_arrays(
        "d", {"x": counted(9, 40), "lengths": np.array([4, 5]), "y": counted(5), "lengths.y": np.array([2, 3])}
    )
    assert [row.tolist() for row in data.targets["y"]] == [[0, 1], [2, 3, 4]]
    with pytest.raises(
        DataError, match=r"^data d: lengths\.y has 1 entries that add up to 5, but y is \[5\] for 2 seq"
    ):
        named_from_arrays(
            "d", {"x": counted(9, 40), "lengths": np.array([4, 5]), "y": counted(5), "lengths.y": np.array([5])}
        )


@pytest.mark.parametrize(
    ("source", "arrays", "sentence"),
    [
        (
            MEL,
            {"x": counted(6, 40, 40)},
            "data d.npz: the array 'x' is [40, 40] for a sequence (without a batch axis), which fits the input 'x' "
            "float32[batch, 40, time] of model m.onnx in more than one order: time may be axis 0 or 1. Say which with "
            "the key layout: 'model' (the model's order of axes) or 'time-first'",
        ),
        (
            MEL,
            {"x": counted(6, 41, 9)},
            "data d.npz: the array 'x' is [41, 9] for sequence 0 (one sequence, without a batch axis), which does not "
            "fit the input 'x' float32[batch, 40, time] of model m.onnx in any order of its axes",
        ),
        (
            MEL,
            {"x": counted(6, 9, 40), "layout": np.array("model")},
            "data d.npz: the array 'x' is [9, 40] for sequence 0 (one sequence, without a batch axis), which does not "
            "fit the input 'x' float32[batch, 40, time] of model m.onnx in the order that layout 'model' says",
        ),
        (
            MAJOR,
            {"x": counted(7, 6, 5), "y": counted(7, 6)},
            "data d.npz: the array 'x': either of its first two axes may be that of the sequences for the 'x' "
            "float32[time, batch, 5] of model m.onnx. Say which with the key layout: 'time-major' (the second), or "
            "'model' or 'time-first' (the first)",
        ),
        (
            MEL,
            {"mel": counted(6, 40, 9)},
            "data d.npz: the array 'mel' belongs to no input, state or output of model m.onnx; found mel; expected "
            "inputs x; targets y or target.y",
        ),
        (
            STEP,
            {"obs": counted(5, 3, 4)},
            "data d.npz: the input 'start' of model m.onnx is missing; found obs; expected inputs obs, start; optional "
            "initial states h; targets y or target.y",
        ),
        (
            STEP,
            {"obs": counted(5, 3, 4), "start": counted(5, 2)},
            "data d.npz: sequence 0 has 3 steps in 'obs' and 2 in 'start'; expected the same number for model m.onnx",
        ),
        (
            STEP,
            {"obs": counted(5, 3, 4), "start": counted(5, 3)},
            "data d.npz: the array 'start' of sequence 0 holds float32 values from 0.0 to 2.0, which are not all "
            "values of bool, which the model takes",
        ),
        (
            STEP,
            {"obs": counted(5, 3, 4), "start": np.zeros((5, 3)), "h0": counted(5, 2, 3)},
            "data d.npz: the array 'h0' belongs to no input, state or output of model m.onnx; found obs, start, h0; "
            "expected inputs obs, start; optional initial states h; targets y or target.y",
        ),
        (
            SOUND,
            {"x": counted(6, 9), "ids": counted(6, 9)},
            "data d.npz: two arrays belong to the input 'x' of model m.onnx; expected one",
        ),
        (
            SOUND,
            {"x": counted(6, 9), "input.x": counted(6, 9)},
            "data d.npz: 'x' and 'input.x' mean the same array; expected one of them",
        ),
    ],
)
def test_what_does_not_fit_is_one_sentence(source, arrays, sentence):
    with pytest.raises(DataError) as refused:
        fed(source, arrays)
    assert str(refused.value) == sentence


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        (
            {"x": counted(6, 4), "y": counted(5)},
            "its arrays do not have the same number of sequences along the first axis: x [6, 4], y [5]; for sequences "
            "that are joined along time add the key lengths",
        ),
        (
            {"x": counted(7, 4), "lengths": np.array([2, 3])},
            "x is [7, 4]; expected the 2 sequences, or the 5 steps that lengths add up to, along its first axis",
        ),
        ({"x": counted(6, 4), "y": np.array(["a"] * 6)}, "y is text; expected numbers, for classes integers, with"),
        ({"y": counted(6)}, "has no array of numbers for an input; found y"),
        (
            {"x": counted(6, 4), "layout": np.array("rows")},
            "layout is 'rows'; expected one of the texts 'model', 'time",
        ),
        ({"x": counted(6, 4), "lengths": np.array([0, 6])}, "lengths has a sequence of 0 steps; expected 1 or more"),
        (
            {"x": counted(6, 4), "lengths": np.array([2, 4]), "layout": np.array("model")},
            "layout is 'model', but an array is joined along time, which is time-first",
        ),
    ],
)
def test_arrays_that_do_not_belong_together_are_one_sentence(arrays, sentence):
    with pytest.raises(DataError, match="^" + re.escape(f"data d.npz: {sentence}")):
        named_from_arrays("d.npz", arrays)


def test_the_flat_layout_stays_what_it_was(tmp_path):
    flat = {"x": counted(9, 3), "lengths": np.array([4, 5]), "y": np.array([0, 1])}
    np.savez(tmp_path / "flat.npz", **flat)
    assert isinstance(load_samples(str(tmp_path / "flat.npz"), default_split="test"), Dataset)
    for changed in ({"more": counted(2)}, {"y": counted(2, 3, 4)}, {"x": counted(2, 5, 3)}, {"layout": "time-first"}):
        np.savez(tmp_path / "named.npz", **(flat | changed))
        assert isinstance(load_samples(str(tmp_path / "named.npz"), default_split="test"), NamedDataset)
    np.savez(tmp_path / "wrong.npz", **(flat | {"lengths": np.array([4, 6])}))
    with pytest.raises(DataError, match=r"lengths add up to 10, but x has 9 rows; expected the same number$"):
        load_samples(str(tmp_path / "wrong.npz"), default_split="test")


def test_targets_are_for_an_array(tmp_path):
    np.save(tmp_path / "x.npy", counted(6, 9))
    np.savez(tmp_path / "x.npz", x=counted(6, 9))
    from lstm_edge.data import TableOptions

    table = TableOptions(targets=str(tmp_path / "x.npy"))
    assert load_samples(str(tmp_path / "x.npy"), default_split="test", table=table).targets.keys() == {""}
    for spec in ("japanese-vowels", str(tmp_path / "x.npz"), "a.csv"):
        with pytest.raises(InputError, match=r"--targets is for an \.npy file"):
            load_samples(spec, default_split="test", table=table)


def test_one_unnamed_target_is_of_the_output_that_the_metric_names():
    arrays = {"x": counted(6, 9), "target": counted(6, 9) + 1}
    data = named_from_arrays("d.npz", arrays)
    report = validate(SOUND, SOUND, data, metric="mse:output=y", max_drop="1pt")
    assert report.reference == 1.0
    assert report.metric == "mse:output=y"


@pytest.mark.parametrize("axes", [(1, "time", 5), ("time", 1, 5), ("time", 5)])
@pytest.mark.parametrize("flat", [True, False])
def test_a_fixed_batch_of_one_or_none_at_all(axes, flat):
    source = model({"x": ("float32", axes)})
    x = np.random.default_rng(0).normal(size=(8, 7, 5)).astype(np.float32)
    y = x.argmax(axis=-1)
    y[0] = (y[0] + 1) % 5
    lengths = np.full(8, 7)
    data = (
        Dataset(name="d", x=x.reshape(-1, 5), lengths=lengths, y=y.reshape(-1), per_step=True)
        if flat
        else named_from_arrays("d", {"x": x, "y": y})
    )
    report = validate(source, source, data, max_drop="1pt")
    assert (report.metric, report.reference, report.samples, report.units) == ("accuracy", 1 - 1 / 8, 56, 8)


@pytest.mark.parametrize("shape", [(6, 4), (6, 1, 4), (1, 6, 4)])
def test_a_layers_state_may_be_given_in_any_of_its_forms(shape):
    source = model({"x": ("float32", ("batch", "time", 5))}, states=[("gru.0.h", (1, "batch", 4))])
    session = Session(source)
    data = named_from_arrays("d", {"x": counted(6, 3, 5), "gru.0.h": counted(*shape)})
    state = bind(data, session, model="model").state(session, 2)
    assert np.array_equal(state["gru.0.h"], counted(1, 6, 4)[:, 2:3])


def test_the_targets_of_the_data_are_not_those_of_held_out_data(tmp_path):
    from lstm_edge.data import TableOptions
    from lstm_edge.precision_search.data import load_roles

    np.save(tmp_path / "x.npy", counted(60, 9))
    spec = str(tmp_path / "x.npy")
    expected = f"held-out data {spec}: --targets has the targets of {spec}; give the held-out data as one .npz file"
    with pytest.raises(InputError) as refused:
        load_roles(spec, spec, metric="mse", table=TableOptions(targets=spec))
    assert str(refused.value) == expected
    roles = load_roles(spec, None, metric="mse", table=TableOptions(targets=spec))
    assert (len(roles.tuning), len(roles.held_out)) == (30, 30)


def test_a_target_without_a_name_belongs_to_no_output_of_several(tmp_path):
    from lstm_edge.data.naming import with_names

    class Two:
        inputs = (TensorSpec(name="x", dtype="float32", axes=("batch", 2)),)
        outputs = tuple(TensorSpec(name=name, dtype="float32", axes=("batch", 2)) for name in ("tags", "v"))
        states = ()

    data = named_from_arrays("d", {"x": counted(6, 2), "y": counted(6, 2)})
    with pytest.raises(DataError) as refused:
        with_names(data, Two, model="model m.onnx")
    assert str(refused.value) == (
        "data d: the target 'y' may be that of any output of model m.onnx: tags, v. Name it target.tags, or give the "
        "metric with :output=tags"
    )


def test_calibration_reads_no_target_so_none_has_to_be_named():
    from lstm_edge.precision_search.data import calibration_feeds

    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "time", 2])
    answers = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "time", 2]) for name in ("tags", "v")]
    graph = helper.make_graph(
        [helper.make_node(kind, ["x"], [name]) for kind, name in (("Neg", "tags"), ("Exp", "v"))], "g", [x], answers
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    specs = [TensorSpec(name=name, dtype="float32", axes=("batch", "time", 2)) for name in ("x", "tags", "v")]
    card = ModelCard(
        inputs=tuple(specs[:1]),
        outputs=tuple(specs[1:]),
        states=(),
        streaming=Streaming(verdict="none", reason="made by hand"),
        minimum_onnxruntime="1.18",
    )
    helper.set_model_props(made, {"lstm_edge": serialize_card(card)})
    session = Session(made.SerializeToString())
    feeds = list(calibration_feeds(session, named_from_arrays("d", {"x": counted(6, 4, 2), "y": counted(6)}), 3))
    assert [feed["x"].shape for feed in feeds] == [(1, 4, 2)] * 3
    # A target of another name may be a misspelt input: it is refused as before.
    with pytest.raises(DataError, match="belongs to no input, state or output of the model"):
        list(calibration_feeds(session, named_from_arrays("d", {"x": counted(6, 4, 2), "target.z": counted(6)}), 3))


def test_one_score_is_no_decision_between_classes():
    source = model({"x": ("float32", ("batch", "time", 1))})
    score = np.random.default_rng(0).random((6, 9, 1)).astype(np.float32)
    data = named_from_arrays("d", {"x": score, "y": (score[..., 0] > 0.5).astype(int)})
    report = validate(source, source, data, metric="f1", max_drop="1pt")
    assert (report.reference, report.agreement) == (1.0, None)
