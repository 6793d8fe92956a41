"""Models with something that looks at earlier or later steps, streamed in pushes, as a Markdown table.

``python benchmarks/caches.py`` prints the table, ``--write`` puts it into docs/caches.md (``make docs-caches``, three
minutes). Each form is exported (or adopted with ``--stateful``), and sequences of four lengths are pushed in chunks of
1, 2, 7, T - 1 and T steps and in ragged ones, batch 2; the answers, joined, are compared with the original's answer
to the whole. The exit code is 1 if one differs by more than 1e-5 or cannot be streamed.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lstm_edge.commands.export import export
from lstm_edge_exporters.adopt import adopt_bytes
from lstm_edge_exporters.verify.parity import EXPORT
from lstm_edge_runtime.session import Session

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from support import streamed_forms, streamed_keras, streamed_runs  # noqa: E402  the forms are those of the tests

DOCUMENT = ROOT / "docs" / "caches.md"
BEGIN, END = "<!-- caches: written by `make docs-caches` -->\n", "<!-- caches: end -->\n"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One file: where it is from, the form's name, the file open, and its largest difference in pushes."""

    source: str
    name: str
    session: Session
    difference: float

    def line(self) -> str:
        """Return the row of the table."""
        assert self.session.card is not None
        streaming = self.session.card.streaming
        if streaming.verdict == "none":
            return f"| {self.source} | {self.name} | not streamed: {streaming.reason} | | | |\n"
        steps = f"{streaming.first}, then {streaming.gives} for {streaming.every}"
        caches = sum(spec.kind == "cache" for spec in self.session.states)
        cells = (self.source, self.name, steps, streaming.latency_steps, caches, f"{self.difference:.1e}")
        return f"| {' | '.join(map(str, cells))} |\n"


def rows(folder: Path) -> Iterator[Row]:
    """Yield a row for each form."""
    for form in streamed_forms.FORMS:
        module = streamed_runs.made(form)
        export(module, None, folder / "m.onnx", inputs=list(form.inputs))
        yield _row("PyTorch", form.name, Session(folder / "m.onnx"), module)
    for name in streamed_forms.ONNX_FORMS:
        form = next(form for form in streamed_forms.FORMS if form.name == name)
        module = streamed_runs.made(form)
        adopted = adopt_bytes(streamed_runs.onnx_file(form, module), stateful=True)
        yield _row("ONNX", name, Session(adopted.artifact.data), module)
    streamed_keras.write_keras(folder)
    for number, name in enumerate(streamed_keras.KERAS_FORMS):
        export(folder / f"{number}.keras", None, folder / "k.onnx")
        session = Session(folder / "k.onnx")
        with np.load(folder / f"{number}.npz") as arrays:
            samples = [
                ({session.inputs[0].name: arrays[f"x{steps}"]}, arrays[f"y{steps}"])
                for steps in streamed_keras.KERAS_LENGTHS
            ]
        yield Row(source="Keras", name=name, session=session, difference=_difference(session, samples))


def _row(source: str, name: str, session: Session, module: "streamed_forms.nn.Module") -> Row:
    ask = streamed_runs.torch_answer(module)
    samples = streamed_runs.samples_of(session, ask, streamed_runs.lengths_of(session))
    return Row(source=source, name=name, session=session, difference=_difference(session, samples))


def _difference(session: Session, samples: list[streamed_runs.Sample]) -> float:
    assert session.card is not None
    if session.card.streaming.verdict == "none":
        return float("inf")
    return streamed_runs.largest_difference(session, samples)


def main() -> int:
    """Measure, print and, if asked, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the table into docs/caches.md")
    arguments = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for row in rows(Path(folder)):
            print(row.line(), end="", flush=True)
            found.append(row)
    table = (
        "| from | form | output steps after how many input steps | latency | caches | largest difference |\n"
        "|---|---|---|---|---|---|\n" + "".join(row.line() for row in found)
    )
    if arguments.write:
        text = DOCUMENT.read_text(encoding="utf-8")
        before, after = text.split(BEGIN)[0], text.split(END)[1]
        DOCUMENT.write_text(f"{before}{BEGIN}{table}{END}{after}", encoding="utf-8")
    return int(any(not row.difference <= EXPORT.absolute for row in found))


if __name__ == "__main__":
    sys.exit(main())
