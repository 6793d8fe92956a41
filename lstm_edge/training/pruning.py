"""Pruning within the training loop: the density follows the share of the training that is done."""

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from lstm_edge.sparsity import Masks, parse_densities
from lstm_edge.training.options import TrainingOptions

__all__ = ["Pruning"]

# Changes of the masks between the begin and the end of the pruning.
CHANGES = 100


class Pruning:
    """The masks of a training; a change of them is due whenever a hundredth of the schedule is passed."""

    def __init__(self, masks: Masks, *, begin: float, end: float) -> None:
        self._masks = masks
        self._begin, self._end = begin, end
        self._changes = 0

    @classmethod
    def of(cls, model: nn.Module, options: TrainingOptions, start: nn.Module | None) -> Self | None:
        """Return the pruning that the options ask for, or None.

        The zero blocks of a sparse model that training starts from stay zero.

        Raises:
            InputError: the layers have other gates than the densities, or a density is too small for the diagonal.
        """
        if options.sparse is None:
            return None
        config: Any = getattr(start, "config", None)
        masks = Masks(
            model,
            parse_densities(options.sparse),
            keep_diagonal=options.sparse_diagonal,
            keep_zeros=getattr(config, "sparse", None) is not None,
        )
        return cls(masks, begin=options.sparse_begin, end=options.sparse_end)

    @property
    def density(self) -> float:
        """The share of the blocks that are kept now."""
        return self._masks.density

    @property
    def fixed(self) -> bool:
        """Whether the final density is reached."""
        return self._changes >= CHANGES

    def advance(self, share: float) -> None:
        """Change the masks if that is due after a share of the training, 0 to 1; set dropped weights to zero.

        Raises:
            InputError: a weight is NaN or infinite when the masks change.
        """
        due = CHANGES
        if share < self._end:
            # Where begin and end are equal, everything before them is before the begin.
            due = max(0, int(CHANGES * (share - self._begin) / max(self._end - self._begin, 1e-9)))
        if due > self._changes:
            self._changes = due
            self._masks.prune(due / CHANGES)
        else:
            self._masks.apply()

    def state(self) -> dict[str, Tensor]:
        """Return the state as tensors: ``changes`` int64 [], and the kept blocks of each matrix, bool."""
        return {"changes": torch.tensor(self._changes), **self._masks.blocks()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Continue from the result of ``state``.

        Raises:
            KeyError: it has no ``changes``.
            InputError: its blocks are those of other layers.
        """
        self._changes = int(state["changes"])
        self._masks.load({name: value for name, value in state.items() if name != "changes"})
