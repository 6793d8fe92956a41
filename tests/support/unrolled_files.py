"""Recurrent layers unrolled over time: nodes of one step each, as exporters and hand-written converters leave them."""

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from lstm_edge_runtime.arrays import Array

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


@dataclass(frozen=True, kw_only=True)
class Unrolled:
    """One way to write a layer of one-step nodes over ``x`` [batch, time, I], ``steps`` of its ``total`` steps.

    Attributes:
        cut: ``Split``, ``Slice`` or ``Gather``: how a step of x is cut out.
        time: the axis of x that is time, 0 or 1.
        order: the steps of x in the order in which they are read; all of them where it is empty.
        apart: a copy of the weights for each step.
        state: h (and c) are inputs and outputs of the graph.
        answer: ``stack`` (Unsqueeze and Concat), ``wide`` (the nodes' Y, joined), ``flat`` (one row of features) or
            ``last``.
        change: ``weights`` (another matrix at one step), ``skip`` (one step starts from the state of the last but one)
            or ``c`` (an inner c leaves the graph).
    """

    kind: str = "LSTM"
    steps: int = 20
    total: int = 0
    inputs: int = 6
    hidden: int = 8
    cut: str = "Split"
    time: int = 1
    order: tuple[int, ...] = ()
    apart: bool = False
    state: bool = False
    answer: str = "stack"
    change: str = ""

    @property
    def sequence(self) -> tuple[int, ...]:
        """The steps in their order."""
        return self.order or tuple(range(self.steps))


def unrolled(form: Unrolled) -> bytes:
    """Return the file."""
    rng, rows = np.random.default_rng(7), GATES[form.kind] * form.hidden
    shapes = {"W": (1, rows, form.inputs), "R": (1, rows, form.hidden), "B": (1, 2 * rows)}
    arrays = {name: (rng.normal(size=shape) * 0.4).astype(np.float32) for name, shape in shapes.items()}
    arrays |= {"at0": np.array([0]), "at1": np.array([1]), "both": np.array([0, 1]), "H": np.array([form.hidden])}
    total = form.total or form.steps
    nodes = _starts(form)
    if form.cut == "Split":
        pieces = [f"piece{t}" for t in range(total)]
        nodes.append(helper.make_node("Split", ["x"], pieces, name="split", axis=form.time, num_outputs=total))
    h = c = "start"
    if form.state:
        h, c = "h", "c"
    states = []
    for count, t in enumerate(form.sequence):
        nodes += _step(form, arrays, count, t)
        given = states[-2] if form.change == "skip" and count == 3 else (h, c)
        names = list("WRB")
        if form.apart or (form.change == "weights" and count == form.steps // 2):
            for name in "WRB":
                arrays[f"{name}{count}"] = arrays[name] * (1.5 if form.change == "weights" and name == "R" else 1)
            names = [f"{name}{count}" for name in "WRB"]
        outs = [f"Y{count}", f"h{count}", *([f"c{count}"] if form.kind == "LSTM" else [])]
        nodes.append(
            helper.make_node(
                form.kind,
                [f"X{count}", *names, "", *given[: len(outs) - 1]],
                outs,
                name=f"cell{count}",
                hidden_size=form.hidden,
            )
        )
        h, c = f"h{count}", f"c{count}"
        states.append((h, c))
    nodes += _answer(form)
    outputs = ["y", *([h] if form.state else []), *([c] if form.state and form.kind == "LSTM" else [])]
    outputs += ["c1"] if form.change == "c" else []
    axes = ["batch", total, form.inputs] if form.time else [total, "batch", form.inputs]
    given = ["h", "c"][: 1 + (form.kind == "LSTM")] if form.state else []
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, axes)]
    inputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, "batch", form.hidden]) for name in given]
    ranks = {"y": {"stack": 3, "wide": 4}.get(form.answer, 2)}
    leaving = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None] * ranks.get(n, 3)) for n in outputs]
    held = [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "unrolled", inputs, leaving, held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _starts(form: Unrolled) -> list[onnx.NodeProto]:
    """Zeros of the batch that x has."""
    if form.state:
        return []
    return [
        helper.make_node("Shape", ["x"], ["rows"], name="rows", start=1 - form.time, end=2 - form.time),
        helper.make_node("Concat", ["at1", "rows", "H"], ["size"], name="size", axis=0),
        helper.make_node("ConstantOfShape", ["size"], ["start"], name="start"),
    ]


def _step(form: Unrolled, arrays: dict[str, Array], count: int, t: int) -> list[onnx.NodeProto]:
    """Nodes that make X of one step, [1, batch, I]."""
    axis = f"at{form.time}"
    if form.cut == "Gather":
        arrays[f"t{count}"] = np.array(t)
        cut = [helper.make_node("Gather", ["x", f"t{count}"], [f"x{count}"], name=f"take{count}", axis=form.time)]
    else:
        source = f"piece{t}"
        cut = []
        if form.cut == "Slice":
            source = f"piece_{count}"
            arrays[f"t{count}"], arrays[f"u{count}"] = np.array([t]), np.array([t + 1])
            cut.append(helper.make_node("Slice", ["x", f"t{count}", f"u{count}", axis], [source], name=f"cut{count}"))
        cut.append(helper.make_node("Squeeze", [source, axis], [f"x{count}"], name=f"squeeze{count}"))
    return [*cut, helper.make_node("Unsqueeze", [f"x{count}", "at0"], [f"X{count}"], name=f"wide{count}")]


def _answer(form: Unrolled) -> list[onnx.NodeProto]:
    count = len(form.sequence)
    nodes = [helper.make_node("Squeeze", [f"h{k}", "at0"], [f"flat{k}"], name=f"flat{k}") for k in range(count)]
    if form.answer == "last":
        return [*nodes, helper.make_node("Identity", [f"flat{count - 1}"], ["y"], name="last")]
    if form.answer == "wide":
        return [helper.make_node("Concat", [f"Y{k}" for k in range(count)], ["y"], name="join", axis=0)]
    if form.answer == "flat":
        return [*nodes, helper.make_node("Concat", [f"flat{k}" for k in range(count)], ["y"], name="join", axis=1)]
    nodes += [helper.make_node("Unsqueeze", [f"flat{k}", "at1"], [f"up{k}"], name=f"up{k}") for k in range(count)]
    return [*nodes, helper.make_node("Concat", [f"up{k}" for k in range(count)], ["y"], name="join", axis=1)]
