"""Ed25519 (RFC 8032): public keys as PEM, and the verification of a signature.

Only ``verifies`` imports the package ``cryptography``, and only when it is called: a device that verifies nothing does
not need it.
"""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass

from lstm_edge_runtime.errors import InputError, MissingExtraError

__all__ = ["SIGNATURE_BYTES", "PublicKey", "parse_public_key", "verifies"]

SIGNATURE_BYTES = 64
# RFC 8410: SubjectPublicKeyInfo of an Ed25519 key is these 12 bytes and the 32 of the key.
_PREFIX = bytes.fromhex("302a300506032b6570032100")
_KEY_BYTES = 32
# The identifier of keys for elliptic curves, 1.2.840.10045.2.1 (RFC 5480): those of bundles of model-signing.
_ELLIPTIC = bytes.fromhex("06072a8648ce3d0201")
_PEM = re.compile(rb"-----BEGIN PUBLIC KEY-----\r?\n([A-Za-z0-9+/=\r\n]{1,4096})-----END PUBLIC KEY-----\s*")
MISSING = "verifying a signature needs 'cryptography', which is not installed: pip install 'lstm-edge-runtime[sign]'"


@dataclass(frozen=True)
class PublicKey:
    """An Ed25519 public key: ``raw`` is its 32 bytes."""

    raw: bytes

    @property
    def id(self) -> str:
        """The key's id: SHA-256 of its DER encoding (SubjectPublicKeyInfo), 64 hexadecimal digits."""
        return hashlib.sha256(_PREFIX + self.raw).hexdigest()


def parse_public_key(pem: bytes, where: str) -> PublicKey:
    """Read an Ed25519 public key.

    Args:
        pem: one PEM block ``PUBLIC KEY``, as ``lstm-edge keygen`` and ``openssl pkey -pubout`` write it.
        where: the start of messages, such as the path of the file.

    Raises:
        InputError: the text is not such a block, or holds a private key or a key of another kind.
    """
    if b"PRIVATE KEY" in pem:
        raise InputError(f"{where}: this is a private key; give the public one, which keygen wrote beside it as .pub")
    found = _PEM.fullmatch(pem)
    if found is None:
        raise InputError(f"{where}: expected one public key as PEM, as lstm-edge keygen writes it")
    digits = found[1].replace(b"\r", b"").replace(b"\n", b"")
    try:
        der = base64.b64decode(digits, validate=True)
    except binascii.Error as error:
        raise InputError(f"{where}: the PEM block of the public key is damaged ({error})") from error
    # The last digit has bits that no byte takes.
    if base64.b64encode(der) != digits:
        raise InputError(f"{where}: the PEM block of the public key is damaged (its last digit)")
    if _ELLIPTIC in der[:16]:
        raise InputError(
            f"{where}: this is an ECDSA key, expected an Ed25519 one; only lstm-edge check --format model-signing "
            "verifies a bundle of model-signing"
        )
    if not der.startswith(_PREFIX) or len(der) != len(_PREFIX) + _KEY_BYTES:
        raise InputError(f"{where}: this is not an Ed25519 public key; lstm-edge keygen makes one")
    return PublicKey(der[len(_PREFIX) :])


def verifies(key: PublicKey, signature: bytes, message: bytes) -> bool:
    """Return whether a signature of 64 bytes is that of ``message`` by the key (RFC 8032, Ed25519 without prehash).

    Raises:
        MissingExtraError: the package ``cryptography`` is not installed.
    """
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ModuleNotFoundError as error:
        raise MissingExtraError(MISSING) from error
    try:
        Ed25519PublicKey.from_public_bytes(key.raw).verify(signature, message)
    except InvalidSignature:
        return False
    return True
