"""Mel features by the formulas of torchaudio and librosa, written here once more: shares no code with the exporter.

``melscale_fbanks`` of torchaudio 2 (``mel_scale="htk"``, ``norm=None``) and ``filters.mel`` of librosa 0.10 (its
defaults) both make triangles over the differences between the frequencies of the transform and the bands' edges.
"""

import numpy as np


def htk_bands(bands, fft, rate, low, high):
    """torchaudio's triangles, float64 [bands, fft // 2 + 1]."""
    frequencies = np.linspace(0, rate // 2, fft // 2 + 1)
    first, last = (2595.0 * np.log10(1.0 + hz / 700.0) for hz in (low, high))
    points = 700.0 * (10.0 ** (np.linspace(first, last, bands + 2) / 2595.0) - 1.0)
    gaps = points[1:] - points[:-1]
    slopes = points[None] - frequencies[:, None]
    down, up = -slopes[:, :-2] / gaps[:-1], slopes[:, 2:] / gaps[1:]
    return np.maximum(0.0, np.minimum(down, up)).T


def _slaney_mel(hz):
    return 15.0 + np.log(hz / 1000.0) / (np.log(6.4) / 27.0) if hz >= 1000.0 else 3.0 * hz / 200.0


def _slaney_hz(mel):
    return 1000.0 * np.exp((np.log(6.4) / 27.0) * (mel - 15.0)) if mel >= 15.0 else 200.0 * mel / 3.0


def slaney_bands(bands, fft, rate, low, high):
    """librosa's triangles of area 1, float64 [bands, fft // 2 + 1]."""
    frequencies = np.fft.rfftfreq(fft, 1.0 / rate)
    points = np.array([_slaney_hz(mel) for mel in np.linspace(_slaney_mel(low), _slaney_mel(high), bands + 2)])
    weights = np.zeros((bands, len(frequencies)))
    for band in range(bands):
        left, middle, right = points[band : band + 3]
        lower, upper = (frequencies - left) / (middle - left), (right - frequencies) / (right - middle)
        weights[band] = np.maximum(0, np.minimum(lower, upper)) * 2.0 / (right - left)
    return weights


def log_mel(samples, *, bands, rate, window, hop, fft, low, high, floor=1e-6, make=htk_bands):
    """Features float64 [frames, bands] of samples [time]: a frame begins at every hop, nothing is padded."""
    shape = 0.5 * (1.0 - np.cos(2.0 * np.pi * np.arange(window) / window))
    rows = []
    for start in range(0, len(samples) - window + 1, hop):
        power = np.abs(np.fft.rfft(samples[start : start + window].astype(np.float64) * shape, n=fft)) ** 2
        rows.append(np.log(np.maximum(make(bands, fft, rate, low, high) @ power, floor)))
    return np.array(rows)


def cepstra(features, count):
    """The first coefficients of the orthonormal DCT-II of features [frames, bands]."""
    bands = features.shape[1]
    rows = []
    for k in range(count):
        basis = np.cos(np.pi * k * (np.arange(bands) + 0.5) / bands)
        rows.append(features @ basis * np.sqrt((1.0 if k == 0 else 2.0) / bands))
    return np.stack(rows, axis=1)
