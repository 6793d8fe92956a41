"""Names of data: what an option may give, and the sentence about any other name. Imports nothing heavy.

``lstm_edge.data`` loads what these names mean; a command refuses a wrong one before it imports NumPy or torch.
"""

from pathlib import Path
from typing import Literal

from lstm_edge_runtime.errors import DataError

__all__ = ["BUNDLED", "JSON_LINES", "SPLITS", "SUFFIXES", "TABLES", "Split", "check_split", "is_folder", "unknown_data"]

Split = Literal["train", "test"]

BUNDLED = ("japanese-vowels",)
SPLITS: tuple[Split, ...] = ("train", "test")
TABLES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")
JSON_LINES = (".jsonl", ".jsonl.gz")
# Files of sequences.
SUFFIXES = (".npz", *TABLES, *JSON_LINES)


def is_folder(spec: str) -> bool:
    """Return whether a name is a folder, which holds WAV files."""
    return Path(spec).is_dir()


def check_split(spec: str) -> bool:
    """Return whether a name is a bundled set or a part of one.

    Raises:
        DataError: the set has no such part.
    """
    name, colon, split = spec.partition(":")
    if name in BUNDLED and colon and split not in SPLITS:
        raise DataError(f"data {spec!r}: {name} has no split {split!r}; expected one of {', '.join(SPLITS)}")
    return name in BUNDLED


def unknown_data(spec: str) -> DataError:
    """Return the error for a name that is neither a bundled set nor ends in one of ``SUFFIXES``."""
    if is_folder(spec):
        return DataError(
            f"data {spec}: is a folder of WAV files; to train on it, give `train classification` the features, as in "
            "--front-end log-mel:40"
            if any(path.suffix.lower() == ".wav" for depth in ("*", "*/*") for path in Path(spec).glob(depth))
            else f"data {spec}: is a folder without WAV files; expected one of {', '.join(SUFFIXES)}"
        )
    if Path(spec).is_file():
        return DataError(f"data {spec}: is a file of another kind, expected one of {', '.join(SUFFIXES)}")
    return DataError(
        f"data {spec!r}: no such data set; expected one of {', '.join(BUNDLED)} (with :train or :test), "
        f"or the path of a file: {', '.join(SUFFIXES)}"
    )
