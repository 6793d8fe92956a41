"""A small good file for each reader of files, how it is read, and which errors its docstring promises.

The exhaustive one-bit test and the fuzzer of readers both go over these.
"""

import contextlib
import functools
import gzip
import io
import json
import lzma
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from lstm_edge._tensors import read_pt, read_safetensors
from lstm_edge.checkpoint import load_checkpoint, save_checkpoint
from lstm_edge.data import load, load_transcripts, table_options
from lstm_edge.data.text import load_text
from lstm_edge.data.vocabulary import build_vocabulary
from lstm_edge.precision_search.journal import Journal
from lstm_edge.training.models import ClassifierConfig, LanguageModelConfig, SequenceClassifier
from lstm_edge.training.state import Past, restore, store
from lstm_edge_exporters.keras import load_keras
from lstm_edge_runtime.artifact import TRAILER_BYTES, append_trailer
from lstm_edge_runtime.card import CARD_KEY, Text, parse_card
from lstm_edge_runtime.errors import ArtifactError, CaptureError, DataError, InputError, MissingExtraError
from lstm_edge_runtime.files import read_arrays
from lstm_edge_runtime.golden import Golden, GoldenVector, decode_golden, encode_golden
from lstm_edge_runtime.lines import stream_lines
from lstm_edge_runtime.reading import parse_json
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.state import State
from lstm_edge_runtime.text import Vocabulary
from support.keras_files import hdf5, lstm, lstm_weights, sequential

__all__ = ["READERS", "Reader", "attempt", "golden_text", "npz", "scratch_folder", "with_card", "zip_members"]

MODEL = Path(__file__).parents[1] / "device" / "models" / "tagger.onnx"
TEXT = "In the beginning was the word.\nAnd the word was with us.\n"
CSV = "sequence,step,target,a,b\n" + "".join(f"s{i // 3},{i % 3},{i // 3 % 2},{i / 4},-1e-3\n" for i in range(9))
JSON_LINES = '{"x": [[1.5, 2], [3, -4e-2]], "y": "a", "id": 7, "group": "g", "time": 1}\n{"x": [[0, 1]], "y": "b",'
JSON_LINES += ' "id": 8, "group": "h", "time": 2.5}\n'
TRANSCRIPTS = '{"x": [[1.5, 2], [3, 4]], "text": "a word", "id": 1}\n\n{"x": [[0, 1]], "text": "é"}\n'
TIMES = b"sequence;step;target;a\n" + b"".join(b"s;2024-05-01T00:00:0%d+02:00;u;%d.5\n" % (i, i) for i in (0, 1, 3))
JSON_TABLE = """{"sequence": "s", "step": 0.5, "target": 1, "a": {"b": [1, -2]}}
{"sequence": "s", "step": 1, "target": 1, "a": {"b": [3, 4e0]}}
"""
PIECES = b'[0.5, -1, 2]\n[[[1e-3, 2, 3], [0, 0, 0]]]\n{"reset": true}\n{"x": [1, 2, 3]}\n'


@dataclass(frozen=True, kw_only=True)
class Reader:
    """``read`` takes the path of a file with this ending; the errors are those that its docstring promises."""

    suffix: str
    data: bytes
    read: Callable[[Path], Any]
    errors: type[Exception] | tuple[type[Exception], ...]


def attempt(reader: Reader, path: Path) -> str:
    """Read a file that lies at the path; whatever is not promised is let through."""
    try:
        reader.read(path)
    except reader.errors as error:
        return "refused" if len(str(error)) < 2000 else f"fault: an error of {len(str(error))} characters"
    return "accepted"


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for many small files: in memory, where Linux has room for files there."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npz(save: Callable[..., None] = np.savez_compressed, **arrays: Any) -> bytes:
    stream = io.BytesIO()
    save(stream, **arrays)
    return stream.getvalue()


def zip_members(members: dict[str, bytes], method: int = 8) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


def golden_text() -> bytes:
    x = np.linspace(-1, 1, 6, dtype=np.float32).reshape(1, 2, 3)
    vector = GoldenVector(inputs={"x": x}, outputs={"logits": x})
    return encode_golden(Golden(vectors=(vector,), tolerance_bodies=1e-5, tolerance_kernels=1e-3)).encode()


@functools.cache
def _session() -> Session:
    return Session(MODEL)


@functools.cache
def _without_card() -> bytes:
    model = onnx.ModelProto()
    model.ParseFromString(MODEL.read_bytes()[:-TRAILER_BYTES])
    others = [entry for entry in model.metadata_props if entry.key != CARD_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(others)
    return model.SerializeToString(deterministic=True)


def with_card(card: bytes) -> bytes:
    """Return the model with another card, and with the trailer that it then has."""
    model = onnx.ModelProto()
    model.metadata_props.add(key=CARD_KEY)
    entry = b"\x0a" + bytes([len(CARD_KEY)]) + CARD_KEY.encode() + b"\x12" + _varint(len(card)) + card
    return append_trailer(_without_card() + b"\x72" + _varint(len(entry)) + entry)


def _varint(value: int) -> bytes:
    digits = []
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])


def _card() -> bytes:
    model = onnx.ModelProto()
    model.ParseFromString(MODEL.read_bytes())
    return next(entry.value for entry in model.metadata_props if entry.key == CARD_KEY).encode()


def _read_card(path: Path) -> None:
    text = path.read_bytes().decode("utf-8", "replace")
    parse_card(text)


def _open_with_card(path: Path) -> None:
    session = Session(with_card(path.read_bytes()))
    session.golden()
    session.initial_state()
    session.run(np.zeros((1, 2, 3), np.float32))


def _vocabulary() -> bytes:
    vocabulary = build_vocabulary(TEXT, "bpe", size=260)
    return json.dumps({"tokens": vocabulary.tokens, "tokenizer": json.loads(str(vocabulary.text.tokenizer))}).encode()


def _read_vocabulary(path: Path) -> None:
    # The card around it is JSON that was read already; what is not a text in it never gets here.
    try:
        document = parse_json(path.read_bytes())
        tokens, tokenizer = document["tokens"], json.dumps(document["tokenizer"])
        assert all(isinstance(token, str) for token in tokens)
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise InputError("not a card") from error
    vocabulary = Vocabulary(tokens=tuple(tokens), text=Text(kind="bpe", tokenizer=tokenizer))
    vocabulary.decode(vocabulary.encode("the word é"))


def _lines(path: Path) -> None:
    with path.open("rb") as file:
        list(stream_lines(_session().stream(), _session().inputs, file))


def _state(path: Path) -> None:
    arrays = read_arrays(path)
    if not isinstance(arrays, dict):
        raise InputError("one array is no state")
    State.from_arrays(_session().states, arrays)


@functools.cache
def _classifier() -> SequenceClassifier:
    torch.manual_seed(0)
    return SequenceClassifier(ClassifierConfig(features=2, classes=3, hidden=2, layers=1))


def _saved(save: Callable[[Path], None]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder) / "file")
        return (Path(folder) / "file").read_bytes()


def _pt() -> bytes:
    torch.manual_seed(1)
    stream = io.BytesIO()
    torch.save(nn.LSTM(2, 2).state_dict(), stream)
    return stream.getvalue()


def _trained() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(2)
    model = nn.Linear(2, 1)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return model, optimizer


_IDENTITY = {"task": "classification", "seed": 3}


def _training_state(path: Path) -> None:
    model, optimizer = _trained()
    past = Past(history=(), best_weights=model.state_dict(), seconds=1.5)
    store(path, identity=_IDENTITY, model=model, optimizer=optimizer, past=past)


def _restore(path: Path) -> None:
    model, optimizer = _trained()
    restore(path, identity=_IDENTITY, model=model, optimizer=optimizer)


def _journal(path: Path) -> None:
    journal = Journal(path, {"seed": 0}, resume=False)
    journal.put("tuning", {"lstm": "int8"}, {"drop": 0.25})
    journal.put("file", {"lstm": "int4"}, {"bytes": 3})
    journal.close()


def _resume(path: Path) -> None:
    Journal(path, {"seed": 0}, resume=True).close()


def _language_config(path: Path) -> None:
    try:
        values = parse_json(path.read_bytes())
    except ValueError as error:
        raise InputError("not JSON") from error
    if not isinstance(values, dict):
        raise InputError("no object")
    LanguageModelConfig.from_json(values)


def _data(**changes: Any) -> dict[str, Any]:
    x = np.arange(12, dtype=np.float32).reshape(6, 2)
    return {"x": x, "lengths": np.array([3, 1, 2], np.uint8), "y": np.array([0, 2, 1], np.uint8)} | changes


def _load_times(path: Path) -> None:
    load(str(path), default_split="train", table=table_options(step_every="1s", missing="ffill"))


def _load(path: Path) -> None:
    load(str(path), default_split="train")


def _keras_archive() -> bytes:
    return zip_members({"config.json": json.dumps(sequential(lstm())).encode(), "model.weights.h5": hdf5(lstm_weights)})


_ARRAYS = np.linspace(-1, 1, 12, dtype=np.float32).reshape(1, 4, 3)
_KERAS = (ArtifactError, CaptureError)
_LABELS = np.array(["a", "é", "c"])

READERS: dict[str, Callable[[], Reader]] = {
    "npy": lambda: Reader(suffix=".npy", data=npy(_ARRAYS), read=read_arrays, errors=InputError),
    "npz": lambda: Reader(suffix=".npz", data=npz(x=_ARRAYS), read=read_arrays, errors=InputError),
    "npz stored": lambda: Reader(
        suffix=".npz", data=npz(np.savez, x=_ARRAYS, n=np.arange(3)), read=read_arrays, errors=InputError
    ),
    "state": lambda: Reader(
        suffix=".npz", data=npz(**_session().initial_state().to_arrays()), read=_state, errors=InputError
    ),
    "npz data": lambda: Reader(
        suffix=".npz", data=npz(np.savez, **_data(labels=_LABELS)), read=_load, errors=DataError
    ),
    "npz data, more": lambda: Reader(
        suffix=".npz",
        data=npz(**_data(groups=np.array([1, 1, 2], np.int8), times=np.array([1, 2, 3]))),
        read=_load,
        errors=DataError,
    ),
    "golden": lambda: Reader(
        suffix=".json",
        data=golden_text(),
        read=lambda path: decode_golden(path.read_bytes().decode("utf-8", "replace")),
        errors=ArtifactError,
    ),
    "card": lambda: Reader(suffix=".json", data=_card(), read=_read_card, errors=ArtifactError),
    "card in a model": lambda: Reader(
        suffix=".json", data=_card(), read=_open_with_card, errors=(ArtifactError, InputError)
    ),
    "vocabulary": lambda: Reader(
        suffix=".json", data=_vocabulary(), read=_read_vocabulary, errors=(ArtifactError, InputError, MissingExtraError)
    ),
    "language model's configuration": lambda: Reader(
        suffix=".json",
        data=json.dumps(LanguageModelConfig(tokens=3, vocabulary=("a", "b", "c")).to_json()).encode(),
        read=_language_config,
        errors=InputError,
    ),
    "csv": lambda: Reader(suffix=".csv", data=CSV.encode(), read=_load, errors=DataError),
    "csv of times": lambda: Reader(suffix=".csv", data=TIMES, read=_load_times, errors=(DataError, InputError)),
    "jsonl table": lambda: Reader(suffix=".jsonl", data=JSON_TABLE.encode(), read=_load, errors=DataError),
    "csv.gz": lambda: Reader(suffix=".csv.gz", data=gzip.compress(CSV.encode(), mtime=0), read=_load, errors=DataError),
    "jsonl": lambda: Reader(suffix=".jsonl", data=JSON_LINES.encode(), read=_load, errors=DataError),
    "jsonl.gz": lambda: Reader(
        suffix=".jsonl.gz", data=gzip.compress(JSON_LINES.encode(), mtime=0), read=_load, errors=DataError
    ),
    "transcripts": lambda: Reader(suffix=".jsonl", data=TRANSCRIPTS.encode(), read=load_transcripts, errors=DataError),
    "txt": lambda: Reader(suffix=".txt", data=TEXT.encode(), read=lambda path: load_text(str(path)), errors=DataError),
    "gz": lambda: Reader(
        suffix=".gz", data=gzip.compress(TEXT.encode(), mtime=0), read=lambda p: load_text(str(p)), errors=DataError
    ),
    "xz": lambda: Reader(
        suffix=".xz", data=lzma.compress(TEXT.encode()), read=lambda path: load_text(str(path)), errors=DataError
    ),
    "stream lines": lambda: Reader(suffix=".jsonl", data=PIECES, read=_lines, errors=InputError),
    "keras": lambda: Reader(suffix=".keras", data=_keras_archive(), read=load_keras, errors=_KERAS),
    "h5": lambda: Reader(
        suffix=".h5",
        data=(Path(__file__).parents[1] / "fixtures" / "keras2.h5").read_bytes(),
        read=load_keras,
        errors=_KERAS,
    ),
    "checkpoint": lambda: Reader(
        suffix=".safetensors",
        data=_saved(lambda path: save_checkpoint(_classifier(), path)),
        read=load_checkpoint,
        errors=ArtifactError,
    ),
    "safetensors": lambda: Reader(
        suffix=".safetensors",
        data=_saved(lambda path: save_checkpoint(_classifier(), path)),
        read=read_safetensors,
        errors=ArtifactError,
    ),
    "pt": lambda: Reader(suffix=".pt", data=_pt(), read=read_pt, errors=ArtifactError),
    "training state": lambda: Reader(
        suffix=".resume", data=_saved(_training_state), read=_restore, errors=ArtifactError
    ),
    "journal": lambda: Reader(suffix=".search", data=_saved(_journal), read=_resume, errors=ArtifactError),
}
