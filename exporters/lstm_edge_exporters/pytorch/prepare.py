"""A module as it can be exported: compiled modules give way to those that were compiled, halves become float32."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lstm_edge_runtime.errors import CaptureError

__all__ = ["as_float32", "check_module", "prepare", "without_compiled"]

HALVES = (torch.float16, torch.bfloat16)


def without_compiled(module: nn.Module) -> nn.Module:
    """Return the module that ``torch.compile`` got, if this is what it made."""
    inner = dict(module.named_children()).get("_orig_mod")
    return module if inner is None else inner


def check_module(module: Any) -> None:
    """Refuse what cannot be exported: TorchScript, training mode, parameters elsewhere than on the CPU.

    Raises:
        CaptureError: the message says what to change.
    """
    if not isinstance(module, nn.Module):
        raise CaptureError(f"export takes a torch.nn.Module, got {type(module).__name__}")
    for name, child in module.named_modules():
        if isinstance(child, torch.jit.ScriptModule):
            raise CaptureError(
                f"{name or 'the module'} is TorchScript, whose layers cannot be identified: export the module that it "
                "was scripted from"
            )
    training = [name or "the module" for name, child in module.named_modules() if child.training]
    if training:
        raise CaptureError(f"{training[0]} is in training mode: call .eval() on the module before export")
    for name, parameter in module.named_parameters():
        if parameter.device.type != "cpu" or parameter.dtype not in (torch.float32, *HALVES):
            raise CaptureError(
                f"{name} is {parameter.dtype} on {parameter.device}: expected float32 on the CPU, "
                "call .float().cpu() on the module before export"
            )


def prepare(module: nn.Module, say: Callable[[str], None]) -> torch.dtype | None:
    """Undo compilation and convert to float32, in place: within ``unchanged``, the caller's module stays as it is.

    Returns:
        What the parameters were, if some were of another type than float32.
    """
    for child in list(module.modules()):
        child._compiled_call_impl = None  # what nn.Module.compile() sets
        for name, inner in child._modules.items():
            if inner is not None:
                child._modules[name] = without_compiled(inner)
    tensors = [*module.parameters(), *module.buffers()]
    halves = {tensor.dtype for tensor in tensors if tensor.dtype in HALVES}
    if not halves:
        return None
    found = halves.pop()
    say(f"converting the module from {str(found).removeprefix('torch.')} to float32")
    module.float()
    return found


def as_float32(examples: Any) -> Any:
    """Return example inputs with tensors of half precision converted to float32, in the same containers."""
    if isinstance(examples, Tensor):
        return examples.float() if examples.dtype in HALVES else examples
    if isinstance(examples, dict):
        return {name: as_float32(item) for name, item in examples.items()}
    if isinstance(examples, list) or type(examples) is tuple:
        return type(examples)(as_float32(item) for item in examples)
    return examples
