"""Front ends for training: the features that `export --front-end` puts into the file, as a module of PyTorch."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from lstm_edge_exporters.front_end.request import FrontEnd, parse_front_end
from lstm_edge_exporters.front_end.tables import cosine_transform, dft_weights, mel_weights

__all__ = ["Features", "front_end"]


class Features(nn.Module):
    """Computes the features of samples; it has no parameters, and its tables are not part of a state dict.

    Attributes:
        request: the parameters; ``request.text`` has all of them as one text for ``export --front-end``.
    """

    def __init__(self, request: FrontEnd) -> None:
        super().__init__()
        self.request = request
        self.register_buffer("transform", torch.from_numpy(dft_weights(request)), persistent=False)
        self.register_buffer("bands", torch.from_numpy(mel_weights(request)).repeat(1, 2, 1), persistent=False)
        cepstra = torch.from_numpy(cosine_transform(request)).float()[:, :, None] if request.coefficients else None
        self.register_buffer("cepstra", cepstra, persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """Return features float32 [batch, frames, features] of samples float32 [batch, time], or the same of one row.

        Frame j covers the samples from ``j * hop`` to ``j * hop + window - 1``; there must be at least ``window``.
        """
        rows = samples if samples.ndim > 1 else samples[None]
        parts = functional.conv1d(rows[:, None], self.get_buffer("transform"), stride=self.request.hop)
        energy = functional.conv1d(parts * parts, self.get_buffer("bands"))
        found = torch.log(torch.clamp(energy, min=self.request.floor))
        if self.request.coefficients:
            found = functional.conv1d(found, self.get_buffer("cepstra"))
        found = found.transpose(1, 2)
        return found if samples.ndim > 1 else found[0]

    def extra_repr(self) -> str:
        """Return the parameters."""
        return self.request.text


def front_end(text: str) -> Features:
    """Return the module that computes the features of ``export --front-end`` from samples, for training.

    Args:
        text: ``"log-mel:40"``, ``"mfcc:13"``, or with options, as in ``"log-mel:40,rate=8000"`` (docs/audio.md).

    Raises:
        InputError: the text has another form, or a parameter is out of its range.
    """
    return Features(parse_front_end(text))
