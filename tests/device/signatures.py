"""Signed files for the tests: made with the package ``cryptography`` alone, not with the command that signs."""

import hashlib
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

MODEL = Path(__file__).parent / "models" / "tagger.onnx"
# 2026-03-01T12:00:00Z
SIGNED_S = 1_772_366_400
DAY_S = 86_400


def key(number: int) -> Ed25519PrivateKey:
    """A key that is always the same."""
    return Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)


def public_pem(private: Ed25519PrivateKey) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return private.public_key().public_bytes(serialization.Encoding.PEM, form)


def key_id(private: Ed25519PrivateKey) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(private.public_key().public_bytes(serialization.Encoding.DER, form)).hexdigest()


def statement_lines(data: bytes, private: Ed25519PrivateKey, **changed: str | None) -> list[str]:
    """The lines that are signed; a value None leaves its line out."""
    values: dict[str, str | None] = {
        "key": key_id(private),
        "sha256": hashlib.sha256(data).hexdigest(),
        "size": str(len(data)),
        "name": "kws",
        "version": "1.4.2",
        "signed": "2026-03-01T12:00:00Z",
        "expires": "2026-03-11T12:00:00Z",
    }
    lines = (f"{name}: {value}" for name, value in (values | changed).items() if value is not None)
    return ["lstm-edge signature 1", *lines]


def signed_text(message: bytes, private: Ed25519PrivateKey) -> bytes:
    return message + f"signature: {private.sign(message).hex()}\n".encode()


def signature_of(data: bytes, private: Ed25519PrivateKey, **changed: str | None) -> bytes:
    message = "".join(f"{line}\n" for line in statement_lines(data, private, **changed)).encode()
    return signed_text(message, private)


def write_signed(folder: Path, number: int = 1, **changed: str | None) -> tuple[Path, Path]:
    """Write a model, its signature, and the public key; return the paths of the model and the key."""
    model, public = folder / "m.onnx", folder / f"{number}.pub"
    model.write_bytes(MODEL.read_bytes())
    public.write_bytes(public_pem(key(number)))
    (folder / "m.onnx.sig").write_bytes(signature_of(model.read_bytes(), key(number), **changed))
    return model, public
