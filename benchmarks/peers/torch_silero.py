"""silero-vad's 16 kHz detector as a PyTorch module, for the peers that convert from PyTorch.

The package ships weights and ONNX files; its Python code has the layers for another framework only (tinygrad_model.py).
"""

from typing import Any

import torch
from given import Case
from torch import nn

__all__ = ["Silero", "silero"]


class Silero(nn.Module):
    """(samples [1, 576], h [1, 1, 128], c [1, 1, 128]) to (probability [1, 1], h, c)."""

    def __init__(self) -> None:
        super().__init__()
        self.stft = nn.Conv1d(1, 258, 256, stride=128, bias=False)
        shapes = ((129, 128, 1), (128, 64, 2), (64, 64, 2), (64, 128, 1))
        self.encoder = nn.ModuleList(nn.Conv1d(i, o, 3, stride=stride, padding=1) for i, o, stride in shapes)
        self.w, self.r = nn.Linear(128, 512), nn.Linear(128, 512)
        self.output = nn.Linear(128, 1)

    def forward(self, x: Any, h: Any, c: Any) -> Any:
        """Run one frame; the last 64 samples are reflected."""
        x = torch.cat([x, x[:, 511:575].flip(1)], 1)
        x = self.stft(x[:, None])
        x = (x[:, :129] ** 2 + x[:, 129:] ** 2).sqrt()
        for layer in self.encoder:
            x = torch.relu(layer(x))
        i, f, g, o = (self.w(x[:, :, 0]) + self.r(h[0])).chunk(4, 1)
        c = torch.sigmoid(f) * c[0] + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return torch.sigmoid(self.output(torch.relu(h))), h[None], c[None]


def silero(case: Case) -> Silero:
    """Return the module with the weights that the coordinator took from the package's ONNX file."""
    module = Silero().eval()
    prefix = "weights."
    found = {name.removeprefix(prefix): array for name, array in case.arrays.items() if name.startswith(prefix)}
    module.load_state_dict({name: torch.from_numpy(array) for name, array in found.items()})
    return module
