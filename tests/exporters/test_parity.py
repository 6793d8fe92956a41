"""The comparison of a file with its module, on a file of two additions and modules that are made to be wrong."""

import itertools

import numpy as np
import pytest
from onnx import TensorProto, helper

from lstm_edge_exporters.pytorch.parity import check_parity
from lstm_edge_exporters.verify.cases import GRID, Case
from lstm_edge_exporters.verify.inputs import InputMaker, random_lengths, random_state
from lstm_edge_exporters.verify.open_model import OpenModel
from lstm_edge_exporters.verify.parity import EXPORT
from lstm_edge_runtime.card import StateSpec, TensorSpec
from lstm_edge_runtime.errors import CaptureError, ParityError, QuantizationError

X = TensorSpec(name="x", dtype="float32", axes=("batch", "time", 2))
STATE = StateSpec(input="h", output="h_out", kind="h", module="lstm", layer=0, axes=(1, "batch", 3), initial="zeros")


def file_of(*, lengths: bool = False, longest: int | None = None) -> bytes:
    """A file that gives ``y = x + x``, ``h_out = h + h`` and, with lengths, ``rows = lengths``.

    ``longest``: it accepts only so many steps, as a graph that was traced at one length does.
    """
    time = "time" if longest is None else longest
    nodes = [helper.make_node("Add", ["x", "x"], ["y"]), helper.make_node("Add", ["h", "h"], ["h_out"])]
    inputs = [("x", TensorProto.FLOAT, ["batch", time, 2]), ("h", TensorProto.FLOAT, [1, "batch", 3])]
    outputs = [("y", TensorProto.FLOAT, ["batch", time, 2]), ("h_out", TensorProto.FLOAT, [1, "batch", 3])]
    if lengths:
        nodes.append(helper.make_node("Identity", ["n"], ["rows"]))
        inputs.append(("n", TensorProto.INT64, ["batch"]))
        outputs.append(("rows", TensorProto.INT64, ["batch"]))
    graph = helper.make_graph(
        nodes,
        "two additions",
        [helper.make_tensor_value_info(*each) for each in inputs],
        [helper.make_tensor_value_info(*each) for each in outputs],
    )
    opset = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


class Original:
    """In the place of the unchanged module: answers as the file does, or as ``change`` makes of it; keeps the calls.

    ``rows``: as a file with lengths does.
    """

    states = (STATE,)

    def __init__(self, change=None, *, rows=False, takes_lengths=False, sorted_rows=False):
        self.change, self.rows, self.takes_lengths, self.sorted_rows = change, rows, takes_lengths, sorted_rows
        self.plan = self  # what the module is known by, here itself
        self.calls = []

    def run(self, inputs, state, lengths=None):
        self.calls.append((inputs, state, lengths))
        answers = {"y": 2 * inputs["x"], "h_out": 2 * state["h"]}
        if self.rows:
            answers["rows"] = lengths
        return answers if self.change is None else self.change(answers, inputs["x"])


def check(original, *, lengths=None, example=None, model=None):
    model = file_of(lengths=lengths is not None) if model is None else model
    return check_parity(OpenModel.of(model), original, InputMaker([X]), lengths=lengths, example=example)


def shapes_of(original):
    return [call[0]["x"].shape[:2] for call in original.calls]


def test_the_grid_has_what_a_wrong_shape_shows_in() -> None:
    assert {case.zero_state for case in GRID} == {True, False}
    assert len({(case.batch, case.time) for case in GRID}) == len(GRID)
    assert {(case.batch == 1, case.time == 1) for case in GRID} == set(itertools.product((True, False), repeat=2))
    assert [str(Case(batch=3, time=7, zero_state=True)), str(Case(batch=2, time=5))] == [
        "batch 3, time 7, zero state",
        "batch 2, time 5",
    ]
    assert not Case(batch=1, time=1).zero_state


def test_a_right_file_gets_the_record_of_what_was_compared() -> None:
    original = Original()
    parity = check(original, example=(2, 31))
    assert parity.against == "the PyTorch module, float32"
    assert (parity.max_abs_difference, parity.tolerance) == (0.0, EXPORT.absolute)
    assert parity.ran == (*GRID, Case(batch=2, time=31))
    assert parity.refused == ()
    assert shapes_of(original) == [*((case.batch, case.time) for case in GRID), (2, 31)]
    for (_, state, lengths), case in zip(original.calls, GRID, strict=False):
        assert state["h"].shape == (1, case.batch, 3)
        assert (state["h"] == 0).all() == case.zero_state
        assert lengths is None
    assert check(Original()).ran == GRID


@pytest.mark.parametrize("case", GRID, ids=str)
@pytest.mark.parametrize("name", ["y", "h_out"])
def test_one_wrong_element_at_any_shape_is_refused(name: str, case: Case) -> None:
    def change(answers, x):
        if x.shape[:2] == (case.batch, case.time):
            answers[name].flat[-1] += 2e-4
        return answers

    with pytest.raises(ParityError, match=rf"^the captured model is not the module: {name} at {case}: ") as caught:
        check(Original(change))
    assert str(caught.value).endswith("; nothing was written")


def test_the_worst_difference_is_kept() -> None:
    def change(answers, x):
        answers["y"][0, 0, 0] += 2.0**-18 if x.shape[:2] == (1, 1) else 2.0**-20
        return answers

    # Sums of multiples of 1/32 and of these are exact at that size.
    assert check(Original(change)).max_abs_difference == 2.0**-18


@pytest.mark.parametrize(("largest", "limit"), [(0.25, 1e-5), (1.0, 1e-5), (100.0, 1e-3)])
def test_the_tolerance_grows_with_the_largest_output_above_1(largest: float, limit: float) -> None:
    """Of outputs below 1 it stays: a share of them would fail where their sums were of order one."""

    class Fixed(InputMaker):
        def make(self, rng, batch, time):
            x = np.zeros((batch, time, 2), np.float32)
            x[0, 0, 0] = -largest / 2
            return {"x": x}

    def off(by):
        def change(answers, _x):
            answers["y"][0, 0, 1] = by
            return answers

        return Original(change)

    check_parity(OpenModel.of(file_of()), off(0.99 * limit), Fixed([X]), lengths=None)
    with pytest.raises(ParityError, match=f"^the captured model is not the module: y at .*, tolerance {limit:.1g};"):
        check_parity(OpenModel.of(file_of()), off(1.01 * limit), Fixed([X]), lengths=None)


def test_other_outputs_are_refused() -> None:
    def change(answers, _x):
        return {"y": answers["y"]}

    with pytest.raises(ParityError, match=r"^the captured model has outputs \['h_out', 'y'\], the module \['y'\]$"):
        check(Original(change))


def test_what_is_not_finite_is_refused_and_not_skipped() -> None:
    def change(answers, _x):
        answers["y"][0, 0, 0] = np.nan
        return answers

    with pytest.raises(ParityError, match=r"^the module itself answers NaN in 'y' for x from -\d"):
        check(Original(change))


def test_shapes_that_the_module_refuses_are_named_and_the_others_compared() -> None:
    def change(answers, x):
        if len(x) == 1:
            raise ValueError("expected more than 1 value per channel")
        return answers

    parity = check(Original(change))
    assert parity.refused == tuple((case, "ValueError") for case in GRID if case.batch == 1)
    assert parity.ran == tuple(case for case in GRID if case.batch > 1)


def test_a_module_that_refuses_every_shape_is_refused() -> None:
    def change(_answers, _x):
        raise RuntimeError

    with pytest.raises(CaptureError, match=r"^the module itself fails on every shape tried: batch 3, time 7, zero st"):
        check(Original(change))


def test_an_error_of_the_projects_own_is_no_refusal_of_a_shape() -> None:
    def change(_answers, _x):
        raise QuantizationError("mine")

    with pytest.raises(QuantizationError, match=r"^mine$"):
        check(Original(change))


def test_a_file_that_onnxruntime_does_not_run_at_a_shape_is_refused() -> None:
    with pytest.raises(ParityError, match=r"^onnxruntime does not run the captured model at batch 2, time 5, which"):
        check(Original(), model=file_of(longest=7))


@pytest.mark.parametrize("sorted_rows", [False, True])
@pytest.mark.parametrize("takes", [False, True], ids=["row by row", "takes lengths"])
def test_with_lengths_rows_are_ragged(sorted_rows: bool, takes: bool) -> None:
    original = Original(rows=True, takes_lengths=takes, sorted_rows=sorted_rows)
    assert len(check(original, lengths="n").ran) == len(GRID)
    ragged = falling = 0
    for (x, _, rows), case in zip(original.calls, GRID, strict=True):
        assert (rows.dtype, rows.shape) == (np.int64, (case.batch,))
        assert (rows[0], rows.min() >= 1) == (x["x"].shape[1], True)
        ragged += rows.min() < case.time
        falling += (np.diff(rows) <= 0).all()
    assert ragged >= 3
    assert (falling == len(GRID)) == sorted_rows


@pytest.mark.parametrize("takes", [False, True], ids=["row by row", "takes lengths"])
def test_a_wrong_answer_with_lengths_points_to_the_last_step_where_that_is_likely(takes: bool) -> None:
    def change(answers, _x):
        answers["y"][0, 0, 0] += 1.0
        return answers

    with pytest.raises(ParityError, match=r"^the captured model is not the module") as caught:
        check(Original(change, rows=True, takes_lengths=takes), lengths="n")
    assert ("forward must not read steps after a row's last valid one" in str(caught.value)) == (not takes)


def test_a_module_that_takes_lengths_gets_full_ones_where_the_file_has_none() -> None:
    original = Original(takes_lengths=True)
    check(original)
    for (_, _, rows), case in zip(original.calls, GRID, strict=True):
        assert rows.dtype == np.int64
        np.testing.assert_array_equal(rows, np.full(case.batch, case.time))


def test_random_states_are_of_order_one_half_and_exact() -> None:
    wide = StateSpec(input="c", output="c2", kind="c", module="lstm", layer=0, axes=(2, "batch", 400), initial="zeros")
    state = random_state([STATE, wide], np.random.default_rng(0), 7, zero=False)
    assert {name: (array.shape, array.dtype) for name, array in state.items()} == {
        "h": ((1, 7, 3), np.float32),
        "c": ((2, 7, 400), np.float32),
    }
    # Multiples of 1/64: golden vectors of them are small in a file.
    np.testing.assert_array_equal(state["c"] * 64, np.rint(state["c"] * 64))
    assert abs(state["c"].std() - 0.5) < 0.01
    assert abs(state["c"].mean()) < 0.02
    zeros = random_state([STATE, wide], np.random.default_rng(0), 7, zero=True)
    assert not any(array.any() for array in zeros.values())


def test_random_lengths_take_every_value_and_the_first_row_is_full() -> None:
    rows = random_lengths(np.random.default_rng(0), 400, 5)
    assert rows.dtype == np.int64
    assert rows[0] == 5
    assert set(rows[1:].tolist()) == {1, 2, 3, 4, 5}
    np.testing.assert_array_equal(random_lengths(np.random.default_rng(0), 1, 5), [5])


def test_answers_are_by_the_files_names() -> None:
    feeds = {"x": np.ones((1, 2, 2), np.float32), "h": np.full((1, 1, 3), 4, np.float32)}
    answers = OpenModel.of(file_of()).answers(feeds)
    assert list(answers) == ["y", "h_out"]
    np.testing.assert_array_equal(answers["y"], 2 * feeds["x"])
    np.testing.assert_array_equal(answers["h_out"], 2 * feeds["h"])
