"""The text of a signature file: one encoding, and one sentence for everything else."""

import re
from pathlib import Path

import pytest

pytest.importorskip("cryptography")
from hypothesis import example, given, settings
from hypothesis import strategies as st
from signatures import MODEL, key, signature_of, signed_text, statement_lines

from lstm_edge_runtime import InputError, SignatureError
from lstm_edge_runtime.signature_text import (
    Statement,
    encode_statement,
    parse_signature,
    parse_version,
    signature_line,
    time_text,
)

DATA = MODEL.read_bytes()
LINES = statement_lines(DATA, key(1))


def text_of(lines):
    return signed_text("".join(f"{line}\n" for line in lines).encode(), key(1))


def malformed(data):
    with pytest.raises(SignatureError) as caught:
        parse_signature(data, "m.sig")
    assert caught.value.rule == "malformed"
    message = str(caught.value)
    assert message.startswith("m.sig: this is not a signature file: ")
    assert len(message) < 400
    assert message.isprintable()
    return message


def with_line(at, *lines):
    return text_of([*LINES[:at], *lines, *LINES[at + 1 :]])


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "its first line is not 'lstm-edge signature 1'"),
        (b"\n", "its first line is not"),
        (b"x" * 5000, "it has more than 4,096 bytes"),
        (b"[" * 4096, "its first line is not"),
        (text_of(["lstm-edge signature 2", *LINES[1:]]), "its format is 'lstm-edge signature 2', this version reads"),
        (text_of(LINES)[:-1], "its last line is not 'signature: ' and 128 hexadecimal digits"),
        (text_of(LINES) + b"\n", "its last line is not"),
        (text_of(LINES).replace(b"\n", b"\r\n"), "its first line is not"),
        (b"\xef\xbb\xbf" + text_of(LINES), "its first line is not"),
        (text_of(LINES[:1]), "line 2 is not 'key: ' and 64 hexadecimal digits"),
        (with_line(1, LINES[1].upper()), "line 2 is not 'key: '"),
        (with_line(1, LINES[1].replace("key: ", "key:")), "line 2 is not 'key: '"),
        (with_line(1, LINES[1] + " "), "line 2 is not 'key: '"),
        (with_line(1, LINES[1], LINES[1]), "line 3 is not 'sha256: '"),
        (with_line(2, LINES[3], LINES[2]), "line 3 is not 'sha256: '"),
        (with_line(3, "size: 011222"), "line 4 is not 'size: ' and a number of bytes"),
        (with_line(3, "size: -1"), "line 4 is not 'size: '"),
        (with_line(3, "size: 1e3"), "line 4 is not 'size: '"),
        (with_line(3, "size: " + "9" * 3000), "line 4 is not 'size: '"),
        (with_line(3, "size: ١٢"), "line 4 is not 'size: '"),
        (with_line(4, "name: "), "line 5 is not 'name: '"),
        (with_line(4, "name: a b"), "line 5 is not 'name: '"),
        (with_line(4, "name: ../x"), "line 5 is not 'name: '"),
        (with_line(4, "name: a\x1b[31m"), "line 5 is not 'name: '"),
        (with_line(4, "name: " + "a" * 129), "line 5 is not 'name: '"),
        (with_line(4, LINES[4], LINES[4]), "line 6 is not 'signed: '"),
        (with_line(5, "version: 01"), "line 6 is not 'version: '"),
        (with_line(5, "version: 1.2.3-rc1"), "line 6 is not 'version: '"),
        (with_line(5, "version: 1.2.3.4.5"), "line 6 is not 'version: '"),
        (with_line(5, "version: 1."), "line 6 is not 'version: '"),
        (with_line(6, "signed: 2026-02-30T00:00:00Z"), "the time 2026-02-30T00:00:00Z does not exist"),
        (with_line(6, "signed: 0000-01-01T00:00:00Z"), "does not exist"),
        (with_line(6, "signed: 2026-03-01T24:00:00Z"), "does not exist"),
        (with_line(6, "signed: 2026-03-01T12:00:60Z"), "does not exist"),
        (with_line(6, "signed: 2026-03-01 12:00:00Z"), "line 7 is not 'signed: '"),
        (with_line(7, "expires: never"), "line 8 is not 'expires: '"),
        (text_of([*LINES, "more: 1"]), "line 9 is not expected there"),
        (text_of([*LINES, ""]), "line 9 is not expected there"),
    ],
)
def test_what_is_not_in_the_encoding_is_refused(data, sentence):
    message = malformed(data)
    assert sentence in message


def test_time_and_version_keep_their_order():
    ordered = ["0", "0.0.0.1", "0.9", "0.10", "1", "1.4.2", "1.4.10", "1.10", "2", "999999999"]
    parsed = [parse_version(version) for version in ordered]
    assert parsed == sorted(parsed)
    assert len(set(parsed)) == len(parsed)
    assert parse_version("1.4") == parse_version("1.4.0.0")
    for wrong in ("", "v1", "1.", ".1", "1..2", "-1", "1.2.3.4.5", "1000000000", " 1", "1\n", "१"):
        with pytest.raises(InputError, match="expected one to four numbers with dots"):
            parse_version(wrong)
    assert time_text(0) == "1970-01-01T00:00:00Z"
    assert time_text(-62135596800) == "0001-01-01T00:00:00Z"
    with pytest.raises(InputError, match="no date between the years 1 and 9999"):
        time_text(1e300)


@pytest.mark.parametrize("value", ["", "a b", "ä", "-a", "a\n", "a" * 129, "a/b"])
def test_a_name_that_has_no_encoding_is_not_signed(value):
    statement = Statement(key="0" * 64, sha256="1" * 64, size_bytes=1, signed_s=0, name=value)
    with pytest.raises(InputError, match=r"--name is .*, expected up to 128 letters, digits"):
        encode_statement(statement)


digests = st.binary(min_size=32, max_size=32).map(bytes.hex)
names = st.text("abcXYZ019._+-", min_size=1, max_size=20).filter(lambda name: name[0].isalnum())
versions = st.lists(st.integers(0, 10**9 - 1), min_size=1, max_size=4).map(lambda parts: ".".join(map(str, parts)))
times = st.integers(-62135596800, 253402300799)
statements = st.builds(
    Statement,
    key=digests,
    sha256=digests,
    size_bytes=st.integers(1, 2**31 - 1),
    name=st.none() | names,
    version=st.none()
    | st.lists(st.integers(0, 10**9 - 1), min_size=1, max_size=4).map(lambda v: ".".join(map(str, v))),
    signed_s=times,
    expires_s=st.none() | times,
)


@settings(max_examples=60, deadline=None)
@given(statements)
def test_every_statement_is_read_back(statement):
    message = encode_statement(statement)
    assert parse_signature(message + signature_line(bytes(64)), "m.sig") == (statement, message, bytes(64))


GOOD = text_of(LINES)


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=300)
    | st.builds(
        lambda at, size, new: GOOD[:at] + new + GOOD[at + size :],
        st.integers(0, len(GOOD)),
        st.integers(0, 80),
        st.binary(max_size=80) | st.sampled_from([line.encode() + b"\n" for line in LINES]),
    )
)
@example(GOOD)
def test_whatever_the_bytes_are_they_have_one_reading_or_none(data):
    try:
        statement, message, signature = parse_signature(data, "m.sig")
    except SignatureError:
        malformed(data)
        return
    assert encode_statement(statement) + signature_line(signature) == data
    assert data.startswith(message)


def test_the_one_encoding():
    # What docs/signing.md shows. A change of it would make each earlier signature wrong.
    expected = (
        "lstm-edge signature 1\n"
        f"key: {'0' * 64}\nsha256: {'1' * 64}\nsize: 11222\nname: kws\nversion: 1.4.2\n"
        "signed: 2026-03-01T12:00:00Z\nexpires: 2027-03-01T00:00:00Z\n"
    )
    statement = Statement(
        key="0" * 64,
        sha256="1" * 64,
        size_bytes=11222,
        name="kws",
        version="1.4.2",
        signed_s=1_772_366_400,
        expires_s=1_803_859_200,
    )
    assert encode_statement(statement).decode() == expected
    assert signature_of(DATA, key(1)) == GOOD


def test_the_document_shows_the_encoding_and_every_rule():
    document = (Path(__file__).parents[2] / "docs" / "signing.md").read_text(encoding="utf-8")
    [example] = re.findall(r"```text\n(lstm-edge signature .*?)```", document, re.DOTALL)
    statement, _, _ = parse_signature(example.encode(), "docs/signing.md")
    assert (statement.name, statement.version) == ("kws", "1.4.2")
    rules = re.findall(r"``\"(\w+)\"``", SignatureError.__doc__)
    assert len(rules) == 9
    assert [rule for rule in rules if f"\n| `{rule}` | " not in document] == []
