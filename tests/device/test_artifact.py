"""The bytes around the graph: every flipped bit and every cut is noticed; files appear whole or not at all."""

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstm_edge_runtime.artifact import TRAILER_BYTES, append_trailer, check_integrity, read_model_bytes
from lstm_edge_runtime.errors import ArtifactError, IntegrityError, OutputError
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.writing import check_target, write_atomically

MODELS = Path(__file__).parent / "models"
SMALL = (MODELS / "accumulator.onnx").read_bytes()
WHOLE = (MODELS / "tagger.onnx").read_bytes()


def flip(data: bytes, bit: int) -> bytes:
    return data[: bit // 8] + bytes([data[bit // 8] ^ (1 << bit % 8)]) + data[bit // 8 + 1 :]


def test_trailer_has_the_documented_bytes():
    assert append_trailer(b"abc")[3:] == (
        b"\x72\x54\x0a\x10lstm_edge.sha256\x12\x40ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
    assert TRAILER_BYTES == 86


def test_a_trailer_is_not_appended_twice():
    with pytest.raises(ArtifactError, match="already carries an integrity trailer"):
        append_trailer(append_trailer(b"abc"))


def test_every_single_flipped_bit_is_noticed():
    assert check_integrity(SMALL) is True
    missed = []
    for bit in range(len(SMALL) * 8):
        try:
            check_integrity(flip(SMALL, bit))
        except IntegrityError:
            continue
        missed.append(bit)
    assert missed == []


@given(st.integers(0, len(WHOLE) * 8 - 1))
def test_a_session_refuses_any_flipped_bit(bit):
    with pytest.raises(
        IntegrityError, match="the file is damaged: its SHA-256 differs from the one in its integrity trailer"
    ):
        Session(flip(WHOLE, bit))


@pytest.mark.parametrize("data", [b"", b"\x08\x08", SMALL[:-TRAILER_BYTES]])
def test_a_file_without_a_trailer_is_unverified(data):
    assert check_integrity(data) is False


@pytest.mark.parametrize("cut", range(1, TRAILER_BYTES))
def test_a_cut_trailer_is_never_just_unverified(cut):
    said = r"the file is truncated: (only \d+ of the 86|metadata_props )|cannot read the model"
    with pytest.raises(ArtifactError, match=said):
        Session(SMALL[:-cut])


@settings(deadline=None)
@given(st.integers(1, len(WHOLE) - 1))
def test_a_truncated_file_is_refused_or_unverified(cut):
    # A cut at the border of a protobuf field leaves a well-formed file; it can only ever be unverified.
    try:
        session = Session(WHOLE[:-cut])
    except ArtifactError:
        return
    assert not session.verified
    assert cut >= TRAILER_BYTES


def test_a_rewritten_file_with_its_old_trailer_inside_is_refused(with_metadata):
    with pytest.raises(IntegrityError, match="another tool rewrote the file"):
        Session(with_metadata(SMALL, "note", "x" * 100))


def test_reading_says_what_is_wrong(tmp_path):
    with pytest.raises(ArtifactError, match=r"none\.onnx: no such file"):
        read_model_bytes(tmp_path / "none.onnx")
    with pytest.raises(ArtifactError, match="this is a directory"):
        read_model_bytes(tmp_path)
    (tmp_path / "empty.onnx").touch()
    with pytest.raises(ArtifactError, match="the file is empty"):
        read_model_bytes(tmp_path / "empty.onnx")
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_model_bytes("a\0b")


def test_over_two_gigabytes_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "big.onnx"
    with path.open("wb") as file:
        file.truncate(2**31)  # sparse: takes no space
    with pytest.raises(ArtifactError, match="has 2147483648 bytes; an ONNX file has at most 2147483647"):
        read_model_bytes(path)


def test_writing_replaces_the_whole_file(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["model.onnx"]
    ordinary = tmp_path / "ordinary"
    ordinary.touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(ordinary.stat().st_mode)


def test_writing_refuses_what_cannot_be_written(tmp_path):
    with pytest.raises(OutputError, match="does not exist; make it first"):
        write_atomically(tmp_path / "none" / "model.onnx", b"x")
    with pytest.raises(OutputError, match="this is a directory"):
        write_atomically(tmp_path, b"x")


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path, monkeypatch):
    # Root may write anywhere, so the answer of the system is stood in for.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(OutputError, match="is not writable"):
        check_target(tmp_path / "model.onnx")


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_leaves_nothing_behind(tmp_path, monkeypatch, step):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")

    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OutputError, match="No space left on device"):
        write_atomically(path, b"new")
    assert os.listdir(tmp_path) == ["model.onnx"]
    assert path.read_bytes() == b"old"


def test_a_pipe_or_a_device_is_never_replaced_by_a_file(tmp_path):
    pipe = tmp_path / "pipe.onnx"
    os.mkfifo(pipe)
    for refused in (lambda: check_target(pipe), lambda: write_atomically(pipe, b"x")):
        with pytest.raises(OutputError, match=r"pipe\.onnx: this is a device or a pipe; give the path of a file$"):
            refused()
    assert stat.S_ISFIFO(pipe.stat().st_mode)
