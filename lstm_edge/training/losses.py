"""The losses by name, and the metric of each; both ignore padding.

B rows, T steps, C classes, K targets.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from lstm_edge.training.options import Loss
from lstm_edge_runtime.errors import InputError

__all__ = ["IGNORED", "Criterion", "Measure", "accuracy", "check_loss", "cross_entropy", "value_error", "value_loss"]

Criterion = Callable[[Tensor, Tensor], Tensor]
Measure = Callable[[Tensor, Tensor], float]

# The class of a padding step: PyTorch's default `ignore_index`.
IGNORED = -100


def cross_entropy(label_smoothing: float = 0.0) -> Criterion:
    """Return the mean cross-entropy, nats, of logits ``[..., C]`` and int64 classes ``[...]`` except ``IGNORED``."""

    def loss(logits: Tensor, y: Tensor) -> Tensor:
        return functional.cross_entropy(
            logits.flatten(0, -2), y.flatten(), ignore_index=IGNORED, label_smoothing=label_smoothing
        )

    return loss


def accuracy(logits: Tensor, y: Tensor) -> float:
    """Return the accuracy of logits ``[..., C]`` for int64 classes ``[...]`` except ``IGNORED``."""
    valid = y != IGNORED
    return (logits.argmax(dim=-1) == y)[valid].double().mean().item()


def value_loss(name: Loss, std: Tensor) -> Criterion:
    """Return the mean squared (``mse``) or absolute (``mae``) error of ``[B, K]``, in units of ``std``, ``[K]``."""
    error = functional.mse_loss if name == "mse" else functional.l1_loss
    return lambda outputs, y: error(outputs / std, y / std)


def value_error(name: Loss) -> Measure:
    """Return the mean squared (``mse``) or absolute (``mae``) error in the targets' units, computed in float64."""

    def measure(outputs: Tensor, y: Tensor) -> float:
        difference = outputs.double() - y.double()
        return (difference.square() if name == "mse" else difference.abs()).mean().item()

    return measure


def check_loss(loss: Loss, task: Literal["classification", "tagging", "forecast", "language-model"]) -> None:
    """Refuse a loss that a task does not have.

    Raises:
        InputError: the task does not have the loss.
    """
    known = ("mse", "mae") if task == "forecast" else ("cross-entropy",)
    if loss not in known:
        raise InputError(f"training: loss is {loss}, expected {' or '.join(known)} for {task}")


def check_finite(value: float, what: str, learning_rate: float, *, noisy: bool) -> None:
    """Refuse a loss or a gradient norm that is NaN or infinite: the weights are then unusable.

    Raises:
        InputError: the value is NaN or infinite.
    """
    if not torch.isfinite(torch.tensor(value)):
        hint = ", or less input noise" if noisy else ""
        raise InputError(f"training: the {what} became {value}; choose a learning rate below {learning_rate:g}{hint}")
