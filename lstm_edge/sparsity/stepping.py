"""``BlockSparsity``: prunes the recurrent layers of a module while a training loop runs."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from lstm_edge.sparsity.densities import Densities, Density
from lstm_edge.sparsity.masks import Masks
from lstm_edge.sparsity.report import SparsityReport
from lstm_edge_runtime.errors import InputError

__all__ = ["BlockSparsity"]

# Changes of the masks between begin and end, unless every says otherwise.
CHANGES = 100
VERSION = 1


class BlockSparsity:
    """Prunes the recurrent layers of a module to a density, in the blocks that sparse int8 files store.

    Two lines in a training loop::

        sparsity = lstm_edge.BlockSparsity(model, density=0.33, end=2000)
        ...
        optimizer.step()
        sparsity.step()

    A block is 16 outputs (cells of one gate) by 4 inputs. Blocks are kept by magnitude: those with the largest sums of
    squares within a gate; of equal ones the lower block number. A dropped block stays dropped. Between the steps
    ``begin`` and ``end`` the density falls from 1 on a cubic curve; afterwards the masks are fixed, and the rest of the
    training makes up for the loss. Every ``step()`` sets the weights of dropped blocks to exactly zero, so the exported
    file has zero blocks.

    The matrices are W (on the input) and R (on the previous output) of every layer and direction of ``nn.LSTM``,
    ``nn.GRU``, ``nn.RNN``, their cells, ``lstm_edge.LSTM`` and subclasses, on any device and of any floating dtype.
    Projections, peepholes, biases and all other layers are not changed. Processes of a distributed training whose
    parameters are equal get equal masks.

    Args:
        module: a recurrent layer, or a module that contains some. To prune only some of them, pass those, for example
            in an ``nn.ModuleList``.
        density: share of the blocks that is kept, above 0 and at most 1: a number for all gates, or a dict with a
            number for each: ``i f g o`` (LSTM), ``r z n`` (GRU), ``h`` (RNN).
        end: step at which ``density`` is reached and from which on the masks are fixed. Leave more than half of the
            training after it.
        begin: step after which pruning begins.
        every: steps between changes of the masks; None: a hundredth of ``end - begin``.
        input_density: replaces ``density`` for W; a number or a dict.
        recurrent_density: replaces ``density`` for R; a number or a dict.
        keep_diagonal: keep the blocks on the diagonal of every gate of R before all others. They count within the
            density: 16 / hidden of the blocks of R.
        keep_zeros: blocks that are zero at the start stay zero: continues the training of a sparse module.

    Raises:
        InputError: an argument is out of its range; the module has no recurrent layer; or a weight is computed by a
            parametrization, frozen, on the meta device, or shared with another kind of layer.
    """

    def __init__(
        self,
        module: nn.Module,
        density: Density = 0.33,
        *,
        end: int,
        begin: int = 0,
        every: int | None = None,
        input_density: Density | None = None,
        recurrent_density: Density | None = None,
        keep_diagonal: bool = False,
        keep_zeros: bool = False,
    ) -> None:
        _check_steps(begin, end, every)
        densities = Densities(density=density, input_density=input_density, recurrent_density=recurrent_density)
        self._begin, self._end = begin, end
        self._every = every or max(1, (end - begin) // CHANGES)
        self._masks = Masks(module, densities, keep_diagonal=keep_diagonal, keep_zeros=keep_zeros)
        self._settings = densities.to_json() | {
            "begin": begin,
            "end": end,
            "every": self._every,
            "keep_diagonal": keep_diagonal,
        }
        self._steps = 0
        self._fixed = False

    def step(self) -> None:
        """Count an update of the optimizer, change the masks if that is due, and set dropped weights to zero.

        Raises:
            InputError: a weight is NaN or infinite when the masks change, or is no longer a parameter of its layer.
        """
        self._steps += 1
        since = self._steps - self._begin
        if self._steps >= self._end and not self._fixed:
            self._masks.prune(1.0)
            self._fixed = True
        elif not self._fixed and since > 0 and since % self._every == 0:
            self._masks.prune(since / (self._end - self._begin))
        else:
            self._masks.apply()

    @property
    def density(self) -> float:
        """The share of the blocks that are kept now."""
        return self._masks.density

    @property
    def fixed(self) -> bool:
        """Whether the final density is reached and the masks no longer change."""
        return self._fixed

    def report(self) -> SparsityReport:
        """Return the density of each matrix now, and its bytes in sparse and dense int8 files."""
        return self._masks.report()

    def state_dict(self) -> dict[str, Any]:
        """Return the state as tensors, numbers and text, for ``torch.save``; a resumed training has equal bits."""
        return {"version": VERSION, "steps": self._steps, "settings": self._settings, "blocks": self._masks.blocks()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the result of ``state_dict``; the module's own state must be loaded separately.

        Raises:
            InputError: it is the state of other settings or of another module.
        """
        if not {"version", "steps", "settings", "blocks"} <= set(state) or state["version"] != VERSION:
            raise InputError("sparsity: the state is not one that BlockSparsity.state_dict() of this version returned")
        for name, mine in self._settings.items():
            theirs = state["settings"].get(name)
            if theirs != mine:
                raise InputError(
                    f"sparsity: the state has {name} {theirs}, this object has {mine}; expected equal ones"
                )
        self._masks.load(state["blocks"])
        self._steps = int(state["steps"])
        self._fixed = self._steps >= self._end and self._steps > 0


def _check_steps(begin: Any, end: Any, every: Any) -> None:
    for name, value, least in (("begin", begin, 0), ("end", end, 0), ("every", 1 if every is None else every, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InputError(f"sparsity: {name} is {value!r}, expected a number of steps, {least} or more")
    if end < begin:
        raise InputError(f"sparsity: end is {end} and begin is {begin}, expected an end at or after the begin")
