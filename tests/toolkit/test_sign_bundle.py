"""Bundles of OpenSSF's model-signing: made by its signer, verified by its verifier."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("model_signing")
pytest.importorskip("OpenSSL")
from model_signing.signing import Config as Signing
from model_signing.verifying import Config

import lstm_edge
from lstm_edge.cli import app
from lstm_edge.fleet.openssf import check_bundle
from lstm_edge_runtime import InputError, SignatureError

ROOT = Path(__file__).parents[2]
TAGGER = ROOT / "tests" / "device" / "models" / "tagger.onnx"
FORM = ("--format", "model-signing")

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a model, and a pair of keys."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.onnx").write_bytes(TAGGER.read_bytes())
    call("keygen", "org", *FORM)
    return tmp_path


def call(*arguments, exit_code=0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == exit_code, result.output
    assert "PRIVATE KEY" not in result.output
    return result.stdout, result.stderr


def test_the_package_verifies_what_we_sign(folder):
    assert os.stat("org").st_mode & 0o777 == 0o600
    call("sign", "m.onnx", "--key", "org", *FORM)
    Config().use_elliptic_key_verifier(public_key="org.pub").verify("m.onnx", "m.onnx.sigstore.json")
    Path("m.onnx").write_bytes(TAGGER.read_bytes() + b"x")
    with pytest.raises(ValueError, match="Hash mismatch"):
        Config().use_elliptic_key_verifier(public_key="org.pub").verify("m.onnx", "m.onnx.sigstore.json")


def test_we_verify_what_the_package_signs(folder):
    Signing().use_elliptic_key_signer(private_key="org").sign("m.onnx", "b.json")
    out, _ = call("check", "m.onnx", *FORM, "--trusted-key", "org.pub", "--signature", "b.json")
    assert "passed: 2 golden vectors" in out
    assert "signed (model-signing) by the key" in out
    report = json.loads(
        call("check", "m.onnx", *FORM, "--trusted-key", "org.pub", "--signature", "b.json", "--json")[0]
    )
    assert set(report["signature"]) == {"key", "sha256"}


def test_other_bytes_keys_and_bundles_are_refused(folder):
    call("sign", "m.onnx", "--key", "org", *FORM)
    call("keygen", "other", *FORM)
    check = ("check", "m.onnx", *FORM, "--trusted-key")
    _, err = call(*check, "other.pub", exit_code=1)
    assert "verifies the bundle m.onnx.sigstore.json with none of the trusted keys (other.pub: Key mismatch" in err
    call(*check, "other.pub", "--trusted-key", "org.pub")
    bundle = Path("m.onnx.sigstore.json")
    whole = bundle.read_bytes()
    for damaged in (
        b"",
        b"[" * 100_000,
        b"{}",
        b"null",
        whole.replace(b'"sig":"M', b'"sig":"N'),
        whole[:-2],
        b"x" * 2**21,
    ):
        bundle.write_bytes(damaged)
        call(*check, "org.pub", exit_code=1)
    bundle.unlink()
    assert "the file is not signed" in call(*check, "org.pub", exit_code=1)[1]
    bundle.write_bytes(whole)
    Path("m.onnx").write_bytes(b"not a model")
    assert "Signature mismatch" in call(*check, "org.pub", exit_code=1)[1]


def test_the_bytes_that_are_verified_are_those_that_were_read(folder):
    call("sign", "m.onnx", "--key", "org", *FORM)
    data = Path("m.onnx").read_bytes()
    Path("m.onnx").write_bytes(b"another")
    assert check_bundle(data, "m.onnx", None, ["org.pub"])
    with pytest.raises(SignatureError):
        check_bundle(b"another", "m.onnx", None, ["org.pub"])


def test_what_a_bundle_cannot_say_is_refused(folder):
    for option, value in (("--name", "kws"), ("--version", "1"), ("--expires", "1d")):
        _, err = call("sign", "m.onnx", "--key", "org", *FORM, option, value, exit_code=2)
        assert f"{option} requires --format lstm-edge" in err
    call("sign", "m.onnx", "--key", "org", *FORM)
    trusting = ("check", "m.onnx", *FORM, "--trusted-key", "org.pub")
    for more in (("--minimum-version", "1"), ("--signed-name", "kws"), ("--require-clock",)):
        _, err = call(*trusting, *more, exit_code=2)
        assert f"{more[0]} requires --format lstm-edge" in err
    assert "requires --trusted-key" in call("check", "m.onnx", *FORM, exit_code=2)[1]


def test_keys_of_the_other_format_are_refused(folder):
    call("keygen", "fleet")
    assert "this is not an ECDSA private key" in call("sign", "m.onnx", "--key", "fleet", *FORM, exit_code=2)[1]
    assert "an ECDSA key signs with --format model-signing" in call("sign", "m.onnx", "--key", "org", exit_code=2)[1]
    call("sign", "m.onnx", "--key", "org", *FORM)
    for wrong, sentence in (("fleet.pub", "this is not an ECDSA public key"), ("org", "this is a private key")):
        _, err = call("check", "m.onnx", *FORM, "--trusted-key", wrong, exit_code=2)
        assert sentence in err
    os.chmod("org", 0o640)
    assert "others may use the private key" in call("sign", "m.onnx", "--key", "org", *FORM, exit_code=2)[1]
    with pytest.raises(InputError, match="--format is 'pgp', expected one of lstm-edge, model-signing"):
        lstm_edge.sign("m.onnx", key="org", format="pgp")
    with pytest.raises(InputError, match="--format is 'pgp'"):
        lstm_edge.check("m.onnx", format="pgp")


@pytest.mark.parametrize("command", [("run", "m.onnx", "x.npy"), ("bench", "m.onnx"), ("check", "m.onnx")])
def test_what_takes_no_bundle_names_the_command_that_does(folder, command):
    call("keygen", "fleet")
    call("sign", "m.onnx", "--key", "org", *FORM)
    Path("x.npy").write_bytes(b"")
    cases = (
        (("--trusted-key", "org.pub"), 2, "org.pub: this is an ECDSA key, expected an Ed25519 one"),
        (("--trusted-key", "fleet.pub"), 1, "m.onnx.sig does not exist; m.onnx.sigstore.json is a bundle of model-s"),
        (("--trusted-key", "fleet.pub", "--signature", "m.onnx.sigstore.json"), 1, "it is JSON, as is a bundle"),
    )
    for options, exit_code, sentence in cases:
        _, err = call(*command, *options, exit_code=exit_code)
        assert sentence in err
        assert "lstm-edge check --format model-signing verifies" in err


def test_without_the_package_the_sentence_names_the_extra(folder):
    code = (
        "import sys; sys.modules['model_signing'] = None\n"
        "sys.argv = ['lstm-edge', 'check', 'm.onnx', '--format', 'model-signing', '--trusted-key', 'org.pub']\n"
        "from lstm_edge.cli import main; main()"
    )
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "exporters", ROOT / "runtime")))
    environment = os.environ | {"PYTHONPATH": paths}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        2,
        "error: --format model-signing needs 'model_signing', which is not installed: "
        "pip install 'lstm-edge[model-signing]'\n",
    )
