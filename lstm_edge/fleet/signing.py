"""``lstm-edge sign``: write a detached signature of a model file. docs/signing.md says what is signed."""

import hashlib
import os
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lstm_edge.fleet.keys import public_key_of, read_private_key
from lstm_edge.fleet.openssf import BUNDLE_ENDING, BundleSigned, make_bundle
from lstm_edge_runtime.artifact import check_integrity, read_model_bytes
from lstm_edge_runtime.errors import ArtifactError, InputError
from lstm_edge_runtime.model_reading import read_model
from lstm_edge_runtime.signature import SignatureFormat, Signed, check_format, signature_path
from lstm_edge_runtime.signature_text import Statement, encode_statement, signature_line
from lstm_edge_runtime.writing import check_target, write_atomically

__all__ = ["SignReport", "sign"]

AnyPath = str | os.PathLike[str]

_SECONDS = {"h": 3600, "d": 86_400}
_SPAN = re.compile(r"([1-9][0-9]{0,5})([hd])", re.ASCII)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}:[0-9]{2}Z)?", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class SignReport:
    """A signature that was written: the file, and what it says."""

    output: str
    signature: Signed | BundleSigned

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        values = self.signature.to_json()
        values.pop("expiry_checked", None)
        return {"output": self.output} | values


def sign(
    model: AnyPath,
    *,
    key: AnyPath,
    output: AnyPath | None = None,
    name: str | None = None,
    version: str | None = None,
    expires: str | None = None,
    format: SignatureFormat = "lstm-edge",  # noqa: A002  # the option's name
) -> SignReport:
    """Sign a model file; implements ``lstm-edge sign``. An earlier signature is replaced.

    Args:
        model: the ``.onnx`` file.
        key: the file of the private key, which nobody but its owner may read.
        output: the signature file; None: the model's path with ``.sig`` behind it.
        name: name of the model, which a device can require: letters, digits and ``. _ + -``.
        version: one to four numbers with dots, such as ``"1.4.2"``; a device can require a smallest one.
        expires: the first moment at which the signature is not valid any more: a day or a time in UTC
            (``"2027-01-31"``, ``"2027-01-31T12:00:00Z"``), or a span from now (``"90d"``, ``"12h"``).
        format: ``"lstm-edge"``, or ``"model-signing"``: a bundle of OpenSSF's package by an ECDSA key, in a file that
            ends in ``.sigstore.json``. It has no place for a name, a version and an expiry.

    Returns:
        The file that was written and what it says.

    Raises:
        InputError: the key cannot be used; a name, version or time has another form or is given for a bundle; or the
            expiry is not in the future.
        ArtifactError, IntegrityError: the model cannot be read, or is damaged.
        OutputError: the signature cannot be written.
        MissingExtraError: the package ``cryptography``, or for a bundle ``model-signing``, is not installed.
    """
    check_format(format)
    if format == "model-signing":
        said = {"--name": name, "--version": version, "--expires": expires}
        given = next((option for option, value in said.items() if value is not None), None)
        if given is not None:
            raise InputError(f"{given} requires --format lstm-edge: a bundle of model-signing has no place for it")
        beside = f"{os.fsdecode(model)}{BUNDLE_ENDING}"
        target = check_target(beside if output is None else output)
        bundle, signed = make_bundle(_read_whole(model), os.path.basename(os.fsdecode(model)), key)
        write_atomically(target, bundle)
        return SignReport(output=os.fsdecode(target), signature=signed)
    target = check_target(signature_path(model) if output is None else output)
    private = read_private_key(key)
    data = _read_whole(model)
    now_s = int(time.time())
    statement = Statement(
        key=public_key_of(private).id,
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
        name=name,
        version=version,
        signed_s=now_s,
        expires_s=None if expires is None else parse_expiry(expires, now_s),
    )
    message = encode_statement(statement)
    write_atomically(target, message + signature_line(private.sign(message)))
    return SignReport(output=os.fsdecode(target), signature=Signed(statement=statement, expiry_checked=True))


def _read_whole(model: AnyPath) -> bytes:
    """Read a model, and refuse what no device would open: a damaged file, or another kind of file."""
    data = read_model_bytes(model)
    try:
        check_integrity(data)
        read_model(data)
    except ArtifactError as error:
        raise type(error)(f"{os.fsdecode(model)}: {error}") from error
    return data


def parse_expiry(text: str, now_s: int) -> int:
    """Return a time of expiry in seconds since 1970.

    Args:
        text: a day, a time in UTC, or a span such as ``90d`` or ``12h``.
        now_s: the time of signing.

    Raises:
        InputError: the text is none of them, or the time is not after ``now_s``.
    """
    span = _SPAN.fullmatch(text)
    try:
        if span is not None:
            return now_s + int(span[1]) * _SECONDS[span[2]]
        if _DATE.fullmatch(text) is None:
            raise ValueError("another form")
        moment = datetime.fromisoformat(text)
        seconds = int(moment.replace(tzinfo=UTC).timestamp())
    except ValueError as error:
        raise InputError(
            f"--expires is {text!r}, expected a day or a time in UTC (2027-01-31, 2027-01-31T12:00:00Z) or a span "
            "(90d, 12h)"
        ) from error
    if seconds <= now_s:
        raise InputError(f"--expires is {text!r}, which is not in the future")
    return seconds
