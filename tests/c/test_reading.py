"""The C library's reader of model files gives the same verdict on every file as Python's, in the same words."""

import hashlib
import os
import socket
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.mangling import mangled
from support.reading_files import MODELS, reading_files
from support.reading_twin import Reader, build_reader, expected, expected_of_file

FILES = reading_files()


@pytest.fixture(scope="module")
def reader():
    path = build_reader()
    if path is None:
        pytest.skip("no C++ compiler (g++, c++, clang++): the reader in C++ cannot be built")
    return Reader(path)


def test_both_readers_agree_on_every_file(reader):
    assert len(FILES) >= 150
    wrong = {}
    for name, data in FILES.items():
        got, wanted = reader.describe(data), expected(data)
        if got != wanted:
            wrong[name] = [(key, got[key], wanted[key]) for key in wanted if got[key] != wanted[key]]
        assert reader.check(data) == next(
            (answer["status"] for answer in (wanted["model"], wanted["bodies"]) if answer and "status" in answer), 0
        )
    assert not wrong


def test_the_files_hold_every_refusal():
    """Each sentence of Python's reader is said of one of the files."""
    said = [
        answer["message"]
        for data in FILES.values()
        for answer in expected(data).values()
        if isinstance(answer, dict) and "message" in answer
    ]
    for part in (
        "the file is damaged", "the file is truncated", "lies inside another", "own format (.ort)", "is cut off",
        "needless digit", "more than 64 bits", "more than 32 bits", "more than 10 digits", "more than 5 digits",
        "is a group", "has the wire type 4", "has the wire type 0, expected", "the number 0", "declares 8 bytes",
        "is given twice in graph", "beside another field", "is not UTF-8", "control character", "metadata entry",
        "function 'd:f' is given twice", "attribute 'body'", "imported in the versions", "nested more than 32 deep",
        "nests graphs more than 32", "overload", "which this version does not know", "differs from docs/operators.md",
        "lie in another file", "calls itself", "more than 100 deep", "over 1000000 nodes", "inline the functions",
        "the magnitudes of column", "has blocks, scales, numbers", "has blocks of shape", "has the numbers of rows",
        "do not increase", "has a column whose magnitudes",
    ):  # fmt: skip
        assert any(part in sentence for sentence in said), part


@pytest.mark.parametrize("portable", [False, True])
def test_sha256_is_hashlib_s(reader, portable):
    data = bytes(range(256)) * 20
    for size in [*range(130), 191, 192, 1000, 4096, 5000]:
        assert reader.sha256(data[:size], portable=portable) == hashlib.sha256(data[:size]).digest(), size


def test_paths_are_refused_in_the_same_words(reader, tmp_path):
    (tmp_path / "empty.onnx").touch()
    (tmp_path / "small.onnx").write_bytes(b"abc")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    with (tmp_path / "big.onnx").open("wb") as file:
        file.truncate(2**31)  # sparse: takes no space
    with socket.socket(socket.AF_UNIX) as listening:
        previous = Path.cwd()
        os.chdir(tmp_path)  # the path of a socket is short
        listening.bind("socket")
        os.chdir(previous)
        names = ["empty.onnx", "small.onnx", "pipe", "loop", "big.onnx", "socket", "none", "small.onnx/x", "n" * 300]
        for path in [*(str(tmp_path / name) for name in names), str(tmp_path), "/dev/null", "", "a\0b", "\udcff"]:
            assert reader.describe_file(path) == expected_of_file(path), path
    assert reader.describe_file("/proc/self/auxv").__class__ is str  # a size of 0, and content


def agree(reader, data):
    got, wanted = reader.describe(data), expected(data)
    assert got == wanted, data


@settings(max_examples=250)
@given(data=mangled(list(FILES.values())))
def test_mangled_files_are_judged_alike(reader, data):
    agree(reader, data)


@settings(max_examples=150)
@given(
    st.sampled_from(sorted(MODELS)),
    st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 7)), max_size=3),
    st.data(),
)
def test_torn_and_flipped_files_are_judged_alike(reader, name, flips, data):
    torn = bytearray(MODELS[name])
    for at, bit in flips:
        torn[at % len(torn)] ^= 1 << bit
    agree(reader, bytes(torn[: len(torn) - data.draw(st.sampled_from([0, 0, 1, 64, 86, 90, len(torn) // 2]))]))


@settings(max_examples=150)
@given(st.binary(max_size=60))
@example(b"\x3a\xff\xff\xff\xff\x0f")
def test_any_bytes_are_judged_alike(reader, data):
    agree(reader, data)


@pytest.mark.long
@settings(max_examples=20_000)
@given(data=mangled(list(FILES.values())))
def test_many_mangled_files_are_judged_alike(reader, data):
    agree(reader, data)
