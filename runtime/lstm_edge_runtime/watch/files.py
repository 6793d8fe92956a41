"""The file of the metrics: a text that is replaced whole, or lines that are appended whole."""

import os
from pathlib import Path

from lstm_edge_runtime.errors import OutputError
from lstm_edge_runtime.writing import write_atomically

__all__ = ["append_line", "write_text_file"]


def write_text_file(path: Path, text: str) -> None:
    """Replace a file: a reader sees the old text or the new one. It does not wait for the disk.

    Raises:
        OutputError: the file cannot be written; the old one stays.
    """
    write_atomically(path, text.encode(), durable=False)


def append_line(path: Path, line: str) -> None:
    """Append a line to a file, which is opened and closed for it, so that another program may rename it meanwhile.

    Raises:
        OutputError: the line cannot be written; nothing of it is left in the file.
    """
    data = line.encode() + b"\n"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
        try:
            written = os.write(descriptor, data)
            if written < len(data):
                os.ftruncate(descriptor, os.fstat(descriptor).st_size - written)
                raise OutputError(f"{path}: the file cannot be written (only {written} of {len(data)} bytes were)")
        finally:
            os.close(descriptor)
    except OSError as error:
        raise OutputError(f"{path}: the file cannot be written ({error.strerror or error})") from error
