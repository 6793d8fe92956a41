"""Sets outputs to zero past each row's length: in torch during tracing, or in a graph that is already traced."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from lstm_edge_exporters.onnx_graph.edit import add_constant
from lstm_edge_runtime.card import BATCH, TIME, TensorSpec

__all__ = ["mask_outputs", "masked"]


def masked(output: Tensor, spec: TensorSpec, rows: Tensor) -> Tensor:
    """Zero an output past each row's length, where it has both a batch and a time axis."""
    if TIME not in spec.axes or BATCH not in spec.axes:
        return output
    batch, time = spec.axes.index(BATCH), spec.axes.index(TIME)
    shape = [1] * output.ndim
    shape[time] = -1
    steps = torch.arange(output.shape[time]).reshape(shape)
    shape[time], shape[batch] = 1, -1
    return torch.where(steps < rows.reshape(shape), output, torch.zeros((), dtype=output.dtype))


def mask_outputs(model: ir.Model, outputs: Sequence[TensorSpec], lengths: str) -> None:
    """Zero outputs past each row's length, in place: while a loop is unrolled, torch knows only one number of steps.

    Args:
        model: the graph; its outputs are those of ``outputs``, and more.
        outputs: what has a batch and a time axis is masked.
        lengths: the graph input of valid steps a row, int64 [batch].
    """
    graph = model.graph
    rows = next(value for value in graph.inputs if value.name == lengths)
    for index, value in enumerate(graph.outputs):
        spec = next((spec for spec in outputs if spec.name == value.name), None)
        if spec is None or TIME not in spec.axes or BATCH not in spec.axes:
            continue
        time, rank = spec.axes.index(TIME), len(spec.axes)
        one = add_constant(graph, "mask.one", np.array(1))
        zero = add_constant(graph, "mask.zero", np.array(0))
        others = [i for i in range(rank) if i != time]
        steps = ir.node("Shape", [value], {"start": time, "end": time + 1})
        count = ir.node("Squeeze", [steps.outputs[0], add_constant(graph, "mask.axis", np.array([0]))])
        numbers = ir.node("Range", [zero, count.outputs[0], one])
        spread = ir.node("Unsqueeze", [numbers.outputs[0], add_constant(graph, "mask.axes", np.array(others))])
        rest = [i for i in range(rank) if i != spec.axes.index(BATCH)]
        by_row = ir.node("Unsqueeze", [rows, add_constant(graph, "mask.axes", np.array(rest))])
        inside = ir.node("Less", [spread.outputs[0], by_row.outputs[0]])
        blank = add_constant(graph, "mask.blank", np.zeros((), spec.dtype))
        zeroed = ir.node("Where", [inside.outputs[0], value, blank])
        graph.extend([steps, count, numbers, spread, by_row, inside, zeroed])
        new = zeroed.outputs[0]
        new.shape, new.type = value.shape, value.type
        graph.outputs[index] = new
        name = value.name
        value.name, new.name = f"{name}:unmasked", name
