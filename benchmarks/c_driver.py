"""The C library for timings: builds it with benchmarks/c_steps.cpp, and calls what is timed there from Python.

The clock is read in C, so that a call from Python costs a measured time nothing.
"""

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
C_FOLDER = HERE.parent / "runtime" / "c"
CACHE = HERE.parent / ".cache" / "c"

__all__ = ["Steps", "Streams", "build_steps", "device_program", "find_onnxruntime", "first_answer_us"]


def build_steps() -> Path:
    """Build the C library into .cache/c/installed and return the shared object of c_steps.cpp.

    Raises:
        subprocess.CalledProcessError: there is no compiler or no CMake, or it failed; its message was printed.
    """
    command = [sys.executable, str(C_FOLDER / "build.py"), str(CACHE / "installed"), "--folder", str(CACHE / "make")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    made = CACHE / "c_steps.so"
    library = CACHE / "installed" / "lib" / "liblstm_edge.a"
    source = HERE / "c_steps.cpp"
    if not made.exists() or made.stat().st_mtime < max(library.stat().st_mtime, source.stat().st_mtime):
        compiler = os.environ.get("CXX", "c++")
        include = [f"-I{C_FOLDER / folder}" for folder in ("include", "src")]
        include.append(f"-I{HERE.parent / 'runtime' / 'lstm_edge_runtime' / 'kernels'}")
        # Hidden, as in liblstm_edge.so: calls inside the library then need no table.
        flags = ["-std=c++17", "-O2", "-fPIC", "-fvisibility=hidden", "-shared", "-Wl,--exclude-libs,ALL"]
        libraries = [str(library), "-ldl", "-lpthread"]
        subprocess.run([compiler, *flags, *include, str(source), "-o", str(made), *libraries], check=True)
    return made


def device_program() -> Path:
    """Return the path of lstm-edge-device, which build_steps built."""
    return CACHE / "installed" / "bin" / "lstm-edge-device"


def find_onnxruntime() -> Path:
    """Return the library of onnxruntime in the installed wheel, without importing it.

    Raises:
        FileNotFoundError: the wheel has none (it is older than 1.20).
    """
    from importlib.metadata import files

    for file in files("onnxruntime") or []:
        if file.name.startswith("libonnxruntime.so"):
            return Path(str(file.locate()))
    raise FileNotFoundError("the installed onnxruntime has no libonnxruntime.so: it is older than 1.20")


class Steps:
    """A stream of a model of one input and one output, and onnxruntime alone on the same model."""

    def __init__(self, library: Path, model: Path, frame: np.ndarray[Any, Any], outputs: int) -> None:
        self.library = _load(library)
        self.outputs = outputs
        frame = np.ascontiguousarray(frame, np.float32)
        self.handle = self.library.steps_open(
            os.fsencode(model), os.fsencode(find_onnxruntime()), frame.ctypes.data, frame.size
        )
        if not self.handle:
            raise RuntimeError(self.library.steps_error().decode())

    def push_us(self, settling: int, calls: int) -> float:
        """Return the median of a number of pushes in microseconds, after some that do not count."""
        return self._time(self.library.steps_push(self.handle, settling, calls))

    def bare_us(self, settling: int, calls: int) -> float:
        """Return the same of runs of onnxruntime on bound buffers."""
        return self._time(self.library.steps_bare(self.handle, settling, calls))

    def answer(self, frame: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Push a frame, float32 [inputs]; return the answer, float32 [outputs]."""
        x, y = np.ascontiguousarray(frame, np.float32), np.empty(self.outputs, np.float32)
        if not self.library.steps_answer(self.handle, x.ctypes.data, y.ctypes.data):
            raise RuntimeError(self.library.steps_error().decode())
        return y

    def reset(self) -> None:
        """Go back to the initial state."""
        self.library.steps_reset(self.handle)

    def restore(self, snapshot: bytes) -> None:
        """Continue from a stream's snapshot, the bytes of an .npz archive."""
        if not self.library.steps_restore(self.handle, snapshot, len(snapshot)):
            raise RuntimeError(self.library.steps_error().decode())

    def close(self) -> None:
        """Free the model."""
        self.library.steps_close(self.handle)

    def _time(self, us: float) -> float:
        if us == 0:
            raise RuntimeError(self.library.steps_error().decode())
        return us


class Streams:
    """Many streams of a model of one input, in a pool or each alone, which all get a frame in a tick."""

    def __init__(self, library: Path, model: Path, frames: np.ndarray[Any, Any], *, pooled: bool) -> None:
        """Open the streams; ``frames`` is float32 [streams, inputs]."""
        self.library = _load(library)
        frames = np.ascontiguousarray(frames, np.float32)
        self.handle = self.library.streams_open(
            os.fsencode(model), os.fsencode(find_onnxruntime()), frames.ctypes.data, *frames.shape, int(pooled)
        )
        if not self.handle:
            raise RuntimeError(self.library.steps_error().decode())

    def tick_us(self, settling: int, calls: int) -> float:
        """Return the median time of pushing all streams in microseconds, after some pushes that do not count."""
        us = float(self.library.streams_tick(self.handle, settling, calls))
        if us == 0:
            raise RuntimeError(self.library.steps_error().decode())
        return us

    def close(self) -> None:
        """Free the streams and the model."""
        self.library.streams_close(self.handle)


def first_answer_us(library: Path, model: Path, inputs: int, operators: Sequence[str] | None) -> float:
    """Return the time from the file to the first answer in a new process, in microseconds.

    Args:
        library: what build_steps returned.
        model: the file.
        inputs: size of its input's last axis.
        operators: None times the C library; names of operators time onnxruntime alone with these kernels, and no
            names without kernels.
    """
    command = [sys.executable, "-I", __file__, str(library), str(model), str(inputs), json.dumps(operators)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _load(path: Path) -> Any:
    library = ctypes.CDLL(str(path))
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    library.steps_error.restype = ctypes.c_char_p
    library.steps_open.restype = pointer
    library.steps_open.argtypes = [ctypes.c_char_p, ctypes.c_char_p, pointer, number]
    for name in ("steps_push", "steps_bare"):
        function = getattr(library, name)
        function.restype, function.argtypes = ctypes.c_double, [pointer, number, number]
    library.steps_answer.argtypes = [pointer, pointer, pointer]
    library.steps_reset.argtypes = library.steps_close.argtypes = [pointer]
    library.steps_restore.argtypes = [pointer, ctypes.c_char_p, ctypes.c_size_t]
    library.streams_open.restype = pointer
    library.streams_open.argtypes = [ctypes.c_char_p, ctypes.c_char_p, pointer, number, number, ctypes.c_int32]
    library.streams_close.argtypes = [pointer]
    library.streams_tick.restype, library.streams_tick.argtypes = ctypes.c_double, [pointer, number, number]
    library.steps_first.restype = ctypes.c_double
    library.steps_first.argtypes = [ctypes.c_char_p, ctypes.c_char_p, pointer, number, pointer, number]
    return library


def _main() -> None:
    path, model, inputs, names = sys.argv[1:]
    operators = json.loads(names)
    library, frame = _load(Path(path)), np.linspace(-1, 1, int(inputs), dtype=np.float32)
    given = None if operators is None else (ctypes.c_char_p * (len(operators) + 1))(*map(str.encode, operators))
    us = library.steps_first(
        os.fsencode(model), os.fsencode(find_onnxruntime()), frame.ctypes.data, frame.size,
        given, 0 if operators is None else len(operators),
    )  # fmt: skip
    if us == 0:
        sys.exit(library.steps_error().decode())
    print(us)


if __name__ == "__main__":
    _main()
