"""Texts: the bundled one, files, parts by position, and streams of ids."""

import gzip
import io
import itertools
import lzma
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_edge.data.text import decode_text, is_text, load_text, split_text, text_batches
from lstm_edge_runtime import text_files as module
from lstm_edge_runtime.errors import DataError


@pytest.mark.slow
def test_the_king_james_text():
    whole = load_text("king-james")
    # Counted from the file with `xz -dc | wc -m`; one verse a line.
    assert (len(whole), len(set(whole.text)), whole.name) == (4_137_849, 63, "king-james")
    assert "In the beginning God created the heaven and the earth.\n" in whole.text[:100]
    assert whole.text.endswith("The grace of our Lord Jesus Christ be with you all. Amen.\n")
    parts = [load_text(f"king-james:{part}") for part in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [3_724_064, 206_892, 206_893]
    assert "".join(part.text for part in parts) == whole.text
    assert load_text("king-james", default_part="test").name == "king-james:test"


@given(st.integers(20, 5000))
def test_parts_are_cut_by_position(characters):
    text = "".join(chr(0x4E00 + index) for index in range(characters))
    parts = split_text(text)
    assert "".join(parts) == text
    for part, share in zip(parts, (0.9, 0.05, 0.05), strict=True):
        assert abs(len(part) - share * characters) < 1


def test_a_short_text_has_no_parts():
    with pytest.raises(
        DataError, match=r"^data text: the text has 19 characters, expected 20 or more to split it into 90"
    ):
        split_text("x" * 19)


@pytest.mark.parametrize("suffix", [".txt", ".xz", ".gz", ".md"])
def test_files_are_unpacked_and_otherwise_unchanged(tmp_path, suffix):
    text = "eins\r\nzwei é漢\n\ndrei, vier, fünf\n"
    packed = {".xz": lzma.compress, ".gz": gzip.compress}.get(suffix, bytes)(text.encode())
    path = tmp_path / f"a{suffix}"
    path.write_bytes(packed)
    assert load_text(str(path)).text == text
    # A file is taken whole, whatever the default; a part of it is asked for by name.
    assert load_text(str(path), default_part="test").text == text
    part = load_text(f"{path}:test")
    assert (part.text, part.name) == (text[len(text) * 95 // 100 :], f"{path}:test")


def test_a_byte_order_mark_is_skipped():
    assert decode_text(io.BytesIO("\ufeffab".encode()).read, "x") == "ab"


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("a.txt", b"", "the text is empty, expected at least one character"),
        ("a.xz", lzma.compress(b""), "the text is empty, expected at least one character"),
        ("a.txt", b"ab\xff", "not UTF-8 text (invalid start byte at byte 2)"),
        ("a.txt", b"ab\xc3", "not UTF-8 text (unexpected end of data at byte 2)"),
        ("a.txt", b"ab\0c", "holds a NUL at character 2, expected text"),
        ("a.xz", b"no xz", "cannot be unpacked as .xz, the file is damaged (Input format not supported by decoder)"),
        ("a.xz", lzma.compress(b"ab" * 500)[:-20], "cannot be unpacked as .xz, the file is damaged (Compressed file"),
        ("a.gz", b"no gz", "cannot be unpacked as .gz, the file is damaged (Not a gzipped file (b'no'))"),
        (
            "a.gz",
            gzip.compress(b"ab" * 500, mtime=0)[:-9],
            "cannot be unpacked as .gz, the file is damaged (Compressed file",
        ),
        (
            "a.gz",
            gzip.compress(b"ab" * 500, mtime=0)[:12] + b"\xff" * 20,
            "cannot be unpacked as .gz, the file is damaged (",
        ),
    ],
)
def test_a_file_that_is_no_text_is_refused(tmp_path, name, data, sentence):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(DataError, match="^" + re.escape(f"data {path}: {sentence}")):
        load_text(str(path))


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(
        DataError, match=r"none.txt: no such file; expected king-james, or the path of a UTF-8 text file$"
    ):
        load_text("none.txt")
    with pytest.raises(DataError, match=r": not a file$"):
        load_text(str(tmp_path))


def test_a_text_that_unpacks_to_more_than_the_limit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LARGEST_BYTES", 1000)
    path = tmp_path / "a.xz"
    path.write_bytes(lzma.compress(b"a" * 1001))
    with pytest.raises(DataError, match=r"more than 1,000 bytes of text, at most that many are read$"):
        load_text(str(path))


def test_what_is_a_text_by_its_name():
    texts = ["king-james", "king-james:test", "a.txt", "a.txt:train", "a.xz", "a.gz"]
    others = ["japanese-vowels", "japanese-vowels:test", "a.npz", "a.csv", "a.csv.gz", "a.jsonl.gz", "king"]
    assert [name for name in texts + others if is_text(name)] == texts


@given(st.integers(2, 9), st.integers(0, 7), st.integers(1, 50))
def test_a_text_with_fewer_tokens_than_streams_is_refused(count, more, window):
    rows = count + more
    with pytest.raises(DataError, match=rf"^text: got {count} tokens, expected at least {rows + 1}: one for each of"):
        text_batches(np.arange(count, dtype=np.int64), rows, window)


@given(st.integers(1, 9), st.integers(1, 291), st.integers(1, 50))
def test_windows_are_the_text_in_parallel_streams(rows, more, window):
    count = rows + more
    ids = np.arange(count, dtype=np.int64)
    windows = list(text_batches(ids, rows, window))
    steps = (count - 1) // rows
    assert [part.shape for part in windows[:-1]] == [(rows, window + 1)] * (len(windows) - 1)
    assert 2 <= windows[-1].shape[1] <= window + 1
    for before, after in itertools.pairwise(windows):
        assert np.array_equal(before[:, -1], after[:, 0]), "the state is carried over no gap"
    inputs = np.concatenate([part[:, :-1] for part in windows], axis=1)
    targets = np.concatenate([part[:, 1:] for part in windows], axis=1)
    assert np.array_equal(inputs.reshape(-1), ids[: rows * steps])
    assert np.array_equal(targets.reshape(-1), ids[1 : rows * steps + 1])
    assert count - 1 - inputs.size < rows, "at most rows - 1 are left out"


@pytest.mark.parametrize(("rows", "window", "name"), [(0, 5, "batch_size"), (2, 0, "window")])
def test_sizes_below_one_are_refused(rows, window, name):
    with pytest.raises(DataError, match=rf"^text: {name} is 0, expected 1 or more$"):
        text_batches(np.arange(9), rows, window)
