"""Reading protobuf in one way only: what every reader of the format makes of the bytes, or a refusal.

Protobuf leaves room that no writer uses: numbers with needless digits, tags of which a reader drops the upper bits,
the same field twice (the last one counts, or the two are merged), fields of another type than declared, groups. In
that room two readers can see two models in one file. Here such a file is refused, so that what the checks saw is
what onnxruntime runs.
"""

from dataclasses import dataclass
from typing import Any

from lstm_edge_runtime._onnx_schema import BYTES, SCHEMAS, TEXT, VARINT, WIRE_TYPES, Field, Schema
from lstm_edge_runtime.errors import ArtifactError, IntegrityError

__all__ = ["Message", "TornError", "read_again", "read_protobuf"]

# Protobuf's readers stop at 100 messages in one another below the outermost; 32 graphs in one another take 98 of them.
_DEEPEST_MESSAGES = 101
_LONGEST_PATH = 12
_LENGTH, _GROUP = 2, 3
_FIXED_BYTES = {1: 8, 5: 4}
# Bytes of a number: 64 bits for a value; a tag has 32 bits, and a length at most 31.
_MOST_DIGITS, _MOST_TAG_DIGITS = 10, 5
_AGAIN = 'write it again with onnx.save(onnx.load("model.onnx"), "again.onnx")'


class TornError(ArtifactError):
    """The bytes are not a message at all: no reader of protobuf can read them to their end."""


class _RefusalError(Exception):
    """What is wrong, in a sentence; the fields on the way there are added as the readers return.

    ``ended``: the bytes end before the value does.
    """

    def __init__(self, problem: str, *, torn: bool = False, ended: bool = False) -> None:
        super().__init__(problem)
        self.problem, self.torn, self.ended = problem, torn or ended, ended
        self.path: list[str] = []


@dataclass(frozen=True, slots=True)
class Message:
    """One message: the fields that the checks look at, by name, and where its bytes lie in the file.

    Attributes:
        start: where its first byte lies in the file.
        end: where its last byte ends.
        fields: for each field that is given, its values in order: a Message, the text, the number (as its 64 bits),
            or the range of bytes ``(start, end)``.
    """

    start: int
    end: int
    fields: dict[str, list[Any]]

    def text(self, name: str) -> str:
        """Return the text of a field that is given once; empty where it is not given, as protobuf has it."""
        values = self.fields.get(name)
        return str(values[0]) if values else ""

    def texts(self, name: str) -> list[str]:
        """Return the texts of a repeated field, in the file's order."""
        return self.fields.get(name, [])

    def number(self, name: str) -> int:
        """Return the number of a field that is given once; 0 where it is not given."""
        values = self.fields.get(name)
        return int(values[0]) if values else 0

    def messages(self, name: str) -> list["Message"]:
        """Return the messages in a field, in the file's order."""
        return self.fields.get(name, [])

    def numbers(self, name: str, data: bytes) -> list[int]:
        """Return the numbers of a repeated field, also where they are packed; none where they are torn."""
        found: list[int] = []
        for value in self.fields.get(name, ()):
            if isinstance(value, int):
                found.append(value)
                continue
            at, end = value
            while at < end:
                try:
                    number, at = _read_number(data, at, end, _MOST_DIGITS, name)
                except _RefusalError:
                    return []
                found.append(number)
        return found


def read_protobuf(data: bytes) -> Message:
    """Read a serialized ModelProto strictly.

    Args:
        data: the whole file.

    Raises:
        IntegrityError: the bytes end within a field of the model: the file is truncated.
        TornError: the bytes are not a message: damaged, or something else.
        ArtifactError: readers of protobuf would take them in different ways, or a name is not UTF-8 text.
    """
    try:
        return _Reader(data).message(0, len(data), SCHEMAS["ModelProto"], True)
    except _RefusalError as refusal:
        path = refusal.path[::-1]
        where = ".".join(path if len(path) <= _LONGEST_PATH else [*path[:_LONGEST_PATH], ".."]) or "the model"
        # Every writer of ONNX begins with ir_version, field 1: other files that end early are of another format.
        if refusal.ended and not path and data[:1] == b"\x08":
            raise IntegrityError(f"the file is truncated: {refusal.problem}; copy the file again") from None
        if refusal.torn:
            raise TornError(
                f"onnxruntime cannot read the model: it is not an ONNX file or a damaged one, "
                f"{refusal.problem} in {where}"
            ) from None
        raise ArtifactError(f"the model cannot be read: {refusal.problem} in {where}; {_AGAIN}") from None


def read_again(data: bytes, message: Message, schema: Schema) -> Message:
    """Read a message of a file that ``read_protobuf`` accepted once more, to keep the fields that ``schema`` keeps."""
    return _Reader(data).message(message.start, message.end, schema, True)


class _Reader:
    """Reads the messages of one file; ``depth`` is how many are open."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.depth = 0

    def message(self, at: int, end: int, schema: Schema, keep: bool) -> Message:
        """Read the message of these bytes, and note its fields if they are kept."""
        data, tags, given = self.data, schema.tags, 0
        fields: dict[str, list[Any]] = {}
        message = Message(at, end, fields)
        self.depth += 1
        if self.depth > _DEEPEST_MESSAGES:
            raise _RefusalError("graphs are nested more than 32 deep, or other messages more than 100,")
        while at < end:
            tag = data[at]
            at += 1
            if tag > 127:
                tag, at = _long_number(data, at - 1, end, _MOST_TAG_DIGITS, "a tag")
            field = tags.get(tag)
            if field is None:
                at = _skip_unknown(data, at, end, tag, schema)
                continue
            if given & field.bars:
                raise _given_twice(field, given)
            given |= field.bit
            kept = fields if keep and field.kept else None
            value, at = self._value(tag & 7, at, end, field, kept)
            if kept is not None:
                kept.setdefault(field.name, []).append(value)
        self.depth -= 1
        return message

    def _value(self, wire: int, at: int, end: int, field: Field, kept: dict[str, list[Any]] | None) -> tuple[Any, int]:
        """Return a value as ``Message`` holds it, and where its bytes end."""
        data = self.data
        if wire != _LENGTH:
            if wire == WIRE_TYPES[VARINT]:
                return _read_number(data, at, end, _MOST_DIGITS, field.name)
            stop = at + _FIXED_BYTES[wire]
            if stop > end:
                raise _RefusalError(f"{field.name} is cut off", ended=True)
            return (at, stop), stop
        size, at = _read_number(data, at, end, _MOST_TAG_DIGITS, field.name)
        stop = at + size
        if stop > end:
            raise _RefusalError(f"{field.name} declares {size} bytes where {end - at} are left", ended=True)
        if field.schema is not None:
            try:
                return self.message(at, stop, field.schema, kept is not None), stop
            except _RefusalError as refusal:
                index = f"[{len(kept.get(field.name, ()))}]" if field.repeated and kept is not None else ""
                refusal.path.append(field.name + index)
                raise
        if field.kind != TEXT:
            return (at, stop), stop
        try:
            return data[at:stop].decode(), stop
        except UnicodeDecodeError:
            shown = data[at : min(stop, at + 40)]
            raise _RefusalError(f"{field.name} is not UTF-8 text ({shown!r})") from None


def _given_twice(field: Field, given: int) -> _RefusalError:
    if given & field.bit:
        return _RefusalError(f"{field.name} is given twice")
    return _RefusalError(f"{field.name} is given beside another field of which protobuf keeps only one,")


def _skip_unknown(data: bytes, at: int, end: int, tag: int, schema: Schema) -> int:
    """Return where a field ends that onnx.proto does not have; later versions may have it, and readers skip it."""
    number, wire = tag >> 3, tag & 7
    if number == 0:
        raise _RefusalError("a field has the number 0, or bytes follow the last field,", torn=True)
    if wire not in (0, 1, 2, 5):
        if wire == _GROUP:
            raise _RefusalError(f"field {number} is a group (wire type 3), which ONNX does not have,")
        raise _RefusalError(f"field {number} has the wire type {wire}", torn=True)
    if number in schema.numbers:
        field = schema.numbers[number]
        raise _RefusalError(f"{field.name} has the wire type {wire}, expected {WIRE_TYPES[field.kind]},")
    name = f"field {number}"
    if wire == WIRE_TYPES[VARINT]:
        return _read_number(data, at, end, _MOST_DIGITS, name)[1]
    if wire == WIRE_TYPES[BYTES]:
        size, at = _read_number(data, at, end, _MOST_TAG_DIGITS, name)
    else:
        size = _FIXED_BYTES[wire]
    if size > end - at:
        raise _RefusalError(f"{name} declares {size} bytes where {end - at} are left", ended=True)
    return at + size


def _read_number(data: bytes, at: int, end: int, most_digits: int, name: str) -> tuple[int, int]:
    """Read a base-128 number; nearly all have one digit."""
    if at < end and data[at] < 128:
        return data[at], at + 1
    return _long_number(data, at, end, most_digits, name)


def _long_number(data: bytes, at: int, end: int, most_digits: int, name: str) -> tuple[int, int]:
    """Read a base-128 number as a writer puts it: no needless digit, no more than its 64 (or a tag's 32) bits."""
    value = 0
    for place in range(most_digits):
        if at + place >= end:
            raise _RefusalError(f"{name} is cut off", ended=True)
        digit = data[at + place]
        value |= (digit & 127) << 7 * place
        if digit < 128:
            if digit == 0 and place:
                raise _RefusalError(f"{name} is a number with a needless digit (padded with zeros)")
            if value >> (64 if most_digits == _MOST_DIGITS else 32):
                raise _RefusalError(f"{name} is a number of more than {64 if most_digits == _MOST_DIGITS else 32} bits")
            return value, at + place + 1
    torn = most_digits == _MOST_DIGITS
    raise _RefusalError(f"{name} is a number of more than {most_digits} digits", torn=torn)
