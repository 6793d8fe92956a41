"""Streams of every kind of model, fed with made input, and noise in the memory beside them."""

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime

__all__ = ["STREAMED", "AllocationNoise", "answer_bytes", "lent_arrays", "pieces"]

MODELS = Path(__file__).parent / "models"
# One of each kind: float32 and int8, lengths, last step, tokens, several inputs, a setting without axes, no time axis.
STREAMED = (
    "each_call",
    "each_call_whole",
    "exported_float32",
    "exported_full_lengths_int8",
    "exported_int8",
    "exported_last_step_int8",
    "language_model",
    "language_model_time_first",
    "last_step",
    "lengths",
    "quantized",
    "tagger",
    "two_inputs",
)
_TOKENS = 5  # below the vocabulary of each of them


def pieces(session, batch: int, count: int, seed: int, sizes=(1, 1, 3, 1, 2)) -> Iterator[dict]:
    """Yield ``count`` chunks with all their axes, of ``sizes`` time steps in turn, as mappings by name."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        axes = {"batch": batch, "time": sizes[number % len(sizes)]}
        piece = {}
        for spec in session.inputs:
            shape = [axes.get(axis, axis) for axis in spec.axes]
            drawn = rng.normal(size=shape) if spec.dtype == "float32" else rng.integers(1, _TOKENS, shape)
            piece[spec.name] = np.asarray(drawn, spec.dtype)
        yield piece


def answer_bytes(answer) -> bytes:
    """The bytes of an answer of ``Stream.push``, or of the outputs of ``Session.run``."""
    if isinstance(answer, np.ndarray):
        return answer.tobytes()
    return b"".join(array.tobytes() for _name, array in sorted(answer.items()))


def lent_arrays(monkeypatch) -> list[weakref.ref]:
    """Return a list that gets a weak reference to each array that is lent to onnxruntime from now on."""
    lent: list[weakref.ref] = []
    lend = onnxruntime.OrtValue.ortvalue_from_numpy

    def recorded(array, *arguments):
        lent.append(weakref.ref(array))
        return lend(array, *arguments)

    monkeypatch.setattr(onnxruntime.OrtValue, "ortvalue_from_numpy", recorded)
    return lent


class AllocationNoise:
    """Allocates and frees arrays of every small size full of rubbish, as the rest of a program does."""

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self._held: list[np.ndarray] = []

    def make(self) -> None:
        """Collect garbage, then take over whatever memory it has freed."""
        gc.collect()
        self._held = [np.full(size, -1, np.int64) for size in range(1, 130) for _ in range(4)]
        self._held += [np.full(int(size), np.nan, np.float32) for size in self._rng.integers(1, 3000, 40)]
