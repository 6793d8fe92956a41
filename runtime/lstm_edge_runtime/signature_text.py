"""The text of a signature file, ``m.onnx.sig``: what is signed, and the signature. docs/signing.md specifies it.

Each statement has one encoding: lines of ASCII in a fixed order, which ``encode_statement`` writes. A file that differs
from the encoding of what was read from it is refused, so no two readers can disagree about it.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from lstm_edge_runtime._ed25519 import SIGNATURE_BYTES
from lstm_edge_runtime.errors import InputError, SignatureError

__all__ = [
    "BUNDLE",
    "MOST_SIGNATURE_BYTES",
    "Statement",
    "encode_statement",
    "parse_signature",
    "parse_version",
    "signature_line",
    "time_text",
]

# The longest statement has 128 + 39 bytes of name and version, and about 400 of everything else.
MOST_SIGNATURE_BYTES = 4096
BUNDLE = "a bundle of model-signing, which only lstm-edge check --format model-signing verifies"
# Signed with the rest: a signature by the same key for another purpose, or of another version, is not one of these.
_HEADER = "lstm-edge signature 1"
_ANY_HEADER = re.compile(rb"lstm-edge signature [0-9]{1,9}")
_DIGEST = r"[0-9a-f]{64}"
_NUMBER = r"(?:0|[1-9][0-9]{0,8})"
_TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z"
_VERSION = rf"{_NUMBER}(?:\.{_NUMBER}){{0,3}}"
_NAME = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}"
# Key of a line, its value, what the value must be, and whether the line must be there.
_LINES = (
    ("key", _DIGEST, "64 hexadecimal digits", True),
    ("sha256", _DIGEST, "64 hexadecimal digits", True),
    ("size", r"[1-9][0-9]{0,9}", "a number of bytes", True),
    ("name", _NAME, "up to 128 letters, digits and . _ + -", False),
    ("version", _VERSION, "one to four numbers with dots, such as 1.4.2", False),
    ("signed", _TIME, "a time such as 2026-01-31T12:00:00Z", True),
    ("expires", _TIME, "a time such as 2026-01-31T12:00:00Z", False),
)
_SIGNATURE = re.compile(rf"signature: ([0-9a-f]{{{2 * SIGNATURE_BYTES}}})\n".encode())


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What a signature says about a file.

    Attributes:
        key: id of the key that signed: SHA-256 of its DER encoding, as 64 hexadecimal digits.
        sha256: SHA-256 of the whole file, as 64 hexadecimal digits.
        size_bytes: size of the file.
        name, version: of the model, as the signer gave them; None: not given.
        signed_s: time of signing, in seconds since 1970 (UTC).
        expires_s: time from which the signature is not valid any more; None: always valid.
    """

    key: str
    sha256: str
    size_bytes: int
    name: str | None = None
    version: str | None = None
    signed_s: int
    expires_s: int | None = None


def encode_statement(statement: Statement) -> bytes:
    """Return the bytes that are signed: the header and a line for each fact.

    Raises:
        InputError: a value has no encoding: a name with other characters, a version that is not numbers with dots, a
            time before the year 1 or after 9999.
    """
    values = {
        "key": statement.key,
        "sha256": statement.sha256,
        "size": str(statement.size_bytes),
        "name": statement.name,
        "version": statement.version,
        "signed": time_text(statement.signed_s),
        "expires": None if statement.expires_s is None else time_text(statement.expires_s),
    }
    lines = [_HEADER]
    for key, pattern, expected, required in _LINES:
        value = values[key]
        if value is None and not required:
            continue
        if value is None or re.fullmatch(pattern, value, re.ASCII) is None:
            raise InputError(f"--{key} is {value!r}, expected {expected}")
        lines.append(f"{key}: {value}")
    return "".join(f"{line}\n" for line in lines).encode("ascii")


def signature_line(signature: bytes) -> bytes:
    """Return the last line of a signature file, of a signature of 64 bytes."""
    return f"signature: {signature.hex()}\n".encode("ascii")


def parse_signature(data: bytes, where: str) -> tuple[Statement, bytes, bytes]:
    """Read a signature file.

    Args:
        data: the whole file, at most ``MOST_SIGNATURE_BYTES``.
        where: the start of messages: the path of the file.

    Returns:
        The statement, the bytes that were signed, and the signature of 64 bytes. Nothing of it is verified.

    Raises:
        SignatureError: the file is not a signature file in its one encoding.
    """
    if len(data) > MOST_SIGNATURE_BYTES:
        raise _malformed(where, f"it has more than {MOST_SIGNATURE_BYTES:,} bytes")
    header = data.partition(b"\n")[0]
    if header != _HEADER.encode():
        if _ANY_HEADER.fullmatch(header):
            raise _malformed(where, f"its format is {header.decode()!r}, this version reads {_HEADER!r}")
        if header.startswith(b"{"):
            raise _malformed(where, f"it is JSON, as is {BUNDLE}")
        raise _malformed(where, f"its first line is not {_HEADER!r}")
    last = data.rfind(b"\n", 0, -1) + 1
    found = _SIGNATURE.fullmatch(data, last)
    if found is None:
        raise _malformed(where, f"its last line is not 'signature: ' and {2 * SIGNATURE_BYTES} hexadecimal digits")
    message = data[:last]
    statement = _parse_statement(message, where)
    if encode_statement(statement) != message:
        raise _malformed(where, "it is not in the one encoding that docs/signing.md specifies")
    return statement, message, bytes.fromhex(found[1].decode("ascii"))


def _parse_statement(message: bytes, where: str) -> Statement:
    lines = message.decode("ascii", "replace").split("\n")[1:-1]
    values: dict[str, str] = {}
    at = 0
    for key, pattern, expected, required in _LINES:
        line = lines[at] if at < len(lines) else ""
        if not line.startswith(f"{key}: "):
            if required:
                raise _malformed(where, f"line {at + 2} is not '{key}: ' and {expected}")
            continue
        value = line.removeprefix(f"{key}: ")
        if re.fullmatch(pattern, value, re.ASCII) is None:
            raise _malformed(where, f"line {at + 2} is not '{key}: ' and {expected}")
        values[key] = value
        at += 1
    if at != len(lines):
        raise _malformed(where, f"line {at + 2} is not expected there")
    expires = values.get("expires")
    return Statement(
        key=values["key"],
        sha256=values["sha256"],
        size_bytes=int(values["size"]),
        name=values.get("name"),
        version=values.get("version"),
        signed_s=_seconds(values["signed"], where),
        expires_s=None if expires is None else _seconds(expires, where),
    )


def parse_version(text: str) -> tuple[int, int, int, int]:
    """Return a version as four numbers that compare as versions do: missing ones are 0, so 1.2 equals 1.2.0.

    Args:
        text: one to four numbers below 10^9 with dots between them, without leading zeros.

    Raises:
        InputError: the text is not a version.
    """
    if not isinstance(text, str) or re.fullmatch(_VERSION, text, re.ASCII) is None:
        raise InputError(f"the version is {text!r}, expected one to four numbers with dots, such as 1.4.2")
    first, second, third, fourth = [*map(int, text.split(".")), 0, 0, 0][:4]
    return first, second, third, fourth


def time_text(seconds: float) -> str:
    """Return a time in seconds since 1970 as text, such as ``2026-01-31T12:00:00Z``.

    Raises:
        InputError: the time is before the year 1 or after 9999.
    """
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError) as error:
        raise InputError(f"the time {seconds!r} has no date between the years 1 and 9999") from error
    # Linux's strftime writes years before 1000 without leading zeros.
    return f"{moment.year:04d}{moment.strftime('-%m-%dT%H:%M:%SZ')}"


def _seconds(text: str, where: str) -> int:
    try:
        return int(datetime.fromisoformat(text).timestamp())
    except (ValueError, OverflowError) as error:
        raise _malformed(where, f"the time {text} does not exist") from error


def _malformed(where: str, what: str) -> SignatureError:
    return SignatureError(f"{where}: this is not a signature file: {what}; sign the model again", rule="malformed")
