"""Writes WAV files byte by byte, by the format's definition; needs no package that reads them."""

import struct

import numpy as np

PCM, FLOAT = 1, 3


def wav_bytes(samples, *, rate=16000, bits=16, kind=PCM):
    """Return a WAV file of samples float [time] or [time, channels] in [-1, 1]."""
    samples = np.asarray(samples, np.float64)
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    if kind == FLOAT:
        data = samples.astype(f"<f{bits // 8}").tobytes()
    elif bits == 8:
        data = np.clip(np.round(samples * 128) + 128, 0, 255).astype(np.uint8).tobytes()
    else:
        scale = 2.0 ** (bits - 1)
        whole = np.clip(np.round(samples * scale), -scale, scale - 1).astype("<i8")
        data = b"".join(whole.reshape(-1, 1).view(np.uint8)[:, : bits // 8])
    frame = channels * bits // 8
    form = struct.pack("<HHIIHH", kind, channels, rate, rate * frame, frame, bits)
    padding = b"\0" * (len(data) % 2)
    chunks = b"fmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(data)) + data + padding
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def write_wav(path, samples, **options):
    """Write one file; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(wav_bytes(samples, **options))
