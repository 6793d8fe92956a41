"""Function bodies under our names: ours are let through, everything else is refused; torn bytes never crash."""

import contextlib
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstm_edge_runtime import function_check as functions
from lstm_edge_runtime.artifact import TRAILER_BYTES, append_trailer
from lstm_edge_runtime.errors import ArtifactError
from lstm_edge_runtime.function_check import check_calls, check_functions
from lstm_edge_runtime.session import Session

FUNCTIONS = 25  # ModelProto.functions in onnx.proto
BODY = b"\x3a\x08\x22\x06Change"  # field 7, nodes, 8 bytes: field 4, op_type


def varint(value):
    digits = []
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])


def field(number, payload):
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def function(name, domain=b"lstm_edge", body=BODY):
    """A FunctionProto: name (1), anything else, domain (10)."""
    return field(FUNCTIONS, field(1, name) + body + field(10, domain))


@pytest.fixture
def known(monkeypatch):
    """A model with one function whose digest this version knows."""
    model = b"\x08\x08" + function(b"LstmTestV1")
    digest = hashlib.sha256(field(1, b"LstmTestV1") + BODY + field(10, b"lstm_edge")).hexdigest()
    monkeypatch.setattr(functions, "DIGESTS", {"LstmTestV1": digest})
    return model


def test_the_known_body_passes_and_any_flipped_byte_of_its_contents_does_not(known):
    check_functions(known)
    start = known.index(BODY) + 4  # a flipped tag or length makes it another message, or none
    for at in range(start, start + 6):
        data = bytearray(known)
        data[at] ^= 1
        with pytest.raises(ArtifactError, match=r"^the file's body of lstm_edge::LstmTestV1 differs from docs"):
            check_functions(bytes(data))


def test_other_body_and_unknown_name_are_refused_by_name(known):
    with pytest.raises(
        ArtifactError,
        match=r"^the file's body of lstm_edge::LstmTestV1 differs from docs/operators\.md: export the model again$",
    ):
        check_functions(function(b"LstmTestV1", body=b""))
    with pytest.raises(
        ArtifactError,
        match=r"^the file uses lstm_edge::LstmTestV9, which this version does not know: update lstm-edge$",
    ):
        check_functions(function(b"LstmTestV9"))


def test_functions_of_other_domains_are_nobodys_business(known):
    check_functions(known + function(b"LstmTestV1", domain=b"com.example"))
    check_functions(function(b"Anything", domain=b"lstm_edge.mine"))
    check_functions(b"")


def test_fields_of_every_kind_are_stepped_over(known):
    unknown = varint(99 << 3) + b"\x07" + varint(98 << 3 | 1) + bytes(8) + varint(97 << 3 | 5) + bytes(4)
    other = unknown + field(2, b"tool") + field(96, b"\xff\xff") + field(7, b"\x12\x05graph")
    wrong = function(b"LstmTestV2", body=b"")
    check_functions(known + other)
    with pytest.raises(ArtifactError, match="which this version does not know"):
        check_functions(other + wrong)
    with pytest.raises(ArtifactError, match="which this version does not know"):
        check_functions(known + other + wrong)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_bytes_that_are_no_model_never_crash(data):
    with contextlib.suppress(ArtifactError):
        check_functions(data)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_torn_and_flipped_models_never_crash(data):
    model = b"\x08\x08" + function(b"LstmTestV1") + field(7, b"\x12\x03abc")
    torn = bytearray(model[: data.draw(st.integers(0, len(model)))])
    if torn:
        torn[data.draw(st.integers(0, len(torn) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with contextlib.suppress(ArtifactError):
        check_functions(bytes(torn))


def test_a_session_refuses_a_file_whose_body_was_changed(models):
    whole = (models / "exported_int8.onnx").read_bytes()
    body = whole[:-TRAILER_BYTES]
    # Round -> Floor would be another arithmetic under the same name; the trailer is made again, so it agrees.
    assert b"Round" in body
    changed = append_trailer(body.replace(b"Round", b"Floor"))
    with pytest.raises(ArtifactError, match=r"the file's body of lstm_edge::\w+V1 differs from docs"):
        Session(changed)
    assert Session(append_trailer(body)).verified


def test_every_digest_is_a_sha256_under_a_versioned_name():
    assert len(functions.DIGESTS) == len(set(functions.DIGESTS.values()))
    for name, digest in functions.DIGESTS.items():
        assert name[-2:] in ("V1", "V2")
        assert len(bytes.fromhex(digest)) == 32


def test_each_call_of_a_body_is_looked_at_once():
    """A file of 2 MB has a body with 100,000 calls; looking at all of them after each one took minutes."""

    class Bodies(dict):
        looks = 0

        def __contains__(self, name):
            Bodies.looks += 1
            return super().__contains__(name)

    names = [("d", f"F{at}", "") for at in range(300)]
    bodies = Bodies({("d", "top", ""): dict.fromkeys(names, 1)} | {name: {("", "Relu", ""): 1} for name in names})
    check_calls(bodies, {("d", "top", ""): 1})
    assert Bodies.looks < 10 * len(names)
