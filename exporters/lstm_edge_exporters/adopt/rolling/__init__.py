"""Layers that a file runs step by step, in a loop or unrolled, put together again."""

import onnx_ir as ir

from lstm_edge_exporters.adopt.cells import fold_cells_apart
from lstm_edge_exporters.adopt.rolling.loops import roll_loops
from lstm_edge_exporters.adopt.rolling.unrolled import roll_steps
from lstm_edge_exporters.onnx_graph.fold import fold
from lstm_edge_exporters.onnx_graph.liveness import drop_shape_only

__all__ = ["gather_layers"]

# The shapes of a Loop's sequence are known once the Loop before it is a layer; stacks are a few layers deep.
MOST_ROUNDS = 16


def gather_layers(model: ir.Model) -> tuple[str, ...]:
    """Make recurrent nodes of cells that fell apart, and one layer of Loops, Scans and unrolled steps; in place.

    Returns:
        Sentences on what was put together and what was left.
    """
    done: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    inside: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()
    for _ in range(MOST_ROUNDS):
        drop_shape_only(model)
        folded, left = fold_cells_apart(model)
        fold(model)
        rolled, inside = roll_loops(model)
        unrolled, apart = roll_steps(model)
        done += folded + rolled + unrolled
        if not rolled and not unrolled:
            break
        fold(model)
    return done + left + inside + apart
