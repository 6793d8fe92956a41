"""Give memory that was freed while a file was opened back to the system."""

import ctypes
import functools
from collections.abc import Callable

__all__ = ["give_back_heap"]

# Below this size of a file there is little to give back, and a call takes 0.1 to 0.7 ms.
LEAST_BYTES = 1 << 20


def give_back_heap(file_bytes: int) -> None:
    """Ask the C library to return free memory at the end of its heap, after a file of this many bytes was opened.

    glibc keeps up to twice the largest block that was freed: 7 MiB after a file of 14 MiB (``make bench-session``).
    Other C libraries lack the function, and nothing happens.
    """
    trim = _trim()
    if trim is not None and file_bytes >= LEAST_BYTES:
        trim(0)


@functools.cache
def _trim() -> Callable[[int], object] | None:
    found: Callable[[int], object] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return found
