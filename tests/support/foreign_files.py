"""Files of other exporters with one layer: without states, in branches, in a loop, with a packed state."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from lstm_edge_runtime.providers import open_session
from support.onnx_files import FLOAT, H, I, model, weights

X = {"x": (FLOAT, ["n", "rows", I])}  # time and batch under names that say nothing
ONE = {"one": np.array([1])}


def gru_weights(seed=3):
    rng = np.random.default_rng(seed)
    shapes = {"W": (1, 3 * H, I), "R": (1, 3 * H, H), "B": (1, 6 * H)}
    return {name: rng.uniform(-0.6, 0.6, shape).astype(np.float32) for name, shape in shapes.items()}


def whole(data, feeds):
    session = open_session(data)
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))


def hidden(operator="LSTM", **attributes):
    """One layer with a hidden zero state and a flat output."""
    arrays = (weights(1) if operator == "LSTM" else gru_weights()) | ONE
    arrays.pop("P", None)
    nodes = [
        helper.make_node(operator, ["x", "W", "R", "B"], ["Y"], name="rnn", hidden_size=H, **attributes),
        helper.make_node("Squeeze", ["Y", "one"], ["y"], name="flat"),
    ]
    return model(nodes, X, {"y": ["n", "rows", H]}, arrays)


def chunked(session, x, cuts, time=0):
    stream, start, pieces = session.stream(x.shape[1 - time]), 0, []
    for steps in cuts:
        pieces.append(stream.push(np.ascontiguousarray(np.take(x, range(start, start + steps), axis=time))))
        start += steps
    return np.concatenate(pieces, axis=time)


def branch(name, arrays, *, layer=True, scale=1.0):
    """A body that captures x: a layer and its flat output, or zeros of that shape."""
    constants = [
        numpy_helper.from_array(np.asarray(a * scale if a.dtype == np.float32 else a), f"{name}.{k}")
        for k, a in arrays.items()
    ]
    nodes = [helper.make_node("Constant", [], [c.name], value=c) for c in constants]
    nodes += [
        helper.make_node(
            "LSTM", ["x", f"{name}.W", f"{name}.R", f"{name}.B"], [f"{name}.Y"], name=f"{name}.rnn", hidden_size=H
        ),
        helper.make_node("Squeeze", [f"{name}.Y", f"{name}.one"], [f"{name}.y"], name=f"{name}.flat"),
    ]
    if not layer:
        nodes[-2:] = [
            helper.make_node("MatMul", ["x", f"{name}.M"], [f"{name}.y"], name=f"{name}.mul"),
        ]
    return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(f"{name}.y", FLOAT, [None, None, H])])


def chosen(*, second=True):
    arrays = {k: a for k, a in weights(1).items() if k != "P"} | ONE | {"M": np.ones((I, H), np.float32)}
    nodes = [
        helper.make_node("Equal", ["rate", "sixteen"], ["is16"], name="equal"),
        helper.make_node(
            "If",
            ["is16"],
            ["y"],
            name="choose",
            then_branch=branch("a", arrays),
            else_branch=branch("b", arrays, layer=second, scale=0.5),
        ),
    ]
    inputs = X | {"rate": (TensorProto.INT64, [])}
    return model(nodes, inputs, {"y": ["n", "rows", H]}, {"sixteen": np.array(16)})


def looped():
    arrays = {k: a for k, a in weights(1).items() if k != "P"} | ONE
    body = helper.make_graph(
        [
            helper.make_node("LSTM", ["x", "W", "R", "B"], ["Y"], name="inner", hidden_size=H),
            helper.make_node("Squeeze", ["Y", "one"], ["flat"], name="flat"),
            helper.make_node("Add", ["flat", "before"], ["after"], name="add"),
            helper.make_node("Identity", ["go"], ["go_on"], name="go"),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", FLOAT, [None, None, H]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", FLOAT, [None, None, H]),
        ],
    )
    nodes = [
        helper.make_node("MatMul", ["x", "M"], ["start"], name="mul"),
        helper.make_node("Loop", ["two", "yes", "start"], ["y"], name="twice", body=body),
    ]
    more = {"two": np.array(2), "yes": np.array(True), "M": np.ones((I, H), np.float32)}
    return model(nodes, X, {"y": ["n", "rows", H]}, arrays | more)


def packed(*, crossed=False):
    """h and c in one tensor [2, batch, H], as a published VAD has them; crossed: they leave in the wrong order."""
    arrays = weights(1) | ONE | {"zero": np.array([0]), "two": np.array([2]), "axis": np.array([0])}
    leaving = ["hn", "cn"] if not crossed else ["cn", "hn"]
    nodes = [
        helper.make_node("Slice", ["state", "zero", "one", "axis"], ["h0"], name="first"),
        helper.make_node("Slice", ["state", "one", "two", "axis"], ["c0"], name="second"),
        helper.make_node("LSTM", ["x", "W", "R", "B", "", "h0", "c0"], ["Y", "hn", "cn"], name="rnn", hidden_size=H),
        helper.make_node("Concat", leaving, ["stateN"], name="join", axis=0),
        helper.make_node("Squeeze", ["Y", "one"], ["y"], name="flat"),
    ]
    arrays.pop("P")
    inputs = X | {"state": (FLOAT, [2, "b", H])}
    return model(nodes, inputs, {"y": ["n", "rows", H], "stateN": [2, "b", H]}, arrays)
