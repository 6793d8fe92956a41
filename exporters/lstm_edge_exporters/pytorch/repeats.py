"""Does forward's answer depend on earlier calls in a way that no explicit state expresses?"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lstm_edge_exporters.pytorch.calls import Call, Enter, Layers, Pass, Tracker, call_in_place, state_parts
from lstm_edge_exporters.pytorch.outputs import flatten_outputs
from lstm_edge_exporters.pytorch.unchanged import generators_kept, on_copies
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.errors import CaptureError, first_line

__all__ = ["check_forgets"]


def check_forgets(
    module: nn.Module,
    layers: Layers,
    passes: Sequence[Pass],
    *,
    earlier: Mapping[str, Array],
    now: Mapping[str, Array],
    lengths: Array | None,
    changed: Sequence[str],
) -> None:
    """Refuse a module whose second call answers otherwise than its first one, from the same recurrent states.

    The exporter's states express what a recurrent layer starts from, if that is the state that it returned in the
    earlier call. Anything else that forward keeps, such as a running mean or the last frames of a convolution, would be
    missing in the file.

    Args:
        module: the module.
        layers: its recurrent layers.
        passes: their recurrent calls.
        earlier: the inputs of a first call.
        now: the inputs of the call that is compared; the same shapes.
        lengths: for forward's keyword ``lengths``.
        changed: the tensors that forward changes in the module, by path.

    Raises:
        CaptureError: it does, or it fails when it is called again.
    """
    places = {(item.module, _place(item, passes)): item for item in passes if item.explicit}
    starts: dict[tuple[str, int], tuple[Tensor, ...]] = {}

    def note(name: str, call: Call, hx: Any) -> Any:
        if call.first:
            # Copies: forward may write its new state into the same memory.
            starts[name, call.index] = tuple(part.clone() for part in state_parts(hx))
        return hx

    def zero(name: str, call: Call, hx: Any) -> Any:
        return None if call.first and (name, call.index) in places else hx

    def ask(arrays: Mapping[str, Array], enter: Enter | None = None) -> tuple[Any, Tracker]:
        with generators_kept():
            return call_in_place(module, layers, arrays, lengths, enter)

    with on_copies(module):
        expected, _ = ask(now)
    with on_copies(module):
        _, before = ask(earlier)
        try:
            with on_copies(module):
                ask(now, note)
            got, _ = ask(now, zero)
        except Exception as error:  # the user's own module: whatever it raises is the answer
            raise CaptureError(
                f"forward cannot be called twice: the second call raises {type(error).__name__}: {first_line(error)}"
                f"{_kept(changed)}"
            ) from error
    for key, item in places.items():
        if not _goes_on(starts.get(key, ()), before.final(key)):
            raise CaptureError(
                f"{item.name}: forward starts the layer from another state than the one that it returned in the call "
                f"before{_kept(changed)} ({item.line}): let forward take its state as an argument and return the new "
                "one"
            )
    if not _close(got, expected):
        raise CaptureError(
            f"forward answers otherwise when it is called again{_kept(changed)}, which the file would forget: let "
            "forward take it as an argument and return the new one, or start from the same values in every call"
        )


def _goes_on(parts: Sequence[Tensor], final: Sequence[Tensor]) -> bool:
    """Say whether a recurrent call starts from zeros, or from the state that the earlier one returned."""
    if not any(bool(part.any()) for part in parts):
        return True
    return len(parts) == len(final) and all(
        a.numel() == b.numel() and torch.equal(a.reshape(-1), b.reshape(-1)) for a, b in zip(parts, final, strict=True)
    )


def _place(item: Pass, passes: Sequence[Pass]) -> int:
    return [other for other in passes if other.module == item.module].index(item)


def _kept(changed: Sequence[str]) -> str:
    names = ", ".join(changed[:3]) + (" and others" if len(changed) > 3 else "")
    return f"; it keeps {names or 'something'} from call to call"


def _close(a: Any, b: Any) -> bool:
    left, right = flatten_outputs(a, ()), flatten_outputs(b, ())
    return left.keys() == right.keys() and all(_close_tensors(left[name], right[name]) for name in left)


def _close_tensors(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return torch.allclose(a.double(), b.double(), rtol=1e-5, atol=1e-6, equal_nan=True)
