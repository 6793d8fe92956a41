"""Which axes of example inputs are batch and time: batch and time lead, or the module runs at other sizes of others."""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from torch import Tensor, nn

from lstm_edge_exporters.pytorch.calls import Layers
from lstm_edge_exporters.pytorch.inputs import check_dtypes, infer_specs
from lstm_edge_exporters.pytorch.outputs import LONGER, TRACED, WIDER
from lstm_edge_exporters.pytorch.seen import Seen, see
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import BATCH, TIME, TensorSpec
from lstm_edge_runtime.errors import CaptureError, LstmEdgeError

__all__ = ["specs_of_examples"]

# Sets of axes that are tried for one size: a module of five inputs of rank 3 has at most some hundred.
MOST_SETS = 512

# A set of axes: the input's name and the place of the axis in it.
Places = tuple[tuple[str, int], ...]


def specs_of_examples(module: nn.Module, layers: Layers, examples: Mapping[str, Tensor]) -> tuple[TensorSpec, ...]:
    """Return the inputs with their axes named.

    Batch and time lead where the module runs so (``infer_specs``). Otherwise each axis of the examples is made larger,
    together with those of the other inputs that have its size: where the rows of the recurrent layers follow it is
    batch, where their steps do it is time, and what the module does not run with stays fixed.

    Raises:
        CaptureError: neither gives an answer; the message asks for ``inputs=[...]``.
    """
    check_dtypes(examples)
    refusal: CaptureError | None = None
    leading: tuple[TensorSpec, ...] = ()
    try:
        leading = infer_specs(layers, examples)
    except CaptureError as error:
        refusal = error
    trials = _Trials(module, layers, {name: example.detach().numpy() for name, example in examples.items()})
    if leading and trials.runs(leading):
        return leading
    if trials.run({}) is None:
        # The module does not take the examples either: what it says of them is the best answer.
        if refusal is not None:
            raise refusal
        return leading
    found = trials.search()
    if found is not None:
        return found
    shown = ", ".join(f"{name} {list(example.shape)}" for name, example in examples.items())
    raise refusal or CaptureError(
        f"which axes of the example inputs ({shown}) are batch and time cannot be told: the module runs on them and at "
        "no other size that was tried; give inputs=[...] to say which axis is which"
    )


class _Trials:
    """Runs of the module on the examples, repeated along some axes."""

    def __init__(self, module: nn.Module, layers: Layers, examples: Mapping[str, Array]) -> None:
        self.module, self.layers, self.examples = module, layers, examples

    def run(self, sizes: Mapping[tuple[str, int], int]) -> dict[str, Seen] | None:
        """Return what the layers see with other sizes of some axes; None where the module fails."""
        arrays = {name: self._resized(name, example, sizes) for name, example in self.examples.items()}
        try:
            return see(self.module, self.layers, arrays, {})
        except LstmEdgeError:
            raise
        except Exception:
            return None

    def runs(self, specs: Sequence[TensorSpec]) -> bool:
        """Say whether the module runs with these axes, and its layers' time does not follow the batch."""
        found = []
        for batch, time in ((TRACED[BATCH], TRACED[TIME]), (WIDER, TRACED[TIME]), (TRACED[BATCH], LONGER)):
            sizes = {BATCH: batch, TIME: time}
            places = {(s.name, i): sizes[axis] for s in specs for i, axis in enumerate(s.axes) if isinstance(axis, str)}
            found.append(self.run(places))
        base, wider, longer = found
        if base is None or wider is None or longer is None:
            return False
        swapped = [name for name, seen in base.items() if wider[name].steps != seen.steps == longer[name].steps]
        return not swapped

    def search(self) -> tuple[TensorSpec, ...] | None:
        """Find the axes that move together and are batch or time; None where there are none."""
        base = self.run({})
        assert base is not None
        batches, times = list[Places](), list[Places]()
        for size, places in self._sets():
            role = self._role(base, places, size)
            if role is not None:
                (times if role == TIME else batches).append(places)
        batch, time = _largest(BATCH, batches), _largest(TIME, times)
        if not batch and not time:
            return None
        names = {place: role for role, places in ((BATCH, batch), (TIME, time)) for place in places}
        return tuple(
            TensorSpec(
                name=name,
                dtype=example.dtype.name,
                axes=tuple(names.get((name, index), int(size)) for index, size in enumerate(example.shape)),
            )
            for name, example in self.examples.items()
        )

    def _role(self, base: Mapping[str, Seen], places: Places, size: int) -> str | None:
        for new in (size + 2, size * 2, size * 3):  # a stride may hide a small change
            seen = self.run(dict.fromkeys(places, new))
            if seen is None or set(seen) != set(base):
                continue
            if any(seen[name].steps != base[name].steps for name in base):
                return TIME
            if all(seen[name].rows != base[name].rows for name in base):
                return BATCH
        return None

    def _resized(self, name: str, example: Array, sizes: Mapping[tuple[str, int], int]) -> Array:
        """Repeat an example along some of its axes, or cut it: its values stay those that the module is made for.

        An integer without further axes may be a length: one of all steps stays one of all steps.
        """
        array = example
        for index, old in enumerate(example.shape):
            new = sizes.get((name, index), old)
            if new != old:
                array = np.take(array, np.arange(new) % old, axis=index)
        if array.ndim == 1 and array.dtype.kind == "i" and not any(other == name for other, _ in sizes):
            for (other, index), new in sizes.items():
                array = np.where(array == self.examples[other].shape[index], new, array).astype(array.dtype)
        return array

    def _sets(self) -> Iterator[tuple[int, Places]]:
        """Yield the sets of axes of one size, at most one of each input."""
        for size in sorted({size for example in self.examples.values() for size in example.shape}):
            choices: list[list[tuple[str, int] | None]] = [
                [None, *((name, index) for index, found in enumerate(example.shape) if found == size)]
                for name, example in self.examples.items()
            ]
            for chosen in itertools.islice(itertools.product(*choices), MOST_SETS):
                places = tuple(place for place in chosen if place is not None)
                if places:
                    yield size, places


def _largest(role: str, found: Sequence[Places]) -> Places:
    """The set of axes that has all others of its role in it: a smaller one is repeated by broadcasting."""
    if not found:
        return ()
    best = max(found, key=len)
    rival = next((places for places in found if not set(places) <= set(best)), None)
    if rival is not None:
        shown = " or ".join(", ".join(f"axis {index} of {name}" for name, index in places) for places in (best, rival))
        raise CaptureError(
            f"{shown}: the {'steps' if role == TIME else 'rows'} of the recurrent layers follow both, so which one is "
            f"{role} cannot be told; give inputs=[...] to say which axis is which"
        )
    return best
