"""The definition of a front end in NumPy, float64, by the fast Fourier transform: what a file is compared with."""

import numpy as np

from lstm_edge_exporters.front_end.request import FrontEnd
from lstm_edge_exporters.front_end.tables import cosine_transform, hann, mel_bands
from lstm_edge_runtime.arrays import Array

__all__ = ["features_of"]

# Frames that are computed at once: 13 MB at a window of 400.
MOST_FRAMES = 4096


def features_of(front_end: FrontEnd, samples: Array) -> Array:
    """Return the features of samples: float64 [batch, time] gives float64 [batch, frames, features].

    Frame j covers the samples from ``j * hop`` to ``j * hop + window - 1``: nothing is padded or centred.
    """
    count = front_end.frames(samples.shape[1])
    parts = [np.zeros((len(samples), 0, front_end.features))]
    for first in range(0, count, MOST_FRAMES):
        end = front_end.samples(min(first + MOST_FRAMES, count))
        parts.append(_block(front_end, samples[:, first * front_end.hop : end]))
    return np.concatenate(parts, axis=1)


def _block(front_end: FrontEnd, samples: Array) -> Array:
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), front_end.window, axis=1)
    spectrum = np.fft.rfft(frames[:, :: front_end.hop] * hann(front_end.window), front_end.fft)
    energy = (spectrum.real**2 + spectrum.imag**2) @ mel_bands(front_end).T
    logs = np.log(np.maximum(energy, front_end.floor))
    return np.asarray(logs @ cosine_transform(front_end).T if front_end.kind == "mfcc" else logs)
