"""Folders of WAV files: labels from the names of sub-folders, or pairs of noisy and clean recordings by file name."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from lstm_edge._imports import extra_named
from lstm_edge.data._named import NamedDataset
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import BATCH, TIME
from lstm_edge_runtime.errors import DataError
from lstm_edge_runtime.reading import MOST_ARRAY_BYTES, Budget, open_file, translated

if TYPE_CHECKING:
    from lstm_edge_runtime.session import Session

__all__ = ["check_sound", "is_audio", "load_audio"]

Say = Callable[[str], None]

# Sub-folders of these names hold pairs; all others are labels.
NOISY, CLEAN = "noisy", "clean"
MOST_FILES = 1_000_000
# Float files may go a little over full scale; samples of this size were never divided by 32,768.
LARGEST_SAMPLE = 8.0
# The size that a program writes into the header while it does not know the end.
UNKNOWN_SIZE = 2**32 - 1
# A file that says nothing of its progress for longer looks stuck.
SECONDS_BETWEEN_LINES = 2.0


def is_audio(spec: str) -> bool:
    """Return whether a data specification is a folder, which holds WAV files."""
    return Path(spec).is_dir()


def load_audio(spec: str | os.PathLike[str], *, say: Say | None = None) -> NamedDataset:
    """Load a folder of WAV files; every file is one sequence of samples, float32 ``[time]``, in the order of the names.

    Three layouts: sub-folders called ``noisy`` and ``clean`` hold pairs of files of one name, and the clean samples are
    the targets; other sub-folders are labels, and the target of a file is its sub-folder's number in sorted order;
    without sub-folders there are no targets, which is enough to calibrate. Integer samples are divided by their full
    scale; samples of float files stay as they are.

    Args:
        spec: the folder.
        say: called with a line now and then if reading takes longer than two seconds.

    Raises:
        DataError: a file is damaged, not mono, empty, or at another sample rate than the first one; a pair is
            incomplete; or there are no files.
        MissingExtraError: the package ``soundfile`` is not installed.
    """
    folder = Path(spec)
    with translated(DataError, f"data {folder}: cannot be read"):
        found = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
        folders = [entry for entry in found if entry.is_dir()]
        files = _wav_files(folder)
    if folders and files:
        raise DataError(
            f"data {folder}: has both WAV files ({files[0].name}, ...) and folders ({folders[0].name}, ...); expected "
            "a folder for each label, the folders noisy and clean, or WAV files alone"
        )
    reader = _Reader(str(folder), say)
    if {entry.name for entry in folders} == {NOISY, CLEAN}:
        return _pairs(folder, reader)
    return _labelled(folder, folders, reader) if folders else _alone(folder, files, reader)


def _pairs(folder: Path, reader: "_Reader") -> NamedDataset:
    names = {side: [path.name for path in _wav_files(folder / side)] for side in (NOISY, CLEAN)}
    for side, other in ((NOISY, CLEAN), (CLEAN, NOISY)):
        alone = sorted(set(names[side]) - set(names[other]))
        if alone:
            raise DataError(
                f"data {folder}: {side}/{alone[0]} has no file of its name in {other}; expected pairs of one name"
            )
    paths = [folder / side / name for name in names[NOISY] for side in (NOISY, CLEAN)]
    rows = reader.read(paths)
    for path, noisy, clean in zip(paths[::2], rows[::2], rows[1::2], strict=True):
        if len(noisy) != len(clean):
            raise DataError(
                f"data {folder}: {NOISY}/{path.name} has {len(noisy)} samples and {CLEAN}/{path.name} {len(clean)}; "
                "expected the same number"
            )
    return reader.dataset(rows[::2], ids=names[NOISY], targets=rows[1::2])


def _labelled(folder: Path, folders: Sequence[Path], reader: "_Reader") -> NamedDataset:
    paths: list[Path] = []
    classes: list[int] = []
    for number, label in enumerate(folders):
        files = _wav_files(label)
        if not files:
            raise DataError(f"data {folder}: the folder {label.name} has no WAV file; expected some for each label")
        paths += files
        classes += [number] * len(files)
    rows = reader.read(paths)
    return reader.dataset(
        rows,
        ids=[f"{path.parent.name}/{path.name}" for path in paths],
        targets=[np.asarray(number, np.int64) for number in classes],
        labels=[label.name for label in folders],
    )


def _alone(folder: Path, files: Sequence[Path], reader: "_Reader") -> NamedDataset:
    if not files:
        raise DataError(
            f"data {folder}: has no WAV file; expected a folder of them for each label, or the folders noisy and clean"
        )
    return reader.dataset(reader.read(files), ids=[path.name for path in files])


def _wav_files(folder: Path) -> list[Path]:
    """Return the WAV files of a folder by name; other files, and names that begin with a dot, do not count."""
    with translated(DataError, f"data {folder}: cannot be read"):
        found = [entry for entry in folder.iterdir() if entry.suffix.lower() == ".wav" and entry.name[0] != "."]
    if len(found) > MOST_FILES:
        raise DataError(f"data {folder}: has {len(found):,} WAV files; expected at most {MOST_FILES:,}")
    return sorted(found)


def check_sound(data: NamedDataset, session: "Session", model: str) -> None:
    """Refuse samples that a model was not made for: of another rate, or where it takes features of them.

    Raises:
        DataError: the sample rates differ, or the model takes several values at each step.
    """
    if data.rate_hz is None or session.card is None:
        return
    front_end = session.card.front_end
    if front_end is not None and front_end.rate_hz != data.rate_hz:
        raise DataError(
            f"data {data.name}: is at {data.rate_hz} Hz, {model} takes samples at {front_end.rate_hz} Hz; nothing is "
            "resampled: resample the files first"
        )
    wide = [
        spec for spec in session.inputs if TIME in spec.axes and any(axis not in (1, BATCH, TIME) for axis in spec.axes)
    ]
    if front_end is None and wide:
        axes = ", ".join(map(str, wide[0].axes))
        raise DataError(
            f"data {data.name}: has samples, and {model} takes several values at each step, {wide[0].name!r} "
            f"{wide[0].dtype}[{axes}]: export it with --front-end, such as log-mel:40, so that it takes samples"
        )


class _Reader:
    """Reads the files of one set: one sample rate, one limit on all samples together."""

    def __init__(self, name: str, say: Say | None) -> None:
        self.name, self.say = name, say
        self.budget = Budget(MOST_ARRAY_BYTES, "samples")
        self.first: Path | None = None
        self.rate_hz = 0

    def read(self, paths: Sequence[Path]) -> list[Array]:
        """Return the samples of each file, float32 [time].

        Raises:
            DataError: a file cannot be read, or differs from the first one.
            MissingExtraError: ``soundfile`` is not installed.
        """
        with extra_named("a folder of WAV files"):
            import soundfile
        rows, said = [], time.monotonic()
        for number, path in enumerate(paths):
            rows.append(self._samples(path, soundfile))
            if self.say is not None and time.monotonic() - said > SECONDS_BETWEEN_LINES:
                said = time.monotonic()
                self.say(f"reading {self.name}: {number + 1:,} of {len(paths):,} files")
        return rows

    def dataset(
        self,
        rows: Sequence[Array],
        *,
        ids: Sequence[str],
        targets: Sequence[Array] = (),
        labels: Sequence[str] = (),
    ) -> NamedDataset:
        """Return the set of these sequences."""
        return NamedDataset(
            name=self.name,
            inputs={"": rows},
            targets={"": targets} if targets else {},
            layout="time-first",
            labels=tuple(labels),
            ids=tuple(ids),
            rate_hz=self.rate_hz,
            notes=(f"{self.rate_hz:,} samples a second",),
        )

    def _samples(self, path: Path, soundfile: Any) -> Array:
        with (
            translated(DataError, f"data {path}: cannot be read", "; expected a WAV file"),
            open_file(path, DataError, where=f"data {path}") as file,
        ):
            _check_whole(path, file)
            try:
                with soundfile.SoundFile(file) as sound:
                    self._check_form(path, sound)
                    self.budget.take(4 * sound.frames)
                    samples: Array = sound.read(dtype="float32")
            except soundfile.LibsndfileError as error:
                raise DataError(f"data {path}: cannot be read as WAV: {error.error_string}") from error
        if not np.isfinite(samples).all():
            raise DataError(f"data {path}: holds NaN or infinity; expected samples in [-1, 1]")
        peak = float(np.abs(samples).max())
        if peak > LARGEST_SAMPLE:
            raise DataError(
                f"data {path}: its largest sample is {peak:g}, in a file of floats; expected samples in [-1, 1]: "
                "divide them by their full scale, such as 32,768"
            )
        return samples

    def _check_form(self, path: Path, sound: Any) -> None:
        if sound.format not in ("WAV", "WAVEX", "RF64"):
            raise DataError(f"data {path}: is {sound.format}, not WAV; convert it first")
        if sound.channels != 1:
            raise DataError(
                f"data {path}: has {sound.channels} channels, expected 1: which of them the model listens to is not "
                "known, so mix them or pick one first"
            )
        # One byte of a compressed format holds two samples at most; a header alone allocates nothing.
        if not 0 < sound.frames <= 2 * path.stat().st_size:
            raise DataError(f"data {path}: has {sound.frames} samples in {path.stat().st_size} bytes; expected some")
        if self.first is None:
            self.first, self.rate_hz = path, int(sound.samplerate)
        if sound.samplerate != self.rate_hz:
            raise DataError(
                f"data {path}: is at {sound.samplerate} Hz, {self.first} at {self.rate_hz} Hz; expected one sample "
                "rate: resample the file first"
            )


def _check_whole(path: Path, file: BinaryIO) -> None:
    """Refuse a file that ends before its header says; libsndfile would read what is left of it.

    Raises:
        DataError: it does, or it is no RIFF file.
    """
    head = file.read(12)
    if len(head) < 12 or head[:4] not in (b"RIFF", b"RIFX", b"RF64") or head[8:] != b"WAVE":
        raise DataError(f"data {path}: is not a WAV file: it begins with {head[:12]!r}, expected RIFF....WAVE")
    declared = int.from_bytes(head[4:8], "big" if head[:4] == b"RIFX" else "little")
    size = os.fstat(file.fileno()).st_size
    if head[:4] != b"RF64" and declared != UNKNOWN_SIZE and declared + 8 > size + 1:
        raise DataError(f"data {path}: is cut off: {size:,} bytes, its header says {declared + 8:,}")
    file.seek(0)
