"""What the recurrent layers see of forward's inputs: the steps and the rows of every call."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from lstm_edge_exporters.pytorch.calls import Layers
from lstm_edge_exporters.pytorch.recurrent import Recurrence
from lstm_edge_exporters.pytorch.unchanged import on_copies
from lstm_edge_runtime.arrays import Array

__all__ = ["Seen", "see"]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What one layer saw in one run of forward: its time steps over all calls, and the rows that its calls had."""

    steps: int
    rows: frozenset[int]


def see(
    module: nn.Module, layers: Layers, arrays: Mapping[str, Array], keywords: Mapping[str, Array]
) -> dict[str, Seen]:
    """Run forward and return what each recurrent layer saw; a layer that is never called is left out.

    Args:
        module: the module; it works on copies of what it holds.
        layers: its recurrent layers by name.
        arrays: forward's positional arguments by name, in order.
        keywords: its keyword arguments.
    """
    calls: dict[str, list[tuple[int, int]]] = {}
    positional = [torch.from_numpy(np.array(array)) for array in arrays.values()]
    named = {name: torch.from_numpy(np.array(array)) for name, array in keywords.items()}
    with on_copies(module), torch.no_grad(), _watched(layers, calls):
        module(*positional, **named)
    return {
        name: Seen(steps=sum(steps for steps, _ in found), rows=frozenset(rows for _, rows in found))
        for name, found in calls.items()
    }


@contextmanager
def _watched(layers: Layers, calls: dict[str, list[tuple[int, int]]]) -> Iterator[None]:
    with ExitStack() as stack:
        for name, (layer, recurrence) in layers.items():
            handle = layer.register_forward_pre_hook(_hook(name, recurrence, calls), with_kwargs=True)
            stack.callback(handle.remove)
        yield


def _hook(name: str, recurrence: Recurrence, calls: dict[str, list[tuple[int, int]]]) -> Any:
    def hook(_layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x = args[0] if args else kwargs.get("input")
        calls.setdefault(name, []).append(_steps_and_rows(x, recurrence))

    return hook


def _steps_and_rows(x: Any, recurrence: Recurrence) -> tuple[int, int]:
    """The steps and the rows of a layer's input; 0 of what cannot be read, which then follows no axis."""
    if isinstance(x, PackedSequence):
        return len(x.batch_sizes), int(x.batch_sizes[0])
    if not isinstance(x, torch.Tensor):
        return 0, 0
    if recurrence.single_step:
        return 1, (x.shape[0] if x.ndim == 2 else 1)
    if x.ndim == 2:
        return x.shape[0], 1
    return (x.shape[1], x.shape[0]) if recurrence.batch_first else (x.shape[0], x.shape[1])
