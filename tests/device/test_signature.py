"""A file opens with trusted keys only if one of them signed exactly its bytes, and the rules accept what it signed."""

import json
import random
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cryptography")
from signatures import DAY_S, MODEL, SIGNED_S, key, key_id, public_pem, signature_of, write_signed

import lstm_edge_runtime.session as session_module
import lstm_edge_runtime.signature as signature_module
from lstm_edge_runtime import InputError, IntegrityError, Session, SignatureError
from lstm_edge_runtime._ed25519 import PublicKey, parse_public_key, verifies
from lstm_edge_runtime.cli import device_main
from lstm_edge_runtime.signature import check_signature, read_trust

VECTORS = json.loads((Path(__file__).parent / "rfc8032.json").read_text())["vectors"]


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """The device's clock: a day after the signature was made."""

    def set_to(seconds):
        monkeypatch.setattr(signature_module, "_now", lambda: seconds)

    set_to(SIGNED_S + DAY_S)
    return set_to


@pytest.fixture
def signed(tmp_path):
    return write_signed(tmp_path)


def refused(rule, model, *keys, **rules):
    """Open a file that must be refused by a rule; returns the message."""
    with pytest.raises(SignatureError) as caught:
        Session(model, trusted_keys=keys, **rules)
    assert caught.value.rule == rule, caught.value
    assert caught.value.exit_code == 1
    return str(caught.value)


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_the_vectors_of_rfc_8032(vector):
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    secret, public, message, signature = (
        bytes.fromhex(vector[name]) for name in ("secret_key", "public_key", "message", "signature")
    )
    private = Ed25519PrivateKey.from_private_bytes(secret)
    assert private.public_key().public_bytes_raw() == public
    assert private.sign(message) == signature
    assert verifies(PublicKey(public), signature, message)
    assert not verifies(PublicKey(public), signature, message + b"\0")
    for at in range(64):
        for bit in range(8):
            assert not verifies(PublicKey(public), flipped(signature, at, bit), message), (at, bit)
    for at in range(32):
        assert not verifies(PublicKey(flipped(public, at, at % 8)), signature, message), at
    for at in range(0, len(message), 50):
        assert not verifies(PublicKey(public), signature, flipped(message, at, at % 8)), at


def test_s_above_the_groups_order_is_no_signature():
    # RFC 8032, 5.1.7: otherwise anyone makes a second signature from a first one.
    order = 2**252 + 27742317777372353535851937790883648493
    vector = VECTORS[1]
    public, message, signature = (bytes.fromhex(vector[name]) for name in ("public_key", "message", "signature"))
    second = int.from_bytes(signature[32:], "little") + order
    assert not verifies(PublicKey(public), signature[:32] + second.to_bytes(32, "little"), message)


def flipped(data, at, bit):
    return data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :]


def test_a_signed_file_opens_and_says_what_was_signed(signed):
    model, public = signed
    session = Session(model, trusted_keys=[public], signed_name="kws", minimum_version="1.4.2")
    said = session.signature.statement
    assert (said.name, said.version, said.key) == ("kws", "1.4.2", key_id(key(1)))
    assert (said.signed_s, said.expires_s) == (SIGNED_S, SIGNED_S + 10 * DAY_S)
    assert session.signature.expiry_checked
    assert session.notes == Session(MODEL).notes
    frame = np.ones(3, np.float32)
    np.testing.assert_array_equal(session.stream().push(frame), Session(MODEL).stream().push(frame))
    assert Session(model).signature is None


def test_any_of_several_keys_is_enough(signed, tmp_path):
    model, public = signed
    other = tmp_path / "2.pub"
    other.write_bytes(public_pem(key(2)))
    assert Session(model, trusted_keys=[other, public]).signature.statement.key == key_id(key(1))
    message = refused("key", model, other)
    assert message == (
        f"{model}: it is signed by the key {key_id(key(1))[:16]}, which is not trusted; trusted: {key_id(key(2))[:16]}"
    )


def test_the_claim_of_a_trusted_key_is_not_enough(signed, tmp_path):
    # Signed by key 2, which says that it is key 1.
    model, public = signed
    (tmp_path / "m.onnx.sig").write_bytes(signature_of(model.read_bytes(), key(2), key=key_id(key(1))))
    assert f"the signature in {model}.sig is wrong" in refused("signature", model, public)


def test_each_byte_of_the_signature_file_matters(signed, tmp_path):
    model, public = signed
    trust, data = read_trust([public]), model.read_bytes()
    whole = (tmp_path / "m.onnx.sig").read_bytes()
    rules = set()
    for at in range(len(whole)):
        for bit in range(8):
            trust_changed = read_trust([public], signature=flipped(whole, at, bit))
            with pytest.raises(SignatureError) as caught:
                check_signature(data, trust_changed, model)
            rules.add(caught.value.rule)
    assert rules == {"malformed", "key", "signature"}
    for size in range(len(whole)):
        with pytest.raises(SignatureError):
            check_signature(data, read_trust([public], signature=whole[:size]), model)
    assert check_signature(data, trust, model).statement.name == "kws"


def test_each_bit_of_a_public_key_matters():
    for number in range(1, 5):
        pem, same = public_pem(key(number)), 0
        for at in range(len(pem.rstrip())):
            for bit in range(8):
                try:
                    changed = parse_public_key(flipped(pem, at, bit), "k.pub")
                except InputError:
                    continue
                same += changed.id == key_id(key(number))
        assert same == 0
        assert parse_public_key(pem, "k.pub").id == key_id(key(number))


def test_a_flipped_bit_of_the_file_is_refused_whatever_it_is(signed):
    model, public = signed
    data, trust = model.read_bytes(), read_trust([public])
    draw = random.Random(0)
    places = {0, 1, len(data) - 1, *(draw.randrange(len(data)) for _ in range(500))}
    for at in places:
        with pytest.raises(SignatureError) as caught:
            check_signature(flipped(data, at, draw.randrange(8)), trust, model)
        assert caught.value.rule == "file"
    for other in (data[:-1], data + b"\0", b"\0" * len(data)):
        model.write_bytes(other)
        assert "the file is not the one that was signed" in refused("file", model, public)


def test_nothing_of_a_refused_file_is_parsed(signed, monkeypatch):
    model, public = signed

    def parsed(*_arguments, **_options):
        raise AssertionError("parsed")

    for name in ("check_integrity", "read_model", "check_functions", "open_session", "parse_card"):
        monkeypatch.setattr(session_module, name, parsed)
    with pytest.raises(AssertionError, match="parsed"):
        Session(model, trusted_keys=[public])  # the watch sees an accepted file
    refused("name", model, public, signed_name="other")
    model.write_bytes(b"not a model")
    refused("file", model, public)
    Path(f"{model}.sig").unlink()
    refused("missing", model, public)


@pytest.mark.parametrize("command", ["check", "bench", "run"])
def test_the_command_line_looks_at_nothing_before_the_signature(signed, capsys, command):
    model, public = signed
    model.write_text("this is a text file")
    words = [command, str(model), "--trusted-key", str(public), *["--stream"] * (command == "run")]
    assert device_main(words) == 1
    assert "the file is not the one that was signed" in capsys.readouterr().err


def test_a_damaged_file_is_refused_for_its_signature_first(signed):
    model, public = signed
    model.write_bytes(flipped(model.read_bytes(), 1000, 3))
    refused("file", model, public)
    with pytest.raises(IntegrityError):
        Session(model)


def test_the_file_is_read_once(signed, monkeypatch):
    model, public = signed
    real, reads = session_module.read_model_bytes, []

    def read(path, **options):
        reads.append(path)
        data = real(path, **options)
        model.write_bytes(b"another file in its place")
        return data

    monkeypatch.setattr(session_module, "read_model_bytes", read)
    assert Session(model, trusted_keys=[public]).signature is not None
    assert reads == [model]


def test_an_unsigned_file_is_refused(signed):
    model, public = signed
    Path(f"{model}.sig").unlink()
    message = refused("missing", model, public)
    assert message == f"{model}: the file is not signed: {model}.sig does not exist; lstm-edge sign makes it"


def test_a_signature_elsewhere_and_bytes(signed, tmp_path):
    model, public = signed
    data, signature = model.read_bytes(), (tmp_path / "m.onnx.sig").rename(tmp_path / "elsewhere")
    assert Session(model, trusted_keys=[public], signature=signature).signature
    assert Session(data, trusted_keys=[public], signature=signature.read_bytes()).signature
    with pytest.raises(InputError, match="given as bytes needs signature="):
        Session(data, trusted_keys=[public])
    with pytest.raises(SignatureError, match=r"^the model: the file is not the one that was signed"):
        Session(data + b"x", trusted_keys=[public], signature=signature)


def test_a_signature_for_another_name_is_refused(signed, tmp_path):
    model, public = signed
    message = refused("name", model, public, signed_name="wake-word")
    assert message == f"{model}: the file is signed as 'kws', expected 'wake-word': it is another model"
    model, public = write_signed(tmp_path, name=None)
    assert "is signed without a name, expected 'kws'" in refused("name", model, public, signed_name="kws")


@pytest.mark.parametrize("least", ["1.4.3", "1.5", "2", "1.4.2.1", "1.10"])
def test_an_older_version_is_refused(signed, least):
    model, public = signed
    message = refused("version", model, public, minimum_version=least)
    assert f"the file is version 1.4.2, expected {least} or later" in message


@pytest.mark.parametrize("least", ["1.4.2", "1.4.2.0", "1.4", "1", "0", "1.4.1.9"])
def test_the_same_version_or_a_newer_one_opens(signed, least):
    model, public = signed
    assert Session(model, trusted_keys=[public], minimum_version=least)


def test_a_file_without_a_version_is_older_than_any(tmp_path):
    model, public = write_signed(tmp_path, version=None)
    assert "is signed without a version, expected 0 or later" in refused("version", model, public, minimum_version="0")


def test_an_expired_signature_is_refused(signed, clock):
    model, public = signed
    clock(SIGNED_S + 10 * DAY_S - 1)
    assert Session(model, trusted_keys=[public], require_clock=True).signature.expiry_checked
    clock(SIGNED_S + 10 * DAY_S)
    message = refused("expired", model, public)
    assert message == (
        f"{model}: the signature expired on 2026-03-11T12:00:00Z; this device's clock says 2026-03-11T12:00:00Z; "
        "sign the model again"
    )


@pytest.mark.parametrize("now", [0, SIGNED_S - 301])
def test_a_clock_that_is_not_set_calls_nothing_expired_and_says_so(signed, clock, now):
    model, public = signed
    clock(now)
    session = Session(model, trusted_keys=[public])
    assert not session.signature.expiry_checked
    [note] = set(session.notes) - set(Session(MODEL).notes)
    assert note.startswith("the expiry of the signature (2026-03-11T12:00:00Z) was not checked: this device's clock")
    assert session.signature.to_json()["expiry_checked"] is False
    assert "so it is not set" in refused("clock", model, public, require_clock=True)


def test_a_clock_a_little_behind_is_set(signed, clock):
    model, public = signed
    clock(SIGNED_S - 300)
    assert Session(model, trusted_keys=[public], require_clock=True).signature.expiry_checked


def test_without_an_expiry_the_clock_does_not_matter(tmp_path, clock):
    model, public = write_signed(tmp_path, expires=None)
    for now in (0, SIGNED_S, SIGNED_S + 10_000 * DAY_S):
        clock(now)
        session = Session(model, trusted_keys=[public], require_clock=True)
        assert session.signature.expiry_checked
        assert session.notes == Session(MODEL).notes


@pytest.mark.parametrize(
    ("rules", "option"),
    [
        ({"minimum_version": "1"}, "--minimum-version"),
        ({"signed_name": "kws"}, "--signed-name"),
        ({"signature": "s"}, "--signature"),
        ({"require_clock": True}, "--require-clock"),
    ],
)
def test_a_rule_without_a_key_is_refused(rules, option):
    # Otherwise every file would be accepted.
    with pytest.raises(InputError, match=f"{option} requires --trusted-key"):
        Session(MODEL, **rules)


def test_keys_that_are_no_keys_are_refused(tmp_path, signed):
    model, public = signed
    with pytest.raises(InputError, match="empty list: no file could be accepted"):
        Session(model, trusted_keys=[])
    with pytest.raises(InputError, match="must be a list of paths"):
        Session(model, trusted_keys=str(public))
    with pytest.raises(InputError, match=r"none\.pub: no such file"):
        Session(model, trusted_keys=[tmp_path / "none.pub"])
    with pytest.raises(InputError, match=r"--minimum-version: the version is '1\.x', expected one to four numbers"):
        Session(model, trusted_keys=[public], minimum_version="1.x")
    bad = tmp_path / "bad.pub"
    for text, sentence in (
        (b"", "expected one public key as PEM"),
        (b"\0" * 20_000, "at most 16,384 are read"),
        (public.read_bytes() * 2, "expected one public key as PEM"),
        (b"-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n", "this is a private key; give the public one"),
        (b"-----BEGIN PUBLIC KEY-----\nTUNvd0JR\n-----END PUBLIC KEY-----\n", "not an Ed25519 public key"),
    ):
        bad.write_bytes(text)
        with pytest.raises(InputError, match=sentence) as caught:
            Session(model, trusted_keys=[bad])
        assert str(caught.value).startswith(str(bad))
