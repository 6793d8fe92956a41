"""A form: one way in which people write a recurrent network, and what PyTorch itself answers for it.

The tables of forms are in ``forms_layers``, ``forms_packed``, ``forms_cells`` and ``forms_networks``; what is refused
is in ``forms_refused``. The answers here come from calling the module in PyTorch with the states put in by hand, never
from the exporter's own witness.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

__all__ = ["Answer", "Form", "Tensors", "injected", "join_states", "split_states", "state_names", "straight"]

Tensors = dict[str, Tensor]
# The outputs in the order of forward's result, and the states after the call under the names that they came in by.
Answer = tuple[list[Tensor], Tensors]
RECURRENT = (nn.LSTM, nn.GRU, nn.RNN, nn.LSTMCell, nn.GRUCell, nn.RNNCell)


def injected(module: nn.Module, inputs: Mapping[str, Tensor], states: Mapping[str, Tensor]) -> Answer:
    """Call a module whose forward knows nothing of states, putting them in where its recurrent layers are called.

    The k-th call of a layer takes the states ``<path>_<k>.<layer>.h``, the first one those without ``_1``. A call for
    which there are no such states goes on from what forward gives it, as a loop does. What a layer returned is a state
    and no output, unless there are no states.
    """
    left: Tensors = {}
    raw: list[Tensor] = []
    with ExitStack() as stack:
        for path, layer in module.named_modules():
            if isinstance(layer, RECURRENT) and states:
                layer.forward = _with_states(layer, path or _bare(layer), states, left, raw)
                stack.callback(delattr, layer, "forward")
        result = module(*inputs.values())
    found = list(_leaves(result))
    # A cell alone computes nothing but its state, which then is the answer too.
    return [tensor for tensor in found if not any(tensor is one for one in raw)] or found[:1], left


def straight(*names: str) -> Callable[[nn.Module, Mapping[str, Tensor], Mapping[str, Tensor]], Answer]:
    """Return an answer for a forward that takes the states ``names`` itself and returns them last, in that order."""

    def answer(module: nn.Module, inputs: Mapping[str, Tensor], states: Mapping[str, Tensor]) -> Answer:
        found = list(_leaves(module(*inputs.values(), *states.values())))
        cut = len(found) - len(names)
        return found[:cut], dict(zip(names, found[cut:], strict=True))

    return answer


@dataclass(frozen=True, kw_only=True)
class Form:
    """One form, and what its export must be.

    Attributes:
        name: of the row.
        make: makes the module anew, with random weights and biases, in evaluation mode.
        inputs: as they are written on the command line.
        states: the names of the explicit states that the file takes, in order.
        outputs: the names of the outputs, in order.
        answer: what PyTorch says: outputs and new states for inputs and states.
        streaming: the verdict on the card.
        lengths: the name of the lengths input on the card; empty where there is none.
        ask_lengths: the export is asked for lengths.
        state: as of ``build``.
    """

    name: str
    make: Callable[[], nn.Module]
    inputs: tuple[str, ...] = ("x: float32[batch, time, 3]",)
    states: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ("output",)
    answer: Callable[[nn.Module, Mapping[str, Tensor], Mapping[str, Tensor]], Answer] = injected
    streaming: Literal["every-step", "last-step", "each-call", "none"] = "every-step"
    lengths: str = ""
    ask_lengths: bool = False
    state: Literal["explicit", "hidden"] = "explicit"

    def __str__(self) -> str:
        return self.name


def state_names(path: str, layers: int = 1, kinds: str = "hc") -> tuple[str, ...]:
    """Return the names of a module's states, layer by layer; ``kinds`` is ``"h"`` for GRU."""
    return tuple(f"{path}.{layer}.{kind}" for layer in range(layers) for kind in kinds)


def join_states(states: Mapping[str, Tensor], path: str, kind: str) -> Tensor:
    """Return the states [D, B, S] of a module's layers as PyTorch has them: [layers * D, B, S]."""
    layers = sum(name.rpartition(".")[0].rpartition(".")[0] == path and name.endswith(kind) for name in states)
    return torch.cat([states[f"{path}.{layer}.{kind}"] for layer in range(layers)])


def split_states(path: str, kind: str, stacked: Tensor, directions: int = 1) -> Tensors:
    """Return PyTorch's stacked states [layers * D, B, S] layer by layer; the opposite of ``join_states``."""
    return {f"{path}.{layer}.{kind}": part for layer, part in enumerate(torch.split(stacked, directions))}


def _with_states(layer: Any, path: str, states: Mapping[str, Tensor], left: Tensors, raw: list[Tensor]) -> Any:
    """Return a forward for one layer that starts from ``states`` and notes what it returned in ``left`` and ``raw``."""
    forward, is_cell = layer.forward, isinstance(layer, nn.RNNCellBase)
    directions = 2 if getattr(layer, "bidirectional", False) else 1
    kinds = "hc" if isinstance(layer, nn.LSTM | nn.LSTMCell) else "h"
    calls = 0

    def call(x: Any, hx: Any = None) -> Any:
        nonlocal calls
        calls += 1
        name = path if calls == 1 else f"{path}_{calls}"
        flat = is_cell or (isinstance(x, Tensor) and x.ndim == 2)  # one step, or a sequence without a batch axis
        axis = 0 if is_cell else 1
        if f"{name}.0.h" in states:
            parts = [join_states(states, name, kind) for kind in kinds]
            parts = [part.squeeze(axis) if flat else part for part in parts]
            hx = tuple(parts) if len(kinds) > 1 else parts[0]
        else:
            name = path
        result = forward(x, hx)
        found = result if is_cell else result[1]
        found = found if isinstance(found, tuple) else (found,)
        for kind, part in zip(kinds, found, strict=True):
            left.update(split_states(name, kind, part.unsqueeze(axis) if flat else part, directions))
        raw.extend(found)
        return result

    return call


def _bare(layer: nn.Module) -> str:
    kinds = {"lstm": nn.LSTM | nn.LSTMCell, "gru": nn.GRU | nn.GRUCell, "rnn": nn.RNN | nn.RNNCell}
    return next(name for name, kind in kinds.items() if isinstance(layer, kind))


def _leaves(item: Any) -> Iterator[Tensor]:
    if isinstance(item, Tensor):
        yield item
    elif item is not None:
        for child in item.values() if isinstance(item, Mapping) else item:
            yield from _leaves(child)
