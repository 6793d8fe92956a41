"""A digest of the contents of a data set, to record which data a figure was measured on."""

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from lstm_edge.data._named import NamedDataset
from lstm_edge.data._sequences import Dataset
from lstm_edge.data._transcripts import Transcripts
from lstm_edge.data.text import TextData
from lstm_edge_runtime.arrays import Array

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["data_sha256"]


def data_sha256(dataset: Dataset | NamedDataset | Transcripts | TextData) -> str:
    """Return the SHA-256 of the data that a model is evaluated on: 64 hexadecimal digits, equal on every machine.

    For sequences it covers the steps, the lengths, the targets and the class names, and the names of inputs and
    targets if they have some; for transcribed sequences the
    steps, the lengths and the texts; for a text its UTF-8. It does not cover the name of the set, groups, times and
    ids, which change no figure.
    """
    digest = hashlib.sha256()
    if isinstance(dataset, TextData):
        digest.update(b"text\n" + dataset.text.encode("utf-8"))
    elif isinstance(dataset, Transcripts):
        digest.update(b"transcripts\n")
        _add(digest, dataset.x)
        _add(digest, dataset.lengths)
        _add_texts(digest, dataset.texts)
    elif isinstance(dataset, NamedDataset):
        digest.update(b"named\n")
        for role, columns in (("input", dataset.inputs), ("target", dataset.targets)):
            for name, rows in sorted(columns.items()):
                _add_texts(digest, (role, name))
                for row in rows:
                    _add(digest, np.asarray(row))
        _add(digest, np.arange(0) if dataset.lengths is None else dataset.lengths)
        _add_texts(digest, (dataset.layout or "", *dataset.labels))
    else:
        digest.update(b"targets of steps\n" if dataset.per_step else b"targets of sequences\n")
        for array in (dataset.x, dataset.lengths, dataset.y):
            _add(digest, array)
        _add_texts(digest, dataset.labels)
    return digest.hexdigest()


def _add(digest: "_Hash", array: Array) -> None:
    """Add dtype, shape and numbers in little-endian order."""
    little = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
    digest.update(f"{array.dtype.name} {list(array.shape)}\n".encode())
    digest.update(little.tobytes())


def _add_texts(digest: "_Hash", texts: tuple[str, ...]) -> None:
    """Add texts, each after its length, so that different lists give different bytes."""
    for text in (text.encode("utf-8", "surrogatepass") for text in texts):
        digest.update(b"%d\n" % len(text) + text)
