"""How many steps each recurrent layer takes, and whether those are steps of time.

A layer may run over another axis of its input than time, such as the frequency bands of one frame. It then starts every
call anew and may run backwards, and neither forbids to feed the model piece by piece.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from lstm_edge_exporters.adopt.find import FoundLayer, find_layers, layer_nodes
from lstm_edge_exporters.onnx_graph.edit import append_node
from lstm_edge_exporters.onnx_graph.fold import forget_shapes
from lstm_edge_exporters.onnx_graph.reading import parse_model
from lstm_edge_exporters.onnx_graph.writing import draft
from lstm_edge_exporters.verify.inputs import InputMaker, random_state
from lstm_edge_exporters.verify.open_model import OpenModel
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import TIME, StateSpec
from lstm_edge_runtime.errors import ArtifactError
from lstm_edge_runtime.providers import RUNTIME_ERRORS

__all__ = ["HIDDEN", "declared_inside", "layers_over_time"]

HIDDEN = ("absent", "zeros", "constant")
_LENGTHS = (7, 12)
_REFUSALS: tuple[type[Exception], ...] = (ArtifactError, *RUNTIME_ERRORS)


def layers_over_time(
    data: bytes, maker: InputMaker, found: Sequence[FoundLayer], states: Sequence[StateSpec], lengths: str | None
) -> frozenset[str]:
    """Return the names of the layers that run over time, or of which that is not known.

    Where an input has a time axis, those are the layers whose number of steps changes with its length; else see
    ``over_time``. The model is run; layers in nested graphs and functions are taken to run over time.
    """
    names = frozenset(layer.name for layer in found)
    model = parse_model(data)
    probes = {}
    for index, (where, node) in enumerate(layer_nodes(model)):
        if not where and node.inputs[0] is not None:
            name = f"lstm_edge.steps.{index}"
            shape = append_node(model.graph, "Shape", node.inputs[0], name=name, output=name)
            shape.type = ir.TensorType(ir.DataType.INT64)
            model.graph.outputs.append(shape)
            probes[found[index].name] = name
    timed = any(TIME in spec.axes for spec in maker.specs)
    try:
        opened = OpenModel.of(draft(model).SerializeToString(deterministic=True), foreign=True)
        runs = [_run(opened, maker, states, lengths, time) for time in (_LENGTHS if timed else _LENGTHS[:1])]
    except _REFUSALS:
        return names
    steps = {layer: [int(run[probe][0]) for run in runs] for layer, probe in probes.items()}
    if timed:
        return names - {layer for layer, seen in steps.items() if seen[0] == seen[1]}
    carrying = {layer.name for layer in found if set(layer.initial.values()) - set(HIDDEN)}
    return _over_time({layer.name: steps.get(layer.name, [0])[0] for layer in found}, carrying, stated=bool(states))


def _run(
    model: OpenModel, maker: InputMaker, states: Sequence[StateSpec], lengths: str | None, time: int
) -> dict[str, Array]:
    rng = np.random.default_rng(5)
    feeds = maker.make(rng, 2, time) | random_state(states, rng, 2, zero=False)
    if lengths is not None:
        feeds[lengths] = np.full(2, time, np.int64)
    return model.answers(feeds)


def declared_inside(model: ir.Model) -> frozenset[str]:
    """Return the layers that do not run over time, by the shapes that shape inference finds; fewer where it finds none.

    A layer of a fixed number of steps, more than one, runs over something else if another layer's steps are dynamic.
    The shapes of inner values are replaced in place.
    """
    forget_shapes(model)
    common.ShapeInferencePass(data_prop=False)(model)
    found, steps, dynamic = find_layers(model), dict[str, int](), False
    for layer, (_where, node) in zip(found, layer_nodes(model), strict=True):
        x = node.inputs[0]
        size = None if x is None or x.shape is None or len(x.shape) != 3 else x.shape[0]
        steps[layer.name] = size if isinstance(size, int) else 0
        dynamic = dynamic or (isinstance(size, ir.SymbolicDim) and size.value is not None)
    if dynamic:
        return frozenset(layer for layer, count in steps.items() if count > 1)
    carrying = {layer.name for layer in found if set(layer.initial.values()) - set(HIDDEN)}
    return frozenset(steps) - _over_time(steps, carrying, stated=False)


def _over_time(steps: Mapping[str, int], carrying: Collection[str], *, stated: bool) -> frozenset[str]:
    """Return the layers that run over time, or may, in a file of which no axis is known to be time.

    A call of such a file has a fixed number of steps of time. Layers that carry a state from call to call take that
    many; a layer that takes another number runs over something else. Where no layer carries one, and some take a
    single step, those are taken to run over time. Where there are none of either, but the file has states (caches),
    its author made it to be called in a row as it is.

    Args:
        steps: the steps that each layer takes in a call; 0 where that is not known.
        carrying: the layers whose initial state is not the same in every call.
        stated: the file has states.
    """
    unknown = {layer for layer, count in steps.items() if not count}
    in_time = {steps[layer] for layer in carrying if steps.get(layer)} or {1} & set(steps.values())
    if not in_time and not (stated and not unknown):
        return frozenset(steps)
    return frozenset(unknown | {layer for layer, count in steps.items() if count in in_time})
