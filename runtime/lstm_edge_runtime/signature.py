"""Decide whether a model file is accepted: signed by a trusted key, unaltered, and within the rules of the device.

``Session(path, trusted_keys=[...])`` calls ``check_signature`` with the bytes that it opens afterwards, before any of
them is parsed. docs/signing.md says what is signed and what each rule means.
"""

import hashlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from lstm_edge_runtime._ed25519 import PublicKey, parse_public_key, verifies
from lstm_edge_runtime.errors import InputError, LstmEdgeError, SignatureError
from lstm_edge_runtime.reading import open_file, read_bytes, translated
from lstm_edge_runtime.signature_text import (
    BUNDLE,
    MOST_SIGNATURE_BYTES,
    Statement,
    parse_signature,
    parse_version,
    time_text,
)

__all__ = ["SignatureFormat", "Signed", "Trust", "check_format", "check_signature", "read_trust", "signature_path"]

# Of a signature file: our own, which this module verifies, or a bundle, which lstm-edge verifies.
SignatureFormat = Literal["lstm-edge", "model-signing"]

AnyPath = str | os.PathLike[str]

_MOST_KEY_BYTES = 16_384
# A clock this far behind the time of signing counts as set: the signer's clock may be ahead by as much.
CLOCK_SKEW_S = 300
# What sign --format model-signing puts behind the model's path (lstm_edge.fleet.openssf).
_BUNDLE_ENDING = ".sigstore.json"
# Digits of a key's id in messages.
_SHOWN = 16


@dataclass(frozen=True, kw_only=True)
class Trust:
    """The keys and rules by which a file is accepted; ``read_trust`` makes one.

    Attributes:
        keys: the trusted keys by id.
        signature: the signature file, or its bytes; None: the model's path with ``.sig`` behind it.
        signed_name: name that the signature must give; None: any, or none.
        minimum_version: smallest version that is accepted; None: any, or none.
        require_clock: refuse a signature that expires if the device's clock is evidently not set.
    """

    keys: dict[str, PublicKey]
    signature: AnyPath | bytes | None = None
    signed_name: str | None = None
    minimum_version: str | None = None
    require_clock: bool = False


@dataclass(frozen=True, kw_only=True)
class Signed:
    """What is known of an accepted file.

    Attributes:
        statement: what the signature says.
        expiry_checked: whether the time of expiry was compared with the device's clock; True if there is none.
        note: why it was not compared, or an empty text.
    """

    statement: Statement
    expiry_checked: bool
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the statement as JSON values; times as text, None for what the signature does not give."""
        said = self.statement
        return {
            "key": said.key,
            "sha256": said.sha256,
            "name": said.name,
            "version": said.version,
            "signed": time_text(said.signed_s),
            "expires": None if said.expires_s is None else time_text(said.expires_s),
            "expiry_checked": self.expiry_checked,
        }

    def sentence(self) -> str:
        """Return the statement as one sentence."""
        said = self.statement
        what = " ".join(filter(None, (said.name, said.version)))
        until = "" if said.expires_s is None else f", expires {time_text(said.expires_s)}"
        return (
            f"signed{f' as {what}' if what else ''} by the key {said.key[:_SHOWN]} on {time_text(said.signed_s)}{until}"
        )


def read_trust(
    trusted_keys: Sequence[AnyPath] | None,
    *,
    signature: AnyPath | bytes | None = None,
    signed_name: str | None = None,
    minimum_version: str | None = None,
    require_clock: bool = False,
) -> Trust | None:
    """Read the trusted keys and check the rules.

    Args:
        trusted_keys: paths of public keys; a file that any of them signed is accepted. None: no signature is checked.
        signature: the signature file, or its bytes; None: the model's path with ``.sig`` behind it.
        signed_name: name that the signature must give; None: any.
        minimum_version: smallest version that is accepted; None: any.
        require_clock: refuse a signature that expires if the device's clock is evidently not set.

    Returns:
        The keys and rules, or None without trusted keys.

    Raises:
        InputError: there is no key in the list, a key cannot be read, the version is not one, or a rule is given
            without trusted keys, which would accept any file.
    """
    rules = {
        "signature": signature is not None,
        "signed_name": signed_name is not None,
        "minimum_version": minimum_version is not None,
        "require_clock": require_clock,
    }
    if trusted_keys is None:
        given = next((name for name, there in rules.items() if there), None)
        if given is not None:
            raise InputError(f"--{given.replace('_', '-')} requires --trusted-key: without one no signature is checked")
        return None
    if isinstance(trusted_keys, str | bytes | os.PathLike):
        raise InputError("trusted_keys must be a list of paths, such as ['k.pub']")
    keys = [_read_key(path) for path in trusted_keys]
    if not keys:
        raise InputError("trusted_keys is an empty list: no file could be accepted; give at least one public key")
    if minimum_version is not None:
        _check_minimum(minimum_version)
    return Trust(
        keys={key.id: key for key in keys},
        signature=signature,
        signed_name=signed_name,
        minimum_version=minimum_version,
        require_clock=bool(require_clock),
    )


def _check_minimum(minimum_version: str) -> None:
    """Refuse a smallest version that is not a version, and name the option.

    Raises:
        InputError: it is not one.
    """
    try:
        parse_version(minimum_version)
    except InputError as error:
        raise InputError(f"--minimum-version: {error}") from error


def _read_key(path: AnyPath) -> PublicKey:
    return parse_public_key(_read_small(path, InputError, _MOST_KEY_BYTES, expected="a public key"), os.fsdecode(path))


def signature_path(model: AnyPath) -> str:
    """Return the path of a model's signature: its own with ``.sig`` behind it."""
    return f"{os.fsdecode(model)}.sig"


def check_signature(data: bytes, trust: Trust, path: AnyPath | None) -> Signed:
    """Accept or refuse the bytes of a model file; none of them is parsed.

    Args:
        data: the whole file.
        trust: the keys and rules.
        path: of the file: the start of messages, and where its signature is unless ``trust`` names one. None: bytes.

    Raises:
        SignatureError: the file is refused; ``rule`` names the rule, and the message what was got and expected.
        InputError: the model is given as bytes, and no signature with it.
        MissingExtraError: the package ``cryptography`` is not installed.
    """
    where = "the model" if path is None else os.fsdecode(path)
    signature, place = _read_signature(trust, path, where)
    statement, message, proof = parse_signature(signature, place)
    key = trust.keys.get(statement.key)
    if key is None:
        known = ", ".join(sorted(name[:_SHOWN] for name in trust.keys))
        raise SignatureError(
            f"{where}: it is signed by the key {statement.key[:_SHOWN]}, which is not trusted; trusted: {known}",
            rule="key",
        )
    if not verifies(key, proof, message):
        raise SignatureError(
            f"{where}: the signature in {place} is wrong: it is not one of the key {statement.key[:_SHOWN]}, or it was "
            "altered; get the file and its signature again",
            rule="signature",
        )
    digest = hashlib.sha256(data).hexdigest()
    if (len(data), digest) != (statement.size_bytes, statement.sha256):
        raise SignatureError(
            f"{where}: the file is not the one that was signed: it has {len(data):,} bytes and SHA-256 "
            f"{digest[:_SHOWN]}, signed were {statement.size_bytes:,} and {statement.sha256[:_SHOWN]}; "
            "get the file again",
            rule="file",
        )
    _check_name(statement, trust, where)
    _check_version(statement, trust, where)
    note = _check_expiry(statement, where, _now(), require_clock=trust.require_clock)
    return Signed(statement=statement, expiry_checked=not note, note=note)


def _now() -> float:
    """Return the device's clock in seconds since 1970."""
    return time.time()


def _read_signature(trust: Trust, path: AnyPath | None, where: str) -> tuple[bytes, str]:
    """Return the bytes of the signature file, and its name for messages."""
    if isinstance(trust.signature, bytes):
        return trust.signature, "the signature"
    if trust.signature is None and path is None:
        raise InputError("a model that is given as bytes needs signature=: a path, or the bytes of the signature file")
    place = os.fsdecode(trust.signature if trust.signature is not None else signature_path(path or ""))
    if not os.path.exists(place):
        bundle = "" if path is None else f"{os.fsdecode(path)}{_BUNDLE_ENDING}"
        advice = f"{bundle} is {BUNDLE}" if os.path.exists(bundle) else "lstm-edge sign makes it"
        raise SignatureError(f"{where}: the file is not signed: {place} does not exist; {advice}", rule="missing")
    return _read_small(place, _UnreadableError, MOST_SIGNATURE_BYTES, expected="a signature file"), place


class _UnreadableError(SignatureError):
    """A signature file that cannot be read."""

    def __init__(self, message: str) -> None:
        super().__init__(message, rule="malformed")


def _read_small(path: AnyPath, error: type[LstmEdgeError], most: int, *, expected: str) -> bytes:
    with (
        translated(error, f"{os.fsdecode(path)}: the file cannot be read", f"; expected {expected}"),
        open_file(path, error, expected=expected) as file,
    ):
        return read_bytes(file, most)


def _check_name(statement: Statement, trust: Trust, where: str) -> None:
    if trust.signed_name is not None and statement.name != trust.signed_name:
        got = "without a name" if statement.name is None else f"as {statement.name!r}"
        raise SignatureError(
            f"{where}: the file is signed {got}, expected {trust.signed_name!r}: it is another model", rule="name"
        )


def _check_version(statement: Statement, trust: Trust, where: str) -> None:
    if trust.minimum_version is None:
        return
    if statement.version is None:
        raise SignatureError(
            f"{where}: the file is signed without a version, expected {trust.minimum_version} or later; "
            "sign it with --version",
            rule="version",
        )
    if parse_version(statement.version) < parse_version(trust.minimum_version):
        raise SignatureError(
            f"{where}: the file is version {statement.version}, expected {trust.minimum_version} or later: "
            "a device does not go back to an older one",
            rule="version",
        )


def _check_expiry(statement: Statement, where: str, now_s: float, *, require_clock: bool) -> str:
    """Refuse an expired signature; return a note if the device's clock is not set, so that nobody can tell.

    A clock before the time of signing is evidently not set, because the signature exists already.
    """
    if statement.expires_s is None:
        return ""
    expires, now = time_text(statement.expires_s), time_text(now_s)
    if now_s < statement.signed_s - CLOCK_SKEW_S:
        said = (
            f"this device's clock says {now}, which is before the signature was made "
            f"({time_text(statement.signed_s)}), so it is not set"
        )
        if require_clock:
            raise SignatureError(
                f"{where}: whether the signature expired ({expires}) cannot be said: {said}; set the clock, or leave "
                "out --require-clock",
                rule="clock",
            )
        return f"the expiry of the signature ({expires}) was not checked: {said}"
    if now_s >= statement.expires_s:
        raise SignatureError(
            f"{where}: the signature expired on {expires}; this device's clock says {now}; sign the model again",
            rule="expired",
        )
    return ""


def check_format(format: str) -> None:  # noqa: A002  # the option's name
    """Refuse an unknown format of signatures.

    Raises:
        InputError: it is neither ``"lstm-edge"`` nor ``"model-signing"``.
    """
    if format not in get_args(SignatureFormat):
        raise InputError(f"--format is {format!r}, expected one of {', '.join(get_args(SignatureFormat))}")
