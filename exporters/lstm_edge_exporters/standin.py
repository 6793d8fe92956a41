"""Stand-ins: what a recurrent layer is replaced by while a module is exported, one ONNX call a layer and direction.

A cell that ONNX's ``LSTM`` expresses becomes that operator; any other becomes a call of its ``lstm_edge::``
function (docs/operators.md). Weights are buffers, so that they come out as initializers.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lstm_edge_exporters.functions.names import DOMAIN, CellVariant
from lstm_edge_exporters.gates import PEEPHOLE_ONNX, PEEPHOLE_PYTORCH, reorder_gates
from lstm_edge_exporters.recurrent import Direction, Recurrence, RecurrentLayer
from lstm_edge_runtime.errors import CaptureError

__all__ = ["StandIn", "fits_onnx_lstm", "operator_of", "operator_weights"]

Float = NDArray[np.float32]
States = list[tuple[Tensor, Tensor]]


def fits_onnx_lstm(layer: RecurrentLayer) -> bool:
    """Say whether ONNX's ``LSTM`` expresses the cell: no projection, no full-matrix peephole."""
    return layer.peephole != "full" and not layer.projection_size


def operator_of(layer: RecurrentLayer, *, ragged: bool) -> str:
    """Return the operator that carries the layer in float32: ``LSTM`` or ``lstm_edge::...``."""
    if fits_onnx_lstm(layer):
        return "LSTM"
    variant = CellVariant(peephole=layer.peephole, projected=bool(layer.projection_size), ragged=ragged)
    return f"{DOMAIN}::{variant.name}"


def onnx_weights(layer: RecurrentLayer) -> dict[str, Float]:
    """Weights of ONNX's ``LSTM``: W [D, 4H, I], R [D, 4H, H], B [D, 8H] in iofc order, P [D, 3H] in iof order."""
    arrays = {
        "W": np.stack([reorder_gates(side.w_x) for side in layer.directions]),
        "R": np.stack([reorder_gates(side.w_h) for side in layer.directions]),
        "B": np.stack(
            [np.concatenate([reorder_gates(side.b_x), reorder_gates(side.b_h)]) for side in layer.directions]
        ),
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
    """Holds arrays as buffers; its path in the module tree becomes the initializers' names."""

    def __init__(self, arrays: dict[str, Float]) -> None:
        super().__init__()
        for name, array in arrays.items():
            self.register_buffer(name, torch.from_numpy(np.array(array, np.float32)))

    def weight(self, name: str) -> Tensor:
        tensor = getattr(self, name)
        assert isinstance(tensor, Tensor)
        return tensor


class StandIn(nn.Module):
    """Takes the place of a recurrent layer during export; same call as ``nn.LSTM`` plus ``lengths``.

    Before a call, ``entering`` holds the state of each layer (h [D, B, P], c [D, B, H]) or None for zeros, and
    ``row_lengths`` the int64 [B] lengths or None. After it, ``leaving`` holds the new states and ``returned`` the
    stacked h_n and c_n.
    """

    def __init__(self, name: str, recurrence: Recurrence) -> None:
        super().__init__()
        self.name = name
        self.recurrence = recurrence
        self.entering: States | None = None
        self.leaving: States = []
        self.row_lengths: Tensor | None = None
        self.returned: tuple[Tensor, ...] = ()
        self.calls = 0
        for index, layer in enumerate(recurrence.layers):
            if fits_onnx_lstm(layer):
                self.add_module(str(index), _LayerWeights(onnx_weights(layer)))
                continue
            for suffix, side in zip(("", "_reverse"), layer.directions, strict=False):
                self.add_module(f"{index}{suffix}", _LayerWeights(operator_weights(side)))

    def forward(
        self,
        input: Tensor,  # noqa: A002 - nn.LSTM's own name for it, which callers may spell out
        hx: tuple[Tensor, Tensor] | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Emit the layers; shapes as ``nn.LSTM``: input [T, B, I] (or [B, T, I] where batch_first)."""
        self.calls += 1
        if self.calls > 1:
            raise CaptureError(
                f"{self.name}: the layer is called more than once in forward; give each call its own layer"
            )
        if input.ndim != 3:
            raise CaptureError(f"{self.name}: the input has {input.ndim} axes, expected batch, time and features")
        x = input.transpose(0, 1) if self.recurrence.batch_first else input
        rows = self.row_lengths if lengths is None else lengths
        states = self._entering(x, hx)
        self.leaving = []
        for index, (layer, state) in enumerate(zip(self.recurrence.layers, states, strict=True)):
            run = self._onnx_lstm if fits_onnx_lstm(layer) else self._function
            x, h, c = run(index, layer, x, state, rows)
            self.leaving.append((h, c))
        first = self.leaving[0]
        several = len(self.leaving) > 1
        stacked = [torch.cat([state[kind] for state in self.leaving]) if several else first[kind] for kind in (0, 1)]
        self.returned = tuple(stacked)
        return x.transpose(0, 1) if self.recurrence.batch_first else x, (stacked[0], stacked[1])

    def _entering(self, x: Tensor, hx: tuple[Tensor, Tensor] | None) -> States:
        if hx is not None and self.entering is not None:
            raise CaptureError(
                f"{self.name}: forward passes its own initial state to the layer, so the state cannot be made "
                "explicit; remove it from forward, or export with state='hidden'"
            )
        if hx is not None:
            return self._split(hx)
        if self.entering is not None:
            return self.entering
        states = []
        for layer in self.recurrence.layers:
            sides, batch = len(layer.directions), x.shape[1]
            states.append((x.new_zeros(sides, batch, layer.output_size), x.new_zeros(sides, batch, layer.hidden_size)))
        return states

    def _split(self, hx: tuple[Tensor, Tensor]) -> States:
        states, start = [], 0
        for layer in self.recurrence.layers:
            stop = start + len(layer.directions)
            states.append((hx[0][start:stop], hx[1][start:stop]))
            start = stop
        return states

    def _onnx_lstm(
        self, index: int, layer: RecurrentLayer, x: Tensor, state: tuple[Tensor, Tensor], rows: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        weights = self.get_submodule(str(index))
        assert isinstance(weights, _LayerWeights)
        steps, batch, sides, hidden = x.shape[0], x.shape[1], len(layer.directions), layer.hidden_size
        inputs: list[Tensor | None] = [x, *(weights.weight(name) for name in ("W", "R", "B"))]
        inputs += [None if rows is None else rows.to(torch.int32), *state]
        if layer.peephole == "diagonal":
            inputs.append(weights.weight("P"))
        y, h, c = torch.onnx.ops.symbolic_multi_out(
            "LSTM",
            inputs,
            {"hidden_size": hidden, "direction": "forward" if sides == 1 else "bidirectional"},
            dtypes=(x.dtype,) * 3,
            shapes=((steps, sides, batch, hidden), (sides, batch, hidden), (sides, batch, hidden)),
        )
        if rows is not None:
            # onnxruntime's LSTM gives zeros for a row of length 0 (seen on 1.18 and 1.32); ours keeps the state.
            empty = (rows == 0)[None, :, None]
            h, c = torch.where(empty, state[0], h), torch.where(empty, state[1], c)
        y = y.squeeze(1) if sides == 1 else y.transpose(1, 2).reshape(steps, batch, sides * hidden)
        return y, h, c

    def _function(
        self, index: int, layer: RecurrentLayer, x: Tensor, state: tuple[Tensor, Tensor], rows: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
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


def _reversed(x: Tensor, rows: Tensor | None) -> Tensor:
    """Reverse x [T, B, F] in time; each row up to its length where rows have lengths."""
    if rows is None:
        return x.flip(0)
    return torch.onnx.ops.symbolic(
        "ReverseSequence", (x, rows), {"batch_axis": 1, "time_axis": 0}, dtype=x.dtype, shape=tuple(x.shape)
    )
