"""Measure whether a carried state gets stuck, and whether random state resets in training help; as Markdown.

    python benchmarks/stuck_streams.py [--keep FOLDER] [--train PROBABILITY] [--quick]

Two character models of 512 cells are trained on the King James text for the same number of epochs, with one thread
each: one with ``--reset-probability 0``, one with 0.05. Each is exported and evaluated on the test split in three ways:
with the state carried through all of it; from fresh states; and with the state carried through a line of unusual input,
against a state that is fresh after the line. With ``--keep`` the models are kept in the folder and reused; an
interrupted training is resumed. ``--train 0.05`` trains only that model, so that two processes can train both models at
the same time. ``--quick`` makes everything small; its figures prove only that the script runs.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from language_model import run
from numpy.typing import NDArray

from lstm_edge.data.text import load_text
from lstm_edge.validation.stuck_streams import find_stuck_streams
from lstm_edge_runtime.generate import LanguageStream
from lstm_edge_runtime.metrics import cross_entropy
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.text import Vocabulary

Ids = NDArray[np.int64]
Bits = NDArray[np.float64]

PROBABILITIES = (0.0, 0.05)
# The number of epochs is fixed, not the minutes: both models see the same amount of text on a busy machine too.
RECIPE = ["--data", "king-james", "--hidden", "512", "--dropout", "0.15", "--epochs", "8", "--threads", "1"]
QUICK = ["--data", "king-james", "--hidden", "16", "--epochs", "1", "--max-updates", "20", "--threads", "1"]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Number of streams, and characters in each section of a stream.

    A stream reads ``before`` characters, then the unusual line, then ``skipped`` characters in which a fresh state
    settles, then ``judged`` characters. The ``streams`` start at places spread evenly over the test split. ``stretch``
    is the number of characters between fresh states in the reading of the whole text.
    """

    streams: int = 64
    before: int = 500
    skipped: int = 200
    judged: int = 2000
    stretch: int = 1000


# A stream is stuck if it loses more bits per character than this against a fresh state, over all judged characters.
STUCK_BITS = 0.5


def main() -> None:
    """Train the missing models; measure and print, unless ``--train`` is given."""
    parser = argparse.ArgumentParser(
        description="measure stuck streams with and without random state resets in training"
    )
    parser.add_argument("--keep", type=Path, help="folder that keeps the models and their logs")
    parser.add_argument("--train", type=float, metavar="PROBABILITY", help="train only the model with this probability")
    parser.add_argument("--quick", action="store_true", help="use tiny sizes, to try the script")
    arguments = parser.parse_args()
    sizes = Sizes(streams=4, before=50, skipped=20, judged=1000, stretch=100) if arguments.quick else Sizes()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        recipe = QUICK if arguments.quick else RECIPE
        if arguments.train is not None:
            train(folder, arguments.train, recipe)
            return
        reports = {probability: train(folder, probability, recipe) for probability in PROBABILITIES}
        for probability, report in reports.items():
            print(f"- `lstm-edge train language-model {' '.join(recipe)} --reset-probability {probability:g}`:")
            print(f"  {len(report['history'])} epochs in {report['seconds'] / 60:.0f} minutes\n")
        judge(folder, sizes)


def train(folder: Path, probability: float, recipe: list[str]) -> dict[str, Any]:
    """Return the report of the training with this probability: run, resumed, or read from the folder."""
    model, log = folder / f"reset-{probability:g}.safetensors", folder / f"reset-{probability:g}.jsonl"
    if not (model.exists() and log.exists()):
        resume = ["--resume"] if model.with_name(model.name + ".resume").exists() else []
        options = [*recipe, "--reset-probability", f"{probability:g}", "-o", str(model), "--json", *resume]
        log.write_text(run("train", "language-model", *options))
    report: dict[str, Any] = json.loads(log.read_text().splitlines()[-1])
    return report


def judge(folder: Path, sizes: Sizes) -> None:
    """Export each model and print both tables."""
    text = load_text("king-james:test").text
    if sizes.streams < Sizes.streams:
        text = text[:5000]
    print("| reset probability | file | bits per character, state carried | from fresh states | stuck streams |")
    print("|---:|---|---:|---:|---:|")
    files: list[tuple[str, Session]] = []
    for probability in PROBABILITIES:
        trained = folder / f"reset-{probability:g}.safetensors"
        for scheme in ("float32", "int8"):
            file = trained.with_name(f"{trained.stem}.{scheme}.onnx")
            run("export", str(trained), "-o", str(file), *([] if scheme == "float32" else ["--scheme", scheme]))
            session = Session(file)
            files.append((f"| {probability:g} | {scheme} ", session))
            carried, fresh, stuck = over_the_text(session, text, sizes)
            print(f"{files[-1][0]}| {carried:.3f} | {fresh:.3f} | {stuck} |")
    print(
        "\n| reset probability | file | unusual input | bits per character after it, fresh state | carried state ",
        end="",
    )
    print(f"| worst stream | stuck, of {sizes.streams} |")
    print("|---:|---|---|---:|---:|---:|---:|")
    for start, session in files:
        for name, make in UNUSUAL.items():
            fresh_bits, bits = after_line(session, text, make, sizes)
            lost = bits - fresh_bits
            print(f"{start}| {name} | {fresh_bits.mean():.3f} | {bits.mean():.3f} ", end="")
            print(f"| {bits[lost.argmax()]:.3f} | {int((lost > STUCK_BITS).sum())} |")


def capitals(text: str, length: int) -> str:
    """Return the first characters of the text in capitals, as one line."""
    return text[:length].replace("\n", " ").upper() + "\n"


# The unusual line, made from the text at that place. The vocabulary has no digits, so they are unknown characters.
UNUSUAL: dict[str, Callable[[str], str]] = {
    "none": lambda _: "",
    "a line of 100 capitals": lambda text: capitals(text, 100),
    "a line of 1,000 capitals": lambda text: capitals(text, 1000),
    "200 times one letter": lambda _: 200 * "a" + "\n",
    "200 unknown characters": lambda _: 200 * "0" + "\n",
}


def over_the_text(session: Session, text: str, sizes: Sizes) -> tuple[float, float, int]:
    """Return the mean bits of a carried state and of fresh states on the same characters, and the stuck streams.

    Each stretch starts from a fresh state. Its first ``skipped`` characters are left out of both means.
    """
    ids = Vocabulary.from_card(session.card).encode(text)
    count = (len(ids) - 1) // sizes.stretch
    whole = ids[: count * sizes.stretch + 1]
    carried = bits_of(session, whole[np.newaxis]).reshape(count, sizes.stretch)
    fresh = bits_of(session, np.stack([whole[at * sizes.stretch :][: sizes.stretch + 1] for at in range(count)]))
    found = find_stuck_streams(session, whole, carried.reshape(1, -1) * np.log(2.0))
    return carried[:, sizes.skipped :].mean(), fresh[:, sizes.skipped :].mean(), len(found.stuck)


def after_line(session: Session, text: str, make: Callable[[str], str], sizes: Sizes) -> tuple[Bits, Bits]:
    """Return the mean bits of each stream after the unusual line, float64 ``[streams]``.

    The first array has a state that is fresh after the line, the second the state that was carried through the line.
    """
    vocabulary = Vocabulary.from_card(session.card)
    length = sizes.before + sizes.skipped + sizes.judged + 1
    places = np.linspace(0, len(text) - length, sizes.streams).astype(int)
    pieces = [(text[at : at + sizes.before], text[at + sizes.before : at + length]) for at in places]
    usual = np.stack([vocabulary.encode(rest) for _, rest in pieces])
    through = np.stack([vocabulary.encode(before + make(rest) + rest) for before, rest in pieces])
    fresh, carried = bits_of(session, usual), bits_of(session, through)
    return fresh[:, -sizes.judged :].mean(axis=1), carried[:, -sizes.judged :].mean(axis=1)


def bits_of(session: Session, ids: Ids) -> Bits:
    """Return the bits of each predicted token, float64 ``[B, T - 1]``, for streams of ids int64 ``[B, T]``."""
    stream = LanguageStream(session, len(ids))
    parts = []
    for start in range(0, ids.shape[1] - 1, stream.chunk):
        window = ids[:, start : start + stream.chunk + 1]
        logits = stream.push(window[:, :-1])
        nats = cross_entropy(logits.reshape(-1, logits.shape[-1]), window[:, 1:].reshape(-1))
        parts.append(nats.reshape(len(ids), -1) / np.log(2.0))
    return np.concatenate(parts, axis=1)


if __name__ == "__main__":
    main()
