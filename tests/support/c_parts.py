"""The parts of the C library that read cards and golden vectors, built without the rest and called with text."""

import ctypes
import fcntl
import functools
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lstm_edge_runtime.errors import ArtifactError, CardError, InputError, LstmEdgeError

__all__ = ["answer_of", "call_part"]

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "runtime" / "c"
DRIVER = ROOT / "tests" / "c" / "parts.cpp"
PARTS = (
    "array",
    "base64",
    "card",
    "card_decode",
    "card_schema",
    "contract",
    "golden",
    "json",
    "json_parse",
    "npy",
    "npz",
    "printable",
    "row_bytes",
    "text",
    "zip_archive",
    "zip_directory",
)
ZLIB = ("adler32", "crc32", "inffast", "inflate", "inftrees", "zutil")
FLAGS = ("-O1", "-g0", "-fPIC", "-fvisibility=hidden", "-DZ_PREFIX", "-DDYNAMIC_CRC_TABLE", "-DHAVE_UNISTD_H")
CLASSES = {1: ArtifactError, 3: CardError, 4: InputError}


@functools.cache
def _library() -> ctypes.CDLL:
    """Return the parts as a shared object, which is compiled once for each state of the sources."""
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler (g++, c++): the C library is not compared with Python")
    folder = ROOT / ".cache" / "c" / "parts"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:  # workers of pytest-xdist wait for the first of them
        fcntl.flock(lock, fcntl.LOCK_EX)
        return ctypes.CDLL(str(_built(compiler, folder)))


def _built(compiler: str, folder: Path) -> Path:
    """Return the shared object in the folder, which is made where it is missing."""
    zlib = SOURCES / "third_party" / "zlib"
    sources = [DRIVER, *(SOURCES / "src" / f"{part}.cpp" for part in PARTS), *(zlib / f"{name}.c" for name in ZLIB)]
    names = (*PARTS, "error", "unreadable")
    headers = [path for path in sorted((SOURCES / "src").glob("*.h")) if path.stem in names]
    headers.append(SOURCES / "include" / "lstm_edge.h")
    common = b"".join(header.read_bytes() for header in headers) + repr((compiler, FLAGS)).encode()
    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(lambda source: _compiled(compiler, source, common, folder), sources))
    library = folder / (_digest("".join(item.name for item in objects).encode()) + ".so")
    if not library.exists():
        _made(library, [compiler, "-shared", *map(str, objects)])
    return library


def _compiled(compiler: str, source: Path, common: bytes, folder: Path) -> Path:
    """Return the object file of a source, from the folder if it was compiled before."""
    made = folder / (source.stem + "-" + _digest(common + source.read_bytes()) + ".o")
    if not made.exists():
        includes = [f"-I{SOURCES / name}" for name in ("src", "include", "third_party/zlib")]
        language = ["-x", "c"] if source.suffix == ".c" else ["-std=c++17"]
        _made(made, [compiler, *FLAGS, *includes, *language, "-c", str(source)])
    return made


def _made(path: Path, command: list[str]) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        part = Path(folder) / path.name
        made = subprocess.run([*command, "-o", str(part)], capture_output=True, text=True, check=False)
        if made.returncode:
            pytest.fail(made.stderr[-4000:])
        part.replace(path)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def call_part(part: str, data: bytes) -> bytes:
    """Return what a part gives for bytes.

    Raises:
        LstmEdgeError: of the class that Python gives the same failure.
    """
    out, size = ctypes.c_void_p(), ctypes.c_size_t()
    status = _library().lstm_edge_part(
        part.encode(), data, ctypes.c_size_t(len(data)), ctypes.byref(out), ctypes.byref(size)
    )
    given = ctypes.string_at(out.value or 0, size.value)
    if status:
        raise CLASSES.get(status, LstmEdgeError)(given.decode("utf-8", "surrogatepass"))
    return given


def answer_of(function: Callable[[], str]) -> tuple[str, str]:
    """Return ("ok", the text that a function returns), or the class and the sentence of its refusal."""
    try:
        return "ok", function()
    except LstmEdgeError as error:
        return type(error).__name__, str(error)
