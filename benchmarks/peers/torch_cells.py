"""The recurrent cases as PyTorch modules, for the peers that convert from PyTorch."""

from typing import Any

import torch
from given import Case, RefusedError
from torch import nn

__all__ = ["Cells", "Standard", "cells", "example", "standard"]


class Standard(nn.Module):
    """``nn.LSTM`` or ``nn.GRU``: (x [T, 1, I], states [L, 1, H]) to (y [T, 1, H], states)."""

    def __init__(self, cell: str, inputs: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.recurrent = getattr(nn, cell)(inputs, hidden, layers)
        self.cell = cell

    def forward(self, x: Any, *states: Any) -> Any:
        """Run every frame."""
        y, after = self.recurrent(x, states if self.cell == "LSTM" else states[0])
        return (y, *after) if self.cell == "LSTM" else (y, after)


class Cells(nn.Module):
    """One step of the same layers, with a ``nn.Linear`` for each matrix: what quantizers of linear layers find."""

    def __init__(self, cell: str, inputs: int, hidden: int, layers: int) -> None:
        super().__init__()
        gates = 4 if cell == "LSTM" else 3
        self.cell = cell
        self.w = nn.ModuleList(nn.Linear(inputs if k == 0 else hidden, gates * hidden) for k in range(layers))
        self.r = nn.ModuleList(nn.Linear(hidden, gates * hidden) for k in range(layers))

    def forward(self, x: Any, *states: Any) -> Any:
        """Run one frame: x [1, 1, I]; the same inputs and outputs as ``Standard``."""
        x = x[0]
        after: list[list[Any]] = [[] for _ in states]
        for layer, (w, r) in enumerate(zip(self.w, self.r, strict=True)):
            a, b = w(x), r(states[0][layer])
            if self.cell == "LSTM":
                i, f, g, o = (a + b).chunk(4, 1)
                c = torch.sigmoid(f) * states[1][layer] + torch.sigmoid(i) * torch.tanh(g)
                x = torch.sigmoid(o) * torch.tanh(c)
                after[1].append(c)
            else:
                (ar, az, an), (br, bz, bn) = a.chunk(3, 1), b.chunk(3, 1)
                z = torch.sigmoid(az + bz)
                n = torch.tanh(an + torch.sigmoid(ar + br) * bn)
                x = n + z * (states[0][layer] - n)
            after[0].append(x)
        return (x[None], *(torch.stack(state) for state in after))


def standard(case: Case) -> Any:
    """Return the standard layers with the case's weights; of a published model the module at hand.

    Raises:
        RefusedError: there is none.
    """
    if not case.cell:
        return _published(case)
    module = Standard(case.cell, case.inputs, case.hidden, case.layers).eval()
    for layer in range(case.layers):
        for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            name = f"{kind}_l{layer}"
            getattr(module.recurrent, name).data = torch.from_numpy(case.arrays[name])
    return module


def cells(case: Case) -> Any:
    """Return the written-out cells with the case's weights; of a published model the module at hand.

    Raises:
        RefusedError: there is none.
    """
    if not case.cell:
        return _published(case)
    module = Cells(case.cell, case.inputs, case.hidden, case.layers).eval()
    for layer in range(case.layers):
        w, r, bias_w, bias_r = map(torch.from_numpy, case.weights(layer))
        module.w[layer].weight.data, module.w[layer].bias.data = w, bias_w
        module.r[layer].weight.data, module.r[layer].bias.data = r, bias_r
    return module


def _published(case: Case) -> Any:
    if case.source != "silero":
        raise RefusedError("published as an ONNX file; this converter takes PyTorch modules")
    from torch_silero import silero

    return silero(case)


def example(case: Case, steps: int) -> tuple[Any, ...]:
    """Return the first frames [steps, 1, I] and the initial states; of a published model one frame."""
    x = case.arrays["x"][:steps].reshape(steps, 1, case.inputs) if case.cell else case.arrays["x"][0]
    return (torch.from_numpy(x.copy()), *map(torch.from_numpy, case.initial.values()))
