"""Adopt, quantize and validate the silero-vad package's ONNX files on real speech, as Markdown tables.

``python benchmarks/silero.py`` prints the tables, ``--write`` puts them into docs/silero.md (``make silero``), and
``--fetch`` only downloads. The exit code is 1 if a requirement is missed. It takes about 20 seconds on one core.
silero-vad 6.2.3 (MIT) comes from PyPI, the recordings from Debian's pocketsphinx-testdata. Both are checked by SHA-256
and kept in .cache.
"""

import hashlib
import logging
import shutil
import subprocess
import sys
import tempfile
import wave
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from lstm_edge_runtime.arrays import Array

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "silero"
DOCUMENT = ROOT / "docs" / "silero.md"
BEGIN, END = "<!-- silero: written by `make silero` -->\n", "<!-- silero: end -->\n"

WHEEL = "silero_vad-6.2.3-py3-none-any.whl"
WHEEL_SHA256 = "7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8"
PACKAGE = "pocketsphinx-testdata"
RECORDINGS = "usr/share/pocketsphinx/test/data"
# SHA-256 of the names and bytes of the 14 recordings, in order: the Debian package may be rebuilt with the same files.
RECORDINGS_SHA256 = "0915a8acd3d9aae2c19aaf7bed0a070893c11a9c7801c42aa7fae8569ddd0809"

# Requirements: the share of frames with the original's decision, and the difference of speech probabilities.
LEAST_AGREEMENT = 0.995
LARGEST_DIFFERENCE = 1e-5
THRESHOLD = 0.5

# Sampling rate -> samples per frame, and context samples from the frame before (silero_vad/sequence_vad.py).
FRAMES = {16000: (512, 64), 8000: (256, 32)}
NOISE_DB = -10.0  # power of white noise relative to the recording

Kernels = Literal["auto", "off"]

# Files of the sequence form that are streamed and run whole -> kernels.
STREAMED: Mapping[str, Kernels] = {"adopted": "auto", "int8": "auto", "int8, function bodies": "off"}


@dataclass(frozen=True, kw_only=True)
class Form:
    """One of the package's files: the form of its LSTM, and the sampling rates that it takes."""

    title: str
    file: str
    whole: bool  # takes all frames of a recording in one call
    rates: tuple[int, ...]

    @property
    def path(self) -> Path:
        """Path of the downloaded file."""
        return CACHE / self.file


FORMS = (
    Form(title="sequence", file="silero_vad_16k_sequence.onnx", whole=True, rates=(16000,)),
    Form(title="nested If", file="silero_vad.onnx", whole=False, rates=(16000, 8000)),
    Form(title="decomposed", file="silero_vad_op18_ifless.onnx", whole=False, rates=(16000, 8000)),
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One file under one condition, compared with the original file on the same frames.

    ``difference`` is the worst difference of two speech probabilities. ``ours`` says which requirement applies:
    ``"float32"``, ``"int8"``, or ``""`` for the stock tool's files.
    """

    form: str
    file: str
    condition: str
    ours: str
    size_bytes: int
    frames: int
    flipped: int
    difference: float


@dataclass(frozen=True, kw_only=True)
class Streamed:
    """The worst difference between a stream, fed frame by frame, and a sequence form on whole recordings."""

    form: str
    file: str
    against: str
    difference: float


def fetch() -> None:
    """Download the package's files and the recordings into the cache if they are missing, and check both."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        if not all(form.path.exists() for form in FORMS):
            pip = [sys.executable, "-I", "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
            subprocess.run([*pip, "--dest", folder, "silero-vad==6.2.3"], check=True, stdout=sys.stderr)
            wheel = Path(folder) / WHEEL
            check_digest(WHEEL, hashlib.sha256(wheel.read_bytes()).hexdigest(), WHEEL_SHA256)
            with zipfile.ZipFile(wheel) as archive:
                for form in FORMS:
                    form.path.write_bytes(archive.read(f"silero_vad/data/{form.file}"))
        if not (CACHE / "speech").exists():
            download = ["apt-get", "download", "-q", PACKAGE]
            if subprocess.run(download, cwd=folder, check=False, stdout=sys.stderr).returncode:
                subprocess.run(
                    ["apt-get", "update", "-q"], check=True, stdout=sys.stderr
                )  # the package lists were missing
                subprocess.run(download, cwd=folder, check=True, stdout=sys.stderr)
            package = next(Path(folder).glob("*.deb"))
            subprocess.run(["dpkg", "-x", package.name, "root"], cwd=folder, check=True, stdout=sys.stderr)
            speech = Path(folder) / "root" / RECORDINGS
            check_digest(PACKAGE, _digest_of(speech), RECORDINGS_SHA256)
            speech.rename(CACHE / "speech")


def check_digest(name: str, got: str, expected: str) -> None:
    """Exit with a message if a downloaded file differs from the file that was measured."""
    if got != expected:
        sys.exit(f"{name}: SHA-256 is {got}, expected {expected}; the download was discarded")


def _paths(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in (".raw", ".wav"))


def _digest_of(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in _paths(folder):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def missing() -> list[str]:
    """Return the paths that are missing in the cache."""
    return [str(path) for path in (*(form.path for form in FORMS), CACHE / "speech") if not path.exists()]


def recordings() -> list[Array]:
    """Return the recordings in the order of their names: float32 [samples] in -1..1 at 16 kHz."""
    return [_samples(path) for path in _paths(CACHE / "speech")]


def _samples(path: Path) -> Array:
    if path.suffix == ".wav":
        with wave.open(str(path)) as file:
            assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16000, 1, 2), path
            data = file.readframes(file.getnframes())
    else:
        data = path.read_bytes()
    return np.frombuffer(data[: len(data) // 2 * 2], "<i2").astype(np.float32) / 32768


def _noisy(samples: Array) -> Array:
    noise = np.random.default_rng(samples.size).standard_normal(samples.size)
    power = float(np.sqrt(np.mean(samples.astype(np.float64) ** 2))) * 10 ** (NOISE_DB / 20)
    return (samples + power * noise).astype(np.float32)


def _halved(samples: Array) -> Array:
    return np.asarray(samples[: samples.size // 2 * 2].reshape(-1, 2).mean(axis=1, dtype=np.float32))


# Condition -> the sampling rate after the change in Hz, and the change of a recording.
CONDITIONS: Mapping[str, tuple[int, Callable[[Array], Array]]] = {
    "as recorded": (16000, lambda samples: samples),
    "noise at -10 dB": (16000, _noisy),
    "a tenth as loud": (16000, lambda samples: samples * np.float32(0.1)),
    "at 8 kHz": (8000, _halved),
}


def frames_of(samples: Array, rate: int) -> Array:
    """Cut float32 [samples] into frames float32 [T, context + samples], as the package's own code does."""
    size, context = FRAMES[rate]
    frames = np.zeros((-(-samples.size // size), size), np.float32)
    frames.reshape(-1)[: samples.size] = samples
    before = np.concatenate([np.zeros((1, context), np.float32), frames[:-1, -context:]])
    return np.concatenate([before, frames], axis=1)


def original(form: Form, data: bytes) -> Callable[[Array, int], Array]:
    """Return a function that runs a file with the original's interface: (frames [T, N], rate) to probabilities [T]."""
    from lstm_edge_runtime.providers import open_session

    session = open_session(data)

    def run(frames: Array, rate: int) -> Array:
        if form.whole:
            zero = np.zeros((1, 1, 128), np.float32)
            answers: Array = session.run(["speech_probs"], {"input": frames, "h": zero, "c": zero})[0]
            return answers
        state, steps = np.zeros((2, 1, 128), np.float32), []
        for frame in frames:
            feeds = {"input": frame[None], "state": state, "sr": np.array(rate)}
            answer, state = session.run(["output", "stateN"], feeds)
            steps.append(answer[0, 0])
        return np.array(steps)

    return run


def streamed(path: Path, kernels: Kernels = "auto") -> Callable[[Array, int], Array]:
    """Return a function that streams an adopted file frame by frame; arguments and result as in ``original``."""
    from lstm_edge_runtime.session import Session

    stream = Session(path, kernels=kernels).stream()

    def run(frames: Array, _rate: int) -> Array:
        stream.reset()
        return np.array([stream.push(frame).reshape(()) for frame in frames])

    return run


def _whole(path: Path, kernels: Kernels = "auto") -> Callable[[Array, int], Array]:
    """Return a function that runs an adopted sequence form on all frames at once; the rest as in ``original``."""
    from lstm_edge_runtime.session import Session

    session = Session(path, kernels=kernels)
    return lambda frames, _rate: next(iter(session.run(frames)[0].values()))


def make_files(form: Form, rate: int, folder: Path) -> dict[str, Path]:
    """Adopt and quantize a file with this project, and quantize the original with the stock tool.

    A file that takes two sampling rates becomes one adopted file per rate.

    Returns:
        ``adopted``, ``int8``, ``stock int8, LSTM`` and ``stock int8, everything``.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    from lstm_edge_exporters.adopt import adopt
    from lstm_edge_exporters.quantize import quantize

    names = ("adopted", "int8", "stock int8, LSTM", "stock int8, everything")
    files = {name: folder / f"{form.path.stem}.{rate}.{name.replace(', ', '-')}.onnx" for name in names}
    if form.whole:
        adopt(form.path, files["adopted"])
    else:
        adopt(form.path, files["adopted"], fixed={"sr": rate}, axes={"input": ("batch", sum(FRAMES[rate]))})
    quantize(files["adopted"], files["int8"], scheme="int8", layers="recurrent")
    logging.getLogger().setLevel(logging.ERROR)  # quantize_dynamic logs a recommendation at each call
    # A copy: the tool writes a temporary file beside its input, and two tests may use the cache at the same time.
    original = Path(shutil.copy(form.path, folder))
    for name, operators in (("stock int8, LSTM", ["LSTM"]), ("stock int8, everything", None)):
        quantize_dynamic(original, files[name], op_types_to_quantize=operators, weight_type=QuantType.QInt8)
    return files


def measure(folder: Path) -> tuple[list[Row], list[Streamed]]:
    """Make all files in a folder and compare them with the originals under all conditions."""
    spoken, rows, streams = recordings(), [], []
    cut = list(_cut(spoken, "as recorded"))
    sequence = original(FORMS[0], FORMS[0].path.read_bytes())
    for form in FORMS:
        files = {rate: make_files(form, rate, folder) for rate in form.rates}
        for condition, (rate, _) in CONDITIONS.items():
            if rate in form.rates:
                rows += list(_compare(form, files[rate], list(_cut(spoken, condition)), condition))
        for name, kernels in STREAMED.items() if form.whole else (("adopted", "auto"),):
            path = files[16000][name.partition(",")[0]]
            way, expected = streamed(path, kernels), _whole(path, kernels) if form.whole else sequence
            worst = max(_worst(way(frames, 16000), expected(frames, 16000)) for frames in cut)
            against = "the same file, whole recordings" if form.whole else "the original sequence form"
            streams.append(Streamed(form=form.title, file=name, against=against, difference=worst))
    return rows, streams


def _compare(form: Form, files: Mapping[str, Path], cut: list[Array], condition: str) -> Iterator[Row]:
    ways = [
        ("adopted", "float32", files["adopted"], streamed(files["adopted"])),
        ("int8", "int8", files["int8"], streamed(files["int8"])),
        ("int8, function bodies", "int8", files["int8"], streamed(files["int8"], "off")),
    ]
    if condition == "as recorded":
        for name in ("stock int8, LSTM", "stock int8, everything"):
            ways.append((name, "", files[name], original(form, files[name].read_bytes())))
    rate, run = CONDITIONS[condition][0], original(form, form.path.read_bytes())
    expected = np.concatenate([run(frames, rate) for frames in cut])
    for name, ours, path, way in ways:
        got = np.concatenate([way(frames, rate) for frames in cut])
        yield Row(
            form=form.title,
            file=name,
            condition=condition,
            ours=ours,
            size_bytes=path.stat().st_size,
            frames=expected.size,
            flipped=int(np.sum((got >= THRESHOLD) != (expected >= THRESHOLD))),
            difference=_worst(got, expected),
        )


def _cut(spoken: list[Array], condition: str) -> Iterator[Array]:
    rate, change = CONDITIONS[condition]
    return (frames_of(change(samples), rate) for samples in spoken)


def _worst(got: Array, expected: Array) -> float:
    assert got.shape == expected.shape, (got.shape, expected.shape)
    return float(np.max(np.abs(got.astype(np.float64) - expected)))


def failures(rows: list[Row], streams: list[Streamed]) -> list[str]:
    """Return one sentence for each missed requirement."""
    found = []
    for row in rows:
        where = f"{row.form}, {row.file}, {row.condition}"
        if row.ours == "float32" and not row.difference <= LARGEST_DIFFERENCE:
            found.append(f"{where}: differs by {row.difference:.2g} from the original, at most {LARGEST_DIFFERENCE:g}")
        if row.ours == "int8" and not row.flipped <= (1 - LEAST_AGREEMENT) * row.frames:
            found.append(f"{where}: {row.flipped} of {row.frames} decisions differ, {LEAST_AGREEMENT:.1%} must agree")
    for stream in streams:
        if not stream.difference <= LARGEST_DIFFERENCE:
            found.append(
                f"{stream.form}, {stream.file}: the stream differs by {stream.difference:.2g} from the sequence, "
                f"at most {LARGEST_DIFFERENCE:g}"
            )
    return found


def tables(rows: list[Row], streams: list[Streamed]) -> str:
    """Return the Markdown tables: as recorded, altered recordings, streams."""
    head = "| form | file | bytes | frames | decisions that differ | agreement | largest difference |"
    first = [f"| {form.title} | original | {form.path.stat().st_size:,} | | | | |" for form in FORMS]
    plain, altered = [], [head.replace("bytes", "recordings")]
    for form, line in zip(FORMS, first, strict=True):
        own = [row for row in rows if row.form == form.title]
        plain += [line, *(_line(row, f"{row.size_bytes:,}") for row in own if row.condition == "as recorded")]
        altered += [_line(row, row.condition) for row in own if row.ours and row.condition != "as recorded"]
    rule = "|---|---|" + "---:|" * 5
    altered.insert(1, rule)
    speech = [f"| {s.form} | {s.file} | {s.against} | {s.difference:.1e} |" for s in streams]
    return "\n".join(
        [
            "As recorded:\n",
            head,
            rule,
            *plain,
            "\nAltered recordings, this project's files only:\n",
            *altered,
            "\nStreams, fed frame by frame, as recorded:\n",
            "| form | file | against | largest difference |\n|---|---|---|---:|",
            *speech,
        ]
    )


def _line(row: Row, third: str) -> str:
    share = 1 - row.flipped / row.frames
    return (
        f"| {row.form} | {row.file} | {third} | {row.frames:,} | {row.flipped:,} | {share:.2%} | {row.difference:.1e} |"
    )


def main() -> None:
    """Download, measure, print or write, and exit 1 if a requirement is missed."""
    fetch()
    if "--fetch" in sys.argv:
        return
    with tempfile.TemporaryDirectory() as folder:
        rows, streams = measure(Path(folder))
    text = tables(rows, streams)
    if "--write" in sys.argv:
        before, _, rest = DOCUMENT.read_text().partition(BEGIN)
        DOCUMENT.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}")
    else:
        print(text)
    missed = failures(rows, streams)
    sys.exit("\n".join(missed) if missed else 0)


if __name__ == "__main__":
    main()
