"""Adopt and quantize GTCRN, a published speech denoiser, and stream a noisy recording through it, as Markdown tables.

``python benchmarks/denoiser.py`` prints the table, ``--write`` puts it into docs/denoiser.md (``make docs-denoiser``).
The model and the recording are not part of this project and are not fetched: ``--folder`` names a folder with
``gtcrn_simple.onnx`` and ``mix.wav`` of https://github.com/Xiaobin-Rong/gtcrn (``stream/onnx_models``, ``test_wavs``).
``--speech`` names the folder of the recordings of Debian's ``pocketsphinx-testdata``, for SI-SDR (denoiser_sdr.py).
Without these files the command says so, and leaves out what needs them. It takes about twenty minutes; exit code 1: a
requirement is missed.
"""

import argparse
import sys
import tempfile
import time
import wave
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

import denoiser_sdr
from denoiser_speech import RECORDINGS
from waveform import HOP, SHAPE, WINDOW, samples

from lstm_edge_runtime.arrays import Array

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT.parent / "shared" / "models" / "gtcrn"
MODEL, RECORDING = "gtcrn_simple.onnx", "mix.wav"
DOCUMENT = ROOT / "docs" / "denoiser.md"
METRIC_CODE = Path(__file__).resolve().with_name("waveform.py")

RATE = 16000
STATES = {"conv_cache": "conv_cache_out", "tra_cache": "tra_cache_out", "inter_cache": "inter_cache_out"}

# Requirements: the difference of any output or state of a frame from the original's, and the output's distortion.
LARGEST_DIFFERENCE = 1e-5
LEAST_SDR_DB = 20.0
TURNS = 21

Frames = list[Array]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One file: bytes, largest difference from the original's frames, distortion in dB, microseconds a frame.

    ``quartiles`` are those of the ratio to the original's time, over turns.
    """

    title: str
    size_bytes: int
    difference: float
    sdr_db: float
    us: float
    quartiles: tuple[float, float, float]


def missing(folder: Path) -> list[str]:
    """Return the names of the files that a folder lacks."""
    return [name for name in (MODEL, RECORDING) if not (folder / name).exists()]


def read_recording(path: Path) -> Array:
    """Return float64 [samples] in -1..1 at 16 kHz."""
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2), path
        return np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768


def spectra(samples: Array) -> Frames:
    """Cut samples into frames float32 [1, 257, 1, 2]: real and imaginary part of a 512-point transform, hop 256."""
    padded = np.pad(samples, (WINDOW - HOP, WINDOW))
    count = (padded.size - WINDOW) // HOP + 1
    cut = [np.fft.rfft(padded[i * HOP : i * HOP + WINDOW] * SHAPE) for i in range(count)]
    return [np.stack([f.real, f.imag], -1)[None, :, None].astype(np.float32) for f in cut]


def samples_of(frames: Frames) -> Array:
    """Add frames up to samples float64 again: the inverse of ``spectra``."""
    return samples(np.concatenate(frames))[WINDOW - HOP :]


def sdr_db(got: Array, expected: Array) -> float:
    """Return the power of the expected samples over that of the difference, in dB; infinite where they are equal."""
    noise = float(np.sum((got - expected) ** 2))
    return float("inf") if noise == 0 else 10 * float(np.log10(np.sum(expected**2) / noise))


def called(data: bytes) -> Callable[[Frames], tuple[Frames, Mapping[str, Array]]]:
    """Return a function that calls a file frame by frame, as its author does: frames to answers and the last state."""
    from lstm_edge_runtime.providers import open_session

    session = open_session(data)
    names = ["enh", *STATES.values()]
    zero = {i.name: np.zeros(i.shape, np.float32) for i in session.get_inputs() if i.name in STATES}

    def run(frames: Frames) -> tuple[Frames, Mapping[str, Array]]:
        state, answers = zero, []
        for frame in frames:
            answer, *after = session.run(names, {"mix": frame, **state})
            state = dict(zip(STATES, after, strict=True))
            answers.append(answer)
        return answers, state

    return run


def streamed(data: bytes) -> Callable[[Frames], tuple[Frames, Mapping[str, Array]]]:
    """Return a function that streams a file frame by frame; argument and result as in ``called``."""
    from lstm_edge_runtime.session import Session

    stream = Session(data).stream()

    def run(frames: Frames) -> tuple[Frames, Mapping[str, Array]]:
        stream.reset()
        return [stream.push(frame) for frame in frames], stream.state

    return run


def measure(folder: Path) -> tuple[list[Row], str, int]:
    """Adopt, quantize, compare and time; returns the rows, the card's verdict and the number of frames."""
    from lstm_edge_exporters.adopt import adopt
    from lstm_edge_exporters.quantize import quantize

    frames = spectra(read_recording(folder / RECORDING))
    with tempfile.TemporaryDirectory() as name:
        made = {key: Path(name) / f"{key}.onnx" for key in ("adopted", "int8", "recurrent")}
        card = adopt(folder / MODEL, made["adopted"]).card
        quantize(made["adopted"], made["int8"], scheme="int8")
        quantize(made["adopted"], made["recurrent"], scheme="int8", layers="recurrent")
        files = {"original": (folder / MODEL).read_bytes()} | {key: path.read_bytes() for key, path in made.items()}
    ways = {
        "original, called": (files["original"], called(files["original"])),
        "adopted, called": (files["adopted"], called(files["adopted"])),
        "adopted, streamed": (files["adopted"], streamed(files["adopted"])),
        "int8 GRUs, streamed": (files["recurrent"], streamed(files["recurrent"])),
        "int8 GRUs and linear layers, streamed": (files["int8"], streamed(files["int8"])),
    }
    expected, state = ways["original, called"][1](frames)
    times = _times([way for _data, way in ways.values()], frames)
    rows = []
    for place, (title, (data, way)) in enumerate(ways.items()):
        answers, after = way(frames)
        pairs = [*zip(answers, expected, strict=True), *((after[key], state[key]) for key in STATES)]
        low, middle, high = np.percentile(times[:, place] / times[:, 0], [25, 50, 75]).tolist()
        rows.append(
            Row(
                title=title,
                size_bytes=len(data),
                difference=max(float(np.abs(a.astype(np.float64) - b).max()) for a, b in pairs),
                sdr_db=sdr_db(samples_of(answers), samples_of(expected)),
                us=float(np.median(times[:, place])),
                quartiles=(low, middle, high),
            )
        )
    return rows, card.streaming.verdict, len(frames)


def _times(ways: list[Callable[[Frames], object]], frames: Frames) -> Array:
    """Microseconds a frame for each way in each turn; the order of a turn is reversed in the next one."""
    some = frames[:200]
    times = np.zeros((TURNS, len(ways)))
    for turn in range(-1, TURNS):  # the first turn is for warming up
        for place in range(len(ways)) if turn % 2 else reversed(range(len(ways))):
            start = time.perf_counter()
            ways[place](some)
            times[turn, place] = (time.perf_counter() - start) / len(some) * 1e6
    return times


def failures(rows: list[Row], verdict: str) -> list[str]:
    """Return one sentence for each missed requirement."""
    found = [] if verdict == "each-call" else [f"the adopted file's streaming is {verdict}, it must be each-call"]
    for row in rows:
        if not row.title.startswith("int8") and not row.difference <= LARGEST_DIFFERENCE:
            found.append(f"{row.title}: differs by {row.difference:.2g}, at most {LARGEST_DIFFERENCE:g}")
        if not row.sdr_db >= LEAST_SDR_DB:
            found.append(f"{row.title}: {row.sdr_db:.1f} dB of signal to distortion, at least {LEAST_SDR_DB:g}")
    return found


def table(rows: list[Row], verdict: str, frames: int) -> str:
    """Return the Markdown table, with a line about the recording."""
    lines = [
        f"The adopted file's card says `streaming: {verdict}`. The recording has {frames} frames.\n",
        "| file | bytes | largest difference | signal to distortion | time a frame | ratio, median (quartiles) |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        sdr = "no difference" if row.sdr_db == float("inf") else f"{row.sdr_db:.1f} dB"
        low, middle, high = row.quartiles
        lines.append(
            f"| {row.title} | {row.size_bytes:,} | {row.difference:.1e} | {sdr} | {row.us:,.0f} µs "
            f"| {middle:.3f} ({low:.3f}-{high:.3f}) |"
        )
    return "\n".join(lines)


def put(name: str, text: str) -> None:
    """Put text between two markers of the document."""
    begin, end = f"<!-- {name}: written by `make docs-denoiser` -->\n", f"<!-- {name}: end -->\n"
    before, _, rest = DOCUMENT.read_text().partition(begin)
    DOCUMENT.write_text(f"{before}{begin}\n{text}\n\n{end}{rest.partition(end)[2]}")


def main() -> None:
    """Measure, print or write, and exit 1 if a requirement is missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--speech", type=Path, default=RECORDINGS)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    if names := missing(options.folder):
        print(f"skipped: {', '.join(names)} missing in {options.folder.name}; --folder names a folder that has them")
        return
    rows, verdict, frames = measure(options.folder)
    texts = {"denoiser": table(rows, verdict, frames)}
    if options.speech.exists():
        with tempfile.TemporaryDirectory() as name:
            measured = denoiser_sdr.measure(Path(name), options.speech, options.folder / MODEL, spectra)
        texts["speech"] = denoiser_sdr.table(*measured)
        texts["metric"] = f"```python\n{METRIC_CODE.read_text()}```"
    else:
        print(f"skipped: SI-SDR, no recordings in {options.speech}; --speech names a folder that has them")
    for key, text in texts.items():
        if options.write:
            put(key, text)
        else:
            print(text)
    missed = failures(rows, verdict)
    sys.exit("\n".join(missed) if missed else 0)


if __name__ == "__main__":
    main()
