"""Prepared calls of graphs whose answers have shapes that depend on values, and of other element types."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.session import Session


def opened(nodes, inputs, outputs):
    tensors = [
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in tensors]
        for tensors in (inputs, outputs)
    ]
    graph = helper.make_graph(nodes, "graph", *tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    return Session(model.SerializeToString())


def test_an_answer_whose_shape_depends_on_values_is_right_each_time():
    session = opened(
        [helper.make_node("NonZero", ["x"], ["places"]), helper.make_node("Neg", ["x"], ["y"])],
        [("x", TensorProto.FLOAT, ["n"])],
        [("places", TensorProto.INT64, [1, "found"]), ("y", TensorProto.FLOAT, ["n"])],
    )
    rng = np.random.default_rng(0)
    same = np.array([1, 0, 1], np.float32)
    for _ in range(4):
        session.run(same)
    for _ in range(40):
        x = rng.integers(0, 2, 3).astype(np.float32)
        outputs, _ = session.run(x)
        np.testing.assert_array_equal(outputs["places"], np.nonzero(x)[0][None])
        np.testing.assert_array_equal(outputs["y"], -x)


KINDS = {
    "float64": TensorProto.DOUBLE,
    "float16": TensorProto.FLOAT16,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "bool": TensorProto.BOOL,
    "uint8": TensorProto.UINT8,
}


@pytest.mark.parametrize("dtype", KINDS)
def test_inputs_of_every_type_beside_float32(dtype):
    kind = KINDS[dtype]
    session = opened(
        [helper.make_node("Identity", ["a"], ["c"]), helper.make_node("Add", ["x", "x"], ["y"])],
        [("a", kind, ["n", 2]), ("x", TensorProto.FLOAT, ["n", 3])],
        [("c", kind, ["n", 2]), ("y", TensorProto.FLOAT, ["n", 3])],
    )
    rng = np.random.default_rng(1)
    for rows in (1, 1, 1, 2, 2, 2, 1, 2, 1, 2):
        a, x = rng.integers(0, 2, (rows, 2)).astype(dtype), rng.normal(size=(rows, 3)).astype(np.float32)
        outputs, _ = session.run({"x": x, "a": a})
        np.testing.assert_array_equal(outputs["c"], a)
        np.testing.assert_array_equal(outputs["y"], x + x)
        assert outputs["c"].dtype == a.dtype
        outputs["c"][...] = 1  # an answer that is an input in the graph is still new
        with pytest.raises(InputError, match="its axis 'n' is"):
            session.run({"x": x, "a": np.concatenate([a, a])})
        if dtype.startswith("float"):
            a[-1, -1] = np.nan
            with pytest.raises(InputError, match=r"input 'a' holds nan"):
                session.run({"x": x, "a": a})
        x[0, 0] = np.inf
        with pytest.raises(InputError, match=r"holds (nan|inf) at"):
            session.run({"x": x, "a": a})


def test_a_scalar_and_an_input_without_axes():
    session = opened(
        [helper.make_node("Mul", ["x", "gain"], ["y"]), helper.make_node("ReduceSum", ["y"], ["sum"], keepdims=0)],
        [("x", TensorProto.FLOAT, ["n"]), ("gain", TensorProto.FLOAT, [])],
        [("y", TensorProto.FLOAT, ["n"]), ("sum", TensorProto.FLOAT, [])],
    )
    for number in range(6):
        x = np.arange(4, dtype=np.float32)
        outputs, _ = session.run({"x": x, "gain": np.array(number, np.float32)})
        np.testing.assert_array_equal(outputs["y"], x * number)
        assert outputs["sum"].shape == ()
        assert outputs["sum"] == 6 * number
