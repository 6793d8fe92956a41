"""Gate orders as data, and the one function that changes one into another.

Every format stacks the gates' weights in one array, each in its own order. Here an order is a string with one
letter a gate: LSTM ``i`` input, ``f`` forget, ``g`` (or ``c``) candidate, ``o`` output; GRU ``r`` reset,
``z`` update, ``n`` (or ``h``) candidate; RNN ``h``, its only one.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_edge_runtime.errors import CaptureError

__all__ = [
    "GRU_ONNX",
    "GRU_PYTORCH",
    "LSTM_ONNX",
    "LSTM_PYTORCH",
    "PEEPHOLE_ONNX",
    "PEEPHOLE_PYTORCH",
    "RNN",
    "reorder_gates",
]

# Sources: torch.nn.LSTM and torch.nn.GRU (weight_ih_l[k]); ONNX operators LSTM (W, P) and GRU (W).
LSTM_PYTORCH = "ifgo"
LSTM_ONNX = "iofc"
PEEPHOLE_PYTORCH = "ifo"  # the order of this project's diagonal peepholes: nn.LSTM has none
PEEPHOLE_ONNX = "iof"
GRU_PYTORCH = "rzn"
GRU_ONNX = "zrh"
RNN = "h"

# PyTorch and ONNX name the candidate differently.
_SAME_GATE = {"c": "g", "h": "n"}


def reorder_gates(
    w: npt.NDArray[Any], *, src: str = LSTM_PYTORCH, dst: str = LSTM_ONNX, axis: int = 0
) -> npt.NDArray[Any]:
    """Return a copy of ``w`` with the blocks along ``axis`` reordered from ``src`` to ``dst``.

    Args:
        w: any dtype; ``axis`` has ``len(src) * H`` entries, H consecutive ones per gate.
        src: the order of ``w``, for example ``"ifgo"``.
        dst: the requested order of the same gates.
        axis: the axis that holds the gates.

    Raises:
        CaptureError: the two orders do not hold the same gates, or the axis does not divide into gates.
    """
    source, target = _letters(src), _letters(dst)
    if sorted(source) != sorted(target) or len(set(source)) != len(source) or not source:
        raise CaptureError(
            f"gate orders: got {src!r} and {dst!r}, expected the same gates in both, each once (c = g, h = n)"
        )
    if not -w.ndim <= axis < w.ndim or w.shape[axis] % len(source):
        raise CaptureError(
            f"gate order {src!r}: got an array of shape {w.shape}, "
            f"expected axis {axis} to hold {len(source)} * H entries"
        )
    blocks = dict(zip(source, np.split(w, len(source), axis=axis), strict=True))
    return np.concatenate([blocks[gate] for gate in target], axis=axis)


def _letters(order: str) -> Sequence[str]:
    return [_SAME_GATE.get(letter, letter) for letter in order]
