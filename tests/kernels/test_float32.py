"""The float32 operators LstmV2 and GruV1: the ONNX node's answers, a row's bits in every batch, malformed nodes."""

import threading

import numpy as np
import onnx
import pytest
from float32_cases import DIRECTIONS, feeds_of, float32_case, one_call
from onnx import helper

from lstm_edge_exporters.functions import DOMAIN, Float32Variant, all_float32, parse_float32_name
from lstm_edge_runtime.errors import ArtifactError
from lstm_edge_runtime.providers import RUNTIME_ERRORS, measure_placement, open_session

VARIANTS = all_float32()
# I, H and T, B: one input or cell, sizes that fill no vector, exact multiples, a GRU's candidate over more than a tile.
SIZES = (
    ((5, 17), (4, 7)),
    ((1, 1), (3, 2)),
    ((5, 3), (1, 1)),
    ((33, 100), (2, 19)),
    ((16, 64), (30, 3)),
)
# float32 sums in another order, and other approximations of sigmoid and tanh (largest error 8.9e-8 of ours), on outputs
# of order one and at most 100 inputs: 7.2e-7 is seen between a kernel and onnxruntime's node.
FLOAT_CLOSE = 2e-6
TIME, ROWS = 24, 37  # two whole groups of 16 rows and a part of one


def names(variant):
    return variant.name


def run(session, case, feeds):
    return session.run(list(case.variant.outputs), feeds)


def assert_close(got, expected, where):
    for name, a, b in zip(where.variant.outputs, got, expected, strict=True):
        assert a.shape == b.shape, f"{where}: {name}"
        np.testing.assert_allclose(a, b, rtol=0, atol=FLOAT_CLOSE, err_msg=f"{where}: {name}")


def assert_same(got, expected, where):
    for a, b in zip(got, expected, strict=True):
        assert a.tobytes() == b.tobytes(), where


def test_the_operators_are_these():
    assert sorted(names(v) for v in VARIANTS) == [
        *("GruRaggedV1", "GruResetAfterRaggedV1", "GruResetAfterV1", "GruV1"),
        *("LstmDiagonalRaggedV2", "LstmDiagonalV2", "LstmRaggedV2", "LstmV2"),
    ]
    assert all(parse_float32_name(v.name) == v for v in VARIANTS)
    for wrong in ("LstmV1", "LstmFullV2", "LstmInt8V2", "GruV2", "GruInt8V1", "lstmV2", "LstmV2X", "RnnV1", ""):
        assert parse_float32_name(wrong) is None


@pytest.mark.parametrize("variant", VARIANTS, ids=names)
def test_bodies_have_the_bits_of_the_node(variant):
    for direction in DIRECTIONS:
        for states in (None, (), variant.states[:1]):
            case = float32_case(variant, 5, 17, direction, states)
            feeds = feeds_of(case, 4, 7)
            bodies, node = open_session(case.model), open_session(case.node)
            assert_same(run(bodies, case, feeds), run(node, case, feeds), f"{case} {states}")


@pytest.mark.parametrize("variant", VARIANTS, ids=names)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_kernels_and_the_numpy_model_have_the_answers_of_the_node(kernel, variant, direction):
    for number, (sizes, (time, batch)) in enumerate(SIZES):
        states = (None, (), variant.states[-1:])[number % 3]
        case = float32_case(variant, *sizes, direction, states, seed=number)
        feeds = feeds_of(case, time, batch, seed=number)
        expected = run(open_session(case.node), case, feeds)
        assert_close(run(kernel(case.model), case, feeds), expected, case)
        assert_close(case.expected(feeds).values(), expected, case)


@pytest.mark.parametrize("variant", VARIANTS, ids=names)
def test_every_operator_reaches_its_kernel(library, variant):
    case = float32_case(variant, 5, 7, "bidirectional")
    feeds = feeds_of(case, 3, 2)
    assert {node.operator for node in measure_placement(case.model, feeds, library=library)} == {variant.name}
    assert {node.operator for node in measure_placement(case.model, feeds)} == {variant.cell}


@pytest.mark.parametrize("variant", VARIANTS, ids=names)
def test_a_row_does_not_see_its_batch_nor_the_threads(kernel, variant):
    case = float32_case(variant, 40, 50, "bidirectional", seed=2)
    feeds = feeds_of(case, TIME, ROWS)
    whole = run(kernel(case.model), case, feeds)
    assert_same(run(kernel(case.model, threads=3), case, feeds), whole, f"{case}, three threads")
    session = kernel(case.model)
    for rows in (slice(0, 1), slice(5, 7), slice(8, 11), slice(14, 18), slice(20, 25), slice(30, 37)):
        part = {
            name: array[rows] if name == "lengths" else np.ascontiguousarray(array[:, rows])
            for name, array in feeds.items()
        }
        y, *last = run(session, case, part)
        assert_same([y, *last], [whole[0][:, :, rows], *(state[:, rows] for state in whole[1:])], f"{case} {rows}")


@pytest.mark.parametrize("variant", [v for v in VARIANTS if not v.ragged], ids=names)
def test_chunks_have_the_bits_of_the_whole(kernel, variant):
    case = float32_case(variant, 40, 50, seed=3)
    feeds, session = feeds_of(case, TIME, 3), kernel(case.model)
    y, *last = run(session, case, feeds)
    for cuts in ([1, 2, TIME - 1], [8, 16], [5]):
        state, found = {name: feeds[name] for name in variant.states}, []
        for start, stop in zip([0, *cuts], [*cuts, TIME], strict=True):
            part, *states = run(session, case, {"x": feeds["x"][start:stop], **state})
            state = dict(zip(variant.states, states, strict=True))
            found.append(part)
        assert_same([np.concatenate(found), *state.values()], [y, *last], f"{case} {cuts}")


def test_many_threads_share_a_kernel(kernel):
    case = float32_case(Float32Variant(cell="GRU"), 40, 50, "bidirectional", seed=4)
    feeds, session = feeds_of(case, 9, 20), kernel(case.model)
    expected, found = run(session, case, feeds), []
    threads = [threading.Thread(target=lambda: found.append(run(session, case, feeds))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    for answer in found:
        assert_same(answer, expected, str(case))


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v.ragged], ids=names)
def test_lengths(kernel, variant):
    case = float32_case(variant, 5, 17, "bidirectional")
    feeds = feeds_of(case, 6, 4)
    session, node = kernel(case.model), open_session(case.node)
    for lengths in ([0, 0, 0, 0], [6, 6, 6, 6], [1, 0, 5, 6]):
        given = feeds | {"lengths": np.array(lengths, np.int32)}
        answer = run(session, case, given)
        assert_close(answer, run(node, case, given), case)
        empty = np.array(lengths) == 0
        assert not any(state[:, empty].any() for state in answer[1:])
    for wrong in ([7, 1, 1, 1], [1, -1, 1, 1], [2**31 - 1] * 4):
        given = feeds | {"lengths": np.array(wrong, np.int32)}
        with pytest.raises(RUNTIME_ERRORS, match=r"lengths holds -?\d+, expected 0 to 6"):
            run(session, case, given)
        with pytest.raises(RUNTIME_ERRORS):  # so does onnxruntime's node
            run(node, case, given)


def call_of(case, **changed):
    """A call of the case's operator with other attributes, inputs or outputs."""
    attributes = {"hidden_size": case.hidden, "direction": case.direction} | changed.pop("attributes", {})
    return helper.make_node(
        case.variant.name,
        list(changed.get("inputs", case.variant.inputs)),
        list(changed.get("outputs", case.variant.outputs)),
        domain=DOMAIN,
        **{name: value for name, value in attributes.items() if value is not None},
    )


@pytest.mark.parametrize("variant", [VARIANTS[3], VARIANTS[6]], ids=names)
def test_a_constant_of_any_other_shape_is_refused(kernel, variant):
    case = float32_case(variant, 9, 6, "bidirectional")
    kernel(one_call(call_of(case), case.weights, body=False))  # as it is, it opens
    for name, array in case.weights.items():
        for axis in range(array.ndim):
            if (name, axis) == ("w", 2):
                continue  # the number of inputs is whatever w says
            for changed in (np.delete(array, -1, axis), np.concatenate([array, np.take(array, [0], axis)], axis)):
                with pytest.raises(ArtifactError, match=rf"{variant.name}: input {name} has shape"):
                    kernel(one_call(call_of(case), {**case.weights, name: changed}, body=False))
        for changed in (array[None], array.reshape(-1), np.zeros((0, *array.shape[1:]), "f"), array.astype("d")):
            with pytest.raises(ArtifactError):
                kernel(one_call(call_of(case), {**case.weights, name: changed}, body=False))


@pytest.mark.parametrize("variant", [VARIANTS[0], VARIANTS[5]], ids=names)
def test_malformed_attributes_are_refused(kernel, variant):
    case = float32_case(variant, 9, 6)
    for attributes, sentence in (
        ({"hidden_size": None}, "must be there"),
        ({"direction": None}, "must be there"),
        ({"direction": "sideways"}, "must be there"),
        ({"direction": "bidirectional" * 9}, "must be there"),
        ({"direction": 1}, "must be there"),
        ({"hidden_size": 0}, "hidden_size is 0"),
        ({"hidden_size": -6}, "hidden_size is -6"),
        ({"hidden_size": 2**62}, "hidden_size is"),
        ({"hidden_size": 7}, "input w has shape"),
        ({"direction": "bidirectional"}, "input w has shape"),
    ):
        with pytest.raises(ArtifactError, match=sentence):
            kernel(one_call(call_of(case, attributes=attributes), case.weights, body=False))


@pytest.mark.parametrize("variant", VARIANTS, ids=names)
def test_malformed_inputs_are_refused(kernel, variant):
    case = float32_case(variant, 9, 6, "bidirectional")
    session, feeds = kernel(case.model), feeds_of(case, 4, 3)
    for name, array in feeds.items():
        for axis in range(array.ndim):
            if (name, axis) == ("x", 0):
                continue  # the number of steps is whatever x says
            longer = np.concatenate([array, np.take(array, [0], axis)], axis)
            with pytest.raises(RUNTIME_ERRORS, match=rf"{variant.name}: "):
                run(session, case, feeds | {name: longer})
    for empty in ((0, 3, 9), (4, 0, 9)):
        with pytest.raises(RUNTIME_ERRORS, match=r"expected \[time, batch, 9\], both at least 1"):
            run(session, case, feeds | {"x": np.zeros(empty, np.float32)})
    for missing in ("w", "r", "b"):
        inputs = [name if name != missing else "" for name in variant.inputs]
        weights = {name: array for name, array in case.weights.items() if name != missing}
        with pytest.raises(ArtifactError):
            kernel(one_call(call_of(case, inputs=inputs), weights, body=False))
        with pytest.raises(ArtifactError, match=f"input {missing} must be a constant"):  # it is the graph's input
            kernel(one_call(call_of(case), weights, body=False))


def test_a_missing_output_is_an_error(kernel):
    case = float32_case(Float32Variant(cell="LSTM"), 9, 6)
    model = one_call(call_of(case, outputs=("y", "", "c_out")), case.weights, body=False)
    with pytest.raises((ArtifactError, *RUNTIME_ERRORS)):
        kernel(model).run(None, feeds_of(case, 4, 3))


def test_functions_are_one_node():
    for variant in VARIANTS:
        case = float32_case(variant, 3, 2)
        (function,) = onnx.ModelProto.FromString(case.model).functions
        assert [node.op_type for node in function.node] == [variant.cell]
        assert list(function.input) == list(variant.inputs)
