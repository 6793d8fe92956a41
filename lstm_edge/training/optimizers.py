"""Optimizers by name, over two groups of parameters: with and without weight decay."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lstm_edge.training.options import TrainingOptions

__all__ = ["clip_gradients", "make_optimizer"]


def make_optimizer(model: nn.Module, options: TrainingOptions) -> torch.optim.Optimizer:
    """Return the optimizer of the options, with the schedule's initial rate.

    Weight decay is for matrices: pulling a bias (the forget gate's 1) or a diagonal peephole towards 0 is not
    regularization.
    """
    parameters = list(model.parameters())
    groups: list[dict[str, Any]] = [{"params": parameters}]
    if options.weight_decay > 0:
        groups = [
            {"params": [parameter for parameter in parameters if parameter.dim() > 1]},
            {"params": [parameter for parameter in parameters if parameter.dim() <= 1], "weight_decay": 0.0},
        ]
    rate, decay = options.learning_rate, options.weight_decay
    if options.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=options.momentum, weight_decay=decay)
    kind = torch.optim.AdamW if options.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=rate, weight_decay=decay)


def clip_gradients(parameters: Sequence[Tensor], limit: float | None) -> Tensor:
    """Scale the gradients so that their total norm is at most ``limit``; None only measures the norm.

    Returns:
        The norm before scaling, a tensor of shape ``[]``; the caller decides when to read its value.
    """
    if limit is not None:
        return nn.utils.clip_grad_norm_(parameters, limit)
    return nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
