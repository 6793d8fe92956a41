"""A stream of Python and one of C side by side: the same steps on both, and what differs."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np

from lstm_edge_runtime.card import BATCH, TIME
from lstm_edge_runtime.session import Session
from support.c_agreement import differing_bits, drawn_inputs, outcome
from support.c_library import Library

__all__ = ["FORMS", "WRONG", "StreamPair", "archived", "every_piece", "piece_of", "wrong_piece"]

# A chunk has all axes, a frame no time axis, and a bare frame of one row no batch axis either.
FORMS = ("chunk", "frame", "bare")
WRONG = ("nan", "inf", "dtype", "rank", "rows", "name", "missing", "wide", "empty")


def piece_of(session: Session, *, batch: int, steps: int, form: str, seed: int) -> dict[str, np.ndarray]:
    """Return a drawn piece by the names of its inputs; a condition has no time axis to lose."""
    arrays = drawn_inputs(session.inputs, batch=batch, steps=steps if form == "chunk" else 1, seed=seed)
    assert arrays is not None
    lost = {"chunk": set(), "frame": {TIME}, "bare": {TIME, BATCH}}[form]
    for spec in session.inputs:
        axes = tuple(index for index, axis in enumerate(spec.axes) if axis in lost)
        if (TIME in spec.axes or form == "bare") and all(arrays[spec.name].shape[axis] == 1 for axis in axes):
            arrays[spec.name] = np.squeeze(arrays[spec.name], axes)
    return arrays


def wrong_piece(piece: dict[str, np.ndarray], kind: str, which: int) -> dict[str, np.ndarray]:
    """Return a piece with one input changed so that it must be refused (or, without floats, is as it was)."""
    name = list(piece)[which % len(piece)]
    array = piece[name]
    if kind in ("nan", "inf") and array.dtype.kind == "f" and array.size:
        array = array.copy()
        array.reshape(-1)[which % array.size] = {"nan": np.nan, "inf": -np.inf}[kind]
    elif kind == "dtype":
        array = array.astype("float64" if array.dtype != "float64" else "int8")
    elif kind == "rank":
        array = array[None, None]
    elif kind == "rows" and array.ndim:
        array = np.concatenate([array, array])
    elif kind == "wide" and array.ndim:
        array = np.concatenate([array, array], axis=-1)
    elif kind == "empty" and array.ndim:
        array = array[..., :0]
    elif kind == "name":
        return {**{key: value for key, value in piece.items() if key != name}, "an\tother": array}
    elif kind == "missing":
        return {key: value for key, value in piece.items() if key != name}
    return {**piece, name: array}


def archived(arrays: dict[str, np.ndarray], *, compressed: bool = False) -> bytes:
    """Return a snapshot as an archive, as a user of Python saves it."""
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **arrays)
    return buffer.getvalue()


class StreamPair:
    """One stream of each side. Each step must do the same on both, or ``AssertionError`` says what it did."""

    def __init__(self, library: Library, data: bytes, *, batch: int = 1, kernels: str = "auto") -> None:
        self.session, self.batch = Session(data, kernels=kernels), batch
        self.c_session = library.open(data, kernels=kernels)
        self.python, self.c = self.session.stream(batch), self.c_session.stream(batch)

    def both(self, where: str, python: Any, c: Any) -> Any:
        """Run two calls that must end alike; returns what Python's gave, or the class and sentence of its error."""
        error, answer = outcome(python)
        c_error, c_answer = outcome(c)
        if error or c_error:
            same = (error, error and answer) == (c_error, c_error and c_answer)
            assert same, f"{where}: Python {error} {answer}, C {c_error} {c_answer}"
            found: Any = (error, answer)
        else:
            problems = list(differing_bits(answer, c_answer, where)) if answer is not None else []
            assert not problems, problems
            found = answer
        assert self.python.steps == self.c.steps, where
        return found

    def push(self, arrays: dict[str, np.ndarray], *, alone: bool = True) -> Any:
        """Push a piece; ``alone`` gives a model's only input without its name."""
        x: Any = next(iter(arrays.values())) if alone and len(arrays) == 1 else arrays
        shapes = {name: (array.dtype.name, array.shape) for name, array in arrays.items()}
        return self.both(
            f"push {shapes} at step {self.python.steps}", lambda: self.python.push(x), lambda: self.c.push(x)
        )

    def push_drawn(self, steps: int, form: str = "chunk", seed: int = 0) -> Any:
        """Push a drawn piece."""
        return self.push(piece_of(self.session, batch=self.batch, steps=steps, form=form, seed=seed))

    def push_wrong(self, kind: str, which: int = 0, form: str = "chunk", seed: int = 0) -> Any:
        """Push a damaged piece."""
        piece = piece_of(self.session, batch=self.batch, steps=2, form=form, seed=seed)
        return self.push(wrong_piece(piece, kind, which), alone=kind not in ("name", "missing"))

    def flush(self) -> Any:
        """End both."""
        return self.both("flush", self.python.flush, self.c.flush)

    def reset(self) -> None:
        """Begin again."""
        self.both("reset", self.python.reset, self.c.reset)

    def snapshots(self) -> tuple[bytes, bytes]:
        """Return the archives of both, which hold the same arrays."""
        mine, others = archived(self.python.snapshot()), self.c.save()
        with np.load(io.BytesIO(others)) as archive:
            theirs = {name: archive[name] for name in archive.files}
        wanted = self.python.snapshot()
        problems = list(differing_bits(dict(sorted(wanted.items())), dict(sorted(theirs.items())), "snapshot"))
        assert not problems, problems
        return mine, others

    def restore(self, archive: bytes) -> Any:
        """Restore both from one archive."""

        def read() -> None:
            with np.load(io.BytesIO(archive)) as arrays:
                self.python.restore({name: arrays[name] for name in arrays.files})

        return self.both("restore", read, lambda: self.c.restore(archive))


def every_piece(pair: StreamPair, sizes: tuple[int, ...] = (1, 3, 2, 1, 5)) -> Iterator[tuple[int, str]]:
    """Yield steps and forms that cover what a stream may get."""
    for steps in sizes:
        for form in FORMS[: 3 if pair.batch == 1 else 2]:
            yield steps, form
