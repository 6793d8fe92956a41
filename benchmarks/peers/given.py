"""What a worker is given: a case in a folder, and the words of the protocol. NumPy and the standard library only.

A case is one model with its inputs. Every peer gets the same folder:

``case.json``       the names and sizes below
``arrays.npz``      ``x`` (the frames), ``initial.<state>``, and for a recurrent case the weights in PyTorch's layout
``step.onnx``       the model for one frame: ``x`` and the states in, ``y`` and the states out
``sequence.onnx``   a recurrent case only: the same for all frames in one call, time-major
``cells.onnx``      a recurrent case only: ``step.onnx`` with the cells written as ``MatMul`` and elementwise operators
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

__all__ = ["Case", "RefusedError", "Sequence", "Step", "copied", "first_line", "frames_of", "pruned"]

Array = np.ndarray[Any, np.dtype[Any]]
Sequence = Callable[[], Array]
BLOCK = (16, 4)  # outputs, inputs of a block of a sparse matrix


class RefusedError(Exception):
    """A peer cannot convert or run the model; the message is the reason that the table prints."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One model: its names, its arrays, and the folder of its files.

    Attributes:
        name: such as ``lstm-64-128``; also the folder's name.
        cell: ``LSTM`` or ``GRU``; "" for a published model, whose only file is ``step.onnx``.
        inputs: features of a frame of a recurrent case, else 0.
        hidden: cells of each of its layers, else 0.
        layers: number of its layers, else 0.
        x: name of the frame's input.
        y: name of the output that is compared.
        states: state inputs -> the outputs that carry them on.
        constant: further inputs -> their value, an int64 scalar.
        source: where the author's PyTorch module of a published model is, if it is at hand.
    """

    name: str
    cell: str
    inputs: int
    hidden: int
    layers: int
    x: str
    y: str
    states: Mapping[str, str]
    constant: Mapping[str, int]
    source: str
    folder: Path
    arrays: Mapping[str, Array]

    @classmethod
    def read(cls, folder: Path) -> "Case":
        """Read a case's folder."""
        with np.load(folder / "arrays.npz") as arrays:
            return cls(**json.loads((folder / "case.json").read_text()), folder=folder, arrays=dict(arrays))

    @property
    def initial(self) -> dict[str, Array]:
        """Copies of the initial states, which are not zero in a recurrent case."""
        return {name: self.arrays[f"initial.{name}"].copy() for name in self.states}

    @property
    def fixed(self) -> dict[str, Array]:
        """The further inputs as arrays."""
        return {name: np.array(value, np.int64) for name, value in self.constant.items()}

    def weights(self, layer: int) -> tuple[Array, Array, Array, Array]:
        """W [gates * H, inputs], R [gates * H, H], and both biases of a layer, in PyTorch's order of gates."""
        kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        w, r, b, c = (self.arrays[f"{kind}_l{layer}"] for kind in kinds)
        return w, r, b, c


class Step(Protocol):
    """A peer's open model for one frame; the states go in and come out through Python at each call."""

    inner: Callable[[], object] | None  # the bare call, without copying arrays in and out, where it can be timed alone

    def reset(self) -> None:
        """Go back to the case's initial states."""
        ...

    def step(self, frame: Array) -> Array:
        """Take a frame, return a copy of the output, and keep the states for the next call."""
        ...


def frames_of(case: Case) -> list[Array]:
    """Return the frames in the shape that ``step.onnx`` takes, each contiguous."""
    return [np.ascontiguousarray(frame) for frame in case.arrays["x"]]


def pruned(case: Case, density: float = 1 / 3) -> dict[str, Array]:
    """Return a recurrent case's matrices with random blocks of 16 outputs by 4 inputs set to zero.

    A block lies within one gate. ``density`` is the share of blocks that stay.
    """
    found = {}
    for name in (f"weight_{kind}_l{layer}" for layer in range(case.layers) for kind in ("ih", "hh")):
        matrix = case.arrays[name]
        rows, columns = matrix.shape
        assert (case.hidden % BLOCK[0], columns % BLOCK[1]) == (0, 0), (case.hidden, columns)
        blocks = rows // BLOCK[0] * (columns // BLOCK[1])
        mask = np.zeros(blocks, np.float32)
        mask[np.random.default_rng(blocks).permutation(blocks)[: round(density * blocks)]] = 1
        found[name] = matrix * np.kron(mask.reshape(rows // BLOCK[0], -1), np.ones(BLOCK, np.float32))
    return found


def copied(case: Case, name: str, folder: Path) -> Path:
    """Copy one of the case's files to where the peer keeps its own, so that its size is that of the peer's file."""
    target = folder / name
    target.write_bytes((case.folder / name).read_bytes())
    return target


def first_line(error: BaseException | str) -> str:
    """Return the type and the first line of an error that says something, without colours, for one cell of a table."""
    text = str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    line = lines[0] if lines else "no message"
    if isinstance(error, RefusedError | str):
        return line[:200]
    return f"{type(error).__name__}: {line}"[:200]
