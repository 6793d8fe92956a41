"""Files in which every output is a state, such as an exported ``nn.LSTMCell``: one state is also the answer."""

import onnx_ir as ir

from lstm_edge_exporters.onnx_graph.edit import add_output
from lstm_edge_exporters.onnx_graph.names import unique_name

__all__ = ["copy_answer"]


def copy_answer(model: ir.Model) -> str:
    """Let the model's first output leave a second time, under its own name; in place.

    A state is handed back to the model, an answer to the caller: a card lists an output as one of the two. Single
    cells put out h before c (``nn.LSTMCell``, and ONNX's Y_h and Y_c), so the first output is h.

    Returns:
        The new output's name: ``y``, else ``y_1``, ...
    """
    first = model.graph.outputs[0]
    name = unique_name(model.graph, "y")
    add_output(model.graph, first, name, kind=first.type, shape=first.shape)
    return name
