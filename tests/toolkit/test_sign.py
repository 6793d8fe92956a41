"""``keygen`` and ``sign``: files, rights and sentences; and no part of a private key in any output."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("cryptography")
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

import lstm_edge
from lstm_edge.cli import app
from lstm_edge.fleet import keys, signing
from lstm_edge_runtime import InputError, OutputError, Session

ROOT = Path(__file__).parents[2]
TAGGER = ROOT / "tests" / "device" / "models" / "tagger.onnx"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.onnx").write_bytes(TAGGER.read_bytes())
    return tmp_path


def call(*arguments, exit_code=0):
    """Run a command; returns (stdout, stderr), and asserts that neither has a line of a private key."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == exit_code, result.output
    for path in Path().iterdir():
        if path.is_file() and b"PRIVATE KEY" in (text := path.read_bytes()):
            for line in text.decode("ascii", "replace").splitlines():
                assert len(line) < 16 or "PRIVATE KEY" in line or line not in result.output
    assert "PRIVATE KEY" not in result.output
    return result.stdout, result.stderr


def mode_of(path):
    return stat.S_IMODE(os.stat(path).st_mode)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_the_private_key_has_mode_0600_whatever_the_umask(folder, mask):
    before = os.umask(mask)
    try:
        out, _ = call("keygen", "fleet")
    finally:
        os.umask(before)
    assert mode_of("fleet") == 0o600
    assert mode_of("fleet.pub") == 0o644 & ~mask
    report = keys.public_key_of(keys.read_private_key("fleet"))
    assert out == f"fleet: private key, keep it secret\nfleet.pub: public key {report.id[:16]}, for the devices\n"
    assert json.loads(call("keygen", "second", "--json")[0])["private"] == "second"


def test_keygen_replaces_nothing(folder):
    Path("fleet").write_bytes(b"mine")
    _, err = call("keygen", "fleet", exit_code=2)
    assert err == "error: fleet: the file exists already; keygen replaces no key\n"
    assert Path("fleet").read_bytes() == b"mine"
    assert not Path("fleet.pub").exists()
    Path("other.pub").write_bytes(b"mine")
    call("keygen", "other", exit_code=2)
    assert not Path("other").exists()
    for name in ("linked", "linked.pub"):
        Path(name).symlink_to(folder / "target")
        call("keygen", "linked", exit_code=2)
        assert not Path("target").exists()
        Path(name).unlink()
    with pytest.raises(OutputError, match="no/k: the file cannot be written"):
        lstm_edge.keygen("no/k")


def test_a_pair_of_keys_is_made_whole_or_not_at_all(folder, monkeypatch):
    real = keys._write_new

    def full(path, data, mode):
        if path.endswith(".pub"):
            raise OutputError("the disk is full")
        real(path, data, mode)

    monkeypatch.setattr(keys, "_write_new", full)
    with pytest.raises(OutputError, match="the disk is full"):
        lstm_edge.keygen("fleet")
    assert not list(folder.glob("fleet*"))


def test_a_file_system_without_modes_keeps_no_key(folder, monkeypatch):
    real = os.open
    monkeypatch.setattr(keys.os, "open", lambda path, flags, mode=0o777: real(path, flags, 0o666))
    with pytest.raises(OutputError, match="does not keep the mode 0600"):
        lstm_edge.keygen("fleet")
    assert not list(folder.glob("fleet*"))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o666, 0o777])
def test_a_private_key_that_others_may_use_is_refused(folder, mode):
    call("keygen", "fleet")
    os.chmod("fleet", mode)
    _, err = call("sign", "m.onnx", "--key", "fleet", exit_code=2)
    assert f"others may use the private key: its mode is {mode:04o}, expected 0600" in err
    assert not Path("m.onnx.sig").exists()


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_the_rights_are_those_of_the_file_behind_a_link(folder, mode):
    call("keygen", "fleet")
    Path("link").symlink_to("fleet")
    os.chmod("fleet", mode)
    call("sign", "m.onnx", "--key", "link")
    os.chmod("fleet", 0o640)
    call("sign", "m.onnx", "--key", "link", exit_code=2)


def test_a_key_of_another_user_is_refused(folder, monkeypatch):
    call("keygen", "fleet")
    owner = os.stat("fleet").st_uid
    if owner == 0:
        os.chown("fleet", 12345, -1)
    else:
        monkeypatch.setattr(keys.os, "geteuid", lambda: owner + 1)
    _, err = call("sign", "m.onnx", "--key", "fleet", exit_code=2)
    assert "the private key belongs to another user" in err


def write_private(path, data):
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)


def pem_of(key, encryption=None):
    hidden = encryption or serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden)


def test_other_files_are_no_private_key(folder):
    call("keygen", "fleet")
    good = Path("fleet").read_bytes()
    read = keys.read_private_key("fleet")
    encrypted = pem_of(read, serialization.BestAvailableEncryption(b"secret"))
    for data, sentence in (
        (b"", "expected one private key as PEM"),
        (good[:60], "expected one private key as PEM"),
        (good.replace(b"M", b"!", 1), "expected one private key as PEM"),
        (b"\0" * 20_000, "more than 16,384 bytes"),
        (Path("fleet.pub").read_bytes(), "this is a public key; give the private one"),
        (pem_of(ec.generate_private_key(ec.SECP256R1())), "this is not an Ed25519 private key"),
        (encrypted, "the private key is encrypted"),
    ):
        write_private("bad", data)
        _, err = call("sign", "m.onnx", "--key", "bad", exit_code=2)
        assert err.startswith("error: bad: ")
        assert sentence in err
    # Said before its mode is: chmod would not help.
    assert "this is a public key" in call("sign", "m.onnx", "--key", "fleet.pub", exit_code=2)[1]
    assert "no/k: the private key cannot be read" in call("sign", "m.onnx", "--key", "no/k", exit_code=2)[1]
    os.mkfifo("pipe", 0o600)
    assert "this is not a file" in call("sign", "m.onnx", "--key", "pipe", exit_code=2)[1]


@pytest.mark.slow
def test_openssl_reads_the_keys_and_verifies_the_signature(folder):
    call("keygen", "fleet")
    call("sign", "m.onnx", "--key", "fleet", "--name", "kws", "--version", "1.4.2", "--expires", "90d")
    *lines, last = Path("m.onnx.sig").read_text().splitlines(keepends=True)
    Path("message").write_text("".join(lines))
    Path("raw").write_bytes(bytes.fromhex(last.removeprefix("signature: ")))
    try:
        version = subprocess.run(["openssl", "version"], capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        pytest.skip("no openssl")
    if int(version.split()[1].split(".")[0]) < 3:
        pytest.skip("openssl before 3.0 signs no raw messages")
    command = [
        "openssl",
        "pkeyutl",
        "-verify",
        "-pubin",
        "-inkey",
        "fleet.pub",
        "-rawin",
        "-in",
        "message",
        "-sigfile",
        "raw",
    ]
    assert "Verified Successfully" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
    shown = ["openssl", "pkey", "-in", "fleet", "-pubout"]
    assert subprocess.run(shown, capture_output=True, check=True).stdout == Path("fleet.pub").read_bytes()


def test_from_key_to_device(folder):
    call("keygen", "fleet")
    out, _ = call("sign", "m.onnx", "--key", "fleet", "--name", "kws", "--version", "1.4.2", "--expires", "90d")
    assert re.fullmatch(r"m\.onnx\.sig: signed as kws 1\.4\.2 by the key [0-9a-f]{16} on \S+Z, expires \S+Z\n", out)
    trusting = ("--trusted-key", "fleet.pub", "--signed-name", "kws", "--minimum-version", "1.4")
    out, _ = call("check", "m.onnx", *trusting)
    assert "signed as kws 1.4.2 by the key" in out
    report = json.loads(call("check", "m.onnx", *trusting, "--json")[0])
    assert report["signature"]["version"] == "1.4.2"
    assert report["signature"]["expiry_checked"] is True
    assert "signature" not in json.loads(call("check", "m.onnx", "--json")[0])
    Path("x.npy").write_bytes(b"")
    data = Path("m.onnx").read_bytes()
    Path("m.onnx").write_bytes(data[:-1] + b"\0")
    for command in (["check", "m.onnx"], ["run", "m.onnx", "x.npy"], ["bench", "m.onnx", "--steps", "1"]):
        _, err = call(*command, *trusting, exit_code=1)
        assert err.startswith("error: m.onnx: the file is not the one that was signed: ")
    _, err = call("sign", "m.onnx", "--key", "fleet", exit_code=1)
    assert "m.onnx: the file is damaged" in err
    # A file without a trailer that is not a model, or a part of one.
    for wrong, code in ((b"hello\n", 2), (data[:500], 1)):
        Path("m.onnx").write_bytes(wrong)
        before = Path("m.onnx.sig").read_bytes()
        _, err = call("sign", "m.onnx", "--key", "fleet", exit_code=code)
        assert err.startswith("error: m.onnx: ")
        assert Path("m.onnx.sig").read_bytes() == before


@pytest.mark.slow
def test_bench_measures_the_file_that_was_signed(folder, monkeypatch):
    call("keygen", "fleet")
    call("sign", "m.onnx", "--key", "fleet")
    options = ("--steps", "2", "--repeats", "1", "--json", "--trusted-key", "fleet.pub")
    report = json.loads(call("bench", "m.onnx", *options)[0])
    assert report["sha256"] in Path("m.onnx.sig").read_text()
    from lstm_edge_runtime import bench

    real = bench._measure_opening

    def replaced(path, *rest):
        Path(path).write_bytes(TAGGER.with_name("language_model.onnx").read_bytes())
        return real(path, *rest)

    monkeypatch.setattr(bench, "_measure_opening", replaced)
    _, err = call("bench", "m.onnx", *options, exit_code=2)
    assert "the file changed after its signature was verified" in err


@pytest.mark.slow
def test_validate_opens_what_was_verified_and_nothing_else(folder, monkeypatch):
    call("keygen", "fleet")
    for name in ("exported_float32.onnx", "exported_int8.onnx"):
        Path(name).write_bytes(TAGGER.with_name(name).read_bytes())
        call("sign", name, "--key", "fleet")
    rng = np.random.default_rng(0)
    np.savez("d.npz", x=rng.normal(size=(9, 6)).astype(np.float32), y=rng.integers(0, 4, 9), lengths=np.array([5, 4]))
    command = ("validate", "exported_int8.onnx", "--against", "exported_float32.onnx", "--data", "d.npz")
    command += ("--max-drop", "90pt", "--json")
    plain = json.loads(call(*command)[0])
    out, err = call(*command, "--trusted-key", "fleet.pub")
    assert json.loads(out) == plain
    assert re.findall(r"(\S+): signed by the key ", err) == [command[1], command[3]]
    # A file that is replaced after it was verified is not opened.
    from lstm_edge.commands import validate

    real = validate.check_signature

    def replaced(data, trust, path):
        signed = real(data, trust, path)
        Path(path).write_bytes(b"not a model")
        return signed

    with monkeypatch.context() as patch:
        patch.setattr(validate, "check_signature", replaced)
        assert json.loads(call(*command, "--trusted-key", "fleet.pub")[0]) == plain
    for broken in (command[1], command[3]):
        for name in (command[1], command[3]):
            Path(name).write_bytes(TAGGER.with_name(name).read_bytes())
        Path(broken).write_bytes(b"not a model")
        _, err = call(*command, "--trusted-key", "fleet.pub", exit_code=1)
        assert f"error: {broken}: the file is not the one that was signed: " in err
    with pytest.raises(InputError, match="trusted_keys require files"):
        lstm_edge.validate(b"", "exported_float32.onnx", "d.npz", trusted_keys=["fleet.pub"])


def test_a_stream_says_that_the_expiry_was_not_checked(folder, monkeypatch):
    call("keygen", "fleet")
    call("sign", "m.onnx", "--key", "fleet", "--expires", "12h")
    monkeypatch.setattr("lstm_edge_runtime.signature._now", lambda: 0.0)
    trusting = ("--trusted-key", "fleet.pub")
    result = CliRunner().invoke(app, ["run", "m.onnx", "--stream", *trusting], input="[1, 2, 3]\n")
    assert result.exit_code == 0
    assert "was not checked: this device's clock says 1970-01-01T00:00:00Z" in result.stderr
    assert "was not checked" in " ".join(call("check", "m.onnx", *trusting)[0].split())
    _, err = call("run", "m.onnx", "--stream", *trusting, "--require-clock", exit_code=1)
    assert "leave out --require-clock" in err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--name", "a b"), "--name is 'a b', expected up to 128 letters, digits and . _ + -"),
        (("--version", "1.0-rc1"), "--version is '1.0-rc1', expected one to four numbers with dots, such as 1.4.2"),
        (("--expires", "tomorrow"), "--expires is 'tomorrow', expected a day or a time in UTC"),
        (("--expires", "2026-02-30"), "--expires is '2026-02-30', expected a day or a time in UTC"),
        (("--expires", "0d"), "--expires is '0d', expected"),
        (("--expires", "2001-01-01"), "--expires is '2001-01-01', which is not in the future"),
        (("-o", "no/m.sig"), "no/m.sig: the folder no does not exist"),
    ],
)
def test_what_cannot_be_signed(folder, options, sentence):
    call("keygen", "fleet")
    _, err = call("sign", "m.onnx", "--key", "fleet", *options, exit_code=2)
    assert sentence in err
    assert not Path("m.onnx.sig").exists()


def test_expiry_in_all_its_forms():
    now = 1_772_366_400
    assert signing.parse_expiry("90d", now) == now + 90 * 86_400
    assert signing.parse_expiry("12h", now) == now + 12 * 3600
    assert signing.parse_expiry("2026-03-02", now) == now + 12 * 3600
    assert signing.parse_expiry("2026-03-01T12:00:01Z", now) == now + 1
    with pytest.raises(InputError, match="not in the future"):
        signing.parse_expiry("2026-03-01T12:00:00Z", now)


@pytest.mark.slow
def test_the_commands_and_the_code_of_the_document_work(folder):
    document = (ROOT / "docs" / "signing.md").read_text(encoding="utf-8")
    Path("m.onnx").rename("model.onnx")
    first, by_hand = re.findall(r"```sh\n(.*?)```", document, re.DOTALL)
    folders = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": folders}
    subprocess.run(["bash", "-euc", first], check=True, env=environment)
    [code] = re.findall(r"```python\n(.*?)```", document, re.DOTALL)
    exec(code, {"__name__": "document"})
    if not all(map(shutil.which, ("xxd", "openssl"))):
        pytest.skip("no xxd or no openssl")
    done = subprocess.run(["bash", "-euc", by_hand], check=True, env=environment, capture_output=True, text=True)
    assert "Verified Successfully" in done.stdout
    Path("model.onnx").write_bytes(b"another file")
    assert subprocess.run(["bash", "-euc", by_hand], check=False, env=environment, capture_output=True).returncode == 1


MISSING = """
import sys
sys.modules["cryptography"] = None
sys.argv = ["lstm-edge", *{arguments!r}]
from lstm_edge.cli import main
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "what", "package"),
    [
        (["check", "m.onnx", "--trusted-key", "fleet.pub"], "verifying a signature", "lstm-edge-runtime"),
        (["keygen", "another"], "lstm-edge keygen", "lstm-edge"),
        (["sign", "m.onnx", "--key", "fleet"], "lstm-edge sign", "lstm-edge"),
    ],
)
def test_a_device_without_the_extra_says_what_to_install(folder, arguments, what, package):
    call("keygen", "fleet")
    call("sign", "m.onnx", "--key", "fleet")
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "exporters", ROOT / "runtime")))
    done = subprocess.run(
        [sys.executable, "-c", MISSING.format(arguments=arguments)],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr == (
        f"error: {what} needs 'cryptography', which is not installed: pip install '{package}[sign]'\n"
    )
    assert not Path("another").exists()


def test_no_traceback_shows_a_key(folder, monkeypatch):
    monkeypatch.setenv("LSTM_EDGE_DEBUG", "1")
    call("keygen", "fleet")
    damaged = Path("fleet").read_bytes().replace(b"\n-----END", b"!\n-----END")
    write_private("bad", damaged)
    result = CliRunner().invoke(app, ["sign", "m.onnx", "--key", "bad"])
    error = result.exception
    assert isinstance(error, InputError)
    assert error.__cause__ is None
    assert error.__suppress_context__
    assert Session(TAGGER).signature is None
