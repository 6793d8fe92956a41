"""One layer's options as the file has them: typed, ranged, and none left unread that would change the answer."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from lstm_edge_exporters.keras.hdf5 import shown
from lstm_edge_runtime.errors import CaptureError

__all__ = ["LARGEST_SIZE", "Options"]

# Far above what an embedded device runs: no sum or product of sizes comes near what NumPy cannot count.
LARGEST_SIZE = 2**20
MISSING = object()
# What only training uses, or says again what the shapes say.
WITHOUT_MEANING = re.compile(
    r".*_(initializer|regularizer|constraint)|name|trainable|dtype|batch_shape|batch_input_shape|seed|momentum|"
    r"implementation|unroll|unit_forget_bias|synchronized|input_length|noise_shape|build_config|renorm_.*"
)


class Options:
    """The options of one layer, read by name.

    Attributes:
        name: the layer's name. class_name: its class. values: the raw JSON object.

    Raises:
        CaptureError: from every reader: the option is missing, has another type or is out of range.
    """

    def __init__(self, name: str, class_name: str, values: Mapping[str, Any]) -> None:
        self.name = name
        self.class_name = class_name
        self.values = values
        self._read: set[str] = set()

    @property
    def kind(self) -> str:
        """The class without those of the wrappers around it."""
        return self.class_name.rpartition(" of ")[2]

    def __str__(self) -> str:
        return f"layer {shown(self.name)} ({self.class_name})"

    def refuse(self, reason: str) -> CaptureError:
        """Return the error that refuses this layer, to be raised."""
        return CaptureError(f"{self}: {reason}")

    def get(self, key: str, default: Any = MISSING) -> Any:
        """Return an option as it is in the file."""
        self._read.add(key)
        value = self.values.get(key, default)
        if value is MISSING:
            raise self.refuse(f"the option {key!r} is missing from the file")
        return value

    def flag(self, key: str, default: Any = MISSING) -> bool:
        """Return true or false."""
        value = self.get(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, value, "true or false")
        return value

    def number(self, key: str, default: Any = MISSING, *, least: float = -math.inf) -> float:
        """Return a finite number, ``least`` or more."""
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < least:
            raise self._wrong(key, value, "a finite number" + (f", {least:g} or more" if least > -math.inf else ""))
        return float(value)

    def size(self, key: str, default: Any = MISSING) -> int:
        """Return an integer from 1 to ``LARGEST_SIZE``."""
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST_SIZE:
            raise self._wrong(key, value, f"an integer from 1 to {LARGEST_SIZE}")
        return value

    def steps(self, key: str, axes: int, default: Any = MISSING) -> tuple[int, ...]:
        """Return a size along each axis, which Keras writes as one number or as a list of one for each axis."""
        value = self.get(key, default)
        found = list(value) if isinstance(value, list | tuple) else [value] * axes
        good = all(isinstance(size, int) and not isinstance(size, bool) and 1 <= size <= LARGEST_SIZE for size in found)
        if len(found) != axes or not good:
            expected = f"an integer from 1 to {LARGEST_SIZE}" + (", or one for each axis" if axes > 1 else "")
            raise self._wrong(key, value, expected)
        return tuple(found)

    def choice(self, key: str, allowed: Sequence[str | None], default: Any = MISSING) -> str | None:
        """Return one of the allowed values."""
        value = self.get(key, default)
        if not (value is None or isinstance(value, str)) or value not in allowed:
            raise self._wrong(key, value, " or ".join(repr(entry) for entry in allowed))
        return value

    def only(self, key: str, expected: Any) -> None:
        """Refuse any value except the supported one; a missing option is the expected one."""
        value = self.get(key, expected)
        if value != expected or isinstance(value, bool) != isinstance(expected, bool):
            raise self._wrong(key, value, f"{expected!r}, the only one that is exported")

    def finish(self) -> None:
        """Refuse an option that nobody read and that is set: it may change the answer.

        Raises:
            CaptureError: there is one, or the layer computes in another type than float32.
        """
        self._check_dtype()
        for key, value in self.values.items():
            unset = value is None or value is False or value in ([], {}) or key in self._read
            if not unset and not WITHOUT_MEANING.fullmatch(str(key)):
                raise self.refuse(f"the option {shown(key)} is {shown(value)}, which this version does not know")

    def _check_dtype(self) -> None:
        dtype = self.values.get("dtype", "float32")
        if isinstance(dtype, dict):
            inner = dtype.get("config")
            dtype = inner.get("name") if isinstance(inner, dict) else dtype
        if dtype not in ("float32", None):
            raise self.refuse(
                f"it computes in {shown(dtype)}, expected float32: give it that dtype policy and save the model again"
            )

    def _wrong(self, key: str, value: Any, expected: str) -> CaptureError:
        return self.refuse(f"the option {key!r} is {shown(value)}, expected {expected}")
