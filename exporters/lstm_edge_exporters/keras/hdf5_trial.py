"""Reads what an HDF5 file says of itself, with h5py alone; run as a program, with the file on standard input.

Some damage makes the HDF5 library loop forever, or read past its buffers: one flipped bit in a heap of texts is
enough, and Python cannot interrupt that. So the file is read here first, in a process with limits. The same bytes
then do the same in the process that asked. Exit code 0 means that everything within reach was looked at. What cannot be
read at all is left to that process to say.
"""

import contextlib
import io
import math
import resource
import sys
import time
from typing import Any

import h5py

# Objects and attributes of one file; a Keras model has a few for each weight.
MOST_OBJECTS = 100_000


def visit(file: Any) -> None:
    """Read every link, attribute and shape that can be reached by plain links; each object once."""
    pending: list[Any] = [file]
    seen: set[int] = set()
    while pending and len(seen) < MOST_OBJECTS:
        found = pending.pop()
        with contextlib.suppress(Exception):
            for name in list(found.attrs):
                with contextlib.suppress(Exception):
                    found.attrs[name]
        if isinstance(found, h5py.Dataset):
            with contextlib.suppress(Exception):
                _ = (found.shape, found.dtype, found.id.get_create_plist().get_layout())
            continue
        if not isinstance(found, h5py.Group):
            continue
        with contextlib.suppress(Exception):
            for name in list(found):
                with contextlib.suppress(Exception):
                    if isinstance(found.get(name, getlink=True), h5py.HardLink):
                        child = found[name]
                        place = h5py.h5o.get_info(child.id).addr  # pyright: ignore[reportAttributeAccessIssue]  # not in its stub
                        if place not in seen:
                            seen.add(place)
                            pending.append(child)


def main(seconds: int, memory_bytes: int) -> None:
    """Limit this process and visit the file."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    data = sys.stdin.buffer.read()
    used = math.ceil(time.process_time())  # for the imports, which take seconds on a small board
    resource.setrlimit(resource.RLIMIT_CPU, (used + seconds, used + seconds + 1))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    with contextlib.suppress(Exception):
        visit(h5py.File(io.BytesIO(data), "r"))


if __name__ in ("__main__", "<lstm-edge>"):
    main(int(sys.argv[1]), int(sys.argv[2]))
