"""What a node says, with what it leaves out filled in."""

from typing import Any

import onnx_ir as ir

__all__ = ["attribute_of", "inputs_of"]


def attribute_of(node: ir.Node, name: str, default: Any = None) -> Any:
    """Return an attribute's value, else a default."""
    return node.attributes[name].value if name in node.attributes else default


def inputs_of(node: ir.Node, count: int) -> list[ir.Value | None]:
    """Return so many inputs of a node, None for each that is left out at the end."""
    return [*node.inputs, *[None] * count][:count]
