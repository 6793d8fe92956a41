"""The recurrent layer of a Keras model in PyTorch, and Keras's masks around it.

Letters: B batch, T time, I input features, H hidden size, D directions. A mask is bool [B, T], True where a step
counts; it may have holes and may begin late. A masked step keeps the state and repeats the output before it. Instead of
masking each step, the valid steps of each row are moved to the front, the layer runs with their number as lengths, and
the outputs are moved back: the recurrent operator stays whole and needs no mask input.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor  # torch has no public name for it

from lstm_edge_exporters.pytorch.recurrent import Cell, Recurrence, RecurrentLayer

__all__ = ["RecurrentCore", "RecurrentResult", "run_masked"]


class RecurrentCore(nn.Module):
    """One LSTM, GRU or RNN layer with one or two directions; called as PyTorch's layer of that cell, plus lengths.

    ``entering`` holds, after a call, the initial state that was given, as the stand-in that takes this layer's place
    during export holds it; None where the state began at zero. ``starts_inside`` says that a call gets an initial
    state that other layers compute: export leaves it inside the graph. ``may_be_empty`` says that few steps of the
    model's input leave none for the layer, ``starts_anew`` that its state is zero at the start of every call.
    """

    def __init__(self, layer: RecurrentLayer) -> None:
        super().__init__()
        self.layer = layer
        self.recurrence = Recurrence(layers=(layer,), batch_first=True)
        self.entering: list[tuple[Tensor, ...]] | None = None
        self.starts_inside = False
        self.may_be_empty = False
        self.starts_anew = False
        for index, side in enumerate(layer.directions):
            for name in ("w_x", "w_h", "b_x", "b_h"):
                self.register_buffer(f"{name}_{index}", torch.from_numpy(getattr(side, name)))

    def describe_recurrence(self) -> Recurrence:
        """Say what recurrence this layer is, for export."""
        return self.recurrence

    def forward(
        self,
        input: Tensor,  # noqa: A002 - nn.LSTM's own name for it
        hx: Any = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, Any]:
        """Run the layer.

        Args:
            input: float32 [B, T, I].
            hx: LSTM: h and c, each [D, B, H]; GRU, RNN: h [D, B, H]; zeros when None.
            lengths: int64 [B]: outputs from there on are zero, the state is that of the last valid step.

        Returns:
            Outputs [B, T, D * H], and the new state in the form of ``hx``.
        """
        lstm = self.layer.cell == "lstm"
        sides, batch, steps = len(self.layer.directions), input.shape[0], input.shape[1]
        given = None if hx is None else (tuple(hx) if lstm else (hx,))
        self.entering = None if given is None else [given]
        zeros = input.new_zeros(sides, batch, self.layer.hidden_size)
        state = given if given is not None else (zeros,) * len(self.layer.state_sizes)
        if isinstance(input, FakeTensor):  # shapes alone are asked for: nothing would be computed in the loop
            self.entering = None
            self.may_be_empty |= steps == 0
            width = sides * self.layer.hidden_size
            return input.new_zeros(batch, steps, width), state if lstm else state[0]
        rows = torch.full((batch,), steps) if lengths is None else lengths
        outputs, leaving = [], []
        for side in range(sides):
            order = range(steps) if side == 0 else range(steps - 1, -1, -1)
            y, final = self._one_side(side, input, [part[side] for part in state], rows, list(order))
            outputs.append(y)
            leaving.append(final)
        stacked = tuple(torch.stack(parts) for parts in zip(*leaving, strict=True))
        return torch.cat(outputs, dim=2), stacked if lstm else stacked[0]

    def _one_side(
        self, side: int, x: Tensor, state: list[Tensor], rows: Tensor, order: list[int]
    ) -> tuple[Tensor, list[Tensor]]:
        w_x, w_h, b_x, b_h = (getattr(self, f"{name}_{side}") for name in ("w_x", "w_h", "b_x", "b_h"))
        projected = x @ w_x.T + b_x
        squash = torch.relu if self.layer.activation == "relu" else torch.tanh
        steps: dict[Cell, Callable[..., list[Tensor]]]
        steps = {"lstm": _lstm_step, "gru": _gru_step, "rnn": partial(_rnn_step, squash)}
        step = steps[self.layer.cell]
        results = [x.new_zeros(x.shape[0], self.layer.hidden_size)] * x.shape[1]
        for t in order:
            valid = (t < rows)[:, None]
            after = step(projected[:, t], state, w_h, b_h, self.layer.reset_after)
            state = [torch.where(valid, new, old) for new, old in zip(after, state, strict=True)]
            results[t] = torch.where(valid, state[0], torch.zeros_like(state[0]))
        return torch.stack(results, dim=1), state


def _lstm_step(x: Tensor, state: list[Tensor], w_h: Tensor, b_h: Tensor, _reset_after: bool) -> list[Tensor]:
    h, c = state
    i, f, g, o = (x + h @ w_h.T + b_h).chunk(4, dim=-1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return [torch.sigmoid(o) * torch.tanh(c), c]


def _rnn_step(
    squash: Callable[[Tensor], Tensor], x: Tensor, state: list[Tensor], w_h: Tensor, b_h: Tensor, _reset_after: bool
) -> list[Tensor]:
    return [squash(x + state[0] @ w_h.T + b_h)]


def _gru_step(x: Tensor, state: list[Tensor], w_h: Tensor, b_h: Tensor, reset_after: bool) -> list[Tensor]:
    h = state[0]
    x_r, x_z, x_n = x.chunk(3, dim=-1)
    w_r, w_z, w_n = w_h.chunk(3, dim=0)
    b_r, b_z, b_n = b_h.chunk(3, dim=0)
    r = torch.sigmoid(x_r + h @ w_r.T + b_r)
    z = torch.sigmoid(x_z + h @ w_z.T + b_z)
    n = torch.tanh(x_n + (r * (h @ w_n.T + b_n) if reset_after else (r * h) @ w_n.T + b_n))
    return [(1 - z) * n + z * h]


@dataclass(frozen=True, kw_only=True, eq=False)
class RecurrentResult:
    """What a layer gave: outputs [B, T, D * H], and its states h and (LSTM) c, each [D, B, H]."""

    outputs: Tensor
    states: tuple[Tensor, ...]


def run_masked(
    core: nn.Module,
    x: Tensor,
    mask: Tensor | None,
    *,
    zero_masked: bool,
    initial: tuple[Tensor, ...] | None = None,
) -> RecurrentResult:
    """Run a recurrent layer over the valid steps alone.

    Args:
        core: a ``RecurrentCore`` or its stand-in.
        x: float32 [B, T, I].
        mask: bool [B, T], or None where every step is valid.
        zero_masked: the output of a masked step is zero; otherwise it is the one before it. At the beginning that is
            the initial h of an explicit state, so that chunks of a sequence give what the whole gives, and zero, as in
            Keras, where ``initial`` is given.
        initial: h and (LSTM) c, each [D, B, H], that the model itself gives the layer.
    """
    given = None if initial is None else (initial[0] if len(initial) == 1 else initial)
    if mask is None:
        y, state = core(x) if given is None else core(x, given)
        return RecurrentResult(outputs=y, states=_as_tuple(state))
    done = mask.to(torch.int64).cumsum(1)  # how many valid steps there were, this one included
    packed, lengths = _compacted(x, mask, done), done[:, -1]
    y, state = core(packed, lengths=lengths) if given is None else core(packed, given, lengths=lengths)
    states = _as_tuple(state)
    width = y.shape[2]
    if zero_masked:
        index = (done - 1).clamp(min=0)[:, :, None].expand(-1, -1, width)
        return RecurrentResult(outputs=torch.where(mask[:, :, None], y.gather(1, index), 0.0), states=states)
    entering: Any = core.entering
    if entering is None or initial is not None:
        before = torch.zeros_like(states[0])
    else:
        before = entering[0][0] if isinstance(entering[0], tuple | list) else entering[0]
    # [D, B, H] -> [B, 1, D * H], one step before the first.
    before = before.transpose(0, 1).reshape(-1, 1, width)
    index = done[:, :, None].expand(-1, -1, width)
    return RecurrentResult(outputs=torch.cat([before, y], dim=1).gather(1, index), states=states)


def _compacted(x: Tensor, mask: Tensor, done: Tensor) -> Tensor:
    """Move each row's valid steps to the front of x [B, T, I]; what follows them is some step again, never used."""
    steps = torch.arange(x.shape[1]).expand(x.shape[0], -1)
    # Masked steps all go to one slot past the end, which is cut off.
    places = torch.where(mask, done - 1, x.shape[1])
    source = torch.zeros_like(torch.cat([done, done[:, :1]], dim=1)).scatter(1, places, steps)[:, :-1]
    return x.gather(1, source[:, :, None].expand(-1, -1, x.shape[2]))


def _as_tuple(state: Any) -> tuple[Tensor, ...]:
    return (state,) if isinstance(state, Tensor) else tuple(state)
