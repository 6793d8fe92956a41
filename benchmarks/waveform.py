"""SI-SDR of a waveform for a model of spectra: a metric of one's own, ``--metric waveform:si_sdr``."""

import numpy as np

from lstm_edge_runtime.metrics import si_sdr_db

WINDOW, HOP = 512, 256
SHAPE = np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW))


def samples(frames):
    """Return the waveform of frames [time, ...] of 257 x 2 values: inverse transform, window, overlapping sum."""
    values = frames.reshape(len(frames), WINDOW // 2 + 1, 2)
    pieces = np.fft.irfft(values[..., 0] + 1j * values[..., 1]) * SHAPE
    waveform = np.zeros(HOP * len(pieces) + WINDOW - HOP)
    for number, piece in enumerate(pieces):
        waveform[number * HOP : number * HOP + WINDOW] += piece
    return waveform


def si_sdr(predictions, targets, lengths):
    """Return the SI-SDR of each sequence in dB; ``enh`` is the output's name."""
    pairs = zip(predictions["enh"], targets["enh"], lengths, strict=True)
    return [si_sdr_db(samples(enhanced[:steps]), samples(clean[:steps])) for enhanced, clean, steps in pairs]


si_sdr.more_is_better = True
si_sdr.unit = "dB"
