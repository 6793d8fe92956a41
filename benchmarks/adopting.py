"""What adopting costs: time of one call and bytes of the original and of the adopted file, as a Markdown table.

``python benchmarks/adopting.py`` prints the table, ``--write`` puts it into docs/adopt.md (``make docs-adopting``).
GTCRN's file is not fetched: ``--gtcrn PATH`` names it (default: ../shared/models/gtcrn/gtcrn_simple.onnx beside the
checkout), and without it its row says so. silero-vad's files come from ``benchmarks/silero.py --fetch``; those of
PyTorch's exporters are made here. Both files of a row run through the runtime's session options (one thread), in turns
that alternate; every turn's ratio is taken, and the median and the quartiles of the turns are printed.
The exit code is 1 if a file is over the limits.
"""

import argparse
import io
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from lstm_edge_runtime.arrays import Array

ROOT = Path(__file__).resolve().parent.parent
SILERO = ROOT / ".cache" / "silero"
GTCRN = ROOT.parent / "shared" / "models" / "gtcrn" / "gtcrn_simple.onnx"
DOCUMENT = ROOT / "docs" / "adopt.md"
BEGIN, END = "<!-- adopting: written by `make docs-adopting` -->\n", "<!-- adopting: end -->\n"

TURNS, CALLS = 61, 20
STEPS = 100  # of a recording
MOST_TIME, MOST_BYTES = 1.02, 1.05


@dataclass(frozen=True, kw_only=True)
class Subject:
    """An original file, what the options of adopt are for it, and inputs that it takes."""

    title: str
    data: bytes
    feeds: dict[str, Array]
    fixed: dict[str, float]
    axes: dict[str, tuple[str | int, ...]]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measured file: median time of a call in microseconds, ratios adopted / original over turns, and bytes."""

    title: str
    original_us: float
    adopted_us: float
    quartiles: tuple[float, float, float]
    original_bytes: int
    adopted_bytes: int


def subjects(gtcrn: Path) -> Iterator[Subject | str]:
    """Yield the files that are there, and a sentence for each that is not."""
    rng = np.random.default_rng(0)
    if gtcrn.exists():
        data = gtcrn.read_bytes()
        shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in onnx.load(gtcrn).graph.input}
        feeds = {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
        yield Subject(title="GTCRN, one frame", data=data, feeds=feeds, fixed={}, axes={})
    else:
        yield f"GTCRN: not measured, {gtcrn.name} is missing"
    sequence, nested = SILERO / "silero_vad_16k_sequence.onnx", SILERO / "silero_vad.onnx"
    if sequence.exists() and nested.exists():
        zero = np.zeros((1, 1, 128), np.float32)
        feeds = {"input": rng.normal(0, 0.1, (1, 576)).astype(np.float32), "h": zero, "c": zero}
        yield Subject(
            title="silero-vad, sequence, one frame", data=sequence.read_bytes(), feeds=feeds, fixed={}, axes={}
        )
        feeds = {"input": feeds["input"], "state": np.zeros((2, 1, 128), np.float32), "sr": np.array(16000)}
        yield Subject(
            title="silero-vad, nested If, one frame",
            data=nested.read_bytes(),
            feeds=feeds,
            fixed={"sr": 16000},
            axes={"input": ("batch", 576)},
        )
    else:
        yield "silero-vad: not measured, `python benchmarks/silero.py --fetch` fetches it"
    for dynamo in (False, True):
        yield _from_torch(dynamo=dynamo)


def _one_step() -> Subject:
    """A streaming step of two LSTM layers, 64 > 128 > 128 cells."""
    import torch
    from torch import nn

    class Step(nn.Module):
        """Two LSTM layers of one step."""

        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(64, 128, 2)

        def forward(self, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, ...]:
            """Return h of the last layer and the state."""
            y, (h, c) = self.rnn(x.unsqueeze(0), (h, c))
            return y[0], h, c

    torch.manual_seed(0)
    arguments = (torch.randn(1, 64), torch.randn(2, 1, 128), torch.randn(2, 1, 128))
    stream, names = io.BytesIO(), ["x", "h", "c"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own deprecations
        torch.onnx.export(
            Step().eval(),
            arguments,
            stream,  # type: ignore[arg-type]  # torch writes to a stream too
            input_names=names,
            output_names=["y", "hn", "cn"],
            opset_version=17,
            dynamo=False,
        )
    feeds = {name: a.numpy() for name, a in zip(names, arguments, strict=True)}
    title = "2-layer LSTM step, 64 inputs, 128 cells"
    return Subject(title=title, data=stream.getvalue(), feeds=feeds, fixed={}, axes={})


def measure_sequence(subject: Subject) -> tuple[str, float, float, tuple[float, float, float]]:
    """Time a recording in calls of one step against one call of ``--sequence``, per step, in turns that alternate."""
    from lstm_edge_exporters.adopt import adopt_bytes
    from lstm_edge_runtime.providers import open_session

    step, whole = (adopt_bytes(subject.data, sequence=sequence).artifact for sequence in (False, True))
    sessions = [open_session(step.data), open_session(whole.data)]
    names = [*(spec.output for spec in step.card.states), *(spec.name for spec in step.card.outputs)]
    inputs, keys = [spec.name for spec in step.card.inputs], [spec.input for spec in step.card.states]
    start_state = {key: subject.feeds[key] for key in keys}
    frames = {name: np.repeat(subject.feeds[name][None], STEPS, 0) for name in inputs}

    def loop() -> None:
        state = start_state
        for index in range(STEPS):
            answers = sessions[0].run(names, {**state, **{name: frames[name][index] for name in inputs}})
            state = dict(zip(keys, answers, strict=False))

    ways = (loop, lambda: sessions[1].run(names, {**start_state, **frames}))
    times = np.zeros((TURNS, 2))
    for turn in range(-2, TURNS):  # the first two turns are for warming up
        for which in (0, 1) if turn % 2 else (1, 0):
            start = time.perf_counter()
            ways[which]()
            times[turn, which] = (time.perf_counter() - start) / STEPS * 1e6
    low, middle, high = np.percentile(times[:, 0] / times[:, 1], [25, 50, 75]).tolist()
    medians = np.median(times, axis=0)
    return subject.title, float(medians[0]), float(medians[1]), (low, middle, high)


def sequence_table(rows: list[tuple[str, float, float, tuple[float, float, float]]]) -> str:
    """Return the Markdown table of ``--sequence``."""
    lines = [
        "| a recording, time of a step | calls in a row | one call | times as fast, median (quartiles) |",
        "|---|---:|---:|---|",
    ]
    lines += [
        f"| {title} | {calls:,.1f} µs | {one:,.1f} µs | {middle:.2f} ({low:.2f}-{high:.2f}) |"
        for title, calls, one, (low, middle, high) in rows
    ]
    return "\n".join(lines)


def _from_torch(*, dynamo: bool) -> Subject:
    import torch
    from torch import nn

    class Tagger(nn.Module):
        """Two LSTM layers and a linear one."""

        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = nn.LSTM(40, 128, 2, batch_first=True), nn.Linear(128, 10)

        def forward(self, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, ...]:
            """Return logits and the state."""
            y, (h, c) = self.rnn(x, (h, c))
            return self.head(y), h, c

    torch.manual_seed(0)
    arguments = (torch.randn(2, 20, 40), torch.randn(2, 2, 128), torch.randn(2, 2, 128))
    names, outputs = ["x", "h", "c"], ["y", "hn", "cn"]
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")  # torch's own deprecations
        if dynamo:
            rows, steps = torch.export.Dim("rows"), torch.export.Dim("n")
            shapes = {"x": {0: rows, 1: steps}, "h": {1: rows}, "c": {1: rows}}
            path = Path(folder) / "model.onnx"
            torch.onnx.export(
                Tagger().eval(),
                arguments,
                path,
                input_names=names,
                output_names=outputs,
                dynamic_shapes=shapes,
                external_data=False,
                verbose=False,
            )
            data = path.read_bytes()
        else:
            stream = io.BytesIO()
            torch.onnx.export(
                Tagger().eval(),
                arguments,
                stream,  # type: ignore[arg-type]  # torch writes to a stream too
                input_names=names,
                output_names=outputs,
                dynamic_axes={"x": {0: "rows", 1: "n"}, "h": {1: "rows"}, "c": {1: "rows"}, "y": {0: "rows", 1: "n"}},
                opset_version=17,
                dynamo=False,
            )
            data = stream.getvalue()
    title = f"2-layer LSTM of 128 cells, PyTorch's {'current' if dynamo else 'legacy'} exporter, 2 x 20 steps"
    feeds = {name: a.numpy() for name, a in zip(names, arguments, strict=True)}
    return Subject(title=title, data=data, feeds=feeds, fixed={}, axes={})


def measure(subject: Subject) -> Row:
    """Adopt a file, and run both in turns that alternate."""
    from lstm_edge_exporters.adopt import adopt_bytes
    from lstm_edge_runtime.providers import open_session

    adopted = adopt_bytes(subject.data, fixed=subject.fixed, axes=subject.axes).artifact.data
    sessions = [open_session(subject.data), open_session(adopted)]
    names = [{value.name for value in session.get_inputs()} for session in sessions]
    feeds = [{name: array for name, array in subject.feeds.items() if name in known} for known in names]
    times = np.zeros((TURNS, 2))
    for turn in range(-2, TURNS):  # the first two turns are for warming up
        for which in (0, 1) if turn % 2 else (1, 0):
            start = time.perf_counter()
            for _ in range(CALLS):
                sessions[which].run(None, feeds[which])
            times[turn, which] = (time.perf_counter() - start) / CALLS * 1e6
    low, middle, high = np.percentile(times[:, 1] / times[:, 0], [25, 50, 75]).tolist()
    return Row(
        title=subject.title,
        original_us=float(np.median(times[:, 0])),
        adopted_us=float(np.median(times[:, 1])),
        quartiles=(low, middle, high),
        original_bytes=len(subject.data),
        adopted_bytes=len(adopted) - _metadata_bytes(adopted),
    )


def _metadata_bytes(data: bytes) -> int:
    """Bytes of the card, the golden vectors and the integrity trailer."""
    model = onnx.ModelProto.FromString(data)
    before = model.ByteSize()
    del model.metadata_props[:]
    return before - model.ByteSize()


def table(rows: list[Row], missing: list[str]) -> str:
    """Return the Markdown table, and a line for each file that was not measured."""
    lines = [
        "| file | original | adopted | ratio of time, median (quartiles) | original | adopted | ratio of bytes |",
        "|---|---:|---:|---|---:|---:|---:|",
    ]
    for row in rows:
        (low, middle, high), bytes_ratio = row.quartiles, row.adopted_bytes / row.original_bytes
        lines.append(
            f"| {row.title} | {row.original_us:,.0f} µs | {row.adopted_us:,.0f} µs "
            f"| {middle:.3f} ({low:.3f}-{high:.3f}) "
            f"| {row.original_bytes:,} | {row.adopted_bytes:,} | {bytes_ratio:.3f} |"
        )
    return "\n".join([*lines, *(f"\n{sentence}." for sentence in missing)])


def failures(rows: list[Row]) -> list[str]:
    """Return one sentence for each file that is over a limit."""
    found = []
    for row in rows:
        if row.quartiles[1] > MOST_TIME:
            found.append(f"{row.title}: {row.quartiles[1]:.3f} times the original's time, at most {MOST_TIME}")
        if row.adopted_bytes > MOST_BYTES * row.original_bytes:
            ratio = row.adopted_bytes / row.original_bytes
            found.append(f"{row.title}: {ratio:.3f} times the original's bytes, at most {MOST_BYTES}")
    return found


def main() -> None:
    """Measure, print or write, and exit 1 if a file is over a limit."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gtcrn", type=Path, default=GTCRN)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    found = list(subjects(options.gtcrn))
    rows = [measure(subject) for subject in found if isinstance(subject, Subject)]
    steps = [*(s for s in found[:1] if isinstance(s, Subject)), _one_step()]
    sequences = [measure_sequence(subject) for subject in steps]
    text = table(rows, [sentence for sentence in found if isinstance(sentence, str)])
    text += f"\n\n{sequence_table(sequences)}"
    if options.write:
        before, _, rest = DOCUMENT.read_text().partition(BEGIN)
        DOCUMENT.write_text(f"{before}{BEGIN}\n{text}\n\n{END}{rest.partition(END)[2]}")
    else:
        print(text)
    missed = failures(rows)
    slower = [title for title, _calls, _one, (_low, ratio, _high) in sequences if ratio < 1]
    missed += [f"{title}: --sequence is slower than calls in a row" for title in slower]
    sys.exit("\n".join(missed) if missed else 0)


if __name__ == "__main__":
    main()
