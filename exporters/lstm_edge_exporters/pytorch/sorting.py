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

    @property
    def order(self) -> Tensor | None:
        """The indices of the last sort, int64 [batch]; None where nothing was sorted."""
        return self.found[-1][1] if self.found else None

    def permutes(self, lengths: Tensor) -> bool:
        """Say whether these lengths, as forward packs by them, are sorted ones, and were in another order before."""
        return any(
            len(values) == len(lengths)
            and torch.equal(values[indices].long(), lengths.long())
            and not torch.equal(values.long(), lengths.long())
            for values, indices in self.found
        )

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

    def _recording(self, original: Any) -> Any:
        def sort(*arguments: Any, **options: Any) -> Any:
            result = original(*arguments, **options)
            values = arguments[0] if arguments else options.get("input")
            indices = result if isinstance(result, Tensor) else result[1]
            if isinstance(values, Tensor) and values.ndim == 1:
                self.found.append((values, indices))
            return result

        return sort
