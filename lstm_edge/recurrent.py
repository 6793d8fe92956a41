"""A recurrent layer of one's own equations: a module of one step, run over time, exported as one ONNX ``Scan``."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lstm_edge_runtime.errors import InputError

if TYPE_CHECKING:
    from lstm_edge_exporters.pytorch.recurrent import Recurrence

__all__ = ["Recurrent"]


class Recurrent(nn.Module):
    """Runs ``step(x, state) -> (y, state)`` over time; ``lstm-edge export`` writes it as one ``Scan`` of its equations.

    ``step`` is a module that is called so, or that has a method ``step``. It gets one step of the input, float32
    [batch, *features], and the state: a tensor, or a tuple of tensors, [batch, *shape] each. It returns its output
    [batch, ...] and the new state of the same shapes. It must treat each row of the batch by itself, and use no other
    state (no attribute that it changes).

    Args:
        step: the module of one step.
        state: the shape of each part of the state without the batch, for example ``[(5,), (5,)]``, or
            ``[(8, 16, 16)]``. A step with one part gets a tensor, with several a tuple.
        features: the shape of one step of the input without the batch, ``(40,)`` or ``(3, 16, 16)``.
        batch_first: input and output are [batch, time, ...] instead of [time, batch, ...].

    Raises:
        InputError: a shape is empty or holds a size that is not positive.
    """

    def __init__(
        self,
        step: nn.Module,
        *,
        state: Sequence[Sequence[int]],
        features: Sequence[int],
        batch_first: bool = True,
    ) -> None:
        super().__init__()
        for name, shapes in (("state", state), ("features", [features])):
            if not shapes or any(not shape or min(shape) < 1 for shape in shapes):
                raise InputError(f"{name}: got {shapes!r}, expected shapes of positive sizes, without the batch")
        self.steps = Steps(step, [tuple(shape) for shape in state], tuple(features), batch_first=batch_first)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run all steps.

        Args:
            x: [batch, time, *features] with ``batch_first``, else [time, batch, *features].
            state: [1, batch, S], all parts of the state flattened, one after the other; zeros if None.

        Returns:
            y [batch, time, ...], or time first, and the new state [1, batch, S].
        """
        y, new = self.steps(x.flatten(2), state)
        return y, new


class Steps(nn.Module):
    """The loop over time; input and state are flat, so that it is called as ``nn.GRU`` is. Use ``Recurrent``."""

    def __init__(
        self, step: nn.Module, state: Sequence[tuple[int, ...]], features: tuple[int, ...], *, batch_first: bool
    ) -> None:
        super().__init__()
        self.step, self.state, self.features, self.batch_first = step, tuple(state), features, batch_first

    @property
    def state_size(self) -> int:
        """S, the numbers of all parts of the state of one row."""
        return sum(math.prod(shape) for shape in self.state)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:  # noqa: A002 - as nn.GRU
        """Run all steps; input [batch, time, F] or [time, batch, F], hx [1, batch, S]."""
        x = self.shaped(input.transpose(0, 1) if self.batch_first else input)
        carry = self.split(x.new_zeros(1, x.shape[1], self.state_size) if hx is None else hx)
        outputs = []
        for t in range(x.shape[0]):
            y, carry = self.one(x[t], carry)
            outputs.append(y)
        joined = torch.stack(outputs)
        return (joined.transpose(0, 1) if self.batch_first else joined), self.join(carry)

    def one(self, x: Tensor, carry: Sequence[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Call the step with x [batch, *features] and the parts of the state; check what it returns."""
        call = getattr(self.step, "step", self.step)  # a method of that name goes before forward
        result: Any = call(x, carry[0] if len(carry) == 1 else tuple(carry))
        name = type(self.step).__name__
        if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[0], Tensor):
            raise InputError(f"{name}: a step returned {type(result).__name__}, expected (y, state)")
        new = (result[1],) if isinstance(result[1], Tensor) else tuple(result[1])
        got, expected = [tuple(part.shape[1:]) for part in new], list(self.state)
        if got != expected:
            raise InputError(f"{name}: a step returned a state of shapes {got} (without batch), expected {expected}")
        return result[0], new

    def shaped(self, x: Tensor) -> Tensor:
        """Give the steps [time, batch, F] the shape of ``features`` back."""
        return x if len(self.features) == 1 else x.reshape(*x.shape[:2], *self.features)

    def split(self, flat: Tensor) -> tuple[Tensor, ...]:
        """Cut a state [1, batch, S] into its parts [batch, *shape]."""
        sizes = [math.prod(shape) for shape in self.state]
        parts = torch.split(flat.squeeze(0), sizes, dim=1)
        pairs = zip(parts, self.state, strict=True)
        return tuple(part if len(shape) == 1 else part.reshape(part.shape[0], *shape) for part, shape in pairs)

    def join(self, carry: Sequence[Tensor]) -> Tensor:
        """Put the parts of a state together: [1, batch, S]."""
        return torch.cat([part.flatten(1) for part in carry], dim=1).unsqueeze(0)

    def describe_recurrence(self) -> "Recurrence":
        """Describe the layer for export."""
        from lstm_edge_exporters.pytorch.recurrent import Recurrence, StepLayer

        layer = StepLayer(input_size=math.prod(self.features), hidden_size=self.state_size)
        return Recurrence(layers=(layer,), batch_first=self.batch_first)
