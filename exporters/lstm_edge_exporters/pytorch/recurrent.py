"""A recurrent layer as NumPy values: sizes, cell kind and weights, independent of its source.

Letters: I input features, H hidden (cell) size, P projection size (0 = none), D directions, G gates (4 for LSTM, 3 for
GRU, 1 for RNN). Gates are stacked in PyTorch's order: i f g o, or r z n. A layer of our own describes itself through a
method ``describe_recurrence()``; this module knows no layer but PyTorch's by name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from lstm_edge_runtime.errors import CaptureError

if TYPE_CHECKING:
    import torch

__all__ = [
    "GATES",
    "Activation",
    "Cell",
    "Direction",
    "Peephole",
    "Recurrence",
    "RecurrentLayer",
    "StepLayer",
    "describe",
    "read_lstm",
]

Float32 = npt.NDArray[np.float32]
Cell = Literal["lstm", "gru", "rnn", "step"]
Activation = Literal["tanh", "relu"]
Peephole = Literal["none", "diagonal", "full"]
GATES: dict[Cell, int] = {"lstm": 4, "gru": 3, "rnn": 1}


@dataclass(frozen=True, kw_only=True, eq=False)
class Direction:
    """The weights of one direction of one layer, float32, gates in the order i f g o (LSTM) or r z n (GRU).

    Attributes:
        w_x: [G*H, I], on the layer's input.
        w_h: [G*H, P] with a projection, else [G*H, H], on the previous output.
        b_x: [G*H], added to the input's part.
        b_h: [G*H], added to the recurrent part. Both biases are always there: zeros where a module has none.
        peephole_diagonal: [3H] in the order i f o (i and f see the old cell state, o the new one), or None.
        peephole_full: [4H, H] (i, f, g see the old cell state, o the new one), or None.
        projection: [P, H], from ``o * tanh(c)`` to the output, or None.
    """

    w_x: Float32
    w_h: Float32
    b_x: Float32
    b_h: Float32
    peephole_diagonal: Float32 | None = None
    peephole_full: Float32 | None = None
    projection: Float32 | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class RecurrentLayer:
    """One layer of a stack: sizes in features, and one (forward) or two (forward, reverse) directions.

    ``reset_after`` is for GRU: the reset gate acts on the recurrent product (True: PyTorch, Keras's default), or on h
    before it (False: Cho et al. 2014). ``activation`` is for RNN: h' = activation(W x + R h + b). A GRU and an RNN have
    neither peepholes nor projection.

    Raises:
        CaptureError: an array is missing, superfluous, or has another dtype or shape than the sizes say.
    """

    input_size: int
    hidden_size: int
    projection_size: int = 0
    peephole: Peephole = "none"
    directions: tuple[Direction, ...]
    cell: Cell = "lstm"
    reset_after: bool = True
    activation: Activation = "tanh"

    def __post_init__(self) -> None:
        if len(self.directions) not in (1, 2):
            raise CaptureError(f"recurrent layer: got {len(self.directions)} directions, expected 1 or 2")
        if self.cell != "lstm" and (self.peephole != "none" or self.projection_size):
            article = "a GRU" if self.cell == "gru" else "an RNN"
            raise CaptureError(f"recurrent layer: {article} has neither peepholes nor a projection")
        if self.activation not in ("tanh", "relu") or (self.activation != "tanh" and self.cell != "rnn"):
            raise CaptureError(
                f"recurrent layer: activation of cell {self.cell!r} is {self.activation!r}, expected 'tanh', or 'relu' "
                "of an RNN"
            )
        expected = self._expected_shapes()
        for index, direction in enumerate(self.directions):
            for name, shape in expected.items():
                _check_array(f"directions[{index}].{name}", getattr(direction, name), shape)

    @property
    def output_size(self) -> int:
        """Features of one direction's output and state h: P with a projection, else H."""
        return self.projection_size or self.hidden_size

    @property
    def state_sizes(self) -> dict[Literal["h", "c"], int]:
        """Features of each state of one direction: h, and c for LSTM."""
        if self.cell != "lstm":
            return {"h": self.output_size}
        return {"h": self.output_size, "c": self.hidden_size}

    def _expected_shapes(self) -> dict[str, tuple[int, ...] | None]:
        H, rows = self.hidden_size, GATES[self.cell] * self.hidden_size
        return {
            "w_x": (rows, self.input_size),
            "w_h": (rows, self.output_size),
            "b_x": (rows,),
            "b_h": (rows,),
            "peephole_diagonal": (3 * H,) if self.peephole == "diagonal" else None,
            "peephole_full": (4 * H, H) if self.peephole == "full" else None,
            "projection": (self.projection_size, H) if self.projection_size else None,
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class StepLayer(RecurrentLayer):
    """A cell of the user's own equations: one state ``h`` of ``hidden_size`` numbers a row; no weights are known.

    The module that describes itself so has ``shaped``, ``split``, ``join``, ``one`` and ``step``, as the steps of
    ``lstm_edge.Recurrent`` have.
    """

    directions: tuple[Direction, ...] = ()
    cell: Cell = "step"

    def __post_init__(self) -> None:
        none = np.zeros(0, np.float32)
        object.__setattr__(self, "directions", (Direction(w_x=none, w_h=none, b_x=none, b_h=none),))


@dataclass(frozen=True, kw_only=True, eq=False)
class Recurrence:
    """A stack of recurrent layers as one module runs it; ``batch_first`` says that its input is [batch, time, I].

    ``single_step`` says that a call is one step, as of ``nn.LSTMCell``: [batch, I] in, the new state out.

    Raises:
        CaptureError: there is no layer, the layers' cells differ, or a layer's input is not the width of the output
            below it.
    """

    layers: tuple[RecurrentLayer, ...]
    batch_first: bool = False
    single_step: bool = False

    def __post_init__(self) -> None:
        if not self.layers:
            raise CaptureError("recurrence: got no layers, expected at least one")
        if len({layer.cell for layer in self.layers}) > 1:
            cells = ", ".join(sorted({layer.cell for layer in self.layers}))
            raise CaptureError(
                f"recurrence: the layers have different cells ({cells}): describe each as its own module"
            )
        for index, (below, above) in enumerate(zip(self.layers, self.layers[1:], strict=False), start=1):
            width = below.output_size * len(below.directions)
            if above.input_size != width:
                raise CaptureError(
                    f"recurrence: layers[{index}].input_size is {above.input_size}, "
                    f"expected {width}, the output width of the layer below"
                )


def describe(module: "torch.nn.Module", *, called: bool = True) -> Recurrence | None:
    """Say what recurrence a module is, or None when it is not a recurrent layer.

    A module with a method ``describe_recurrence() -> Recurrence`` describes itself; ``nn.LSTM``, ``nn.GRU``, ``nn.RNN``
    and their cells are read here.

    Args:
        module: any module.
        called: forward has run, so all weights are there. Otherwise one that a wrapper makes in forward reads as zeros.

    Raises:
        CaptureError: a recurrent layer of a kind that this version does not export, a subclass of one of these
            with its own forward and no ``describe_recurrence``, or weights that are not float32.
    """
    from torch import nn

    own_description = getattr(module, "describe_recurrence", None)
    if callable(own_description):
        recurrence = _described(module, own_description())
        if isinstance(recurrence.layers[0], StepLayer):
            _check_step(module)
        return recurrence
    readers: dict[type[nn.Module], Callable[[Any], Recurrence]] = {
        nn.LSTM: lambda lstm: _read_stack(lstm, "lstm", called=called),
        nn.GRU: lambda gru: _read_stack(gru, "gru", called=called),
        nn.LSTMCell: lambda cell: _read_cell(cell, "lstm", called=called),
        nn.GRUCell: lambda cell: _read_cell(cell, "gru", called=called),
        nn.RNN: lambda rnn: _read_stack(rnn, "rnn", called=called),
        nn.RNNCell: lambda cell: _read_cell(cell, "rnn", called=called),
    }
    name = f"{type(module).__module__}.{type(module).__qualname__}"
    for kind, read in readers.items():
        if isinstance(module, kind):
            if type(module).forward is not kind.forward:
                raise CaptureError(
                    f"{name} changes nn.{kind.__name__}'s forward, so its equations are unknown: give it a method "
                    f"describe_recurrence(), or use nn.{kind.__name__} or lstm_edge.LSTM"
                )
            return read(module)
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        raise CaptureError(
            f"{name} is a recurrent layer of a kind that this version does not export: use nn.LSTM, nn.GRU, nn.RNN or "
            "lstm_edge.LSTM"
        )
    return None


def read_lstm(module: "torch.nn.LSTM", *, peephole: Peephole = "none") -> Recurrence:
    """Read the weights of a module by ``nn.LSTM``'s names, peepholes by ``weight_ch_l{k}[_reverse]``.

    Args:
        module: an ``nn.LSTM`` or a subclass; ``bias=False`` reads as zeros.
        peephole: which peepholes the module has: ``weight_ch`` is [3H] (i f o) or [4H, H] (i f g o).

    Raises:
        CaptureError: a weight is not float32 or lacks the shape that the module's sizes say.
    """
    return _read_stack(module, "lstm", peephole)


def _read_stack(
    module: "torch.nn.RNNBase", cell: Cell, peephole: Peephole = "none", *, called: bool = True
) -> Recurrence:
    suffixes = ("", "_reverse") if module.bidirectional else ("",)
    widths = [module.input_size] + [(module.proj_size or module.hidden_size) * len(suffixes)] * (module.num_layers - 1)
    layers = tuple(
        RecurrentLayer(
            input_size=width,
            hidden_size=module.hidden_size,
            projection_size=module.proj_size,
            peephole=peephole,
            directions=tuple(
                _read_direction(module, f"_l{k}{suffix}", cell, width, peephole, called=called) for suffix in suffixes
            ),
            cell=cell,
            activation=_activation(module, cell),
        )
        for k, width in enumerate(widths)
    )
    return Recurrence(layers=layers, batch_first=module.batch_first)


def _read_cell(
    module: "torch.nn.LSTMCell | torch.nn.GRUCell | torch.nn.RNNCell", cell: Cell, *, called: bool
) -> Recurrence:
    layer = RecurrentLayer(
        input_size=module.input_size,
        hidden_size=module.hidden_size,
        directions=(_read_direction(module, "", cell, module.input_size, "none", called=called),),
        cell=cell,
        activation=_activation(module, cell),
    )
    return Recurrence(layers=(layer,), single_step=True)


def _activation(module: Any, cell: Cell) -> Activation:
    # As a string: RecurrentLayer refuses one that it does not know.
    return module.nonlinearity if cell == "rnn" else "tanh"


def _read_direction(module: Any, suffix: str, cell: Cell, width: int, peephole: Peephole, *, called: bool) -> Direction:
    H = module.hidden_size
    rows, projected = GATES[cell] * H, getattr(module, "proj_size", 0)
    zeros = np.zeros(rows, dtype=np.float32)

    def read(name: str, *shape: int) -> Float32:
        return _read(module, f"{name}{suffix}", None if called else shape)

    peephole_shape = (3 * H,) if peephole == "diagonal" else (4 * H, H)
    peepholes = None if peephole == "none" else read("weight_ch", *peephole_shape)
    return Direction(
        w_x=read("weight_ih", rows, width),
        w_h=read("weight_hh", rows, projected or H),
        b_x=read("bias_ih", rows) if module.bias else zeros,
        b_h=read("bias_hh", rows) if module.bias else zeros,
        peephole_diagonal=peepholes if peephole == "diagonal" else None,
        peephole_full=peepholes if peephole == "full" else None,
        projection=read("weight_hr", projected, H) if projected else None,
    )


def _read(module: "torch.nn.Module", name: str, absent: tuple[int, ...] | None) -> Float32:
    import torch

    # By attribute and not from the state dict: a parametrized weight (weight norm, pruning) is computed there.
    value = getattr(module, name, None)
    if value is None and absent is not None:
        return np.zeros(absent, np.float32)
    if not isinstance(value, torch.Tensor):
        raise CaptureError(
            f"{type(module).__name__}.{name} is {type(value).__name__}, expected a tensor, also after forward has run"
        )
    if value.dtype != torch.float32:
        raise CaptureError(
            f"{name} is {value.dtype}, expected torch.float32: call .float() on the module before export"
        )
    # A copy, so that further training of the module does not change the description.
    return np.array(value.detach().cpu().numpy(), dtype=np.float32)


def _described(module: "torch.nn.Module", value: Any) -> Recurrence:
    if not isinstance(value, Recurrence):
        raise CaptureError(
            f"{type(module).__qualname__}.describe_recurrence() returned {type(value).__name__}, expected Recurrence"
        )
    return value


def _check_step(module: "torch.nn.Module") -> None:
    for path, child in module.named_modules():
        if child is not module and describe(child) is not None:
            raise CaptureError(
                f"a step of lstm_edge.Recurrent contains a recurrent layer ({path}: {type(child).__qualname__}), whose "
                "state would be hidden in it: write its equations into the step, or use the layer beside it"
            )


def _check_array(name: str, value: Float32 | None, shape: tuple[int, ...] | None) -> None:
    got = "None" if value is None else f"{value.dtype} {value.shape}"
    expected = "None" if shape is None else f"float32 {shape}"
    if got != expected:
        raise CaptureError(f"recurrent layer: {name} is {got}, expected {expected}")
