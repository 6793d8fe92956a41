"""Which axis of the inputs is batch and which is time, whatever the user calls them: by what the layers see.

The axes ``batch`` and ``time`` have their meaning by name, or by an option. Where one of them is not there, each other
axis changes its size in turn: the axis that the number of steps of a recurrent layer follows is time, the one that the
rows of all of them follow is batch.
"""

import dataclasses
import inspect
from collections.abc import Mapping, Sequence

import numpy as np
from torch import nn

from lstm_edge_exporters.pytorch.calls import Layers
from lstm_edge_exporters.pytorch.failures import module_failure
from lstm_edge_exporters.pytorch.inputs import looked_up
from lstm_edge_exporters.pytorch.outputs import TRACED
from lstm_edge_exporters.pytorch.seen import Seen, see
from lstm_edge_exporters.verify.inputs import InputMaker, renamed
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import BATCH, TIME, TensorSpec
from lstm_edge_runtime.errors import CaptureError, LstmEdgeError

__all__ = ["find_roles"]

# Sizes of the axes whose role is looked for, before and after the change; larger ones for convolutions without padding,
# powers of two for what halves an axis.
SIZES = ((5, 9), (24, 29), (16, 32), (64, 128))
# How people call the two axes, without case and underscores.
USUAL = {
    BATCH: ("batch", "batches", "batchsize", "b", "bs", "n", "nb"),
    TIME: (
        *("time", "times", "t", "timesteps", "timestep", "step", "steps", "nsteps", "frame", "frames", "nframes"),
        *("seq", "sequence", "seqlen", "sequencelength", "len", "length", "l", "tokens", "s"),
    ),
}


def find_roles(
    module: nn.Module, layers: Layers, specs: Sequence[TensorSpec], maker: InputMaker
) -> tuple[TensorSpec, ...]:
    """Name the axes that are batch and time ``batch`` and ``time``; other names stay as they are.

    Args:
        module: the module.
        layers: its recurrent layers.
        specs: forward's positional arguments.
        maker: makes them.

    Raises:
        CaptureError: the module fails at every size that was tried, or several axes could be the one; the message says
            which.
    """
    axes = list(dict.fromkeys(axis for spec in specs for axis in spec.axes if isinstance(axis, str)))
    others = [axis for axis in axes if axis not in (BATCH, TIME)]
    wanted = [role for role in (TIME, BATCH) if role not in axes]
    if not others or not wanted:
        return tuple(specs)
    moves = _Trials(module, layers, specs, maker).moves(others)
    names: dict[str, str] = {}
    for role in wanted:
        left = [axis for axis in others if axis not in names]
        found = [axis for axis in left if (moves[axis].steps if role == TIME else moves[axis].rows)]
        if found:
            names[_the_one(role, found)] = role
    return renamed(specs, names)


def _the_one(role: str, found: Sequence[str]) -> str:
    usual = [axis for axis in found if axis.casefold().replace("_", "") in USUAL[role]]
    if len(found) == 1 or len(usual) == 1:
        return found[0] if len(found) == 1 else usual[0]
    what = "the steps of the recurrent layers follow" if role == TIME else "the rows of the recurrent layers follow"
    raise CaptureError(
        f"{what} several axes of the inputs, {', '.join(found)}: --{role}-axis ({role}_axis=) says which one is {role}"
    )


@dataclasses.dataclass(frozen=True)
class _Moves:
    """Whether an axis moves the steps of some layer, and the rows of all: one folded into the rows of some is none."""

    steps: bool
    rows: bool

    @classmethod
    def of(cls, base: Mapping[str, Seen], changed: Mapping[str, Seen]) -> "_Moves":
        both = [(seen, changed[name]) for name, seen in base.items() if name in changed]
        return cls(
            steps=any(before.steps != after.steps for before, after in both),
            rows=bool(both) and all(before.rows != after.rows for before, after in both),
        )


class _Trials:
    """Runs of the module at sizes of its named axes."""

    def __init__(self, module: nn.Module, layers: Layers, specs: Sequence[TensorSpec], maker: InputMaker) -> None:
        self.module, self.layers, self.specs, self.maker = module, layers, specs, maker
        self.ids = looked_up(module, specs)
        parameter = inspect.signature(module.forward).parameters.get("lengths")
        self.keyword = parameter is not None and all(spec.name != "lengths" for spec in specs)

    def moves(self, axes: Sequence[str]) -> dict[str, "_Moves"]:
        """Return what each axis moves in the layers.

        Raises:
            CaptureError: the module fails at all sizes.
        """
        failure: CaptureError | None = None
        found: dict[str, _Moves] = {}
        for before, after in SIZES:
            sizes = {**TRACED, **dict.fromkeys(axes, before)}
            # A stride may hide a change: an axis that moves nothing is tried at larger sizes too.
            still = [axis for axis in axes if axis not in found or not (found[axis].steps or found[axis].rows)]
            try:
                base = self._run(sizes)
                found |= {axis: _Moves.of(base, self._run(sizes | {axis: after})) for axis in still}
            except CaptureError as error:
                failure = failure or error
        if failure is not None and len(found) < len(axes):
            raise failure
        return found

    def _run(self, sizes: Mapping[str, int]) -> dict[str, Seen]:
        arrays = self.maker.make_sized(np.random.default_rng(0), sizes)
        for spec in self.specs:
            if (
                spec.dtype == "int64"
                and len(spec.axes) == 1
                and isinstance(spec.axes[0], str)
                and spec.name not in self.ids
            ):
                arrays[spec.name] = self._full(sizes, spec.axes[0])
        keywords = {}
        if self.keyword:
            first = next((axis for spec in self.specs for axis in spec.axes if isinstance(axis, str)), "")
            batch = BATCH if any(BATCH in spec.axes for spec in self.specs) else first
            keywords["lengths"] = self._full(sizes, batch)
        try:
            return see(self.module, self.layers, arrays, keywords)
        except LstmEdgeError:
            raise
        except Exception as error:  # the user's own module: whatever it raises is the answer
            raise module_failure(error, arrays) from error

    def _full(self, sizes: Mapping[str, int], rows: str) -> Array:
        """Lengths, if this input holds such: all steps of the shortest axis."""
        present = {axis for spec in self.specs for axis in spec.axes if isinstance(axis, str)} - {rows}
        steps = sizes[TIME] if TIME in present else min((sizes[axis] for axis in present), default=1)
        return np.full(sizes.get(rows, 1), steps, np.int64)
