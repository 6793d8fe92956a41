"""What an adopted file says about itself: layers, streaming, and what could not be found out."""

from collections.abc import Sequence
from typing import Literal

import onnx_ir as ir

from lstm_edge_exporters.adopt.find import FoundLayer, find_layers, layer_nodes
from lstm_edge_exporters.adopt.steps import HIDDEN, layers_over_time
from lstm_edge_exporters.onnx_graph.liveness import live_nodes
from lstm_edge_exporters.onnx_graph.names import Names
from lstm_edge_exporters.onnx_graph.nodes import attribute_of
from lstm_edge_exporters.verify.chunks import judge_streaming
from lstm_edge_exporters.verify.inputs import InputMaker
from lstm_edge_exporters.verify.open_model import OpenModel
from lstm_edge_runtime.card import BATCH, TIME, Layer, StateSpec, Streaming, TensorSpec

__all__ = ["card_layers", "judge", "known_streaming", "name_layers", "output_marks"]

_CELLS: dict[str, Literal["lstm", "gru", "rnn"]] = {"lstm": "lstm", "gru": "gru", "rnn": "rnn"}


def name_layers(model: ir.Model, known: Sequence[str] = ()) -> None:
    """Give every recurrent node its own name; in place.

    ``known`` are the layers' names in the original: a node of a branch that was folded away, which folding gave a
    longer name, gets its own back.
    """
    for _where, node in layer_nodes(model):
        ends = [name for name in known if (node.name or "").endswith(f"_{name}")]
        if node.name not in known and ends:
            node.name = max(ends, key=len)
    names = Names(node.name for node in model.graph.all_nodes())
    seen: set[str] = set()
    for _where, node in layer_nodes(model):
        if not node.name or node.name in seen:
            node.name = names.take(node.name or node.op_type.lower())
        seen.add(node.name)


def card_layers(model: ir.Model) -> tuple[tuple[Layer, ...], tuple[str, ...]]:
    """Return the layers that the card can describe, and a sentence for each one that it cannot."""
    layers, sentences = [], []
    nodes = [node for _where, node in layer_nodes(model)]
    live = live_nodes(model)
    for found, node in zip(find_layers(model), nodes, strict=True):
        if node not in live and not found.where.startswith("function "):
            sentences.append(f"the layer {found.name!r} ({found.operator}): no output depends on its numbers")
            continue
        activation = _activation(node) if found.cell == "rnn" else None
        if (found.cell == "rnn" and activation is None) or found.input_size is None or found.hidden_size is None:
            unknown = found.input_size is None or found.hidden_size is None
            why = (
                "has weights that are not constant"
                if unknown
                else "has a clip, or activations other than one Tanh or Relu"
            )
            sentences.append(f"the layer {found.name!r} ({found.operator}) {why}: the card does not describe it")
            continue
        peephole = found.cell == "lstm" and len(node.inputs) > 7 and node.inputs[7] is not None
        after = attribute_of(node, "linear_before_reset", 0) != 0
        layers.append(
            Layer(
                name=found.name,
                cell=_CELLS[found.cell],
                peephole="diagonal" if peephole else "none",
                input_size=found.input_size,
                hidden_size=found.hidden_size,
                projection_size=0,
                directions=found.directions,
                operator=found.operator if node.domain in ("", "ai.onnx") else f"{node.domain}::{found.operator}",
                reset_after=after if found.cell == "gru" else None,
                activation=activation,
            )
        )
    return tuple(layers), tuple(sentences)


def _activation(node: ir.Node) -> Literal["tanh", "relu"] | None:
    """The activation of an RNN, where it is one that the card has, without a clip, in all directions."""
    found = {str(name).lower() for name in attribute_of(node, "activations") or ["Tanh"]}
    if "clip" in node.attributes:
        return None
    return "tanh" if found == {"tanh"} else "relu" if found == {"relu"} else None


def judge(
    model: OpenModel,
    maker: InputMaker,
    found: Sequence[FoundLayer],
    layers: Sequence[Layer],
    *,
    outputs: Sequence[TensorSpec],
    states: Sequence[StateSpec],
    lengths: str | None,
    fewest: int,
) -> Streaming:
    """Return how the adopted file may be fed piece by piece, and why not where it may not."""
    known = known_streaming(model, maker, found, states=states, lengths=lengths)
    if known is not None:
        return known
    timed = layers_over_time(model.data, maker, found, states, lengths)
    in_time = [layer for layer in layers if layer.name in timed]
    return judge_streaming(model, maker, outputs=outputs, states=states, layers=in_time, lengths=lengths, fewest=fewest)


def known_streaming(
    model: OpenModel,
    maker: InputMaker,
    found: Sequence[FoundLayer],
    *,
    states: Sequence[StateSpec],
    lengths: str | None,
) -> Streaming | None:
    """Return how a file may be fed where its layers and axes say it; None where only a trial does."""
    timed = layers_over_time(model.data, maker, found, states, lengths)
    backward = [layer.name for layer in found if layer.direction != "forward" and layer.name in timed]
    if backward:
        return Streaming(
            verdict="none",
            reason=f"{_subject(backward, 'runs', 'run')} backwards in time too, which needs the whole sequence",
        )
    hidden = [layer.name for layer in found if set(layer.initial.values()) & set(HIDDEN) and layer.name in timed]
    if hidden:
        looped = [layer.name for layer in found if layer.name in hidden and ".body" in layer.where]
        constant = [layer.name for layer in found if layer.name in hidden and "constant" in layer.initial.values()]
        advice = "adopt the file with --stateful"
        if looped:
            advice = f"{', '.join(looped)} inside a Loop or a Scan"
        elif constant:
            advice = f"{', '.join(constant)} from constants other than zero, which --stateful leaves as they are"
        return Streaming(
            verdict="none", reason=f"{_subject(hidden, 'starts', 'start')} every call from the same state: {advice}"
        )
    if not states:
        return Streaming(verdict="none", reason="no input of the file is known to be a state: --state IN=OUT names one")
    free = [axis for spec in maker.specs for axis in spec.axes if isinstance(axis, str) and axis not in (BATCH, TIME)]
    if free:
        return Streaming(verdict="none", reason=f"the axis {free[0]!r} is neither batch nor time: --input names it")
    if not any(TIME in spec.axes for spec in maker.specs):
        return Streaming(verdict="each-call", reason="no input has a time axis: every call is one step")
    return None


def _subject(names: Sequence[str], one: str, several: str) -> str:
    """Names with the verb that goes with their number."""
    return f"{', '.join(names)} {one if len(names) == 1 else several}"


def output_marks(model: ir.Model, outputs: Sequence[TensorSpec], states: Sequence[StateSpec]) -> None:
    """Name the axes of the graph's outputs as the card does; in place."""
    axes = {spec.name: spec.axes for spec in outputs} | {spec.output: spec.axes for spec in states}
    for value in model.graph.outputs:
        if value.name in axes:
            value.shape = ir.Shape(list(axes[value.name]))
