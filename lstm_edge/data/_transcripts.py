"""Sequences with a transcript each, such as speech or handwriting, and their JSON Lines files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lstm_edge.data._checks import check_lengths, check_x
from lstm_edge.data._json_lines import read_object, read_steps, shown
from lstm_edge.data._text_files import at, open_text
from lstm_edge_runtime.errors import DataError
from lstm_edge_runtime.reading import translated

__all__ = ["Transcripts", "load_transcripts"]

_KEYS = ("x", "text", "id", "group", "time")


@dataclass(frozen=True, kw_only=True, eq=False)
class Transcripts:
    """Sequences of different lengths and the text of each; N sequences, F features. The arrays are read-only.

    Attributes:
        name: the name of the set in messages.
        x: float32 ``[sum(lengths), F]``, the steps of all sequences one after the other.
        lengths: int64 ``[N]``, steps of each, at least 1.
        texts: N texts; a silent sequence has an empty text, but at least one text is not empty.

    Raises:
        DataError: an array has a wrong dtype or shape, a number is NaN or infinite, or the number of texts differs.
    """

    name: str
    x: NDArray[np.float32]
    lengths: NDArray[np.int64]
    texts: tuple[str, ...]
    _starts: NDArray[np.int64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_x(self.name, self.x)
        check_lengths(self.name, self.lengths, len(self.x))
        if len(self.texts) != len(self.lengths):
            raise DataError(
                f"data {self.name}: there are {len(self.texts)} texts for {len(self.lengths)} sequences; "
                "expected one for each"
            )
        if not any(text.split() for text in self.texts):
            raise DataError(f"data {self.name}: no text has a word; expected at least one")
        object.__setattr__(self, "_starts", np.cumsum(self.lengths) - self.lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        """Return sequence ``index``: a view, float32 ``[T, F]``."""
        start = self._starts[index]
        return self.x[start : start + self.lengths[index]]

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return (self[index] for index in range(len(self)))

    @property
    def features(self) -> int:
        """Number of features, F."""
        return int(self.x.shape[1])

    def subset(self, rows: Sequence[int] | NDArray[np.int64], *, name: str | None = None) -> "Transcripts":
        """Return the sequences ``rows`` (indices from 0) as a new set in that order; the data are copied.

        Raises:
            DataError: no rows, or none of them has a word.
        """
        if not len(rows):
            raise DataError(f"data {self.name}: got a subset without sequences, expected at least one")
        return Transcripts(
            name=name or self.name,
            x=np.concatenate([self[int(row)] for row in rows]),
            lengths=self.lengths[np.asarray(rows, dtype=np.int64)],
            texts=tuple(self.texts[int(row)] for row in rows),
        )


def load_transcripts(path: str | Path) -> Transcripts:
    """Read a JSON Lines file (``.jsonl`` or ``.jsonl.gz``) of ``{"x": [[...], ...], "text": "..."}``, one per line.

    The keys ``id``, ``group`` and ``time`` are allowed, as in other files of sequences, but not used.

    Raises:
        DataError: one sentence with the file and the line.
    """
    with translated(DataError, f"data {path}: cannot be read"):
        return _load(path)


def _load(path: str | Path) -> Transcripts:
    name = str(path)
    sequences: list[NDArray[np.float32]] = []
    texts: list[str] = []
    with open_text(Path(path)) as file:
        for line, content in enumerate(file, start=1):
            if not content.strip():
                continue
            value = read_object(name, line, content, _KEYS)
            if "x" not in value or "text" not in value:
                raise at(name, line, f"has the keys {', '.join(value) or 'none'}; expected x and text")
            if not isinstance(value["text"], str):
                raise at(name, line, f"text is {shown(value['text'])!r}, expected a text")
            sequences.append(read_steps(name, line, value["x"], features=sequences[0].shape[1] if sequences else None))
            texts.append(value["text"])
    if not texts:
        raise DataError(f"data {name}: the file is empty; expected one JSON object on a line for each sequence")
    return Transcripts(
        name=name,
        x=np.concatenate(sequences),
        lengths=np.array([len(x) for x in sequences], dtype=np.int64),
        texts=tuple(texts),
    )
