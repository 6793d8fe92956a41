"""Files in which every output is a state, such as an exported ``nn.LSTMCell``: one of them is the answer as well."""

import onnx_ir as ir

__all__ = ["copy_answer"]


def copy_answer(model: ir.Model) -> str:
    """Let the model's first output leave a second time, under a name of its own; in place.

    A state is handed back to the model, an answer to the caller: a card lists an output as one of the two. Single
    cells put out h before c (``nn.LSTMCell``, and ONNX's Y_h and Y_c), so the first output is h.

    Returns:
        The new output's name: ``y``, else ``y_1``, ...
    """
    first = model.graph.outputs[0]
    taken = {value.name for value in (*model.graph.inputs, *model.graph.initializers.values())}
    for node in model.graph.all_nodes():
        taken |= {node.name, *(value.name for value in node.outputs)}
    name, count = "y", 1
    while name in taken:
        name, count = f"y_{count}", count + 1
    node = ir.node("Identity", [first], name=f"{name}/Identity")
    node.outputs[0].name, node.outputs[0].shape, node.outputs[0].type = name, first.shape, first.type
    model.graph.append(node)
    model.graph.outputs.append(node.outputs[0])
    return name
