"""Operations along time become stateful: what they keep of earlier steps is an explicit state of the graph.

``make_streamable`` follows the steps of every value through a graph (``flow.py``), with the shapes that the graph has
when it runs (``measure.py``), and rewrites the nodes that look at more than one step (``rules.py``). ``attempt`` proves
the result: pushes are compared with the whole sequence. May import ``onnx_graph`` and ``verify``; never torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from lstm_edge_exporters.onnx_graph.edit import drop_unused
from lstm_edge_exporters.onnx_graph.fold import forget_shapes
from lstm_edge_exporters.onnx_graph.names import unique_names
from lstm_edge_exporters.streaming.cuts import parts_of
from lstm_edge_exporters.streaming.errors import NotStreamable
from lstm_edge_exporters.streaming.flow import Counts, counts_of, input_flow
from lstm_edge_exporters.streaming.fusing import fuse_padding
from lstm_edge_exporters.streaming.joins import align
from lstm_edge_exporters.streaming.measure import Feeds, measure
from lstm_edge_exporters.streaming.rewriter import Rewriter
from lstm_edge_exporters.streaming.rules import flow_through
from lstm_edge_runtime.card import TIME, StateSpec, TensorSpec

__all__ = ["NotStreamable", "Streamable", "make_streamable"]


@dataclass(frozen=True, kw_only=True)
class Streamable:
    """What was added to a graph: the caches, how a stream counts its steps, and the input for the end.

    ``time_axes`` are the axes of time of the outputs that have one. ``early`` names outputs without one that, before
    the sequence ends, lack the last steps (look-ahead).
    """

    states: tuple[StateSpec, ...]
    counts: Counts
    end: str | None
    time_axes: Mapping[str, int]
    early: tuple[str, ...]


def make_streamable(
    model: ir.Model, inputs: Sequence[TensorSpec], outputs: Sequence[str], feeds: Feeds, *, fewest: int = 1
) -> Streamable:
    """Give the operations along time of a graph their caches, in place.

    Args:
        model: the graph, with the states of its recurrent layers explicit; where the reason is raised it is of no use
            any more.
        inputs: its inputs without states; those with a ``time`` axis are cut.
        outputs: its outputs without states.
        feeds: makes the graph's inputs, states included, for a batch and a length.
        fewest: the fewest steps that the model takes.

    Raises:
        NotStreamable: an operation needs the whole sequence, or it is not known how it treats time.
    """
    forget_shapes(model)
    with unique_names(model):
        fuse_padding(model)
    measured = measure(model, feeds, fewest)
    timed = {spec.name: input_flow(spec.axes.index(TIME)) for spec in inputs if TIME in spec.axes}
    with unique_names(model):
        rewriter = Rewriter(model, measured, timed)
        for node in model.graph:
            rewriter.kept |= parts_of(node)
        for node in list(model.graph):
            flow_through(rewriter, node)
        for value in model.graph.outputs:
            if value in rewriter.refused:
                raise NotStreamable(rewriter.refused[value])
        leaving = [value for value in model.graph.outputs if value.name in outputs]
        moving = [value for value in leaving if rewriter.flow(value) is not None]
        pooled = [value for value in leaving if value not in moving]
        moving = align(rewriter, moving)
        ends = [rewriter.flows[value] for value in moving]
        if pooled or not ends:
            ends = [*ends, *(rewriter.picked or rewriter.layers)]
        if not ends:
            raise NotStreamable("no output depends on the steps of the input")
        flows = [flow for flow in rewriter.flows.values() if not flow.constant]
        counts = counts_of(flows, ends, [numbers for _, numbers in rewriter.tables])
        rewriter.finish(counts.every, counts.settled)
    drop_unused(model)
    early = not all(np.array_equal(flow.given, flow.total) for flow in ends[len(moving) :])
    names = [str(value.name) for value in pooled]
    return Streamable(
        states=tuple(rewriter.states),
        counts=counts,
        end=None if rewriter.end is None else str(rewriter.end.name),
        time_axes={str(value.name): rewriter.flows[value].axis for value in moving},
        early=tuple(names) if early else (),
    )
