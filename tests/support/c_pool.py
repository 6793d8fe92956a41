"""A pool of the C library through ctypes, with the functions of Python's ``Pool``."""

import ctypes
import io
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from support.c_library import ERRORS, CArray, CSession, CStream, copy_of, lend

__all__ = ["CPool", "CStream", "Pushed"]


class _Options(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_size_t),
        ("capacity", ctypes.c_int64),
        ("threads", ctypes.c_int32),
        ("reserved", ctypes.c_int32),
    )


class _Piece(ctypes.Structure):
    _fields_ = (
        ("id", ctypes.c_int64),
        ("inputs", ctypes.POINTER(CArray)),
        ("count", ctypes.c_size_t),
        ("outputs", ctypes.POINTER(CArray)),
        ("status", ctypes.c_int),
        ("error", ctypes.c_char_p),
    )


class _Lent(CStream):
    """A stream that the pool closes; closing it here must do nothing."""

    def __init__(self, session: CSession, handle: ctypes.c_void_p) -> None:
        super().__init__(session, handle)
        self._library.c.lstm_edge_stream_close(handle)

    def close(self) -> None:
        """Leave it to the pool, which may be gone."""


class Pushed:
    """What a push gave: answers by id, as Python's, and the errors of the others."""

    def __init__(self) -> None:
        self.answers: dict[int, Any] = {}
        self.refused: dict[int, Exception] = {}


class CPool:
    """A pool; ``close`` it, or let it be collected."""

    def __init__(
        self, session: CSession, capacity: int = 256, threads: int = 1, *, options: bool = True, size: int | None = None
    ) -> None:
        self.session, self._library, self.capacity = session, session.library, capacity
        self._names = [spec.name for spec in session.outputs]
        self._handle = ctypes.c_void_p()
        given = _Options(ctypes.sizeof(_Options) if size is None else size, capacity, threads)
        status = self._library.c.lstm_edge_pool_open(
            session.handle, ctypes.byref(given) if options else None, ctypes.byref(self._handle)
        )
        self._library.expect(status)

    def attach(self, snapshot: bytes | None = None) -> int:
        """Add a stream; return its id."""
        number = ctypes.c_int64(-1)
        size = 0 if snapshot is None else len(snapshot)
        status = self._library.c.lstm_edge_pool_attach(self._handle, snapshot, size, ctypes.byref(number))
        self._library.expect(status)
        return number.value

    def detach(self, number: int) -> None:
        """Remove a stream."""
        self._library.expect(self._library.c.lstm_edge_pool_detach(self._handle, number))

    def stream(self, number: int) -> CStream:
        """The handle of a stream."""
        handle = ctypes.c_void_p()
        self._library.expect(self._library.c.lstm_edge_pool_stream(self._handle, number, ctypes.byref(handle)))
        return _Lent(self.session, handle)

    def steps(self, number: int) -> int:
        """The steps of a stream."""
        return self.stream(number).steps

    def snapshot(self, number: int) -> dict[str, np.ndarray]:
        """The arrays of ``lstm_edge_stream_save``."""
        with np.load(io.BytesIO(self.stream(number).save())) as archive:
            return {name: archive[name] for name in archive.files}

    def push(self, pieces: Mapping[int, Any]) -> Pushed:
        """Push pieces as Python's pool takes them."""
        return self.push_items(pieces.items())

    def push_items(self, items: Iterable[tuple[int, Any]]) -> Pushed:
        """The same, with ids that may be given twice."""
        given = [(number, *lend(x)) for number, x in items]
        pieces = (_Piece * max(1, len(given)))()
        for slot, (number, arrays, count, _) in zip(pieces, given, strict=False):
            slot.id, slot.inputs, slot.count = number, ctypes.cast(arrays, ctypes.POINTER(CArray)), count
            slot.status, slot.error = 77, b"not written"
        status = self._library.c.lstm_edge_pool_push(self._handle, ctypes.cast(pieces, ctypes.c_void_p), len(given))
        if status != 0:
            assert all(piece.status == 77 for piece in pieces[: len(given)]), "a refused push wrote into pieces"
        self._library.expect(status)
        pushed = Pushed()
        for piece in pieces[: len(given)]:
            if piece.status == 0:
                assert piece.error == b""
                found = {piece.outputs[i].name.decode(): copy_of(piece.outputs[i]) for i in range(len(self._names))}
                pushed.answers[piece.id] = found if len(found) > 1 else next(iter(found.values()))
            else:
                assert not piece.outputs
                pushed.refused[piece.id] = ERRORS[piece.status](piece.error.decode("utf-8", "surrogateescape"))
        return pushed

    def close(self) -> None:
        """Close the pool and its streams."""
        if self._handle:
            self._library.c.lstm_edge_pool_close(self._handle)
            self._handle = ctypes.c_void_p()

    def __del__(self) -> None:
        self.close()
