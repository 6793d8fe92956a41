"""The error of a module that fails by itself on inputs that the exporter made."""

import re
from collections.abc import Mapping

from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.errors import CaptureError, first_line

__all__ = ["module_failure"]

# How torch says that an axis is shorter than a window: stft, convolutions, and the padding of a centred stft.
TOO_SHORT = re.compile(
    r"^stft\(|Kernel size can't be greater than actual input size|Padding size should be less than the corresponding"
)
ONE_SIZE = "If an axis can have only one size, give that number instead of a name"
LONGER = (
    "The module needs a longer axis. Give that axis a number instead of a name; or pad it in front within forward; or, "
    "for mel bands or cepstra of sound, export the module behind them with --front-end (docs/audio.md)"
)


def module_failure(error: Exception, arrays: Mapping[str, Array]) -> CaptureError:
    """Return the error to raise: the shapes, the first line of the module's own error, and what to change.

    Args:
        error: what forward raised.
        arrays: the inputs by name.
    """
    shown = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())
    line = first_line(error)
    advice = LONGER if TOO_SHORT.search(line) else ONE_SIZE
    return CaptureError(f"the module itself fails on {shown}: {type(error).__name__}: {line}. {advice}")
