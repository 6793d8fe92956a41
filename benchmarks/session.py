"""``make bench-session``: what ``Session.run`` and ``Stream.push`` cost beside onnxruntime alone, on small steps.

One step of two LSTM layers with 64 inputs and 128 cells, batch 1, in the same session of onnxruntime: its ``run`` with
the arrays in a dict, ``Session.run`` with the same arrays and with a ``State``, ``Stream.push``, and a run on buffers
that are bound already, which is what is left if nothing is checked or copied. All calls take turns in one process; the
times are medians. The exit code is 1 if ``Session.run`` takes more than 1.25 times as long as onnxruntime's ``run``.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import nn

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import kernel_models as models  # noqa: E402
from kernel_calls import Call, medians, print_table  # noqa: E402

from lstm_edge import export, quantize  # noqa: E402
from lstm_edge.layers import LSTM  # noqa: E402
from lstm_edge_runtime.bindings import Runner  # noqa: E402
from lstm_edge_runtime.session import Session  # noqa: E402

INPUTS, HIDDEN, LAYERS, TOKENS = 64, 128, 2, 50
LIMIT = 1.25


class Tokens(nn.Module):
    """A decoder of int64 tokens [batch, time]."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(TOKENS, INPUTS)
        self.lstm = nn.LSTM(INPUTS, HIDDEN, LAYERS, batch_first=True)
        self.linear = nn.Linear(HIDDEN, TOKENS)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the logits of the next tokens."""
        logits: torch.Tensor = self.linear(self.lstm(self.embedding(tokens))[0])
        return logits


class Conditioned(Tokens):
    """The same with a second input, float32 [batch, time, inputs]."""

    def forward(self, tokens: torch.Tensor, features: torch.Tensor) -> torch.Tensor:  # type: ignore[override]  # one input more than Tokens
        """Return the logits of the next tokens."""
        logits: torch.Tensor = self.linear(self.lstm(self.embedding(tokens) + features)[0])
        return logits


def make_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Export the models, each in float32 and int8; yield the name of a row and the file."""
    torch.manual_seed(0)
    tokens, features = torch.zeros(2, 5, dtype=torch.int64), torch.randn(2, 5, INPUTS)
    for name, module, example, named in (
        ("one input", LSTM(INPUTS, HIDDEN, LAYERS), torch.randn(5, 2, INPUTS), {}),
        ("lengths", nn.LSTM(INPUTS, HIDDEN, LAYERS, batch_first=True), features, {"lengths": True}),
        ("tokens", Tokens(), tokens, {"inputs": ["tokens: int64[batch, time]"]}),
        ("two named inputs", Conditioned(), {"tokens": tokens, "features": features}, {}),
    ):
        path = folder / f"{name.replace(' ', '_')}.onnx"
        export(module.eval(), example, path, **named)  # type: ignore[arg-type]  # options of several types
        int8 = path.with_suffix(".int8.onnx")
        quantize(path, int8)
        yield f"{name}, float32", path
        yield f"{name}, int8", int8


def make_feeds(session: Session) -> dict[str, np.ndarray[Any, Any]]:
    """Return one step for each input of the model."""
    rng = np.random.default_rng(0)
    feeds = {}
    for spec in session.inputs:
        shape = [1 if isinstance(axis, str) else axis for axis in spec.axes]
        drawn = rng.integers(0, TOKENS, shape) if spec.dtype == "int64" else rng.standard_normal(shape)
        feeds[spec.name] = drawn.astype(spec.dtype)
    return feeds


def bound(session: onnxruntime.InferenceSession, feeds: Mapping[str, np.ndarray[Any, Any]]) -> Call:
    """Return a run on bound buffers, which it holds."""
    names = [output.name for output in session.get_outputs()]
    outputs = dict(zip(names, session.run(names, dict(feeds)), strict=True))
    runner = Runner(session)
    binding = runner.bind({name: array.copy() for name, array in feeds.items()}, outputs)
    return lambda: runner.run(binding.handle, runner.options)


def calls_of(session: Session) -> dict[str, Call]:
    """Return the calls that are compared, on the same arrays."""
    bare, inputs = session.onnxruntime_session, make_feeds(session)
    lengths = {} if session.lengths is None else {"lengths": np.ones(1, np.int64)}
    _, state = session.run(inputs, **lengths)
    feeds = inputs | dict(state)
    if session.lengths is not None:
        feeds[session.lengths] = lengths["lengths"]
    explicit = inputs | dict(state)
    stream = session.stream()
    piece = inputs if len(inputs) > 1 else next(iter(inputs.values()))
    return {
        "onnxruntime": lambda: bare.run(None, feeds),
        "named": lambda: session.run(explicit, **lengths),
        "state": lambda: session.run(inputs, state, **lengths),
        "push": lambda: stream.push(piece),
        "bound": bound(bare, feeds),
    }


def main() -> None:
    """Measure, print, and exit with a code that says whether the limit holds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=60, help="turns of each call")
    rounds = parser.parse_args().rounds
    step = f"one step of {LAYERS} layers, {INPUTS} inputs, {HIDDEN} cells"
    print(f"{models.machine()}; 1 thread; medians, interleaved; {step}")
    rows, missed = [], []
    with tempfile.TemporaryDirectory(prefix="lstm-edge-bench-") as folder:
        for name, path in make_files(Path(folder)):
            session = Session(path)
            t = medians(calls_of(session), rounds)
            ratios = {key: t[key] / t["onnxruntime"] for key in ("named", "state", "push", "bound")}
            by = session.kernels or "onnxruntime"
            rows.append((name, by, f"{t['onnxruntime']:.1f}", *(f"{ratio:.2f}" for ratio in ratios.values())))
            missed += [f"{name}: {ratios[key]:.2f}" for key in ("named", "state") if ratios[key] > LIMIT]
    columns = ("model", "run by", "onnxruntime's run, µs", "run, states by name", "run, State", "push", "bound buffers")
    print_table("Time of a step as a multiple of onnxruntime's own run", columns, rows)
    print(f"\nabove {LIMIT}: " + "; ".join(missed) if missed else f"\nSession.run: all at most {LIMIT}")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
