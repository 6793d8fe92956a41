"""Signatures in the format of OpenSSF's ``model-signing``: a Sigstore bundle, signed with an ECDSA key.

For organizations that verify with that package. Its statement has the file's digest, and no place for a version or an
expiry. The package is imported only here, and only within the functions that need it.
"""

import contextlib
import hashlib
import io
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lstm_edge._imports import extra_named
from lstm_edge.fleet.private_file import read_private_file
from lstm_edge_runtime.errors import InputError, SignatureError
from lstm_edge_runtime.reading import open_file, read_bytes, reason, translated

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

__all__ = ["BUNDLE_ENDING", "BundleSigned", "bundle_key_id", "check_bundle", "make_bundle", "make_bundle_key"]

AnyPath = str | os.PathLike[str]

BUNDLE_ENDING = ".sigstore.json"
_MOST_BUNDLE_BYTES = 2**20
_MOST_KEY_BYTES = 16_384
_CURVES = ("secp256r1", "secp384r1", "secp521r1")


@dataclass(frozen=True, kw_only=True)
class BundleSigned:
    """What a bundle says about a file: the id of the key that signed, and the file's SHA-256, in hexadecimal."""

    key: str
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """Return the statement as JSON values."""
        return dict(vars(self))

    def sentence(self) -> str:
        """Return the statement as one sentence."""
        return f"signed (model-signing) by the key {self.key[:16]}, without a version and an expiry"


def make_bundle_key() -> "EllipticCurvePrivateKey":
    """Return a new private key on the curve P-256.

    Raises:
        MissingExtraError: the package ``cryptography`` is not installed.
    """
    with extra_named("lstm-edge keygen"):
        from cryptography.hazmat.primitives.asymmetric import ec
    return ec.generate_private_key(ec.SECP256R1())


def make_bundle(data: bytes, name: str, key: AnyPath) -> tuple[bytes, BundleSigned]:
    """Sign a file with the package's signer.

    Args:
        data: the whole file.
        name: its name without folders, which the statement gives.
        key: the file of an ECDSA private key (P-256, P-384 or P-521), which nobody but its owner may read.

    Returns:
        The bundle, and what it says.

    Raises:
        InputError: the key cannot be used.
        MissingExtraError: the package ``model-signing`` is not installed.
    """
    with extra_named("--format model-signing"):
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
        from model_signing.signing import Config
    where, pem = os.fsdecode(key), read_private_file(key)
    try:
        private = load_pem_private_key(pem, None)
    except (TypeError, ValueError, UnsupportedAlgorithm):
        raise InputError(f"{where}: expected one unencrypted private key as PEM") from None
    if not isinstance(private, EllipticCurvePrivateKey) or private.curve.name not in _CURVES:
        raise InputError(
            f"{where}: this is not an ECDSA private key; lstm-edge keygen --format model-signing makes one"
        )
    with tempfile.TemporaryDirectory() as folder:
        model, bundle = Path(folder) / name, Path(folder) / f"{name}{BUNDLE_ENDING}"
        model.write_bytes(data)
        Config().use_elliptic_key_signer(private_key=os.fsdecode(key)).sign(model, bundle)
        said = BundleSigned(key=bundle_key_id(private.public_key()), sha256=hashlib.sha256(data).hexdigest())
        return bundle.read_bytes(), said


def bundle_key_id(key: "EllipticCurvePublicKey") -> str:
    """Return the id of an ECDSA key: SHA-256 of its DER encoding (SubjectPublicKeyInfo), 64 hexadecimal digits."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def check_bundle(
    data: bytes, path: AnyPath, signature: AnyPath | None, trusted_keys: Sequence[AnyPath]
) -> BundleSigned:
    """Accept or refuse the bytes of a model file by its bundle; none of them is parsed.

    The package verifies files, so it gets a private copy of the bytes: what is verified is what is opened afterwards.

    Args:
        data: the whole file.
        path: of the file, for messages; and the place of the bundle unless ``signature`` names one.
        signature: the bundle; None: the path with ``.sigstore.json`` behind it.
        trusted_keys: paths of ECDSA public keys as PEM; any of them is enough.

    Returns:
        What the bundle says.

    Raises:
        SignatureError: there is no bundle, or no key verifies it for these bytes.
        InputError: there is no key, or one cannot be used.
        MissingExtraError: the package ``model-signing`` is not installed.
    """
    with extra_named("--format model-signing"):
        from model_signing.verifying import Config
    if not trusted_keys:
        raise InputError("--format model-signing requires --trusted-key: without one no signature is checked")
    keys = [(_read_public_key(key), os.fsdecode(key)) for key in trusted_keys]
    where = os.fsdecode(path)
    place = os.fsdecode(signature) if signature is not None else f"{where}{BUNDLE_ENDING}"
    if not os.path.exists(place):
        raise SignatureError(
            f"{where}: the file is not signed: {place} does not exist; lstm-edge sign --format model-signing makes it",
            rule="missing",
        )
    with (
        translated(SignatureError, f"{place}: the file cannot be read"),
        open_file(place, SignatureError, expected="a bundle") as file,
    ):
        bundle = read_bytes(file, _MOST_BUNDLE_BYTES)
    refusals = []
    with tempfile.TemporaryDirectory() as folder:
        model, copy = Path(folder) / "model.onnx", Path(folder) / f"model.onnx{BUNDLE_ENDING}"
        model.write_bytes(data)
        copy.write_bytes(bundle)
        for number, (key, name) in enumerate(keys):
            public = Path(folder) / f"{number}.pub"
            public.write_bytes(key)
            try:
                # The package prints a warning about bundles of its earlier versions.
                with contextlib.redirect_stdout(io.StringIO()):
                    Config().use_elliptic_key_verifier(public_key=public).verify(model, copy)
            except Exception as error:  # whatever its parsers raise for hostile bytes means: not verified
                refusals.append(f"{name}: {reason(error)}")
            else:
                return BundleSigned(key=_id_of(key), sha256=hashlib.sha256(data).hexdigest())
    raise SignatureError(
        f"{where}: model-signing verifies the bundle {place} with none of the trusted keys ({'; '.join(refusals)})",
        rule="signature",
    )


def _read_public_key(path: AnyPath) -> bytes:
    where = os.fsdecode(path)
    with (
        translated(InputError, f"{where}: the file cannot be read", "; expected a public key"),
        open_file(path, InputError, expected="a public key") as file,
    ):
        pem = read_bytes(file, _MOST_KEY_BYTES)
    if b"PRIVATE KEY" in pem:
        raise InputError(f"{where}: this is a private key; give the public one, which keygen wrote beside it as .pub")
    try:
        _id_of(pem)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{where}: this is not an ECDSA public key; lstm-edge keygen --format model-signing makes one"
        ) from error
    return pem


def _id_of(pem: bytes) -> str:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(pem)
    except UnsupportedAlgorithm as error:
        raise ValueError("an unknown algorithm") from error
    if not isinstance(key, EllipticCurvePublicKey) or key.curve.name not in _CURVES:
        raise TypeError("another kind of key")
    return bundle_key_id(key)
