"""LSTM, GRU and Bidirectional of a Keras file. Keras stores [features, gates * H]: gates i f g o, or z r n."""

from dataclasses import replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from lstm_edge_exporters.keras.archive import Part
from lstm_edge_exporters.keras.calls import Merge, RunBidirectional, RunRecurrent
from lstm_edge_exporters.keras.config import wrapped
from lstm_edge_exporters.keras.options import Options
from lstm_edge_exporters.keras.recurrent import RecurrentCore
from lstm_edge_exporters.keras.shapes import Built, Shape, Source
from lstm_edge_exporters.pytorch.recurrent import Cell, Direction, RecurrentLayer

__all__ = ["build_bidirectional", "build_recurrent"]

Array = NDArray[np.float32]


class _Settings:
    """What an LSTM's or a GRU's options say; the options are all read when it is made."""

    def __init__(self, options: Options, cell: Cell) -> None:
        self.options = options
        self.cell: Cell = cell
        self.units = options.size("units")
        self.bias = options.flag("use_bias", True)
        self.reset_after = options.flag("reset_after") if cell == "gru" else True
        self.sequences = options.flag("return_sequences", False)
        self.states = options.flag("return_state", False)
        self.backwards = options.flag("go_backwards", False)
        self.stateful = options.flag("stateful", False)
        self.zero_masked = options.flag("zero_output_for_mask", False)
        # The recurrent operators of ONNX runtimes have these two functions; dropout acts in training only.
        options.only("activation", "tanh")
        options.only("recurrent_activation", "sigmoid")
        options.only("time_major", False)
        for key in ("dropout", "recurrent_dropout"):
            options.number(key, 0.0)
        options.finish()

    def part(self, path: str, features: int) -> Part:
        """Return the arrays that Keras stores for it."""
        rows = {"lstm": 4, "gru": 3}[self.cell] * self.units
        arrays: list[tuple[str, tuple[int, ...]]] = [
            ("kernel", (features, rows)),
            ("recurrent_kernel", (self.units, rows)),
        ]
        if self.bias:
            arrays.append(("bias", (2, rows) if self.cell == "gru" and self.reset_after else (rows,)))
        return Part(path=path, arrays=tuple(arrays))

    def direction(self, arrays: list[Array]) -> Direction:
        """Turn Keras's arrays into ours: transposed, gates in PyTorch's order."""
        rows = arrays[0].shape[1]
        zeros = np.zeros(rows, np.float32)
        b_x, b_h = zeros, zeros
        if self.bias:
            b_x, b_h = (arrays[2][0], arrays[2][1]) if arrays[2].ndim == 2 else (arrays[2], zeros)
        return Direction(
            w_x=self._ours(arrays[0].T), w_h=self._ours(arrays[1].T), b_x=self._ours(b_x), b_h=self._ours(b_h)
        )

    def _ours(self, array: Array) -> Array:
        if self.cell == "gru":
            z, r, n = np.split(array, 3)
            array = np.concatenate([r, z, n])
        return np.ascontiguousarray(array)

    def layer(self, features: int, directions: tuple[Direction, ...]) -> RecurrentLayer:
        """Return the layer for the recurrent operator."""
        return RecurrentLayer(
            input_size=features,
            hidden_size=self.units,
            directions=directions,
            cell=self.cell,
            reset_after=self.reset_after,
        )

    def notes(self, name: str) -> tuple[str, ...]:
        """Return the notes for the card."""
        if not self.stateful:
            return ()
        return (f"Keras keeps the state of {name} from call to call (stateful): feed its state outputs back in",)


def build_recurrent(options: Options, source: Source) -> Built:
    """Build an LSTM or a GRU."""
    settings = _Settings(options, _cell(options, options.class_name))
    features = source.over_time(options)
    weights = source.read([settings.part("cell", features)])[0]
    shape = _output_shape(source.shape, settings, settings.units)
    states = ("_h", "_c")[: 2 if settings.cell == "lstm" else 1] if settings.states else ()
    return Built(
        module=RecurrentCore(settings.layer(features, (settings.direction(weights),))),
        call=RunRecurrent(
            sequences=settings.sequences,
            states=settings.states,
            backwards=settings.backwards,
            zero_masked=settings.zero_masked,
        ),
        shapes=(shape, *(Shape(features=settings.units, time=False) for _ in states)),
        endings=("", *states),
        notes=settings.notes(options.name),
    )


def build_bidirectional(options: Options, source: Source) -> Built:
    """Build both directions as one layer; they must be alike except for the direction."""
    merge = cast(Merge, options.choice("merge_mode", ("concat", "sum", "mul", "ave", None)))
    forward = wrapped(options, "layer")
    sides = [_side(options, forward)]
    if options.get("backward_layer", None) is not None:
        sides.append(_side(options, wrapped(options, "backward_layer")))
        if (sides[0].backwards, sides[1].backwards) != (False, True):
            raise options.refuse("its layers do not run forward and backward, in this order")
    else:
        sides.append(sides[0])
    options.finish()
    keys = ("cell", "units", "reset_after", "sequences", "states")
    for key in keys:
        if getattr(sides[0], key) != getattr(sides[1], key):
            raise options.refuse(f"its two layers differ ({key}), but both directions are exported as one layer")
    features, first = source.over_time(options), sides[0]
    parts = [
        side.part(f"{name}_layer/cell", features) for side, name in zip(sides, ("forward", "backward"), strict=True)
    ]
    directions = tuple(side.direction(arrays) for side, arrays in zip(sides, source.read(parts), strict=True))
    shape = _output_shape(source.shape, first, first.units * (2 if merge == "concat" else 1))
    kinds = ("_h", "_c")[: 2 if first.cell == "lstm" else 1] if first.states else ()
    states = tuple(f"_{side}{kind}" for side in ("forward", "backward") for kind in kinds)
    outputs = ("_forward", "_backward") if merge is None else ("",)
    return Built(
        module=RecurrentCore(first.layer(features, directions)),
        call=RunBidirectional(sequences=first.sequences, states=first.states, merge=merge),
        shapes=(*(shape for _ in outputs), *(Shape(features=first.units, time=False) for _ in states)),
        endings=(*outputs, *states),
        notes=first.notes(options.name),
    )


def _side(options: Options, inner: Options) -> _Settings:
    return _Settings(inner, _cell(options, inner.class_name.removeprefix(f"{options.class_name} of ")))


def _cell(options: Options, class_name: str) -> Cell:
    if class_name not in ("LSTM", "GRU"):
        raise options.refuse(f"it wraps a layer of class {class_name}, expected LSTM or GRU")
    return "lstm" if class_name == "LSTM" else "gru"


def _output_shape(shape: Shape, settings: _Settings, features: int) -> Shape:
    if settings.sequences:
        return replace(shape, features=features)
    return Shape(features=features, time=False)
