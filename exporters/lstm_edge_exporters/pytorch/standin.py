"""Stand-ins: modules that replace recurrent layers during export, one ONNX call per layer and direction.

A cell that ONNX's ``LSTM``, ``GRU`` or ``RNN`` expresses becomes that operator; any other becomes a call of its
``lstm_edge::`` function (docs/operators.md). Weights are parameters of the stand-in, so that they come out as
initializers.
"""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lstm_edge_exporters.functions.names import DOMAIN, CellVariant
from lstm_edge_exporters.gates import (
    GRU_ONNX,
    GRU_PYTORCH,
    LSTM_ONNX,
    LSTM_PYTORCH,
    PEEPHOLE_ONNX,
    PEEPHOLE_PYTORCH,
    RNN,
    reorder_gates,
)
from lstm_edge_exporters.pytorch.calls import Pass, state_parts
from lstm_edge_exporters.pytorch.packing import Padded
from lstm_edge_exporters.pytorch.recurrent import Direction, RecurrentLayer, StepLayer
from lstm_edge_exporters.pytorch.steps import scan_steps
from lstm_edge_runtime.errors import CaptureError

__all__ = ["StandIn", "fits_onnx", "operator_of", "operator_weights"]

Float = NDArray[np.float32]
States = list[tuple[Tensor, ...]]


def fits_onnx(layer: RecurrentLayer) -> bool:
    """Say whether ONNX's ``LSTM``, ``GRU`` or ``RNN`` expresses the cell: no projection, no full-matrix peephole."""
    return layer.peephole != "full" and not layer.projection_size


def operator_of(layer: RecurrentLayer, *, ragged: bool) -> str:
    """Return the operator that carries the layer in float32: ``LSTM``, ``GRU``, ``RNN`` or ``lstm_edge::...``."""
    if isinstance(layer, StepLayer):
        return "Scan"
    if fits_onnx(layer):
        return layer.cell.upper()
    variant = CellVariant(peephole=layer.peephole, projected=bool(layer.projection_size), ragged=ragged)
    return f"{DOMAIN}::{variant.name}"


def onnx_weights(layer: RecurrentLayer) -> dict[str, Float]:
    """Weights as ONNX's ``LSTM`` (gates i o f c), ``GRU`` (z r h) and ``RNN`` (one gate) take them.

    W [D, G*H, I], R [D, G*H, H], B [D, 2*G*H], and for diagonal peepholes P [D, 3H] (i o f).
    """
    orders = {"lstm": (LSTM_PYTORCH, LSTM_ONNX), "gru": (GRU_PYTORCH, GRU_ONNX), "rnn": (RNN, RNN)}
    src, dst = orders[layer.cell]

    def gates(array: Float) -> Float:
        return reorder_gates(array, src=src, dst=dst)

    arrays = {
        "W": np.stack([gates(side.w_x) for side in layer.directions]),
        "R": np.stack([gates(side.w_h) for side in layer.directions]),
        "B": np.stack([np.concatenate([gates(side.b_x), gates(side.b_h)]) for side in layer.directions]),
    }
    diagonals = [side.peephole_diagonal for side in layer.directions if side.peephole_diagonal is not None]
    if diagonals:
        arrays["P"] = np.stack([reorder_gates(p, src=PEEPHOLE_PYTORCH, dst=PEEPHOLE_ONNX) for p in diagonals])
    return arrays


def operator_weights(side: Direction) -> dict[str, Float]:
    """Weights of one direction as the ``lstm_edge::`` cells take them (docs/operators.md)."""
    arrays = {"w": side.w_x.T, "r": side.w_h.T, "b": side.b_x + side.b_h}
    hidden = side.w_x.shape[0] // 4
    if side.peephole_diagonal is not None:
        arrays["p"] = side.peephole_diagonal.reshape(3, hidden)
    if side.peephole_full is not None:
        arrays["p"], arrays["po"] = side.peephole_full[: 3 * hidden].T, side.peephole_full[3 * hidden :].T
    if side.projection is not None:
        arrays["v"] = side.projection.T
    return {name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}


class _LayerWeights(nn.Module):
    """Holds arrays as parameters; its path in the module tree becomes the initializers' names."""

    def __init__(self, arrays: dict[str, Float]) -> None:
        super().__init__()
        for name, array in arrays.items():
            self.register_parameter(name, nn.Parameter(torch.from_numpy(np.array(array, np.float32)), False))

    def weight(self, name: str) -> Tensor:
        tensor = getattr(self, name)
        assert isinstance(tensor, Tensor)
        return tensor


class StandIn(nn.Module):
    """Takes the place of a recurrent module during export; same call as that, and ``lengths``.

    ``passes`` are the module's passes and ``order`` the pass of each of its calls. Before forward, ``starts`` holds the
    state that each pass starts from, for each layer h [D, B, P] and (LSTM) c [D, B, H], or None where forward's own
    holds; ``row_lengths`` the int64 [B] lengths or None. After it, ``leaving`` holds each pass's final states and
    ``returned`` the tensors that the module's callers got for them.
    """

    def __init__(self, name: str, module: nn.Module, passes: Sequence[Pass], order: Sequence[int]) -> None:
        super().__init__()
        self.name = name
        self.recurrence = passes[0].recurrence
        self.passes, self.order = tuple(passes), tuple(order)
        self.starts: list[States | None] = [None] * len(passes)
        self.row_lengths: Tensor | None = None
        self.own_lengths = False
        # What a caller sees of the state that a call began with; None for zeros.
        self.entering: States | None = None
        self.leaving: list[States] = [[] for _ in passes]
        self.returned: list[tuple[Tensor, ...]] = [() for _ in passes]
        self.calls = 0
        # In a tuple, so that it is not a submodule: its weights are not exported a second time.
        self._original = (module,)
        for index, layer in enumerate(self.recurrence.layers):
            if isinstance(layer, StepLayer):
                # A copy: what torch does to the module that it exports must not reach the caller's.
                steps: Any = copy.deepcopy(module)
                self._steps = (steps,)
                self._modules["step"] = steps.step  # not add_module: the name is the original's, too
                continue
            if fits_onnx(layer):
                self.add_module(str(index), _LayerWeights(onnx_weights(layer)))
                continue
            for suffix, side in zip(("", "_reverse"), layer.directions, strict=False):
                self.add_module(f"{index}{suffix}", _LayerWeights(operator_weights(side)))

    def __getattr__(self, name: str) -> Any:
        """Answer as the original module does: forward may ask for ``hidden_size`` or call ``flatten_parameters()``."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "_original":
                raise
            return getattr(self._original[0], name)

    @property  # type: ignore[misc]  # read-only on purpose: nobody assigns the class of a stand-in
    def __class__(self) -> type:  # pyright: ignore[reportIncompatibleMethodOverride]  # the same
        """The original's: forward may ask whether its layer is an ``nn.LSTM`` or an ``nn.GRU``."""
        original: tuple[nn.Module, ...] = self.__dict__.get("_original", ())
        return type(original[0]) if original else StandIn

    @property
    def original(self) -> nn.Module:
        """The module that the stand-in replaces."""
        return self._original[0]

    def begin(self, rows: Tensor | None, *, own: bool = False) -> None:
        """Get ready for one forward of the whole module.

        Args:
            rows: the lengths of its rows, or None.
            own: forward deals with lengths itself.
        """
        self.calls, self.row_lengths, self.own_lengths = 0, rows, own

    def forward(
        self,
        input: Tensor | Padded,  # noqa: A002 - nn.LSTM's own name for it, which callers may spell out
        hx: Any = None,
        lengths: Tensor | None = None,
    ) -> Any:
        """Emit the layers; shapes as of the replaced module."""
        if self.calls >= len(self.order):
            raise CaptureError(f"{self.name}: forward calls the layer more often during capture than in the trial runs")
        place = self.order[self.calls]
        current, first = self.passes[place], place not in self.order[: self.calls]
        self.calls += 1
        x, rows = self._time_major(input, current, lengths)
        self.entering = self.starts[place] if first else None
        given = state_parts(hx)
        if given and len(given) != len(self.recurrence.layers[0].state_sizes):
            raise CaptureError(
                f"{self.name}: forward gives the layer {len(given)} state tensors in the graph, expected "
                f"{' and '.join(self.recurrence.layers[0].state_sizes)}"
            )
        if self.entering is None and given:
            self.entering = self._split(current.from_module(given))
        states = self.entering or self._zeros(x)
        order = input.order if isinstance(input, Padded) and self.starts[place] is not None else None
        if order is not None and first:
            # The exporter's states are in the order of the inputs, the rows here in forward's own.
            states = _selected(states, order)
        leaving: States = []
        for index, (layer, state) in enumerate(zip(self.recurrence.layers, states, strict=True)):
            run = self._scan if isinstance(layer, StepLayer) else self._onnx if fits_onnx(layer) else self._function
            x, *after = run(index, layer, x, state, rows)
            leaving.append(tuple(after))
        several = len(leaving) > 1
        stacked = [torch.cat(parts) if several else parts[0] for parts in zip(*leaving, strict=True)]
        returned = current.to_module(stacked)
        self.leaving[place], self.returned[place] = leaving, state_parts(returned)
        if order is not None:
            self.leaving[place] = _selected(leaving, order.argsort())
        return returned if self.recurrence.single_step else (self._as_given(x, input, current, rows), returned)

    def _time_major(
        self, given: Tensor | Padded, current: Pass, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Bring the input to [T, B, I] and find the lengths of its rows."""
        if isinstance(given, Padded):
            return given.x, given.lengths
        expected = (1 if self.recurrence.single_step else 2) + current.batched
        if given.ndim != expected:
            raise CaptureError(
                f"{self.name}: the input has {given.ndim} axes during capture, {expected} in the trial runs"
            )
        x = given if current.batched else given.unsqueeze(-2)
        if self.recurrence.single_step:
            # A loop over time becomes one layer later, which then gets the lengths.
            return x.unsqueeze(0), None
        rows = None if self.own_lengths and current.needs_all_steps else current.lengths(self.row_lengths)
        rows = rows if lengths is None else lengths
        return (x.transpose(0, 1) if self.recurrence.batch_first and current.batched else x), rows

    def _as_given(self, y: Tensor, given: Tensor | Padded, current: Pass, rows: Tensor | None) -> Tensor | Padded:
        if isinstance(given, Padded):
            assert rows is not None
            return Padded(y, rows, given.order)
        if not current.batched:
            return y.squeeze(1)
        return y.transpose(0, 1) if self.recurrence.batch_first else y

    def _zeros(self, x: Tensor) -> States:
        return [
            tuple(x.new_zeros(len(layer.directions), x.shape[1], size) for size in layer.state_sizes.values())
            for layer in self.recurrence.layers
        ]

    def _split(self, parts: Sequence[Tensor]) -> States:
        if len(self.recurrence.layers) == 1:
            return [tuple(parts)]
        states, start = [], 0
        for layer in self.recurrence.layers:
            stop = start + len(layer.directions)
            states.append(tuple(part[start:stop] for part in parts))
            start = stop
        return states

    def _scan(
        self, _index: int, _layer: RecurrentLayer, x: Tensor, state: Sequence[Tensor], rows: Tensor | None
    ) -> tuple[Tensor, ...]:
        return scan_steps(self._steps[0], x, state[0], rows)

    def _onnx(
        self, index: int, layer: RecurrentLayer, x: Tensor, state: Sequence[Tensor], rows: Tensor | None
    ) -> tuple[Tensor, ...]:
        weights = self.get_submodule(str(index))
        assert isinstance(weights, _LayerWeights)
        steps, batch, sides, hidden = x.shape[0], x.shape[1], len(layer.directions), layer.hidden_size
        inputs: list[Tensor | None] = [x, *(weights.weight(name) for name in ("W", "R", "B"))]
        inputs += [None if rows is None else rows.to(torch.int32), *state]
        if layer.peephole == "diagonal":
            inputs.append(weights.weight("P"))
        attributes: dict[str, Any] = {"hidden_size": hidden, "direction": "bidirectional" if sides > 1 else "forward"}
        if layer.cell == "gru":
            attributes["linear_before_reset"] = int(layer.reset_after)
        elif layer.cell == "rnn":
            attributes["activations"] = [layer.activation.capitalize()] * sides
        y, *after = torch.onnx.ops.symbolic_multi_out(
            layer.cell.upper(),
            inputs,
            attributes,
            dtypes=(x.dtype,) * (1 + len(state)),
            shapes=((steps, sides, batch, hidden), *[(sides, batch, hidden)] * len(state)),
        )
        if rows is not None:
            # onnxruntime's LSTM gives zeros for a row of length 0 (seen on 1.18 and 1.32); ours keeps the state.
            empty = (rows == 0)[None, :, None]
            after = [torch.where(empty, old, new) for old, new in zip(state, after, strict=True)]
        y = y.squeeze(1) if sides == 1 else y.transpose(1, 2).reshape(steps, batch, sides * hidden)
        return (y, *after)

    def _function(
        self, index: int, layer: RecurrentLayer, x: Tensor, state: Sequence[Tensor], rows: Tensor | None
    ) -> tuple[Tensor, ...]:
        sides = len(layer.directions)
        results = []
        for side in range(sides):
            entering = [part[side : side + 1] for part in state] if sides > 1 else list(state)
            forward = x if side == 0 else _reversed(x, rows)
            y, h, c = self._cell(f"{index}{'_reverse' * side}", layer, forward, entering, rows)
            results.append((y if side == 0 else _reversed(y, rows), h, c))
        if sides == 1:
            return results[0]
        ys, hs, cs = zip(*results, strict=True)
        return torch.cat(ys, dim=-1), torch.cat(hs), torch.cat(cs)

    def _cell(
        self, path: str, layer: RecurrentLayer, x: Tensor, state: Sequence[Tensor], rows: Tensor | None
    ) -> Sequence[Tensor]:
        weights = self.get_submodule(path)
        assert isinstance(weights, _LayerWeights)
        variant = CellVariant(peephole=layer.peephole, projected=bool(layer.projection_size), ragged=rows is not None)
        steps, batch = x.shape[0], x.shape[1]
        inputs = [x, *state, *([] if rows is None else [rows]), *(weights.weight(name) for name in variant.weights)]
        shapes = ((steps, batch, layer.output_size), (1, batch, layer.output_size), (1, batch, layer.hidden_size))
        return torch.onnx.ops.symbolic_multi_out(
            f"{DOMAIN}::{variant.name}", inputs, {}, dtypes=(x.dtype,) * 3, shapes=shapes, version=1
        )


def _selected(states: States, order: Tensor) -> States:
    return [tuple(part.index_select(1, order) for part in parts) for parts in states]


def _reversed(x: Tensor, rows: Tensor | None) -> Tensor:
    """Reverse x [T, B, F] in time; each row up to its length where rows have lengths."""
    if rows is None:
        return x.flip(0)
    return torch.onnx.ops.symbolic(
        "ReverseSequence", (x, rows), {"batch_axis": 1, "time_axis": 0}, dtype=x.dtype, shape=tuple(x.shape)
    )
