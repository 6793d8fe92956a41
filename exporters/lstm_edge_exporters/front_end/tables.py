"""The fixed weights of a front end: window, transform, mel bands, cosine transform; float64, then float32.

Sources: the HTK Book, section 5.4 (mel scale ``2595 log10(1 + f/700)``); M. Slaney, Auditory Toolbox (1998), whose
scale is linear below 1 kHz; bands as ``torchaudio.functional.melscale_fbanks`` (``htk``, ``norm=None``) and
``librosa.filters.mel`` (its defaults, ``norm="slaney"``) compute them: triangles that are linear in Hz.
"""

import math
from functools import lru_cache

import numpy as np

from lstm_edge_exporters.front_end.request import FrontEnd
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.errors import InputError

__all__ = [
    "cosine_transform",
    "dft_weights",
    "hann",
    "mel_bands",
    "mel_weights",
    "turn_table",
    "used_frequencies",
]

# Slaney's scale: 200/3 Hz a mel below 1 kHz, then 27 mels for a factor of 6.4.
_SLANEY_STEP_HZ, _SLANEY_BREAK_HZ, _SLANEY_LOG_STEP = 200.0 / 3.0, 1000.0, math.log(6.4) / 27.0


def hann(window: int) -> Array:
    """Return the periodic Hann window, float64 [window]: 0.5 - 0.5 cos(2 pi n / window)."""
    return np.asarray(0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(window) / window))


@lru_cache(maxsize=8)
def mel_bands(front_end: FrontEnd) -> Array:
    """Return the weight of each frequency in each band, float64 [bands, fft // 2 + 1].

    Raises:
        InputError: a band covers no frequency of the transform; the message says what to change.
    """
    low, high = _to_mel(np.array([front_end.low_hz, front_end.high_hz]), front_end.mel)
    edges = _to_hz(np.linspace(float(low), float(high), front_end.bands + 2), front_end.mel)
    frequencies = np.arange(front_end.fft // 2 + 1) * (front_end.rate_hz / front_end.fft)
    below, centre, above = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    bands = np.maximum(
        0.0, np.minimum((frequencies - below) / (centre - below), (above - frequencies) / (above - centre))
    )
    if front_end.mel == "slaney":
        bands *= 2.0 / (above - below)
    empty = np.flatnonzero(bands.max(axis=1) <= 0)
    if empty.size:
        first = int(empty[0])
        raise InputError(
            f"front end {front_end.text!r}: band {first}, {edges[first]:.1f} to {edges[first + 2]:.1f} Hz, has no "
            f"frequency of the {front_end.fft}-point transform, which has one every "
            f"{front_end.rate_hz / front_end.fft:.1f} Hz: take fewer bands, a larger fft= or a higher low="
        )
    return np.asarray(bands)


def used_frequencies(front_end: FrontEnd) -> Array:
    """Return the numbers of the frequencies that a band uses, int32 [used]."""
    return np.flatnonzero(mel_bands(front_end).max(axis=0) > 0).astype(np.int32)


def turn_table(front_end: FrontEnd) -> Array:
    """Return cosine and sine of n / fft turns, float32 [2, fft]."""
    angles = np.arange(front_end.fft) * (2.0 * np.pi / front_end.fft)
    return np.stack([np.cos(angles), np.sin(angles)]).astype(np.float32)


def dft_weights(front_end: FrontEnd) -> Array:
    """Return window times cosine and sine of each frequency that a band uses, float32 [2 * used, 1, window].

    Row k is the cosine of used frequency k, row used + k its sine; to the bit what the nodes of a file compute.
    """
    # Whole turns are removed first: the angle of sample 399 and frequency 250 is 195 turns.
    turns = np.outer(used_frequencies(front_end), np.arange(front_end.window, dtype=np.int32)) % front_end.fft
    rows = np.concatenate(list(turn_table(front_end)[:, turns])) * hann(front_end.window).astype(np.float32)
    return np.asarray(rows)[:, None, :]


def mel_weights(front_end: FrontEnd) -> Array:
    """Return the mel bands over the frequencies that they use, float32 [bands, used, 1]."""
    return mel_bands(front_end)[:, used_frequencies(front_end)].astype(np.float32)[:, :, None]


def cosine_transform(front_end: FrontEnd) -> Array:
    """Return the orthonormal DCT-II, float64 [coefficients, bands]."""
    count = front_end.bands
    angles = np.outer(np.arange(front_end.coefficients), 2 * np.arange(count) + 1) * (np.pi / (2 * count))
    rows = np.cos(angles) * math.sqrt(2.0 / count)
    rows[0] /= math.sqrt(2.0)
    return np.asarray(rows)


def _to_mel(hz: Array, scale: str) -> Array:
    if scale == "htk":
        return np.asarray(2595.0 * np.log10(1.0 + hz / 700.0))
    linear = hz / _SLANEY_STEP_HZ
    above = _SLANEY_BREAK_HZ / _SLANEY_STEP_HZ + np.log(np.maximum(hz, 1e-3) / _SLANEY_BREAK_HZ) / _SLANEY_LOG_STEP
    return np.where(hz >= _SLANEY_BREAK_HZ, above, linear)


def _to_hz(mel: Array, scale: str) -> Array:
    if scale == "htk":
        return np.asarray(700.0 * (10.0 ** (mel / 2595.0) - 1.0))
    limit = _SLANEY_BREAK_HZ / _SLANEY_STEP_HZ
    return np.where(mel >= limit, _SLANEY_BREAK_HZ * np.exp(_SLANEY_LOG_STEP * (mel - limit)), mel * _SLANEY_STEP_HZ)
