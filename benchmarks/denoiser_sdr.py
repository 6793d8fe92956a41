"""SI-SDR of GTCRN's float32, int8 and ``auto`` files on noisy speech, with intervals: the second part of denoiser.py.

``auto`` is tuned on some speakers and verified on others. All figures are those of ``lstm-edge validate`` with the
metric of ``waveform.py``, except the noisy input's.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from denoiser_speech import KINDS, Segment, pieces_of, read_recordings, segments
from waveform import samples

from lstm_edge import adopt, quantize, validate
from lstm_edge.validation.bootstrap import interval, resample
from lstm_edge.validation.report import ValidationReport
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.metrics import Means, si_sdr_db

__all__ = ["BUDGET", "METRIC", "Row", "measure", "table", "write_data"]

METRIC, BUDGET, CONFIDENCE = "waveform:si_sdr", "0.1dB", 0.95
# The recordings of one audiobook are held out; `auto` and its calibration see the others.
HELD_OUT = "librivox/"
SEED = 0

FILES = {"float32": "", "int8": ".int8", "auto": ".auto"}

Cut = Callable[[Array], list[Array]]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One file, or the noisy input: bytes, SI-SDR with its interval, the drop with its interval, SI-SDR by kind."""

    title: str
    size_bytes: int | None
    value: tuple[float, float, float]
    drop: tuple[float, float, float] | None
    kinds: tuple[float, ...]


def write_data(path: Path, given: Sequence[Segment], spectra: Cut) -> None:
    """Write segments for ``--data``: frames [segments, frames, 1, 257, 1, 2] of the input and of its target."""
    noisy, clean = (
        np.stack([np.stack(spectra(getattr(segment, name))) for segment in given]) for name in ("noisy", "clean")
    )
    np.savez(path, **{"mix": noisy, "target.enh": clean})


def measure(folder: Path, speech: Path, original: Path, spectra: Cut) -> tuple[list[Row], str]:
    """Make the data and the files in a folder, and measure; returns the rows and a sentence about the data.

    Args:
        folder: where files are written.
        speech: the folder of the recordings.
        original: the authors' file.
        spectra: the transform of samples to frames.
    """
    recordings = read_recordings(speech)
    halves = {"held-out": True, "tuning": False}
    made: dict[str, list[Segment]] = {}
    for name, held_out in halves.items():
        chosen = {key: value for key, value in recordings.items() if key.startswith(HELD_OUT) == held_out}
        made[name] = list(segments(pieces_of(chosen), SEED))
        write_data(folder / f"{name}.npz", made[name] if held_out else made[name][::2], spectra)
    for kind in KINDS:
        write_data(folder / f"{kind}.npz", [s for s in made["held-out"] if s.kind == kind], spectra)
    files = {name: folder / f"gtcrn{suffix}.onnx" for name, suffix in FILES.items()}
    adopt(original, files["float32"])
    quantize(files["float32"], files["int8"], scheme="int8")
    search = quantize(
        files["float32"],
        files["auto"],
        scheme="auto",
        data=str(folder / "tuning.npz"),
        held_out_data=str(folder / "held-out.npz"),
        metric=METRIC,
        max_drop=BUDGET,
        confidence=CONFIDENCE,
        seed=SEED,
        max_evaluations=250,
    )
    search.check()
    rows = [_noisy(made["held-out"], spectra), *(_judged(folder, name, path, files) for name, path in files.items())]
    seconds = len(made["held-out"]) // (2 * len(KINDS))
    return rows, (
        f"{len(made['held-out'])} segments: {seconds} seconds of speech, each with {len(KINDS)} kinds of noise at two "
        f"of the ratios 0, 5 and 10 dB. The allowed drop is {BUDGET} at confidence {CONFIDENCE}. `auto` was tuned on "
        f"{len(made['tuning'][::2])} segments of other speakers."
    )


def _judged(folder: Path, name: str, path: Path, files: dict[str, Path]) -> Row:
    def judged(data: str) -> ValidationReport:
        return validate(
            path, files["float32"], str(folder / f"{data}.npz"), metric=METRIC, max_drop=BUDGET, confidence=CONFIDENCE
        )

    report = judged("held-out")
    report.check()
    same = name == "float32"
    return Row(
        title=name,
        size_bytes=os.path.getsize(path),
        value=(report.candidate, report.candidate_low, report.candidate_high),
        drop=None if same else (report.drop, report.drop_low, report.drop_high),
        kinds=tuple(judged(kind).candidate for kind in KINDS),
    )


def _noisy(given: Sequence[Segment], spectra: Cut) -> Row:
    scores = np.array([si_sdr_db(*(samples(np.stack(spectra(s))) for s in (each.noisy, each.clean))) for each in given])
    low, high = interval(resample([Means.of(scores, None)], seed=SEED)[0], CONFIDENCE)
    kinds = tuple(float(scores[[each.kind == kind for each in given]].mean()) for kind in KINDS)
    return Row(title="noisy input", size_bytes=None, value=(float(scores.mean()), low, high), drop=None, kinds=kinds)


def table(rows: Sequence[Row], sentence: str) -> str:
    """Return the Markdown table, after the sentence about the data."""
    kinds = " | ".join(KINDS)
    lines = [
        f"{sentence}\n",
        f"| | bytes | SI-SDR in dB (95 % interval) | drop in dB (95 % interval) | {kinds} |",
        f"|---|---:|---|---|{'---:|' * len(KINDS)}",
    ]
    for row in rows:
        size = "" if row.size_bytes is None else f"{row.size_bytes:,}"
        value = "{:.2f} ({:.2f} to {:.2f})".format(*row.value)
        drop = "" if row.drop is None else "{:.3f} ({:.3f} to {:.3f})".format(*row.drop)
        parts = " | ".join(f"{part:.2f}" for part in row.kinds)
        lines.append(f"| {row.title} | {size} | {value} | {drop} | {parts} |")
    return "\n".join(lines)
