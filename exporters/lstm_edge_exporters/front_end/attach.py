"""Puts a front end in front of a captured model: the input of features becomes one of samples."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from lstm_edge_exporters.front_end.graph import PREFIX, Nodes
from lstm_edge_exporters.front_end.request import FrontEnd
from lstm_edge_exporters.onnx_graph.edit import owner
from lstm_edge_exporters.onnx_graph.names import rename, unique_name
from lstm_edge_runtime.card import BATCH, TIME, TensorSpec
from lstm_edge_runtime.errors import CaptureError, InputError

__all__ = ["Place", "attach", "place_of"]

SAMPLES = "samples"
# The axis of outputs: it counts frames, where the input's time axis counts samples.
FRAMES = "frames"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a front end goes: the input of features, the axes that it has, and the input of samples in its place.

    ``order`` are the axes of the features: places in [batch, features, frames], None for an axis of one element.
    ``batched`` is False where the model takes no batch axis.
    """

    features: TensorSpec
    samples: TensorSpec
    order: tuple[int | None, ...]
    batched: bool


def place_of(
    front_end: FrontEnd, inputs: Sequence[TensorSpec], *, lengths: str | None, taken: Collection[str] = ()
) -> Place:
    """Find the input that takes the features; ``taken`` are the names of outputs and states.

    Raises:
        InputError: no input can, several can, or other inputs of the model count frames; the message says what to do.
    """
    shown = ", ".join(f"{spec.name}: {spec.dtype}[{', '.join(map(str, spec.axes))}]" for spec in inputs)
    fitting = [spec for spec in inputs if _fits(spec, front_end)]
    if front_end.input:
        fitting = [spec for spec in fitting if spec.name == front_end.input]
    expected = f"expected one float32 input with a time axis and one axis of {front_end.features}"
    if not fitting:
        which = f"input {front_end.input!r} does not take them" if front_end.input else "no input takes them"
        raise InputError(
            f"front end {front_end.text!r} gives {front_end.features} features a frame, and {which}: {expected}, "
            f"the inputs are {shown}"
        )
    if len(fitting) > 1:
        raise InputError(
            f"front end {front_end.text!r}: the inputs {', '.join(spec.name for spec in fitting)} can take the "
            f"features: name one, as in input={fitting[0].name}"
        )
    features = fitting[0]
    timed = [spec.name for spec in inputs if spec is not features and TIME in spec.axes]
    counting = [*timed, *([] if lengths is None else [lengths])]
    if counting:
        advice = (
            "leave that input out of forward"
            if timed
            else "export without lengths, and give the file each sequence cut to its length"
        )
        raise InputError(
            f"front end {front_end.text!r}: the input {counting[0]!r} counts frames, and the file's steps are samples: "
            f"{advice}"
        )
    return _place(features, front_end, {*taken, *(spec.name for spec in inputs if spec is not features)})


def _fits(spec: TensorSpec, front_end: FrontEnd) -> bool:
    return spec.dtype == "float32" and TIME in spec.axes and front_end.features in spec.axes


def _place(features: TensorSpec, front_end: FrontEnd, taken: Collection[str]) -> Place:
    axes = list(features.axes)
    # The axis of features is the last of its size: [40, time, 40] is a batch of 40.
    last = len(axes) - 1 - axes[::-1].index(front_end.features)
    time = axes.index(TIME)
    left = [index for index in range(len(axes)) if index not in (last, time)]
    batch = axes.index(BATCH) if BATCH in axes else next((i for i in left if isinstance(axes[i], int)), None)
    wrong = [axes[index] for index in left if index != batch and axes[index] != 1]
    if wrong:
        raise InputError(
            f"front end {front_end.text!r}: the input {features.name!r} has the axes [{', '.join(map(str, axes))}], "
            f"and {wrong[0]!r} is neither batch, time nor the {front_end.features} features: expected one value for "
            "each feature and frame"
        )
    order = tuple({batch: 0, last: 1, time: 2}.get(index) for index in range(len(axes)))
    name = SAMPLES if SAMPLES not in taken else f"{features.name}_{SAMPLES}"
    samples = TensorSpec(
        name=name,
        dtype="float32",
        axes=(TIME,) if batch is None else (axes[batch], TIME),
        range=(-1.0, 1.0),
    )
    return Place(features=features, samples=samples, order=order, batched=batch is not None)


def attach(model: ir.Model, front_end: FrontEnd, place: Place, outputs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """Put the front end into a captured model, in place; returns its outputs, whose steps are frames.

    Raises:
        CaptureError: the graph has no node.
    """
    graph = model.graph
    old = next(value for value in graph.inputs if value.name == place.features.name)
    first = next(iter(graph), None)
    if first is None:
        raise CaptureError("the captured model has no node: there is nothing to put a front end before")
    prefix = _free(model, place.samples.name)
    samples = ir.Value(
        name=place.samples.name, shape=ir.Shape(list(place.samples.axes)), type=ir.TensorType(ir.DataType.FLOAT)
    )
    nodes = Nodes(samples, prefix)
    new_axes = [1] if place.batched else [0, 1]
    nodes.add("Unsqueeze", "channel", [nodes.constant("channel.axis", np.array(new_axes, np.int64))])
    nodes.add_features(front_end)
    _arrange(nodes, place)
    ir.convenience.replace_all_uses_with(old, nodes.result, replace_graph_outputs=True)
    graph.inputs[list(graph.inputs).index(old)] = samples
    for constant in nodes.constants:
        graph.register_initializer(constant)
    owner(first).insert_before(first, nodes.nodes)
    _count_frames(model)
    return tuple(replace(spec, axes=tuple(FRAMES if axis == TIME else axis for axis in spec.axes)) for spec in outputs)


def _arrange(nodes: Nodes, place: Place) -> None:
    """Go on from [batch, features, frames] to the axes that the model takes."""
    order = [index for index in place.order if index is not None]
    if not place.batched:
        nodes.add("Squeeze", "no_batch", [nodes.constant("no_batch.axis", np.array([0], np.int64))])
        order = [index - 1 for index in order]
    if order != sorted(order):
        nodes.add("Transpose", "order", perm=order)
    ones = [index for index, source in enumerate(place.order) if source is None]
    if ones:
        nodes.add("Unsqueeze", "ones", [nodes.constant("ones.axes", np.array(ones, np.int64))])


def _free(model: ir.Model, name: str) -> str:
    """Give a value within the model that has the name another one; returns a prefix that no name has."""
    values = [value for node in model.graph.all_nodes() for value in node.outputs]
    for value in (*values, *model.graph.initializers.values()):
        if value.name == name:
            rename(model.graph, value, unique_name(model.graph, f"{name}_inside"))
    names = [value.name for value in (*values, *model.graph.inputs, *model.graph.initializers.values())]
    names += [node.name for node in model.graph.all_nodes()]
    prefix, count = PREFIX, 0
    while any((name or "").startswith(f"{prefix}.") for name in names):
        count += 1
        prefix = f"{PREFIX}_{count}"
    return prefix


def _count_frames(model: ir.Model) -> None:
    """Rename the time axis of all values but the input: onnxruntime takes equal names for equal sizes."""
    inputs = {id(value) for value in model.graph.inputs}
    outputs = {id(value) for value in model.graph.outputs}
    for graph in (model.graph, *model.graph.subgraphs()):
        for value in (output for node in graph for output in node.outputs):
            if value.shape is None or id(value) in inputs:
                continue
            dims = [_frames(dim.value if isinstance(dim, ir.SymbolicDim) else dim) for dim in value.shape]
            value.shape = ir.Shape(dims) if id(value) in outputs or None not in dims else None


def _frames(dim: int | str | None) -> int | str | None:
    """Return ``frames`` for ``time``; a dimension that is computed from it is left unknown."""
    if not isinstance(dim, str):
        return dim
    return FRAMES if dim == TIME else (None if TIME in dim else dim)
