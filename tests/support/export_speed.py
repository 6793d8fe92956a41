"""What every export of a process would do again: torch.onnx builds its table of operators, half a second each time."""

import functools
import sys
from typing import Any

__all__ = ["keep_operator_table"]

_MODULE = "torch.onnx._internal.exporter._registration"


def keep_operator_table() -> None:
    """Let the exports of this process share the table, once PyTorch's exporter is loaded; each gets its own copy.

    This is about PyTorch's private functions: where another version has none of that name, its exports take longer.
    """
    registry = getattr(sys.modules.get(_MODULE), "ONNXRegistry", None)
    make = getattr(registry, "from_torchlib", None)
    if make is None or hasattr(make, "made_once"):
        return
    made_once = functools.cache(make)

    def from_torchlib(*arguments: Any, **more: Any) -> Any:
        table = made_once(*arguments, **more)
        own = type(table)()
        own.__dict__.update(table.__dict__)
        own.functions = {target: list(found) for target, found in table.functions.items()}
        return own

    from_torchlib.made_once = made_once  # type: ignore[attr-defined]
    registry.from_torchlib = staticmethod(from_torchlib)
