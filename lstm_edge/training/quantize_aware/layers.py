"""The layers of the ready-made models with the quantized operators' arithmetic, on the same parameters.

T steps, B rows, I inputs, H cells, P outputs (P = H without a projection). Gates are stacked i f g o.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence

from lstm_edge.layers import LSTM
from lstm_edge.training.models.language import TiedLinear
from lstm_edge.training.quantize_aware.product import RoundedMatrix, add_later, product, round_table, round_weight
from lstm_edge_runtime.errors import InputError

if TYPE_CHECKING:
    from lstm_edge_exporters.quantize.rounding import Scheme

__all__ = ["QuantizedEmbedding", "QuantizedLSTM", "QuantizedLinear", "QuantizedTiedLinear", "quantized"]

State = tuple[Tensor, Tensor]


@contextmanager
def quantized(model: nn.Module, scheme: "Scheme | None") -> Iterator[None]:
    """Simulate the quantized file of a ready-made model during the block; None has no effect.

    The quantized layers hold the model's own parameters, under the same names.
    """
    replaced = {name: layer for name, layer in model.named_children() if scheme is not None}
    try:
        for name, layer in replaced.items():
            assert scheme is not None
            setattr(model, name, _quantized_layer(name, layer, scheme).train(layer.training))
        yield
    finally:
        for name, layer in replaced.items():
            setattr(model, name, layer.train(model.training))


def _quantized_layer(name: str, layer: nn.Module, scheme: "Scheme") -> nn.Module:
    if isinstance(layer, LSTM):
        return QuantizedLSTM(name, layer, scheme)
    if isinstance(layer, nn.Linear):
        return QuantizedLinear(name, layer, scheme)
    if isinstance(layer, nn.Embedding):
        return QuantizedEmbedding(name, layer)
    if isinstance(layer, TiedLinear):
        return QuantizedTiedLinear(name, scheme)
    if next(layer.parameters(), None) is not None:
        raise InputError(f"training: {name} is a {type(layer).__name__}, which has no quantized form")
    return layer


class QuantizedLinear(nn.Module):
    """``LinearInt8V1`` or ``LinearInt4V1``: [..., K] to [..., N]."""

    def __init__(self, name: str, layer: nn.Linear, scheme: "Scheme") -> None:
        super().__init__()
        self.name, self.scheme = name, scheme
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, x: Tensor) -> Tensor:
        """Return x [..., K] times the rounded weight, plus the bias."""
        y = product(x, self.weight, round_weight(f"{self.name}.weight", self.weight, self.scheme))
        return y if self.bias is None else y + self.bias


class QuantizedTiedLinear(TiedLinear):
    """``TiedLinear`` with its matrix rounded per output, as in a linear layer; the embedding rounds it by rows."""

    def __init__(self, name: str, scheme: "Scheme") -> None:
        super().__init__()
        self.name, self.scheme = name, scheme

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Return x [..., K] times the rounded weight [N, K], plus the bias [N]."""
        return product(x, weight, round_weight(f"{self.name}.weight", weight, self.scheme)) + bias


class QuantizedEmbedding(nn.Module):
    """An embedding of int8 rows with a scale per row, for every scheme: ids to [..., E]."""

    def __init__(self, name: str, layer: nn.Embedding) -> None:
        super().__init__()
        self.name = name
        self.weight = layer.weight

    def forward(self, ids: Tensor) -> Tensor:
        """Return the rounded rows of ids, int64 of any shape."""
        return functional.embedding(ids, round_table(f"{self.name}.weight", self.weight))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Direction:
    """Parameters of one direction of one layer, and their rounded values.

    ``w``, ``r``, ``v``, ``p``, ``po`` are the operators' names: input [4H, I], recurrent [4H, P], projection [P, H],
    full peepholes [3H, H] and [H, H]; ``diagonal`` [3H] stays float32. ``bias`` [4H].
    """

    w: Tensor
    r: Tensor
    v: Tensor | None
    p: Tensor | None
    po: Tensor | None
    diagonal: Tensor | None
    bias: Tensor | None
    rounded: dict[str, RoundedMatrix]


class QuantizedLSTM(LSTM):
    """An ``LSTM`` with the cells of the quantized operators: a time loop in Python, for every kind of cell."""

    def __init__(self, name: str, layer: LSTM, scheme: "Scheme") -> None:
        super().__init__(
            layer.input_size,
            layer.hidden_size,
            layer.num_layers,
            bias=layer.bias,
            batch_first=layer.batch_first,
            dropout=layer.dropout,
            bidirectional=layer.bidirectional,
            proj_size=layer.proj_size,
            peephole=layer.peephole,
            device="meta",
        )
        self.name, self.scheme = name, scheme
        for key, parameter in layer.named_parameters():
            setattr(self, key, parameter)

    def forward(  # type: ignore[override] # see LSTM.forward
        self,
        input: Tensor | PackedSequence,  # noqa: A002
        hx: State | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """Run the layers as ``LSTM.forward`` does; a PackedSequence, or one sequence without a batch axis, is refused.

        Raises:
            InputError: a shape, a dtype or a length does not fit.
        """
        if isinstance(input, PackedSequence) or input.dim() != 3:
            raise InputError("input: quantization-aware layers take a padded tensor with a batch axis, and lengths")
        self._check(input, hx)
        x = input.transpose(0, 1) if self.batch_first else input
        y, state = self._forward_time_major(x, hx, lengths)
        return (y.transpose(0, 1) if self.batch_first else y), state

    def _forward_time_major(self, x: Tensor, hx: State | None, lengths: Tensor | None) -> tuple[Tensor, State]:
        state = self._zero_state(x) if hx is None else hx
        past = None
        if lengths is not None:
            past = torch.arange(x.shape[0]).unsqueeze(1) >= self._checked_lengths(lengths, x)
            x = x.masked_fill(past.unsqueeze(-1), 0.0)
        return self._forward_cells(x, state, past)

    def _forward_cells(self, x: Tensor, state: State, past: Tensor | None) -> tuple[Tensor, State]:
        D = 2 if self.bidirectional else 1
        final_h, final_c = [], []
        for k in range(self.num_layers):
            if k > 0:
                x = functional.dropout(x, self.dropout, self.training)
            outputs = []
            for d, suffix in enumerate(self._suffixes()[k * D : (k + 1) * D]):
                h, c = state[0][k * D + d], state[1][k * D + d]
                y, h, c = _run(x, h, c, self._rounded_direction(suffix), past=past, reverse=d == 1)
                outputs.append(y)
                final_h.append(h)
                final_c.append(c)
            x = torch.cat(outputs, dim=2)
        return x, (torch.stack(final_h), torch.stack(final_c))

    def _rounded_direction(self, suffix: str) -> _Direction:
        H = self.hidden_size
        peephole: Tensor | None = None if self.peephole == "none" else getattr(self, f"weight_ch{suffix}")
        weights = {"w": getattr(self, f"weight_ih{suffix}"), "r": getattr(self, f"weight_hh{suffix}")}
        if self.proj_size:
            weights["v"] = getattr(self, f"weight_hr{suffix}")
        if peephole is not None and self.peephole == "full":
            weights |= {"p": peephole[: 3 * H], "po": peephole[3 * H :]}
        return _Direction(
            w=weights["w"],
            r=weights["r"],
            v=weights.get("v"),
            p=weights.get("p"),
            po=weights.get("po"),
            diagonal=peephole if self.peephole == "diagonal" else None,
            bias=getattr(self, f"bias_ih{suffix}") + getattr(self, f"bias_hh{suffix}") if self.bias else None,
            rounded={
                key: round_weight(f"{self.name}{suffix}.{key}", weight, self.scheme) for key, weight in weights.items()
            },
        )


class _Steps:
    """One direction of one layer, step by step; keeps the rounded rows for the gradients of the weights."""

    def __init__(self, x: Tensor, weights: _Direction) -> None:
        self.weights = weights
        z = product(x, weights.w, weights.rounded["w"])
        z = z if weights.bias is None else z + weights.bias
        H = z.shape[2] // 4
        # Per weight: the rows that it was multiplied with, and the columns of z of the product.
        self.seen: dict[str, Tensor] = {}
        for key, weight, columns in (
            ("r", weights.r, slice(0, 4 * H)),
            ("p", weights.p, slice(0, 3 * H)),
            ("po", weights.po, slice(3 * H, 4 * H)),
        ):
            if weight is not None and torch.is_grad_enabled() and weight.requires_grad:
                self.seen[key] = x.new_empty(*z.shape[:2], weight.shape[1])
                z = add_later(z, weight, self.seen[key], columns)
        # unbind, because the gradient of z[t] would allocate zeros of the size of z at every step.
        self.inputs = z.unbind(0)

    def _product(self, rows: Tensor, key: str, t: int) -> Tensor:
        seen = self.seen[key][t] if key in self.seen else None
        return product(rows, None, self.weights.rounded[key], seen=seen)

    def step(self, t: int, h: Tensor, c: Tensor) -> State:
        """Return h [B, P] and c [B, H] after step t; the order of operations is that of docs/operators.md."""
        weights, H = self.weights, c.shape[1]
        z = self.inputs[t] + self._product(h, "r", t)
        if weights.p is None and weights.diagonal is None:
            i, f = torch.sigmoid(z[:, : 2 * H]).chunk(2, dim=1)
            a_g, a_o = z[:, 2 * H : 3 * H], z[:, 3 * H :]
        else:
            a_i, a_f, a_g, a_o = z.chunk(4, dim=1)
            if weights.diagonal is not None:
                a_i, a_f = a_i + weights.diagonal[:H] * c, a_f + weights.diagonal[H : 2 * H] * c
            else:
                c_i, c_f, c_g = self._product(c, "p", t).chunk(3, dim=1)
                a_i, a_f, a_g = a_i + c_i, a_f + c_f, a_g + c_g
            i, f = torch.sigmoid(a_i), torch.sigmoid(a_f)
        c_new = f * c + i * torch.tanh(a_g)
        if weights.diagonal is not None:
            a_o = a_o + weights.diagonal[2 * H :] * c_new
        elif weights.po is not None:
            a_o = a_o + self._product(c_new, "po", t)
        h_new = torch.sigmoid(a_o) * torch.tanh(c_new)
        if weights.v is not None:
            h_new = product(h_new, weights.v, weights.rounded["v"])
        return h_new, c_new


def _run(
    x: Tensor, h: Tensor, c: Tensor, weights: _Direction, *, past: Tensor | None, reverse: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Run one direction over x [T, B, I] from h [B, P], c [B, H]; ``past`` bool [T, B] marks steps after a row's end.

    Returns:
        Outputs [T, B, P] in the order of the input's steps, zero after a row's length; final h and c.
    """
    steps = _Steps(x, weights)
    done = None if past is None else past.unsqueeze(-1).unbind(0)
    outputs: list[Tensor] = [h] * x.shape[0]
    for t in reversed(range(x.shape[0])) if reverse else range(x.shape[0]):
        h_new, c_new = steps.step(t, h, c)
        if done is None:
            h, c, outputs[t] = h_new, c_new, h_new
        else:
            h, c = torch.where(done[t], h, h_new), torch.where(done[t], c, c_new)
            outputs[t] = h_new.masked_fill(done[t], 0.0)
    return torch.stack(outputs), h, c
