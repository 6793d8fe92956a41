"""Functions of torch that are replaced during trial runs and export: packed sequences, and pooling.

torch.export cannot capture packing (facts: data-dependent sizes). While a graph is captured, the two functions hand on
the padded tensor together with its lengths instead, and a recurrent layer's stand-in takes both.
"""

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import rnn

from lstm_edge_exporters.pytorch.listed import Listed
from lstm_edge_exporters.pytorch.sorting import Sorts
from lstm_edge_runtime.errors import CaptureError

__all__ = ["Packing", "Padded", "exportable_functions", "replaced_packing"]

Pack = Callable[..., Any]


@dataclass(frozen=True)
class Padded:
    """Stands for a ``PackedSequence`` during export: x [T, B, F], anything past a row's end, and int64 [B] lengths.

    ``order`` int64 [B] says which row of forward's inputs each row is, where forward has sorted them; else None.
    """

    x: Tensor
    lengths: Tensor
    order: Tensor | None = None

    def __getattr__(self, name: str) -> Any:
        """Refuse what only a real ``PackedSequence`` has.

        Raises:
            CaptureError: always, except for the names that Python itself asks for.
        """
        if name.startswith("__"):
            raise AttributeError(name)
        raise CaptureError(
            f"forward uses PackedSequence.{name}, which cannot be exported: call pad_packed_sequence first and "
            "work on the padded tensor"
        )


@dataclass(eq=False)
class Packing:
    """Takes the place of ``pack_padded_sequence``.

    ``places`` says for each pack by which of forward's sorts its rows are ordered; None: by none.
    """

    listed: Listed
    sorts: Sorts
    places: Sequence[int | None]
    packs: int = 0

    def begin(self) -> None:
        """Get ready for one forward."""
        self.packs = 0
        self.sorts.found.clear()

    def __call__(
        self,
        input: Tensor,  # noqa: A002 - torch's own name for it
        lengths: Any,
        batch_first: bool = False,
        enforce_sorted: bool = True,
    ) -> Padded:
        """Return the padded rows with their lengths.

        Raises:
            CaptureError: the lengths are constants, or numbers that were changed in Python.
        """
        del enforce_sorted  # the graph takes rows in any order
        rows = lengths if isinstance(lengths, Tensor) else self.listed.tensor_of(lengths)
        if rows is None:
            raise CaptureError(
                f"forward packs sequences by numbers that do not depend on its inputs, {_shown(lengths)}: compute a "
                "tensor of lengths from the inputs, such as torch.full((x.shape[0],), x.shape[1])"
            )
        order = self.sorts.order(self.places[self.packs] if self.packs < len(self.places) else None)
        self.packs += 1
        return Padded(input.transpose(0, 1) if batch_first else input, rows.to(torch.int64), order)


def _shown(lengths: Any) -> str:
    numbers = [str(number) for number in lengths]
    return ", ".join(numbers[:4]) + (", ..." if len(numbers) > 4 else "")


def _pad(
    sequence: Padded, batch_first: bool = False, padding_value: float = 0.0, total_length: int | None = None
) -> tuple[Tensor, Tensor]:
    del total_length  # the graph keeps the input's number of steps
    if not isinstance(sequence, Padded):
        raise CaptureError(
            f"forward gives pad_packed_sequence a {type(sequence).__name__}, expected what pack_padded_sequence made"
        )
    x = sequence.x
    inside = torch.arange(x.shape[0])[:, None] < sequence.lengths[None, :]
    x = torch.where(inside[:, :, None], x, torch.full((), padding_value, dtype=x.dtype))
    return (x.transpose(0, 1) if batch_first else x), sequence.lengths


def _max_pool(  # noqa: PLR0917 - torch's own arguments
    input: Tensor,  # noqa: A002 - torch's own name for it
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    """max_pool1d as max_pool2d over one column: torch.export (2.13) fixes the number of steps in the former."""
    if return_indices:
        raise CaptureError(
            "forward asks max_pool1d for indices, which cannot be exported: call it without return_indices"
        )
    kernel, step, pad, spread = (
        size[0] if isinstance(size, tuple | list) else size for size in (kernel_size, stride, padding, dilation)
    )
    pooled = torch.nn.functional.max_pool2d(
        input.unsqueeze(-1), (kernel, 1), (step or kernel, 1), (pad, 0), (spread, 1), ceil_mode=ceil_mode
    )
    return pooled.squeeze(-1)


@contextlib.contextmanager
def exportable_functions(places: Sequence[int | None] = ()) -> Iterator[Packing]:
    """Let both functions work on ``Padded``, and pooling over time keep time dynamic, until the context ends.

    Args:
        places: for each pack, the place of the sort by which forward orders its rows.
    """
    functional: Any = torch.nn.functional
    pools = functional.max_pool1d, torch.max_pool1d
    packing = Packing(Listed(), Sorts(), places)
    with replaced_packing(lambda _original: packing, _pad), packing.listed.replaced(), packing.sorts.recorded():
        functional.max_pool1d = torch.max_pool1d = _max_pool
        try:
            yield packing
        finally:
            functional.max_pool1d, torch.max_pool1d = pools


@contextlib.contextmanager
def replaced_packing(pack: Callable[[Pack], Pack], pad: Pack | None = None) -> Iterator[None]:
    """Replace torch's two functions wherever a module holds them, also where it imported them by name.

    Args:
        pack: gets torch's ``pack_padded_sequence`` and returns what takes its place.
        pad: takes the place of ``pad_packed_sequence``; None leaves it.
    """
    replacements: dict[Pack, Pack] = {rnn.pack_padded_sequence: pack(rnn.pack_padded_sequence)}
    if pad is not None:
        replacements[rnn.pad_packed_sequence] = pad
    known = set(sys.modules)
    held = _holders(sys.modules.values(), replacements)
    for names, name, original in held:
        names[name] = replacements[original]
    try:
        yield
    finally:
        originals = {replacement: original for original, replacement in replacements.items()}
        # A module that was imported meanwhile took what stood there.
        loaded = (module for name, module in sys.modules.items() if name not in known)
        for names, name, replacement in _holders(loaded, originals):
            names[name] = originals[replacement]
        for names, name, original in held:
            names[name] = original


def _holders(modules: Iterable[object], values: Iterable[Pack]) -> list[tuple[dict[str, Any], str, Pack]]:
    """Return the namespace and the name of each place in modules that holds one of the values."""
    places = {id(value) for value in values}
    found: list[tuple[dict[str, Any], str, Pack]] = []
    for module in list(modules):
        names = getattr(module, "__dict__", {})
        if not places.isdisjoint(map(id, names.values())):  # modules have 250,000 names: this is a loop in C
            found += [(names, name, value) for name, value in list(names.items()) if id(value) in places]
    return found
