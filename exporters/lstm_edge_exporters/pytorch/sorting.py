"""The rows that forward sorts by their lengths: which sort it was, while forward runs or is traced."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

__all__ = ["Sorts"]


class Sorts:
    """The sorts of one forward, in order: what was sorted, and the indices that sort it."""

    def __init__(self) -> None:
        self.found: list[tuple[Tensor, Tensor]] = []
        self._paused = False

    def order(self, place: int | None) -> Tensor | None:
        """Return the indices of the sort at a place, int64 [batch]; None where there is no such."""
        return self.found[place][1] if place is not None and place < len(self.found) else None

    def places(self, lengths: Tensor) -> set[int]:
        """Return which sorts gave these lengths, from lengths in another order."""
        return {
            place
            for place, (values, indices) in enumerate(self.found)
            if len(values) == len(lengths)
            and torch.equal(values[indices].long(), lengths.long())
            and not torch.equal(values.long(), lengths.long())
        }

    @contextlib.contextmanager
    def recorded(self) -> Iterator[None]:
        """Record the sorts of tensors with one axis until the context ends."""
        changed: list[tuple[Any, str, Any]] = []
        for owner in (torch, Tensor):
            for name in ("sort", "argsort", "topk"):
                changed.append((owner, name, getattr(owner, name)))
        try:
            for owner, name, original in changed:
                setattr(owner, name, self._recording(original))
            yield
        finally:
            for owner, name, original in changed:
                if owner is Tensor:
                    delattr(owner, name)  # what Tensor inherits from its base in C
                else:
                    setattr(owner, name, original)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Record nothing until the context ends."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    def _recording(self, original: Any) -> Any:
        def sort(*arguments: Any, **options: Any) -> Any:
            recorded = not self._paused
            with self.paused():  # a traced tensor comes here several times
                result = original(*arguments, **options)
            values = arguments[0] if arguments else options.get("input")
            indices = result if isinstance(result, Tensor) else result[1]
            if recorded and isinstance(values, Tensor) and values.ndim == 1:
                self.found.append((values, indices))
            return result

        return sort
