"""Int8 convolutions beside float32 and ``quantize_dynamic``: time, signal to noise and bytes, as Markdown tables.

``python benchmarks/convolutions.py`` prints the table, ``--write`` puts it into docs/convolutions.md
(``make docs-convolutions``). Models: an EEG network and a keyword spotter that are made here, silero-vad's detector
(files that ``benchmarks/silero.py --fetch`` fetches) and GTCRN (``--folder``, see denoiser.py); what is missing is left
out, and said. All files run in one process on one thread, in turns whose order is reversed from turn to turn. It takes
about five minutes; exit code 1: a file of ours is slower than ``quantize_dynamic`` at no better signal to noise.
"""

import argparse
import logging
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

import denoiser
import silero
from convolution_models import MODELS

from lstm_edge_runtime.arrays import Array

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "convolutions.md"
BEGIN, END = "<!-- convolutions: written by `make docs-convolutions` -->\n", "<!-- convolutions: end -->\n"
TURNS, CALLS = 31, 8
# Interleaved medians of one file with itself differ by less.
NOISE = 1.05

Feed = dict[str, Array]
FLOAT32, OFF, AUTO, REQUIRED = "float32", "int8, convolutions float32", "int8", "int8, all convolutions"
STOCK = {"quantize_dynamic": "QInt8", "quantize_dynamic, unsigned weights": "QUInt8"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One file of a model: bytes, signal to noise of the worst output, time a call, and its ratio to float32."""

    model: str
    file: str
    size_bytes: int
    snr_db: float
    us: float
    ratio: float


def feeds_of(path: Path, inputs: Sequence[Feed], *, steps: bool) -> list[Feed]:
    """Return complete feeds: zeros for states, or with ``steps`` the states that the float32 model hands on."""
    from lstm_edge_runtime.session import Session

    session = Session(path, kernels="off")
    runner, names = session.onnxruntime_session, [output.name for output in session.outputs]
    names += [state.output for state in session.states]
    state = {
        spec.input: np.zeros([1 if isinstance(axis, str) else axis for axis in spec.axes], spec.dtype)
        for spec in session.states
    }
    end = {} if session.end is None else {session.end: np.ones(1, np.int64)}
    found = []
    for feed in inputs:
        found.append(feed | state | end)
        if steps:
            answers = dict(zip(names, runner.run(names, found[-1]), strict=True))
            state = {spec.input: answers[spec.output] for spec in session.states}
    return found


def make_files(source: Path, feeds: Sequence[Feed], folder: Path) -> tuple[dict[str, Path], str]:
    """Calibrate on feeds and quantize in every way; returns the files and what was said of convolutions."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    from lstm_edge.precision_search.compose import Composer
    from lstm_edge_exporters.quantize import Convolutions, quantize
    from lstm_edge_runtime.session import Session

    composer = Composer.read(source)
    end = Session(source, kernels="off").end  # calibration gives it itself
    rounder = composer.calibrate([{name: x for name, x in feed.items() if name != end} for feed in feeds])
    assert composer.gathered is not None
    files, said = {FLOAT32: source}, [""]

    def hear(sentence: str) -> None:
        if "convolutions are int8" in sentence or "all convolutions" in sentence:
            said.append(sentence)

    options: Any
    for title, take in ((OFF, "off"), (REQUIRED, "required"), (AUTO, "auto")):
        files[title] = folder / f"{source.stem}.{take}.onnx"
        options = {"take": take, "gathered": composer.gathered}
        sha256 = composer.calibration_sha256
        quantize(
            source,
            files[title],
            rounder=rounder,
            calibration_sha256=sha256,
            convolutions=Convolutions(**options),
            allow_unquantized=True,  # a convolution that cannot be int8 at all
            progress=hear,
        )
    logging.getLogger().setLevel(logging.ERROR)  # quantize_dynamic logs a recommendation at each call
    for title, kind in STOCK.items():
        files[title] = folder / f"{source.stem}.{kind}.onnx"
        # A copy: the tool writes a temporary file beside its input.
        quantize_dynamic(shutil.copy(source, folder / "copy.onnx"), files[title], weight_type=getattr(QuantType, kind))
    return files, said[-1]


def measure(model: str, files: Mapping[str, Path], feeds: Sequence[Feed]) -> list[Row]:
    """Run all files on the same feeds."""
    from lstm_edge_runtime.providers import open_session
    from lstm_edge_runtime.session import Session

    sessions = {
        title: open_session(path.read_bytes()) if title in STOCK else Session(path).onnxruntime_session
        for title, path in files.items()
    }
    names = [output.name for output in sessions[FLOAT32].get_outputs() if output.type == "tensor(float)"]
    answers = {title: [session.run(names, feed) for feed in feeds] for title, session in sessions.items()}
    some = [feeds[i] for i in np.linspace(0, len(feeds) - 1, CALLS).astype(int)]
    times = np.zeros((TURNS, len(sessions)))
    for turn in range(-1, TURNS):  # the first turn is for warming up
        order = list(enumerate(sessions.values()))
        for place, session in order if turn % 2 else order[::-1]:
            start = time.perf_counter()
            for feed in some:
                session.run(names, feed)
            times[turn, place] = (time.perf_counter() - start) / len(some) * 1e6
    return [
        Row(
            model=model,
            file=title,
            size_bytes=path.stat().st_size,
            snr_db=min(_snr_db(answers[title], answers[FLOAT32], output) for output in range(len(names))),
            us=float(np.median(times[:, place])),
            ratio=float(np.median(times[:, place] / times[:, 0])),
        )
        for place, (title, path) in enumerate(files.items())
    ]


def _snr_db(got: Sequence[Sequence[Array]], expected: Sequence[Sequence[Array]], output: int) -> float:
    pairs = [(a[output].astype(np.float64), b[output].astype(np.float64)) for a, b in zip(got, expected, strict=True)]
    noise = sum(float(np.square(a - b).sum()) for a, b in pairs)
    return (
        float("inf") if noise == 0 else 10 * float(np.log10(sum(float(np.square(b).sum()) for _, b in pairs) / noise))
    )


def models(gtcrn: Path, folder: Path) -> Iterator[tuple[str, Path, list[Feed]]]:
    """Yield each model: its name, the float32 file, and feeds; those with an even number calibrate."""
    from lstm_edge_exporters.adopt import adopt

    for name, make in MODELS.items():
        path, inputs = make(folder)
        yield name, path, feeds_of(path, inputs, steps=False)
    if missing := silero.missing():
        print(f"silero-vad is left out, `make test-silero` fetches: {', '.join(missing)}", file=sys.stderr)
    else:
        path = folder / "silero.onnx"
        adopt(silero.FORMS[0].path, path)
        cut = [silero.frames_of(samples, 16000) for samples in silero.recordings()]
        yield "silero-vad, whole recordings", path, feeds_of(path, [{"input": x} for x in cut], steps=False)
    if missing := denoiser.missing(gtcrn):
        print(f"GTCRN is left out, {gtcrn} lacks: {', '.join(missing)}", file=sys.stderr)
    else:
        path = folder / "gtcrn.onnx"
        adopt(gtcrn / denoiser.MODEL, path)
        frames = denoiser.spectra(denoiser.read_recording(gtcrn / denoiser.RECORDING))
        yield "GTCRN, one frame", path, feeds_of(path, [{"mix": frame} for frame in frames], steps=True)


def failures(rows: Sequence[Row]) -> list[str]:
    """Return one sentence for each model whose int8 file is slower than the stock tool's at no better quality."""
    found = []
    for row in rows:
        if row.file != AUTO:
            continue
        for stock in (other for other in rows if other.model == row.model and other.file in STOCK):
            if row.us > NOISE * stock.us and row.snr_db <= stock.snr_db:
                found.append(
                    f"{row.model}: {row.us:.0f} us and {row.snr_db:.1f} dB, {stock.file} {stock.us:.0f} us and "
                    f"{stock.snr_db:.1f} dB"
                )
    return found


def table(rows: Sequence[Row], said: Mapping[str, str]) -> str:
    """Return the Markdown tables."""
    parts = []
    for model, sentence in said.items():
        lines = [
            f"### {model}\n",
            "| file | bytes | signal to noise | time a call | ratio to float32 | ratio to `quantize_dynamic` |",
            "|---|---:|---:|---:|---:|---:|",
        ]
        own = [row for row in rows if row.model == model]
        stock = next(row for row in own if row.file == "quantize_dynamic")
        for row in own:
            snr = "no difference" if row.file == FLOAT32 else f"{row.snr_db:.1f} dB"
            lines.append(
                f"| {row.file} | {row.size_bytes:,} | {snr} | {row.us:,.0f} µs | {row.ratio:.2f} "
                f"| {row.us / stock.us:.2f} |"
            )
        parts.append("\n".join(lines) + (f"\n\n`--convolutions auto` says: {sentence}." if sentence else ""))
    return "\n\n".join(parts) + "\n"


def main() -> int:
    """Measure and print or write; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the table into docs/convolutions.md")
    parser.add_argument("--folder", type=Path, default=denoiser.FOLDER, help="folder of GTCRN's files")
    options = parser.parse_args()
    rows: list[Row] = []
    said: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as name:
        for model, path, feeds in models(options.folder, Path(name)):
            print(model, file=sys.stderr)
            files, said[model] = make_files(path, feeds[::2], Path(name))
            rows += measure(model, files, feeds[1::2])
    text = table(rows, said)
    if options.write:
        before, _, rest = DOCUMENT.read_text().partition(BEGIN)
        DOCUMENT.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}")
    else:
        print(text)
    missed = failures(rows)
    print("\n".join(missed), file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
