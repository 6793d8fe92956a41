"""The C library through ctypes, for tests: ``Library``, ``CSession`` and ``CStream``.

Failures are raised as Python's own classes of errors, so that both front doors can be compared. This needs NumPy and
lstm_edge_runtime only, and also runs on the device.
"""

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lstm_edge_runtime import errors

__all__ = ["ERRORS", "CArray", "CSession", "CStream", "CTensor", "Check", "Library", "copy_of", "lend"]

# Python's class of each status.
ERRORS: dict[int, type[Exception]] = {
    1: errors.ArtifactError,
    2: errors.IntegrityError,
    3: errors.CardError,
    4: errors.InputError,
    5: errors.ProviderError,
    6: errors.StreamingError,
    7: errors.ParityError,
    8: MemoryError,
    9: TypeError,  # LSTM_EDGE_MISUSE
}
_DTYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool", 10: "float16",
    11: "float64", 12: "uint32", 13: "uint64",
}  # fmt: skip
_CODES = {name: code for code, name in _DTYPES.items()}
_MOST_AXES = 8
_KERNELS = {"auto": 0, "required": 1, "off": 2}
_TEXT = ("utf-8", "surrogateescape")


class _Options(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_size_t),
        ("onnxruntime", ctypes.c_char_p),
        ("kernels", ctypes.c_int),
        ("threads", ctypes.c_int32),
        ("lock_memory", ctypes.c_int32),
    )


class CArray(ctypes.Structure):
    """``lstm_edge_array``."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("dtype", ctypes.c_int),
        ("rank", ctypes.c_int32),
        ("shape", ctypes.c_int64 * _MOST_AXES),
        ("data", ctypes.c_void_p),
    )


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("dtype", ctypes.c_int),
        ("rank", ctypes.c_int32),
        ("shape", ctypes.c_int64 * _MOST_AXES),
        ("axis_names", ctypes.c_char_p * _MOST_AXES),
    )


class _Info(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_size_t),
        ("card", ctypes.c_char_p),
        ("notes", ctypes.c_char_p),
        ("kernels", ctypes.c_char_p),
        ("onnxruntime_version", ctypes.c_char_p),
        ("size_bytes", ctypes.c_int64),
        ("operators", ctypes.c_int64),
        ("verified", ctypes.c_int32),
        ("direct", ctypes.c_int32),
    )


class _Check(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_size_t),
        ("worst", ctypes.c_double),
        ("tolerance", ctypes.c_double),
        ("vectors", ctypes.c_int32),
        ("passed", ctypes.c_int32),
    )


_Visit = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.POINTER(CArray))


@dataclass(frozen=True, kw_only=True)
class CTensor:
    """An input, output or state as ``lstm_edge_tensor_at`` describes it."""

    name: str
    dtype: str
    axes: tuple[str | int, ...]


@dataclass(frozen=True, kw_only=True)
class Check:
    """The result of ``lstm_edge_check``; ``error`` is the sentence of a failed one."""

    worst: float
    tolerance: float
    vectors: int
    passed: bool
    error: str


class Library:
    """A built ``liblstm_edge.so``, and the onnxruntime that it opens."""

    def __init__(self, path: Path, onnxruntime: Path | None) -> None:
        """Load the library; ``onnxruntime`` None leaves the choice to the library."""
        self.onnxruntime = onnxruntime
        c = self.c = ctypes.CDLL(str(path))
        handle, size, text = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p
        arrays, results = ctypes.POINTER(CArray), ctypes.POINTER(ctypes.POINTER(CArray))
        declared: dict[str, tuple[Any, list[Any]]] = {
            "error": (text, []),
            "version": (text, []),
            "open": (ctypes.c_int, [text, ctypes.POINTER(_Options), ctypes.POINTER(handle)]),
            "open_bytes": (ctypes.c_int, [handle, size, ctypes.POINTER(_Options), ctypes.POINTER(handle)]),
            "close": (None, [handle]),
            "describe": (ctypes.c_int, [handle, ctypes.POINTER(_Info)]),
            "tensor_at": (ctypes.c_int, [handle, ctypes.c_int, size, ctypes.POINTER(_Tensor)]),
            "check": (ctypes.c_int, [handle, ctypes.POINTER(_Check)]),
            "run": (
                ctypes.c_int,
                [handle, arrays, size, ctypes.POINTER(ctypes.c_int64), ctypes.c_int32, _Visit, handle],
            ),
            "stream_open": (ctypes.c_int, [handle, ctypes.c_int64, ctypes.POINTER(handle)]),
            "stream_close": (None, [handle]),
            "stream_push": (ctypes.c_int, [handle, arrays, size, results]),
            "stream_flush": (ctypes.c_int, [handle, results]),
            "stream_reset": (ctypes.c_int, [handle]),
            "stream_steps": (ctypes.c_int64, [handle]),
            "stream_save": (ctypes.c_int, [handle, ctypes.POINTER(handle), ctypes.POINTER(size)]),
            "stream_restore": (ctypes.c_int, [handle, ctypes.c_char_p, size]),
            "pool_open": (ctypes.c_int, [handle, handle, ctypes.POINTER(handle)]),
            "pool_close": (None, [handle]),
            "pool_attach": (ctypes.c_int, [handle, ctypes.c_char_p, size, ctypes.POINTER(ctypes.c_int64)]),
            "pool_detach": (ctypes.c_int, [handle, ctypes.c_int64]),
            "pool_stream": (ctypes.c_int, [handle, ctypes.c_int64, ctypes.POINTER(handle)]),
            "pool_push": (ctypes.c_int, [handle, handle, size]),
        }
        for name, (result, arguments) in declared.items():
            function = getattr(c, f"lstm_edge_{name}")
            function.restype, function.argtypes = result, arguments

    @property
    def version(self) -> str:
        """The version that the library says."""
        return str(self.c.lstm_edge_version().decode())

    @property
    def error(self) -> str:
        """The sentence of the last failure in this thread."""
        return str(self.c.lstm_edge_error().decode(*_TEXT))

    def expect(self, status: int) -> None:
        """Raise Python's class of the status, with the library's sentence."""
        if status != 0:
            raise ERRORS[status](self.error)

    def open(self, source: bytes | str | Path, *, kernels: str = "auto", threads: int = 1) -> "CSession":
        """Open a file, or its bytes."""
        path = None if self.onnxruntime is None else str(self.onnxruntime).encode()
        options = _Options(ctypes.sizeof(_Options), path, _KERNELS[kernels], threads, 0)
        handle = ctypes.c_void_p()
        if isinstance(source, bytes):
            memory = ctypes.create_string_buffer(source, max(1, len(source)))
            status = self.c.lstm_edge_open_bytes(memory, len(source), ctypes.byref(options), ctypes.byref(handle))
            ctypes.memset(memory, 0xA5, len(source))  # the library must not need it any more
        else:
            status = self.c.lstm_edge_open(str(source).encode(*_TEXT), ctypes.byref(options), ctypes.byref(handle))
        self.expect(status)
        return CSession(self, handle)


class CSession:
    """An open file; ``close`` it, or let it be collected."""

    def __init__(self, library: Library, handle: ctypes.c_void_p) -> None:
        self.library, self.handle = library, handle
        info = _Info(size=ctypes.sizeof(_Info))
        library.expect(library.c.lstm_edge_describe(handle, ctypes.byref(info)))
        self.card: str | None = None if info.card is None else info.card.decode(*_TEXT)
        self.notes = tuple(info.notes.decode(*_TEXT).splitlines())
        self.kernels = None if info.kernels is None else info.kernels.decode()
        self.onnxruntime_version = info.onnxruntime_version.decode()
        self.size_bytes, self.operators, self.verified = info.size_bytes, info.operators, bool(info.verified)
        self.direct = bool(info.direct)
        self.inputs, self.outputs, self.states = (self._tensors(role) for role in range(3))

    def _tensors(self, role: int) -> tuple[CTensor, ...]:
        found: list[CTensor] = []
        tensor = _Tensor()
        while self.library.c.lstm_edge_tensor_at(self.handle, role, len(found), ctypes.byref(tensor)) == 0:
            names = [name and name.decode(*_TEXT) for name in tensor.axis_names[: tensor.rank]]
            axes = tuple(
                int(size) if name is None else name
                for name, size in zip(names, tensor.shape[: tensor.rank], strict=True)
            )
            found.append(CTensor(name=tensor.name.decode(*_TEXT), dtype=_DTYPES[tensor.dtype], axes=axes))
        return tuple(found)

    def run(
        self, inputs: Any, lengths: Sequence[int] | None = None, *, end: bool = True
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Outputs, and new states by the names of their inputs; ``inputs`` may hold the states."""
        arrays, count, keep = lend(inputs)
        got: dict[str, np.ndarray] = {}
        problems: list[BaseException] = []

        def visit(context: Any, array: Any) -> None:
            try:
                got[array.contents.name.decode(*_TEXT)] = copy_of(array.contents)
            except BaseException as error:
                problems.append(error)

        given = None if lengths is None else (ctypes.c_int64 * max(1, len(lengths)))(*lengths)
        status = self.library.c.lstm_edge_run(self.handle, arrays, count, given, int(end), _Visit(visit), None)
        del keep
        self.library.expect(status)
        if problems:
            raise problems[0]
        states = {spec.name: got.pop(spec.name) for spec in self.states}
        return got, states

    def check(self) -> Check:
        """The self-test; a failed one is returned, not raised."""
        result = _Check(size=ctypes.sizeof(_Check))
        status = self.library.c.lstm_edge_check(self.handle, ctypes.byref(result))
        if status not in (0, 7):
            self.library.expect(status)
        return Check(
            worst=result.worst,
            tolerance=result.tolerance,
            vectors=result.vectors,
            passed=bool(result.passed) and status == 0,
            error=self.library.error if status else "",
        )

    def stream(self, batch_size: int = 1) -> "CStream":
        """Open a stream at the initial state."""
        handle = ctypes.c_void_p()
        self.library.expect(self.library.c.lstm_edge_stream_open(self.handle, batch_size, ctypes.byref(handle)))
        return CStream(self, handle)

    def close(self) -> None:
        """Close the session; its streams stay valid."""
        if self.handle:
            self.library.c.lstm_edge_close(self.handle)
            self.handle = ctypes.c_void_p()

    def __del__(self) -> None:
        self.close()


class CStream:
    """A stream; answers have the form of Python's: an array, or a dict by name if there are several outputs."""

    def __init__(self, session: CSession, handle: ctypes.c_void_p) -> None:
        self._library, self._handle = session.library, handle
        self._names = [spec.name for spec in session.outputs]

    def push(self, x: Any, *, rank: int | None = None) -> Any:
        """Push a frame or a chunk, or a mapping of them; ``rank`` is told of the first array in place of its own."""
        arrays, count, keep = lend(x)
        if rank is not None:
            arrays[0].rank = rank
        answer = self._answer(lambda out: self._library.c.lstm_edge_stream_push(self._handle, arrays, count, out))
        del keep
        return answer

    def flush(self) -> Any:
        """End the sequence."""
        return self._answer(lambda out: self._library.c.lstm_edge_stream_flush(self._handle, out))

    def _answer(self, call: Callable[[Any], int]) -> Any:
        outputs = ctypes.POINTER(CArray)()
        self._library.expect(call(ctypes.byref(outputs)))
        got = {outputs[i].name.decode(*_TEXT): copy_of(outputs[i]) for i in range(len(self._names))}
        assert list(got) == self._names
        return got if len(got) > 1 else next(iter(got.values()))

    def reset(self) -> None:
        """Back to the initial state."""
        self._library.expect(self._library.c.lstm_edge_stream_reset(self._handle))

    @property
    def steps(self) -> int:
        """Steps since the last reset."""
        return int(self._library.c.lstm_edge_stream_steps(self._handle))

    def save(self) -> bytes:
        """The bytes of an ``.npz`` archive of everything that the stream knows."""
        data, size = ctypes.c_void_p(), ctypes.c_size_t()
        self._library.expect(
            self._library.c.lstm_edge_stream_save(self._handle, ctypes.byref(data), ctypes.byref(size))
        )
        return ctypes.string_at(data, size.value)

    def restore(self, data: bytes) -> None:
        """Continue from such bytes."""
        self._library.expect(self._library.c.lstm_edge_stream_restore(self._handle, data, len(data)))

    def close(self) -> None:
        """Close the stream."""
        if self._handle:
            self._library.c.lstm_edge_stream_close(self._handle)
            self._handle = ctypes.c_void_p()

    def __del__(self) -> None:
        self.close()


def lend(inputs: Any) -> tuple[Any, int, Any]:
    """Return arrays for a call, their number, and what must live until it is over."""
    named: list[tuple[bytes | None, np.ndarray]]
    if isinstance(inputs, Mapping):
        named = [
            (name.encode(*_TEXT), np.ascontiguousarray(array).reshape(array.shape)) for name, array in inputs.items()
        ]
    else:
        named = [(None, np.ascontiguousarray(inputs).reshape(np.shape(inputs)))]
    arrays = (CArray * max(1, len(named)))()
    for slot, (name, array) in zip(arrays, named, strict=False):
        slot.name, slot.dtype, slot.rank = name, _CODES[array.dtype.name], array.ndim
        slot.shape[: array.ndim] = array.shape
        slot.data = array.ctypes.data
    return arrays, len(named), named


def _contiguous(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(array.shape)  # NumPy's function makes an axis of a scalar


def copy_of(array: Any) -> np.ndarray:
    """Return a copy of an array that the library shows."""
    shape = tuple(array.shape[: array.rank])
    dtype = np.dtype(_DTYPES[array.dtype])
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    data = ctypes.string_at(array.data, size) if size else b""
    return np.frombuffer(data, dtype).reshape(shape).copy()
