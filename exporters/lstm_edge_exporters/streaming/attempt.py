"""A graph that looks across time, made streamable and proved to be so."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
import onnx_ir as ir

from lstm_edge_exporters.onnx_graph.reading import parse_model
from lstm_edge_exporters.onnx_graph.writing import to_proto
from lstm_edge_exporters.streaming import make_streamable
from lstm_edge_exporters.streaming.errors import NotStreamable
from lstm_edge_exporters.verify.chunks import obstacle, shared_scales
from lstm_edge_exporters.verify.inputs import InputMaker, random_state
from lstm_edge_exporters.verify.open_model import OpenModel
from lstm_edge_exporters.verify.pushes import Whole, compare_pushes
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import TIME, Layer, StateSpec, Streaming, TensorSpec

__all__ = ["Attempt", "attempt"]


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """The graph with caches: as onnx has it, opened, and as a model of whole sequences.

    ``states`` are those of before and the caches.
    """

    model: ir.Model
    proto: onnx.ModelProto
    open: OpenModel
    whole: Whole
    outputs: tuple[TensorSpec, ...]
    states: tuple[StateSpec, ...]
    streaming: Streaming


def attempt(
    model: OpenModel,
    maker: InputMaker,
    *,
    outputs: Sequence[TensorSpec],
    states: Sequence[StateSpec],
    layers: Sequence[Layer],
    lengths: str | None,
    fewest: int,
) -> Attempt:
    """Give a graph's operations along time caches, and compare pushes with the whole sequence.

    The arguments are those of ``judge_streaming``, whose verdict was ``none``.

    Raises:
        NotStreamable: the graph cannot be streamed; the message is the reason.
    """
    problem = obstacle(maker, states, layers) or shared_scales(model.data)
    if problem:
        raise NotStreamable(problem)
    if lengths is not None:
        raise NotStreamable("rows of different lengths have no common caches: export without lengths to stream")
    graph = parse_model(model.data)
    rng = np.random.default_rng(11)

    def feeds(batch: int, time: int) -> Mapping[str, Array]:
        return maker.make(rng, batch, time) | random_state(states, rng, batch, zero=False)

    made = make_streamable(graph, maker.specs, [spec.name for spec in outputs], feeds, fewest=fewest)
    named = tuple(_with_time(spec, made.time_axes.get(spec.name)) for spec in outputs)
    _declare(graph, named)
    proto = to_proto(graph)
    opened = OpenModel.of(proto.SerializeToString(deterministic=True))
    pooled = [spec.name for spec in named if TIME not in spec.axes]
    reason = f"output {', '.join(pooled)} has no time axis" if pooled else ""
    if made.early:
        reason += "; before the end of a sequence it lacks the steps of the look-ahead"
    streaming = Streaming(
        verdict="last-step" if pooled else "every-step",
        reason=reason,
        latency_steps=made.counts.latency_steps,
        first=made.counts.first,
        first_gives=made.counts.first_gives,
        every=made.counts.every,
        gives=made.counts.gives,
        end=made.end,
    )
    problem = compare_pushes(
        opened,
        model,
        maker,
        outputs=named,
        states=states,
        caches=made.states,
        streaming=streaming,
        fewest=fewest,
    )
    if problem:
        raise NotStreamable(problem)
    return Attempt(
        model=graph,
        proto=proto,
        open=opened,
        whole=Whole(opened.data, opened.session, tuple(maker.specs), made.states, made.end),
        outputs=named,
        states=(*states, *made.states),
        streaming=streaming,
    )


def _with_time(spec: TensorSpec, axis: int | None) -> TensorSpec:
    if axis is None:
        return spec
    return replace(spec, axes=tuple(TIME if at == axis else name for at, name in enumerate(spec.axes)))


def _declare(graph: ir.Model, outputs: Sequence[TensorSpec]) -> None:
    """Let the graph's outputs have the axes that the card says."""
    specs = {spec.name: spec for spec in outputs}
    for value in graph.graph.outputs:
        if value.name in specs and value.shape is not None:
            value.shape = ir.Shape(list(specs[str(value.name)].axes))
