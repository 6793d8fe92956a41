"""What every export of a process would do again: PyTorch builds its tables of operators, half a second each time."""

import functools
import sys
from typing import Any

__all__ = ["keep_operator_tables"]

_MODULE = "torch.onnx._internal.exporter._registration"


def keep_operator_tables() -> None:
    """Let the exports of this process share the tables, once PyTorch's exporter is loaded.

    This is about PyTorch's private functions: where another version has none of that name, its exports take longer.
    """
    _keep_table_of_onnx()
    _keep_composite_operators()


def _keep_composite_operators() -> None:
    """Look up the composite operators of the dispatcher again only where it has others than the last time.

    torch.export looks up all of them for each of two dozen namespaces.
    """
    utilities = sys.modules.get("torch._export.utils")
    make = getattr(utilities, "_materialize_cpp_cia_ops", None)
    if make is None or hasattr(make, "made_last"):
        return
    import torch

    def materialize() -> None:
        found = torch._C._dispatch_get_registrations_for_dispatch_key("CompositeImplicitAutograd")
        if found != materialize.made_last:
            make()
            materialize.made_last = found

    materialize.made_last = None  # type: ignore[attr-defined]  # a mark on the function
    utilities._materialize_cpp_cia_ops = materialize


def _keep_table_of_onnx() -> None:
    """Each export gets its own copy of the table of torch.onnx."""
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

    from_torchlib.made_once = made_once  # type: ignore[attr-defined]  # a mark on the function
    registry.from_torchlib = staticmethod(from_torchlib)
