"""The LSTM layer of lstm-edge: ``torch.nn.LSTM`` with peepholes, row lengths and a better default initialization."""

import math
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from lstm_edge._cells import DirectionWeights, run_direction
from lstm_edge_runtime.errors import InputError

if TYPE_CHECKING:
    from lstm_edge_exporters.pytorch.recurrent import Recurrence

__all__ = ["LSTM", "Peephole"]

Peephole = Literal["none", "diagonal", "full"]
Result = tuple[Tensor, tuple[Tensor, Tensor]]

# A peephole starts as a small correction: its contribution to a gate has a standard deviation of 0.1 for a cell state
# of order one (input and recurrent contribution: about 1), so a new layer behaves almost like one without peepholes.
_PEEPHOLE_DEVIATION = 0.1


class LSTM(nn.LSTM):
    """``nn.LSTM`` with peepholes (``"none"``, ``"diagonal"`` or ``"full"``) and row lengths.

    Parameters have ``nn.LSTM``'s names, shapes and gate order (i f g o), so state dicts interchange for
    ``peephole="none"``. Peepholes add ``weight_ch_l{k}[_reverse]``: [3 * hidden] in the order i f o for diagonal,
    [4 * hidden, hidden] for full. Gates i, f (and g, for full) see the old cell state, o the new one;
    ``lstm_edge.reference`` has the equations. ``peephole="none"`` runs torch's fused kernels, the others a loop over
    time.

    Default initialization: forget-gate bias 1 (``bias_ih``; all other biases 0), an orthogonal recurrent matrix per
    gate, Xavier-uniform input matrices per gate and projection matrices, and normal peepholes with standard deviation
    0.1 (diagonal) or 0.1 / sqrt(hidden) (full).

    Args:
        input_size: features of the input.
        hidden_size: features of the cell state, and of the output without a projection.
        num_layers: number of stacked layers.
        bias: whether there are biases.
        batch_first: input and output are [batch, time, features] instead of [time, batch, features].
        dropout: probability of dropping an output between layers, while training.
        bidirectional: run a second set of weights backwards in time.
        proj_size: features of the output when projected (0 = no projection); less than ``hidden_size``.
        peephole: kind of peepholes.
        device: device of the parameters.
        dtype: the parameters' floating dtype.

    Raises:
        InputError: ``peephole`` is not one of the three kinds.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        peephole: Peephole = "none",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if peephole not in get_args(Peephole):
            raise InputError(f"peephole: got {peephole!r}, expected none, diagonal or full")
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias=bias,
            batch_first=batch_first,
            dropout=dropout,
            bidirectional=bidirectional,
            proj_size=proj_size,
            device=device,
            dtype=dtype,
        )
        self.peephole: Peephole = peephole
        if peephole != "none":
            shape = (3 * hidden_size,) if peephole == "diagonal" else (4 * hidden_size, hidden_size)
            for suffix in self._suffixes():
                weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
                self.register_parameter(f"weight_ch{suffix}", weight)
            self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights; the class docstring has the distributions."""
        for name, parameter in self.named_parameters():
            kind = name.split("_l")[0]
            if kind == "weight_ch":
                fan_in = 1 if parameter.dim() == 1 else self.hidden_size
                nn.init.normal_(parameter, std=_PEEPHOLE_DEVIATION / math.sqrt(fan_in))
            elif kind == "weight_hh":
                for gate in parameter.detach().chunk(4):
                    nn.init.orthogonal_(gate)
            elif kind == "weight_ih":
                for gate in parameter.detach().chunk(4):
                    nn.init.xavier_uniform_(gate)
            elif kind == "weight_hr":
                nn.init.xavier_uniform_(parameter)
            else:
                nn.init.zeros_(parameter)
                if kind == "bias_ih":
                    nn.init.ones_(parameter.detach()[self.hidden_size : 2 * self.hidden_size])

    # nn.LSTM declares forward with overloads on the input's type; this method accepts all of them, and lengths.
    def forward(  # type: ignore[override]  # lengths, and both kinds of input in one signature
        self,
        input: Tensor | PackedSequence,  # noqa: A002  nn.LSTM's own name for it, which callers may spell out
        hx: tuple[Tensor, Tensor] | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor | PackedSequence, tuple[Tensor, Tensor]]:
        """Run the layers over a batch of sequences.

        Args:
            input: [T, B, input_size], or [B, T, input_size] with ``batch_first``, or [T, input_size] for one
                sequence; a PackedSequence only with ``peephole="none"`` and without ``lengths``.
            hx: initial h [L * D, B, proj_size or hidden_size] and c [L * D, B, hidden_size] (no B for one sequence);
                zeros when None.
            lengths: int64 [B], valid steps of each row, from 0 to T. A row's state stops at its last valid step, its
                reverse direction starts there, and its outputs after it are zero; 0 keeps the initial state. The
                contents of the padding, including NaN, have no effect. None means T for every row.

        Returns:
            The outputs, laid out as the input, with D * (proj_size or hidden_size) features, and the final (h, c).

        Raises:
            InputError: a shape, a dtype or a length does not fit.
        """
        if isinstance(input, PackedSequence):
            if self.peephole != "none" or lengths is not None:
                raise InputError(
                    'input: got a PackedSequence, which only peephole="none" without lengths takes: '
                    "pass a padded tensor and lengths"
                )
            return super().forward(input, hx)
        self._check(input, hx)
        if lengths is None and self.peephole == "none":
            return super().forward(input, hx)
        if input.dim() == 2:
            return self._forward_one(input, hx, lengths)
        x = input.transpose(0, 1) if self.batch_first else input
        y, state = self._forward_time_major(x, hx, lengths)
        return (y.transpose(0, 1) if self.batch_first else y), state

    def _forward_one(self, x: Tensor, hx: tuple[Tensor, Tensor] | None, lengths: Tensor | None) -> Result:
        """One sequence without a batch axis."""
        if lengths is not None:
            raise InputError(f"lengths: got them with an input of shape {tuple(x.shape)}, which has no batch axis")
        state = None if hx is None else (hx[0].unsqueeze(1), hx[1].unsqueeze(1))
        y, (h, c) = self._forward_time_major(x.unsqueeze(1), state, None)
        return y.squeeze(1), (h.squeeze(1), c.squeeze(1))

    def _forward_time_major(self, x: Tensor, hx: tuple[Tensor, Tensor] | None, lengths: Tensor | None) -> Result:
        state = self._zero_state(x) if hx is None else hx
        past = None
        if lengths is not None:
            lengths = self._checked_lengths(lengths, x)
            past = torch.arange(x.shape[0], device=x.device).unsqueeze(1) >= lengths
            # Masking only the outputs would let a NaN in the padding reach the gradients: 0 * NaN is NaN.
            x = x.masked_fill(past.unsqueeze(-1), 0.0)
            if self.peephole == "none":
                return self._forward_packed(x, state, lengths, past)
        return self._forward_cells(x, state, past)

    def _forward_packed(self, x: Tensor, state: tuple[Tensor, Tensor], lengths: Tensor, past: Tensor) -> Result:
        # Packing refuses length 0: such a row runs one step of zeros, and its results are discarded.
        packed = pack_padded_sequence(x, lengths.clamp(min=1).cpu(), enforce_sorted=False)
        y_packed, (h, c) = super().forward(packed, state)
        y, _ = pad_packed_sequence(y_packed, total_length=x.shape[0])
        empty = (lengths == 0).unsqueeze(-1)
        final = (torch.where(empty, state[0], h), torch.where(empty, state[1], c))
        return y.masked_fill(past.unsqueeze(-1), 0.0), final

    def _forward_cells(self, x: Tensor, state: tuple[Tensor, Tensor], past: Tensor | None) -> Result:
        D = 2 if self.bidirectional else 1
        final_h, final_c = [], []
        for k in range(self.num_layers):
            if k > 0:
                x = functional.dropout(x, self.dropout, self.training)
            outputs = []
            for d, suffix in enumerate(self._suffixes()[k * D : (k + 1) * D]):
                h, c = state[0][k * D + d], state[1][k * D + d]
                y, h, c = run_direction(x, h, c, self._direction_weights(suffix), past=past, reverse=d == 1)
                outputs.append(y)
                final_h.append(h)
                final_c.append(c)
            x = torch.cat(outputs, dim=2)
        return x, (torch.stack(final_h), torch.stack(final_c))

    def _direction_weights(self, suffix: str) -> DirectionWeights:
        return DirectionWeights(
            w_x=getattr(self, f"weight_ih{suffix}"),
            w_h=getattr(self, f"weight_hh{suffix}"),
            bias=getattr(self, f"bias_ih{suffix}") + getattr(self, f"bias_hh{suffix}") if self.bias else None,
            peephole=getattr(self, f"weight_ch{suffix}"),
            projection=getattr(self, f"weight_hr{suffix}") if self.proj_size else None,
        )

    def _suffixes(self) -> list[str]:
        """Return the suffixes of the parameter names in PyTorch's order: _l0, _l0_reverse, _l1, ..."""
        directions = ("", "_reverse") if self.bidirectional else ("",)
        return [f"_l{k}{direction}" for k in range(self.num_layers) for direction in directions]

    def _zero_state(self, x: Tensor) -> tuple[Tensor, Tensor]:
        count, B = len(self._suffixes()), x.shape[1]
        return x.new_zeros(count, B, self.proj_size or self.hidden_size), x.new_zeros(count, B, self.hidden_size)

    def _check(self, x: Tensor, hx: tuple[Tensor, Tensor] | None) -> None:
        if x.dim() not in (2, 3) or x.shape[-1] != self.input_size:
            layout = "batch, time" if self.batch_first else "time, batch"
            raise InputError(f"input: got shape {tuple(x.shape)}, expected [{layout}, {self.input_size}]")
        time_axis = 1 if self.batch_first and x.dim() == 3 else 0
        if x.shape[time_axis] == 0:
            raise InputError(f"input: got shape {tuple(x.shape)} with no time steps, expected at least one")
        if hx is None:
            return
        batch = () if x.dim() == 2 else (x.shape[1 - time_axis],)
        for name, value, size in (("h", hx[0], self.proj_size or self.hidden_size), ("c", hx[1], self.hidden_size)):
            expected = (len(self._suffixes()), *batch, size)
            if tuple(value.shape) != expected:
                raise InputError(f"initial state {name}: got shape {tuple(value.shape)}, expected {expected}")

    def _checked_lengths(self, lengths: Tensor, x: Tensor) -> Tensor:
        T, B = x.shape[:2]
        integers = not (lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool)
        if tuple(lengths.shape) != (B,) or not integers:
            raise InputError(f"lengths: got {lengths.dtype} {tuple(lengths.shape)}, expected torch.int64 ({B},)")
        if bool(((lengths < 0) | (lengths > T)).any()):
            raise InputError(f"lengths: got {lengths.tolist()}, expected values from 0 to {T}")
        return lengths.to(device=x.device, dtype=torch.int64)

    def describe_recurrence(self) -> "Recurrence":
        """Describe the recurrence of this layer for export: sizes, kind of cell and float32 weights.

        Raises:
            CaptureError: the weights are not float32.
        """
        from lstm_edge_exporters.pytorch.recurrent import read_lstm

        return read_lstm(self, peephole=self.peephole)

    def extra_repr(self) -> str:
        """Return the arguments for ``repr``; peephole comes last."""
        return f"{super().extra_repr()}, peephole={self.peephole!r}"
