"""Every reader of files: one flipped bit, a bomb, a device, a pipe or a folder ends in the error that is documented."""

import base64
import functools
import gzip
import io
import json
import lzma
import os
import random
import sys
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.reader_bombs import BOMBS
from support.reader_cases import READERS, Reader, attempt, npz, scratch_folder, zip_members

sys.path.insert(0, str(Path(__file__).parents[1] / "fuzz"))
from readers import check_case
from sandbox import Tally, run_cases

from lstm_edge.data import load, load_transcripts
from lstm_edge.data.text import load_text
from lstm_edge.exporting import load_source
from lstm_edge_exporters.adopt import adopt
from lstm_edge_exporters.keras import load_keras
from lstm_edge_exporters.quantize import quantize
from lstm_edge_runtime.errors import ArtifactError, DataError, InputError, LstmEdgeError
from lstm_edge_runtime.files import read_arrays
from lstm_edge_runtime.session import Session

# Readers whose file has more bits than a test has time for: that many, drawn once; the fuzzer takes others.
DRAWN = {
    "card": 2000, "card in a model": 200, "checkpoint": 1000, "golden": 2000, "h5": 16, "keras": 1500,
    "npz data": 2000, "npz data, more": 2000, "npz stored": 2000, "pt": 600, "safetensors": 2000, "state": 2000,
    "training state": 150, "vocabulary": 1500,
}  # fmt: skip


@pytest.fixture(scope="module")
def reader() -> object:
    return functools.cache(lambda name: READERS[name]())


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in memory where there is one: 30,000 small files are written."""
    with scratch_folder() as path:
        yield path


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.long) if n == "keras" else n for n in READERS])
def test_each_bit_of_a_file_may_be_another(name: str, reader, folder: Path) -> None:
    """Whatever else is raised, a warning too, fails the test."""
    case: Reader = reader(name)
    path = folder / f"file{case.suffix}"
    bits = range(8 * len(case.data))
    drawn = bits if name not in DRAWN else random.Random(name).sample(bits, DRAWN[name])
    counts: Counter[str] = Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path.write_bytes(case.data)
        assert attempt(case, path) == "accepted"
        for bit in drawn:
            changed = bytearray(case.data)
            changed[bit // 8] ^= 1 << bit % 8
            path.write_bytes(changed)
            counts[attempt(case, path)] += 1
    assert set(counts) <= {"accepted", "refused"}
    assert counts["refused"]


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_a_file_that_asks_for_more_than_it_is_is_refused(name: str, folder: Path) -> None:
    """Within 1.5 GiB of address space and 10 s of processor time."""
    kind, make = BOMBS[name]
    tally = Tally()
    run_cases(functools.partial(check_case, folder), [(name, (kind, make()))], until=float("inf"), tally=tally)
    assert tally.verdicts == {"refused": 1}, tally.faults


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("name", ["npz", "state", "npz data", "golden", "keras"])
def test_a_member_that_is_unpacked_whole_is_refused(name: str, method: int, reader, tmp_path: Path) -> None:
    """An honest archive, with the members that the reader takes, packed by a method that knows no bound."""
    case: Reader = reader(name)
    document = json.loads(case.data) if name == "golden" else {}
    archive = base64.b64decode(document["npz"]) if name == "golden" else case.data
    with zipfile.ZipFile(io.BytesIO(archive)) as whole:
        packed = zip_members({member: whole.read(member) for member in whole.namelist()}, method)
    data = json.dumps(document | {"npz": base64.b64encode(packed).decode()}).encode() if document else packed
    path = tmp_path / f"file{case.suffix}"
    path.write_bytes(data)
    with pytest.raises(case.errors, match=rf"compressed by method {method}; expected a stored or a deflated one"):
        case.read(path)


PLACES = {
    "read_arrays": (read_arrays, "x.npz", InputError),
    "load npz": (lambda path: load(str(path), default_split="train"), "x.npz", DataError),
    "load csv": (lambda path: load(str(path), default_split="train"), "x.csv", DataError),
    "load jsonl.gz": (lambda path: load(str(path), default_split="train"), "x.jsonl.gz", DataError),
    "load_transcripts": (load_transcripts, "x.jsonl", DataError),
    "load_text": (lambda path: load_text(str(path)), "x.txt", DataError),
    "load_text xz": (lambda path: load_text(str(path)), "x.xz", DataError),
    "load_keras": (load_keras, "x.keras", ArtifactError),
    "checkpoint": (lambda path: load_source(str(path)), "x.safetensors", ArtifactError),
    "weights": (lambda path: load_source("torch.nn:Identity", path), "x.pt", ArtifactError),
    "weights, safetensors": (lambda path: load_source("torch.nn:Identity", path), "x.safetensors", ArtifactError),
    "Session": (Session, "x.onnx", ArtifactError),
    "quantize": (lambda path: quantize(path, path.with_name("out.onnx"), scheme="int8"), "x.onnx", ArtifactError),
    "adopt": (lambda path: adopt(path, path.with_name("out.onnx")), "x.onnx", ArtifactError),
}


@pytest.mark.parametrize("what", ["pipe", "folder", "zeros", "nothing", "loop", "dangling"])
@pytest.mark.parametrize("name", PLACES)
def test_a_path_that_is_no_file_is_refused(name: str, what: str, tmp_path: Path) -> None:
    """At once: a pipe that nobody writes to, or /dev/zero, would take for ever."""
    read, file, error = PLACES[name]
    path = tmp_path / file
    if what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what == "zeros":
        path.symlink_to("/dev/zero")
    elif what == "loop":
        path.symlink_to(path)
    elif what == "dangling":
        path.symlink_to(tmp_path / "none")
    sentences = {"nothing": "no such file", "dangling": "no such file", "loop": "cannot be read"}
    with pytest.raises(error, match=sentences.get(what, "not a file|this is a (directory|device or a pipe)")):
        read(path)


@pytest.mark.parametrize("path", ["a\0b.npy", "a" * 300 + ".npy", "/proc/self/mem", "\ud800.npy"])
def test_a_name_that_no_file_can_have_is_refused(path: str) -> None:
    with pytest.raises(InputError, match=r"cannot be read|not a readable|no such file"):
        read_arrays(path)


@pytest.mark.slow
def test_large_honest_files_are_read(tmp_path: Path) -> None:
    """Zeros shrink to a thousandth, and are data all the same."""
    x = np.zeros((2**22, 4), np.float32)  # 64 MiB
    for name, data in (("x.npz", npz(x=x)), ("s.npz", npz(np.savez, x=x))):
        (tmp_path / name).write_bytes(data)
        back = read_arrays(tmp_path / name)["x"]
        assert back.shape == x.shape
        assert not back.any()
        (tmp_path / name).unlink()
    text = "In the beginning.\n" * 500_000
    (tmp_path / "t.xz").write_bytes(lzma.compress(text.encode(), preset=0))
    assert load_text(str(tmp_path / "t.xz")).text == text


@pytest.mark.parametrize("count", [1, 3])
def test_streams_that_follow_one_another_are_one_text(count: int, tmp_path: Path) -> None:
    """As gzip and xz read them: joined files, with zeros between them."""
    for suffix, pack in ((".gz", gzip.compress), (".xz", lzma.compress)):
        path = tmp_path / f"t{suffix}"
        path.write_bytes((pack("né".encode()) + bytes(8)) * count)
        assert load_text(str(path)).text == "né" * count
        for data in (pack(b"a") * count + b"more", bytes(8) + pack(b"a") * count):
            path.write_bytes(data)
            with pytest.raises(DataError, match=f"cannot be unpacked as {suffix}, the file is damaged"):
                load_text(str(path))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["?", "i1", "<u2", ">i4", "f2", "<f8", "c8"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (2, 0, 5)])
def test_arrays_are_read_as_numpy_reads_them(shape: tuple[int, ...], dtype: str, order: str, tmp_path: Path) -> None:
    array = np.asarray(np.arange(np.prod(shape)).reshape(shape), dtype, order=order)
    np.save(tmp_path / "a.npy", array)
    np.savez_compressed(tmp_path / "a.npz", a=array)
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version=(2, 0))
    (tmp_path / "b.npy").write_bytes(stream.getvalue())
    expected = np.load(tmp_path / "a.npy")
    found = [read_arrays(tmp_path / name) for name in ("a.npy", "b.npy", "a.npz")]
    for back in (found[0], found[1], found[2]["a"]):
        assert (back.dtype, back.shape, back.flags.f_contiguous) == (
            expected.dtype, expected.shape, expected.flags.f_contiguous,
        )  # fmt: skip
        assert back.flags.writeable
        np.testing.assert_array_equal(back, expected)


def test_the_errors_are_ours() -> None:
    for make in READERS.values():
        errors = make().errors
        for error in errors if isinstance(errors, tuple) else (errors,):
            assert issubclass(error, LstmEdgeError)
