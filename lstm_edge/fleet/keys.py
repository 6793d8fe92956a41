"""``lstm-edge keygen``: make a pair of keys for signing; and read a private key.

A private key is never printed, and no message quotes a part of its file: errors of the library that parses it are
dropped, not chained.
"""

import contextlib
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lstm_edge._imports import extra_named
from lstm_edge.fleet.openssf import make_bundle_key
from lstm_edge.fleet.private_file import read_private_file
from lstm_edge_runtime._ed25519 import PublicKey
from lstm_edge_runtime.errors import InputError, OutputError
from lstm_edge_runtime.reading import reason
from lstm_edge_runtime.signature import SignatureFormat, check_format

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["KeyReport", "keygen", "public_key_of", "read_private_key"]

AnyPath = str | os.PathLike[str]

_PRIVATE_MODE = 0o600
_PUBLIC_MODE = 0o644


@dataclass(frozen=True, kw_only=True)
class KeyReport:
    """A pair of keys that was made: the two files, and the key's id (64 hexadecimal digits)."""

    private: str
    public: str
    id: str

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values; the keys are not among them."""
        return dict(vars(self))


def keygen(key: AnyPath, *, format: SignatureFormat = "lstm-edge") -> KeyReport:  # noqa: A002  # the option's name
    """Make a pair of keys; implements ``lstm-edge keygen``.

    Both files are PEM, as openssl reads them: PKCS #8 and SubjectPublicKeyInfo.

    Args:
        key: the file to write the private key to, with mode 0600; the public key goes to the same path with ``.pub``
            behind it. Neither may exist yet, not even as a symbolic link.
        format: of the signatures to make: ``"lstm-edge"`` (Ed25519) or ``"model-signing"`` (ECDSA on P-256).

    Raises:
        InputError: the format is another one.
        OutputError: one of the files exists or cannot be written, or its file system does not keep the mode 0600.
        MissingExtraError: the package ``cryptography`` is not installed.
    """
    with extra_named("lstm-edge keygen"):
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    check_format(format)
    made = Ed25519PrivateKey.generate() if format == "lstm-edge" else make_bundle_key()
    private = made.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = made.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    path, beside = os.fsdecode(key), f"{os.fsdecode(key)}.pub"
    if os.path.lexists(beside):
        raise OutputError(f"{beside}: the file exists already; keygen replaces no key")
    _write_new(path, private, _PRIVATE_MODE)
    try:
        _write_new(beside, public, _PUBLIC_MODE)
    except BaseException:
        os.unlink(path)
        raise
    der = made.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return KeyReport(private=path, public=beside, id=hashlib.sha256(der).hexdigest())


def _write_new(path: str, data: bytes, mode: int) -> None:
    """Write a new file that has its mode from the beginning; nothing is left of it where that fails."""
    try:
        # O_EXCL refuses a symbolic link too, wherever it points.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError:
        raise OutputError(f"{path}: the file exists already; keygen replaces no key") from None
    except (OSError, ValueError) as error:
        raise OutputError(f"{path}: the file cannot be written ({reason(error)})") from None
    try:
        with open(descriptor, "wb") as file:
            if stat.S_IMODE(os.fstat(descriptor).st_mode) & ~mode:
                raise OutputError(f"{path}: its file system does not keep the mode {mode:04o}; choose another folder")
            file.write(data)
            file.flush()
            os.fsync(descriptor)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(path)
        if isinstance(error, OSError):
            raise OutputError(f"{path}: the file cannot be written ({reason(error)})") from None
        raise


def read_private_key(path: AnyPath) -> "Ed25519PrivateKey":
    """Read an Ed25519 private key from PEM (PKCS #8), as ``keygen`` and ``openssl genpkey`` write it.

    Raises:
        InputError: the file is missing, may be read or written by others, belongs to another user, or is not such a
            key.
        MissingExtraError: the package ``cryptography`` is not installed.
    """
    where = os.fsdecode(path)
    with extra_named("lstm-edge sign"):
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    pem = read_private_file(path)
    try:
        key = serialization.load_pem_private_key(pem, None)
    except TypeError:
        raise InputError(
            f"{where}: the private key is encrypted, and no passphrase is asked for; "
            f"openssl pkey -in {Path(path).name} -out plain.pem decrypts it"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise InputError(f"{where}: expected one private key as PEM, as lstm-edge keygen writes it") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(
            f"{where}: this is not an Ed25519 private key; lstm-edge keygen makes one, and an ECDSA key signs with "
            "--format model-signing"
        )
    return key


def public_key_of(key: "Ed25519PrivateKey") -> PublicKey:
    """Return the public key of a private one."""
    return PublicKey(key.public_key().public_bytes_raw())
