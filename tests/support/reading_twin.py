"""The reader of model files in C++ beside the one in Python: what each makes of the same bytes, in the same form."""

import ctypes
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lstm_edge_runtime.artifact import TRAILER_KEY, check_integrity, read_model_bytes
from lstm_edge_runtime.column_sums import check_column_sums
from lstm_edge_runtime.errors import ArtifactError, IntegrityError
from lstm_edge_runtime.function_check import called_operators, check_functions, check_whole
from lstm_edge_runtime.model_reading import identifier, read_model
from lstm_edge_runtime.sparse_index import check_sparse_matrices

__all__ = ["Reader", "build_reader", "expected", "expected_of_file"]

_ROOT = Path(__file__).parents[2]
_SOURCES = (
    "file_kinds",
    "model_file",
    "model_reading",
    "protobuf",
    "function_check",
    "sha256",
    "stored_matrices",
    "sparse_index",
)
_HEADERS = (
    *(
        "error",
        "file_kinds",
        "function_check",
        "function_digests",
        "model_file",
        "model_limits",
        "model_reading",
        "onnx_schema",
    ),
    *("printable", "protobuf", "sha256", "stored_matrices", "text"),
)
_STATUS = {ArtifactError: 1, IntegrityError: 2}


class Reader:
    """The shared object, called through ctypes."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        self._library.lstm_edge_describe_bytes.restype = ctypes.c_char_p
        self._library.lstm_edge_describe_file.restype = ctypes.c_char_p

    def describe(self, data: bytes) -> Any:
        """What the reader makes of a file's bytes."""
        return _loaded(self._library.lstm_edge_describe_bytes(_exact(data), ctypes.c_size_t(len(data))))

    def describe_file(self, path: str) -> Any:
        """The digest of a file, or the refusal to read it."""
        encoded = os.fsencode(path)
        return _loaded(self._library.lstm_edge_describe_file(encoded, ctypes.c_size_t(len(encoded))))

    def check(self, data: bytes) -> int:
        """The status of the checks alone."""
        return int(self._library.lstm_edge_check_bytes(_exact(data), ctypes.c_size_t(len(data))))

    def sha256(self, data: bytes, *, portable: bool = False) -> bytes:
        """The digest, by the processor's instructions where it has them or by portable code."""
        made = ctypes.create_string_buffer(32)
        self._library.lstm_edge_sha256(data, ctypes.c_size_t(len(data)), int(portable), made)
        return made.raw


def _exact(data: bytes) -> Any:
    return (ctypes.c_char * len(data)).from_buffer_copy(data)


def _loaded(text: bytes) -> Any:
    return json.loads(text.decode("utf-8", "surrogateescape"))


def build_reader(flags: tuple[str, ...] = ("-O1",)) -> Path | None:
    """Compile the reader, once for each content of its sources; None without a compiler."""
    compiler = next((path for name in ("g++", "c++", "clang++") if (path := shutil.which(name))), None)
    if compiler is None:
        return None
    folder = _ROOT / "runtime" / "c"
    sources = [folder / "src" / f"{name}.cpp" for name in (*_SOURCES, "text", "printable")]
    sources.append(_ROOT / "tests" / "c" / "reading_entry.cpp")
    content = hashlib.sha256(repr((compiler, flags)).encode())
    headers = [folder / "src" / f"{name}.h" for name in _HEADERS]
    for path in [*sources, *headers, folder / "include" / "lstm_edge.h"]:
        content.update(path.read_bytes())
    cache = _ROOT / ".cache" / "c" / "reading"
    cache.mkdir(parents=True, exist_ok=True)
    library = cache / f"{content.hexdigest()[:20]}.so"
    if not library.exists():
        _compile(compiler, flags, sources, folder, library)
    return library


def _compile(compiler: str, flags: tuple[str, ...], sources: list[Path], folder: Path, library: Path) -> None:
    common = ["-std=c++17", "-fPIC", "-Wall", "-Wextra", "-Werror", f"-I{folder}/include", f"-I{folder}/src", *flags]
    with tempfile.TemporaryDirectory(dir=library.parent) as made:
        objects = [Path(made) / f"{source.stem}.o" for source in sources]
        jobs = [
            subprocess.Popen([compiler, *common, "-c", str(source), "-o", str(target)])
            for source, target in zip(sources, objects, strict=True)
        ]
        codes = [job.wait() for job in jobs]
        if any(codes):
            raise RuntimeError("the reader in C++ does not compile")
        target = Path(made) / "reader.so"
        subprocess.run([compiler, *flags, "-shared", *map(str, objects), "-o", str(target)], check=True)
        target.replace(library)


def _answer(function: Callable[[], Any]) -> Any:
    try:
        return function()
    except ArtifactError as error:
        return {"status": _STATUS[IntegrityError if isinstance(error, IntegrityError) else ArtifactError]} | {
            "message": str(error)
        }


def expected(data: bytes) -> Any:
    """What Python makes of a file's bytes, in the order of ``Session``."""
    return {
        "integrity": _answer(lambda: check_integrity(data)),
        "reading": _answer(lambda: _facts(data)),
        "model": _answer(lambda: _checked(data)),
        "bodies": _answer(lambda: _bodies(data)),
    }


def expected_of_file(path: str) -> Any:
    """The digest of a file, or Python's refusal to read it."""
    return _answer(lambda: hashlib.sha256(read_model_bytes(path)).hexdigest())


def _facts(data: bytes) -> Any:
    reading = read_model(data)
    return {
        "calls": [list(operator) for operator in reading.calls],
        "functions": [[identifier(f.operator), len(f.data), sum(f.calls.values())] for f in reading.functions],
        "metadata": reading.metadata,
        "external": list(reading.external),
        "graphs": reading.graphs,
        "operators": list(called_operators(reading)),
    }


def _checked(data: bytes) -> Any:
    verified = check_integrity(data)
    reading = read_model(data)
    check_functions(reading)
    check_whole(reading)
    if verified and TRAILER_KEY not in reading.metadata:
        raise IntegrityError(
            "the file's integrity trailer is not metadata of the model but lies inside another of its fields: "
            "make the file again with the tool that wrote it"
        )
    return {"verified": verified, "operators": list(called_operators(reading))}


def _bodies(data: bytes) -> None:
    reading = read_model(data)
    check_column_sums(data, reading)
    check_sparse_matrices(data, reading)
