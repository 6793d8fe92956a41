"""What a node is called in a state's name and in a sentence."""

import re

import onnx_ir as ir

__all__ = ["title_of"]


def title_of(node: ir.Node) -> str:
    """Return the module that a node was (``conv.0``), from the name of its weight or of the node itself."""
    for value in node.inputs[1:]:
        name = "" if value is None else str(value.name)
        if name.endswith(".weight") and value is not None and value.const_value is not None:
            return name.removesuffix(".weight")
    name = re.sub(r"/[A-Za-z0-9]+(_[0-9]+)?$", "", str(node.name or ""))
    return name or node.op_type
