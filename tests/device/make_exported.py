"""Make the models that the real exporter and quantizer wrote, ``models/exported_*.onnx``; the tests need no torch.

Run from the root of the repository, with lstm-edge installed: ``python tests/device/make_exported.py``.
Sizes differ on purpose: input 6, hidden 7, classes 4.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from lstm_edge import LSTM, export, quantize

FOLDER = Path(__file__).parent / "models"
FEATURES, HIDDEN, CLASSES = 6, 7, 4


class Tagger(nn.Module):
    """Logits at every step, or with ``last`` those of the last hidden state."""

    def __init__(self, recurrent: nn.Module, width: int, *, last: bool = False) -> None:
        super().__init__()
        self.lstm = recurrent
        self.head = nn.Linear(width, CLASSES)
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        """Map float32 [batch, time, 6] to logits [batch, time, 4], or [batch, 4]."""
        y, (h, _) = self.lstm(x)
        return self.head(h[-1] if self.last else y)


def seeded(module: nn.Module, seed: int) -> nn.Module:
    """Weights that make the gates move: normal, deviation 0.5."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return module.eval()


def main() -> None:
    """Export each network, and quantize where the name says so."""
    lstm = nn.LSTM(FEATURES, HIDDEN, 2, batch_first=True)
    both = nn.LSTM(FEATURES, HIDDEN, batch_first=True, bidirectional=True)
    full = LSTM(FEATURES, HIDDEN, batch_first=True, peephole="full")
    one = nn.LSTM(FEATURES, HIDDEN, batch_first=True)
    networks = {
        "exported": (Tagger(lstm, HIDDEN), {}),
        "exported_bidirectional": (Tagger(both, 2 * HIDDEN), {}),
        "exported_full_lengths": (Tagger(full, HIDDEN), {"lengths": True}),
        "exported_last_step": (Tagger(one, HIDDEN, last=True), {}),
    }
    for seed, (name, (module, options)) in enumerate(networks.items()):
        path = FOLDER / f"{name}_float32.onnx"
        specs = [f"x: float32[batch, time, {FEATURES}]"]
        export(seeded(module, seed), None, path, inputs=specs, output_names=["logits"], **options)
        quantize(path, FOLDER / f"{name}_int8.onnx")
        if name != "exported":
            path.unlink()


if __name__ == "__main__":
    main()
