"""Writing a file in one step: it appears under its name whole or not at all.

The bytes go to a temporary file ``.lstm-edge-<random>.tmp`` in the same folder, which is locked (``flock``) as long as
its writer lives, and is renamed at the end. A process that was killed leaves its temporary file without a lock, and
the next write into that folder removes it. The name does not contain the target's, which may be as long as the file
system allows.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lstm_edge_runtime.errors import OutputError

__all__ = ["beside", "check_array_target", "check_state_target", "check_target", "locked_file", "write_atomically"]

_PREFIX, _SUFFIX = ".lstm-edge-", ".tmp"
# A folder on a file system that cannot flush a folder, or that may be written but not read.
_NO_FOLDER_FLUSH = (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM)
# What file systems allow where they do not say: 255 bytes in a name.
_LONGEST_NAME = 255


def check_target(path: str | os.PathLike[str], *endings: str) -> Path:
    """Refuse, before any work is done, a path that cannot be written.

    Args:
        path: the file to write; a symbolic link means the file that it points to, which need not exist yet.
        endings: what the name may end in, such as ``".onnx"``, in upper or lower case; without any, everything.

    Returns:
        The path as it was given.

    Raises:
        OutputError: the name has another ending or is not a file name; its folder is missing or not writable; the path
            is a directory, a device, a pipe, or a symbolic link in a loop.
    """
    _place(path, endings)
    return Path(path)


def check_array_target(path: str | os.PathLike[str], count: int | None = None) -> None:
    """Refuse a path that ``files.write_arrays`` could not write arrays to, before any work is done.

    Args:
        path: the file.
        count: the number of arrays; None: not known yet.

    Raises:
        OutputError: the name does not end in ``.npz`` (or ``.npy``, for one array), or the path is not writable.
    """
    suffix = Path(path).suffix
    if suffix not in (".npy", ".npz"):
        raise OutputError(f"{path}: the name must end in .npy or .npz")
    if suffix == ".npy" and count not in (None, 1):
        raise OutputError(f"{path}: an .npy file holds one array, there are {count}: use a name that ends in .npz")
    check_target(path)


def check_state_target(path: str | os.PathLike[str]) -> None:
    """Refuse a path that a state cannot be written to.

    Raises:
        OutputError: the name does not end in ``.npz``, or the path is not writable.
    """
    if Path(path).suffix != ".npz":
        raise OutputError(f"{path}: the name of a state file must end in .npz")
    check_target(path)


def write_atomically(path: str | os.PathLike[str], data: bytes, *, durable: bool = True) -> None:
    """Write a file that appears under its name whole or not at all; on failure an existing file stays as it was.

    The file and its new name are flushed to the disk before this returns. A symbolic link stays and the file behind it
    is replaced. A file that is replaced keeps its mode, its access control list and, where the system permits it, its
    owner and group; a new one gets the mode that the umask gives. A further hard link to a replaced file keeps the old
    contents. Temporary files of lstm-edge in that folder whose writer has died are removed.

    Args:
        path: the file.
        data: its bytes.
        durable: whether to wait until the disk has them, milliseconds or more. Without, a power cut may lose the file.

    Raises:
        OutputError: as ``check_target``, or the bytes cannot be written.
    """
    target = _place(path, ())
    try:
        _remove_abandoned(target.parent)
        with locked_file(target.parent) as (descriptor, temporary):
            with open(descriptor, "wb", closefd=False) as file:
                file.write(data)
            _copy_permissions(target, descriptor)
            if durable:
                os.fsync(descriptor)
            os.replace(temporary, target)
        if durable:
            _flush_folder(target.parent)
    except OSError as error:
        raise OutputError(f"{path}: the file cannot be written ({error.strerror or error})") from error


def beside(path: Path, ending: str) -> Path:
    """Return the path of a file that belongs to another: the same name with ``ending`` (ASCII) behind it.

    A name that would be longer than file systems allow is cut; a digest of the whole name keeps it different from that
    of another file. SQLite finds room for the ``-journal`` behind the name of a database.
    """
    name, most = os.fsencode(path.name), _LONGEST_NAME - len("-journal")
    if len(name) + len(ending) > most:
        digest = hashlib.sha256(name).hexdigest()[:16]
        kept = name[: most - len(ending) - len(digest) - 1]
        # A cut inside a character of several bytes leaves none of its bytes.
        return path.with_name(f"{kept.decode('utf-8', 'ignore')}.{digest}{ending}")
    return path.with_name(path.name + ending)


def _place(path: str | os.PathLike[str], endings: tuple[str, ...]) -> Path:
    """Return the file that a path means, behind all links; see ``check_target``."""
    shown = Path(path)
    try:
        os.fsencode(shown)
        if "\0" in os.fspath(shown):
            raise ValueError("it holds a null character")
    except ValueError as error:  # UnicodeEncodeError is one
        raise OutputError(f"{os.fspath(path)!r}: this cannot be the name of a file ({error})") from error
    try:
        target = Path(os.path.realpath(shown))
        linked = os.path.islink(shown)
        where = f"{path} (a link to {target})" if linked else f"{path}"
        _check_place(target, where, target.parent if linked else shown.parent)
    except OSError as error:
        raise OutputError(f"{path}: the file cannot be written ({error.strerror or error})") from error
    if endings and not shown.name.lower().endswith(endings):
        raise OutputError(f"{path}: the name must end in {' or '.join(endings)}")
    return target


def _check_place(target: Path, where: str, folder: Path) -> None:
    if not folder.is_dir():
        raise OutputError(f"{where}: the folder {folder} does not exist; make it first")
    longest = _longest_name(target.parent)
    if len(os.fsencode(target.name)) > longest:
        raise OutputError(
            f"{where}: the name has {len(os.fsencode(target.name))} bytes, its file system allows {longest}"
        )
    if target.is_symlink():  # realpath follows every link but those of a loop
        raise OutputError(f"{where}: this is a symbolic link in a loop; give the path of a file")
    if target.is_dir():
        raise OutputError(f"{where}: this is a directory; give the path of a file")
    if target.exists() and not target.is_file():
        # A rename would put a file in the place of /dev/null.
        raise OutputError(f"{where}: this is a device or a pipe; give the path of a file")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise OutputError(f"{where}: the folder {folder} is not writable")


def _longest_name(folder: Path) -> int:
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (OSError, ValueError):
        return _LONGEST_NAME


@contextlib.contextmanager
def locked_file(folder: Path) -> Iterator[tuple[int, str]]:
    """Make a temporary file, private to its owner and locked; removed at the end where it still has its name."""
    descriptor, name = _lock_new(folder)
    made = os.fstat(descriptor)
    try:
        yield descriptor, name
    finally:
        try:
            # While the lock is held: afterwards the name may be another writer's.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.lstat(name), made):
                    os.unlink(name)
        finally:
            os.close(descriptor)


def _lock_new(folder: Path) -> tuple[int, str]:
    while True:
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=_PREFIX, suffix=_SUFFIX)
        try:
            # A file system without locks: nobody else can lock the file either, so nobody removes it.
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            # Another process may have taken it for an abandoned one before it was locked.
            if os.fstat(descriptor).st_nlink:
                return descriptor, name
        except BaseException:
            os.close(descriptor)
            os.unlink(name)
            raise
        os.close(descriptor)


def _remove_abandoned(folder: Path) -> None:
    """Remove temporary files of dead writers; one that another process still locks, or another user's, stays."""
    try:
        names = [name for name in os.listdir(folder) if name.startswith(_PREFIX) and name.endswith(_SUFFIX)]
    except OSError:  # a folder that may be written but not read
        return
    for name in names:
        path = folder / name
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                found = os.fstat(descriptor)
                if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
                    continue
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Its writer may have finished between the two lines above.
                if os.path.samestat(os.lstat(path), found):
                    os.unlink(path)
            finally:
                os.close(descriptor)


def _copy_permissions(target: Path, descriptor: int) -> None:
    """Give the new file the owner, mode and access control list of the one it replaces, or a new file's mode."""
    try:
        old = os.stat(target)
    except FileNotFoundError:
        os.fchmod(descriptor, 0o666 & ~_umask())
        return
    new = os.fstat(descriptor)
    mode = stat.S_IMODE(old.st_mode)
    for owner, group in ((-1, old.st_gid), (old.st_uid, -1)):
        if owner in (-1, new.st_uid) and group in (-1, new.st_gid):
            continue
        try:
            os.fchown(descriptor, owner, group)
        except OSError:
            # Only root may give a file away. Bits that lend the owner's rights must not lend the writer's, and the
            # rights that the old group had are not those of the writer's.
            mode &= 0o777 if owner != -1 else 0o707
    os.fchmod(descriptor, mode)
    if mode != stat.S_IMODE(old.st_mode):
        return
    with contextlib.suppress(OSError):  # no list, or a file system without lists
        access = os.getxattr(target, "system.posix_acl_access")
        os.setxattr(descriptor, "system.posix_acl_access", access)


def _umask() -> int:
    # mkstemp makes files private to their owner. The mask can only be read by setting it, which is not safe
    # between threads, so Linux's own report is used where there is one.
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1], 8) for line in lines if line.startswith("Umask:"))
    except (OSError, StopIteration):
        return 0o022


def _flush_folder(folder: Path) -> None:
    """Put the new name on the disk: until then a power cut may bring the old file back, or none."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_FLUSH:
            raise
