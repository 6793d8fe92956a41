"""LSTM, GRU, SimpleRNN and Bidirectional of a Keras file. Keras stores [features, gates * H]: gates i f g o, or z r n.

Letters: B batch, T time, H hidden size, D directions.
"""

from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lstm_edge_exporters.keras.archive import Part
from lstm_edge_exporters.keras.config import wrapped
from lstm_edge_exporters.keras.options import Options
from lstm_edge_exporters.keras.recurrent import RecurrentCore, run_masked
from lstm_edge_exporters.keras.shapes import Built, Source
from lstm_edge_exporters.keras.values import Arguments, Value, leaves
from lstm_edge_exporters.keras.windows import not_empty
from lstm_edge_exporters.pytorch.recurrent import GATES, Activation, Cell, Direction, RecurrentLayer

__all__ = ["build_bidirectional", "build_recurrent"]

Array = NDArray[np.float32]
Merge = Literal["concat", "sum", "mul", "ave"] | None


@dataclass(frozen=True, kw_only=True)
class _RunRecurrent:
    """A layer in one direction; ``backwards`` is go_backwards: outputs stay in the order of computation."""

    sequences: bool
    states: bool
    backwards: bool
    zero_masked: bool

    def __call__(self, module: nn.Module, given: Arguments) -> tuple[Value, ...]:
        """Call the layer."""
        x, mask = _steps(module, given), given.own_mask
        if self.backwards:
            x, mask = x.flip(1), None if mask is None else mask.flip(1)
        initial = _initial(given, directions=1)
        result = run_masked(module, x, mask, zero_masked=self.zero_masked, initial=initial)
        if self.sequences:
            # Keras hands the mask on as it came, also where it reversed the steps.
            first = Value(tensor=result.outputs, mask=given.first_mask)
        else:
            # The state and not the last output: a chunk's answer then continues the one before it.
            first = Value(tensor=_last(result.states[0][0], mask, self.zero_masked, initial))
        whole = initial is None
        states = [Value(tensor=state[0], state=state if whole else None) for state in result.states]
        return (first, *(states if self.states else ()))


@dataclass(frozen=True, kw_only=True)
class _RunBidirectional:
    """Both directions as one recurrent layer; ``merge`` as Keras's merge_mode. Masked steps give zeros."""

    sequences: bool
    states: bool
    merge: Merge

    def __call__(self, module: nn.Module, given: Arguments) -> tuple[Value, ...]:
        """Call the layer."""
        initial = _initial(given, directions=2)
        result = run_masked(module, _steps(module, given), given.own_mask, zero_masked=True, initial=initial)
        if self.sequences:
            forward, backward = result.outputs.chunk(2, dim=2)
            mask = given.first_mask
        else:
            forward, backward = (_last(h, given.own_mask, False, initial) for h in result.states[0])
            mask = None
        merged = self._merged(forward, backward)
        states = [state[side] for side in (0, 1) for state in result.states] if self.states else []
        return (*(Value(tensor=y, mask=mask) for y in merged), *(Value(tensor=state) for state in states))

    def _merged(self, forward: Tensor, backward: Tensor) -> tuple[Tensor, ...]:
        if self.merge == "concat":
            return (torch.cat([forward, backward], dim=-1),)
        if self.merge == "sum":
            return (forward + backward,)
        if self.merge == "mul":
            return (forward * backward,)
        if self.merge == "ave":
            return ((forward + backward) / 2,)
        return forward, backward


def _sequence(given: Arguments) -> Value:
    """Return the sequence: Keras 2 lists the initial states behind it."""
    found: Value = next(leaves(given.first))
    return found


def _steps(module: nn.Module, given: Arguments) -> Tensor:
    """Return the steps [B, T, F]; let the graph refuse none, for which onnxruntime makes an answer up or ends."""
    x = _sequence(given).tensor
    return not_empty(x, 1, "valid") if getattr(module, "may_be_empty", False) and x.shape[1] != 0 else x


def _states(given: Arguments) -> list[Value]:
    return [*leaves(given.named.get("initial_state", [])), *list(leaves(given.first))[1:]]


def _initial(given: Arguments, *, directions: int) -> tuple[Tensor, ...] | None:
    """Return the initial states that a call gets, each [D, B, H], or None: forward's first, then backward's."""
    found = [value.state if value.state is not None else value.tensor.unsqueeze(0) for value in _states(given)]
    if not found:
        return None
    if directions == 1:
        return tuple(found)
    half = len(found) // 2
    return tuple(torch.cat(pair) for pair in zip(found[:half], found[half:], strict=True))


def _last(h: Tensor, mask: Tensor | None, zero_masked: bool, initial: tuple[Tensor, ...] | None) -> Tensor:
    """Return the last output for the last state h [B, H]."""
    if mask is None:
        return h
    if zero_masked:
        return torch.where(mask[:, -1:], h, 0.0)
    # Of a row in which every step is masked, Keras returns zeros, and the state stays the initial one.
    return h if initial is None else torch.where(mask.any(dim=1, keepdim=True), h, 0.0)


class _Settings:
    """What a recurrent layer's options say; the options are all read when it is made."""

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
        self.activation: Activation = "tanh"
        if cell == "rnn":
            self.activation = cast(Activation, options.choice("activation", ("tanh", "relu"), "tanh"))
        else:
            options.only("activation", "tanh")
            options.only("recurrent_activation", "sigmoid")
        options.only("time_major", False)
        for key in ("dropout", "recurrent_dropout"):
            options.number(key, 0.0)
        options.finish()

    def part(self, path: str, features: int, legacy: str = "") -> Part:
        """Return the arrays that Keras stores for it."""
        rows = GATES[self.cell] * self.units
        arrays: list[tuple[str, tuple[int, ...]]] = [
            ("kernel", (features, rows)),
            ("recurrent_kernel", (self.units, rows)),
        ]
        if self.bias:
            arrays.append(("bias", (2, rows) if self.cell == "gru" and self.reset_after else (rows,)))
        return Part(path=path, arrays=tuple(arrays), legacy=legacy)

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
            activation=self.activation,
        )

    def notes(self, name: str) -> tuple[str, ...]:
        """Return the notes for the card."""
        if not self.stateful:
            return ()
        return (f"Keras keeps the state of {name} from call to call (stateful): feed its state outputs back in",)


def build_recurrent(options: Options, source: Source) -> Built:
    """Build an LSTM, a GRU or a SimpleRNN."""
    settings = _Settings(options, _cell(options, options.kind))
    features = _features(options, source)
    inside = _check_initial(options, source, settings, directions=1)
    weights = source.read([settings.part("cell", features)])[0]
    states = ("_h", "_c")[: 2 if settings.cell == "lstm" else 1] if settings.states else ()
    module = RecurrentCore(settings.layer(features, (settings.direction(weights),)))
    module.starts_inside = inside
    call = _RunRecurrent(
        sequences=settings.sequences,
        states=settings.states,
        backwards=settings.backwards,
        zero_masked=settings.zero_masked,
    )
    return Built(
        module=module,
        call=call,
        endings=("", *states),
        notes=settings.notes(options.name),
    )


def build_bidirectional(options: Options, source: Source) -> Built:
    """Build both directions as one layer; they must be alike except for the direction."""
    merge = cast(Merge, options.choice("merge_mode", ("concat", "sum", "mul", "ave", None)))
    forward = wrapped(options, "layer")
    sides = [_side(options, forward)]
    own = options.get("backward_layer", None) is not None
    if own:
        sides.append(_side(options, wrapped(options, "backward_layer")))
        if (sides[0].backwards, sides[1].backwards) != (False, True):
            raise options.refuse("its layers do not run forward and backward, in this order")
    else:
        if sides[0].backwards:
            raise options.refuse("its layer has go_backwards, expected one that runs forward")
        sides.append(sides[0])
    options.finish()
    keys = ("cell", "units", "activation", "reset_after", "sequences", "states")
    for key in keys:
        if getattr(sides[0], key) != getattr(sides[1], key):
            raise options.refuse(f"its two layers differ ({key}), but both directions are exported as one layer")
    features, first = _features(options, source), sides[0]
    inside = _check_initial(options, source, first, directions=2)
    names = ("forward", "backward")
    # In a legacy file both have arrays of the same names; Keras calls the layers that it makes forward_ and backward_.
    backward_name = sides[1].options.name
    legacy = ("forward_", "backward_" if not own or backward_name.startswith("backward_") else "")
    parts = [
        side.part(f"{name}_layer/cell", features, start) for side, name, start in zip(sides, names, legacy, strict=True)
    ]
    directions = tuple(side.direction(arrays) for side, arrays in zip(sides, source.read(parts), strict=True))
    kinds = ("_h", "_c")[: 2 if first.cell == "lstm" else 1] if first.states else ()
    states = tuple(f"_{side}{kind}" for side in names for kind in kinds)
    outputs = ("_forward", "_backward") if merge is None else ("",)
    module = RecurrentCore(first.layer(features, directions))
    module.starts_inside = inside
    return Built(
        module=module,
        call=_RunBidirectional(sequences=first.sequences, states=first.states, merge=merge),
        endings=(*outputs, *states),
        notes=first.notes(options.name),
    )


def _features(options: Options, source: Source) -> int:
    """Return the features of the sequence that the layer takes; refuse a mask of another form than [B, T]."""
    mask = source.lanes[0].own_mask
    if mask is not None and mask.ndim != 2:
        raise options.refuse(f"its mask has {mask.ndim} axes, expected [batch, time]")
    lanes = tuple(Arguments(named={}, mask=None, first=_sequence(lane)) for lane in source.lanes)
    return source.inside(source.place, lanes).over_time(options)


def _check_initial(options: Options, source: Source, settings: "_Settings", *, directions: int) -> bool:
    """Check the initial states that the layer gets; return whether it gets any."""
    given = source.lanes[0]
    found = _states(given)
    if not found:
        return False
    expected = directions * (2 if settings.cell == "lstm" else 1)
    if len(found) != expected or not all(isinstance(value, Value) for value in found):
        raise options.refuse(f"it is called with {len(found)} initial states, expected {expected}")
    for value in found:
        shape = tuple(value.tensor.shape)
        if len(shape) != 2 or shape[1] != settings.units:
            raise options.refuse(
                f"its initial state is of shape [batch, {', '.join(map(str, shape[1:]))}], expected "
                f"[batch, {settings.units}]"
            )
    if settings.stateful:
        raise options.refuse("it is stateful and gets an initial state: use one of the two")
    if source.file.before_3 and _sequence(given).mask is not None:
        raise options.refuse(
            "it gets a mask and an initial state: Keras 2 looks at that mask and Keras 3 does not; save the model "
            "again with Keras 3, and give the layer its mask in the call"
        )
    return True


def _side(options: Options, inner: Options) -> _Settings:
    return _Settings(inner, _cell(options, inner.kind))


def _cell(options: Options, class_name: str) -> Cell:
    cells: dict[str, Cell] = {"LSTM": "lstm", "GRU": "gru", "SimpleRNN": "rnn"}
    if class_name not in cells:
        raise options.refuse(f"it wraps a layer of class {class_name}, expected LSTM, GRU or SimpleRNN")
    return cells[class_name]
