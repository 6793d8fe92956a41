"""Noisy speech from clean recordings: seeded noise of three kinds, added to pieces of one second.

The recordings are those of Debian's ``pocketsphinx-testdata``: 16 kHz, 16 bit, ``.wav`` and ``.raw``.
"""

import wave
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["KINDS", "RATIOS_DB", "RECORDINGS", "Segment", "make_noise", "pieces_of", "read_recordings", "segments"]

RECORDINGS = Path("/usr/share/pocketsphinx/test/data")
RATE = 16000
KINDS = ("white", "pink", "babble")
# The speech over the noise, in dB: two of them for each piece and kind, in turn.
RATIOS_DB = (0.0, 5.0, 10.0)
TALKERS = 6
# A piece below this level (root of the mean square; 1 is full scale) has no speech.
QUIET = 0.005

Samples = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One second of clean speech float64 ``[samples]``, the same with noise, and how it was made."""

    clean: Samples
    noisy: Samples
    kind: str
    ratio_db: float


def read_recordings(folder: Path) -> dict[str, Samples]:
    """Return the samples of each ``.wav`` and ``.raw`` file below a folder, -1 to 1, by its path in the folder."""
    found = {}
    for path in sorted([*folder.rglob("*.wav"), *folder.rglob("*.raw")]):
        data = path.read_bytes()
        if path.suffix == ".wav":
            with wave.open(str(path)) as file:
                assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2), path
                data = file.readframes(file.getnframes())
        found[path.relative_to(folder).as_posix()] = np.frombuffer(data, "<i2") / 32768
    return found


def pieces_of(recordings: Mapping[str, Samples]) -> list[Samples]:
    """Cut recordings into whole seconds, and leave out those without speech."""
    cut = [
        recording[start : start + RATE]
        for recording in recordings.values()
        for start in range(0, len(recording) - RATE + 1, RATE)
    ]
    return [piece for piece in cut if np.sqrt(np.mean(piece**2)) >= QUIET]


def make_noise(kind: str, generator: np.random.Generator, others: Sequence[Samples]) -> Samples:
    """Return one second of noise with the mean square 1.

    ``pink`` has the same power in each octave. ``babble`` is the sum of six other pieces, played backwards and rotated.
    """
    if kind == "babble":
        chosen = generator.choice(len(others), TALKERS, replace=False)
        noise = np.sum([np.roll(others[i][::-1], generator.integers(RATE)) for i in chosen], axis=0)
    else:
        noise = generator.standard_normal(RATE)
    if kind == "pink":
        spectrum = np.fft.rfft(noise)
        spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
        spectrum[0] = 0
        noise = np.fft.irfft(spectrum, RATE)
    return np.asarray(noise / np.sqrt(np.mean(noise**2)), np.float64)


def segments(pieces: Sequence[Samples], seed: int) -> Iterator[Segment]:
    """Yield six noisy segments of each piece: each kind of noise at two ratios."""
    generator, turn = np.random.default_rng(seed), 0
    for place, clean in enumerate(pieces):
        others = [*pieces[:place], *pieces[place + 1 :]]
        for kind in KINDS:
            for _ in range(2):
                ratio_db = RATIOS_DB[turn % len(RATIOS_DB)]
                turn += 1
                level = np.sqrt(np.mean(clean**2)) * 10 ** (-ratio_db / 20)
                noisy = clean + level * make_noise(kind, generator, others)
                yield Segment(clean=clean, noisy=noisy, kind=kind, ratio_db=ratio_db)
