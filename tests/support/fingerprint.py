"""All that a module holds, as values that can be compared: written without the exporter's own walk."""

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["fingerprint"]


def fingerprint(module: nn.Module) -> dict[str, Any]:
    """Return each attribute of each submodule, by identity and value, and the state of every random generator."""
    found: dict[str, Any] = {}
    for name, child in module.named_modules():
        found[name] = (id(child), type(child), {key: described(item) for key, item in vars(child).items()})
        for kind in type(child).__mro__:
            if not kind.__module__.startswith("torch"):
                found[f"{name} {kind.__name__}"] = {
                    key: described(item) for key, item in vars(kind).items() if not callable(item) and key[:2] != "__"
                }
    found["random"] = (torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate())
    found["modes"] = (torch.is_grad_enabled(), torch.get_default_dtype())
    return found


def described(item: Any) -> Any:
    if isinstance(item, Tensor):
        values = item.detach().contiguous().view(-1).view(torch.uint8).tolist() if item.numel() else []
        return (id(item), type(item), item.dtype, item.shape, item.data_ptr(), item.requires_grad, values)
    if isinstance(item, Mapping):
        return (id(item), type(item), [(key, described(value)) for key, value in item.items()])
    if isinstance(item, list | tuple):
        return (id(item), type(item), [described(value) for value in item])
    if isinstance(item, set | bytearray):
        return (id(item), type(item), repr(item))
    if type(item).__module__.startswith(("support", "test_")):
        return (id(item), {key: described(value) for key, value in vars(item).items()} if vars(item) else None)
    return (id(item), repr(item) if isinstance(item, int | float | str | bool) else type(item))
