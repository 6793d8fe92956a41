"""Read a file that only its owner may read: a private key."""

import os
import stat

from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.reading import reason

__all__ = ["read_private_file"]

AnyPath = str | os.PathLike[str]

_OTHERS = 0o077
_MOST_BYTES = 16_384


def read_private_file(path: AnyPath) -> bytes:
    """Read a file that only its owner may read; the rights are those of the file behind a symbolic link.

    Raises:
        InputError: the file is missing or too large, others have rights on it, or it belongs to another user.
    """
    where = os.fsdecode(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise InputError(f"{where}: the private key cannot be read ({reason(error)})") from None
    with open(descriptor, "rb") as file:
        # Of the open file: its name may point to another one a moment later.
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise InputError(f"{where}: this is not a file; give the path of a private key")
        data = file.read(_MOST_BYTES + 1)
        if b"PUBLIC KEY" in data:
            raise InputError(f"{where}: this is a public key; give the private one, without .pub")
        if found.st_mode & _OTHERS:
            raise InputError(
                f"{where}: others may use the private key: its mode is {stat.S_IMODE(found.st_mode):04o}, expected "
                f"0600 (chmod 600 {where}); if others could read it, make another key"
            )
        if found.st_uid not in (os.geteuid(), 0):
            raise InputError(f"{where}: the private key belongs to another user (number {found.st_uid})")
    if len(data) > _MOST_BYTES:
        raise InputError(f"{where}: the file has more than {_MOST_BYTES:,} bytes; expected a private key")
    return data
