"""Weights that are declared as inputs too, as IR version 3 demands: they become weights and no more."""

import onnx_ir as ir

__all__ = ["drop_defaults"]


def drop_defaults(model: ir.Model) -> tuple[str, ...]:
    """Take initializers out of the graph's inputs; in place.

    Up to IR version 3 each initializer is an input as well; later ones allow it, and mean a default that a caller may
    replace. No part of the toolkit feeds weights.

    Returns:
        One sentence on what was done, or nothing.
    """
    found = [value for value in model.graph.inputs if value.name in model.graph.initializers]
    for value in found:
        model.graph.inputs.remove(value)
    if not found:
        return ()
    names = ", ".join(str(value.name) for value in found[:4]) + (", ..." if len(found) > 4 else "")
    return (
        f"{len(found)} inputs have a value in the file ({names}): they are weights from here on, and cannot be fed; "
        "a file in which one is to be fed must not hold a value for it",
    )
