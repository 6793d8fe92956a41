"""`lstm-edge bundle --format tar`: the archive's bytes, and install.sh in the shells that devices have."""

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import time

import pytest
from support.bundle_cases import BundleDevice
from support.fleet_cases import NEW, OLD, digest
from support.sshd import device_program
from typer.testing import CliRunner

import lstm_edge
from lstm_edge.cli import app
from lstm_edge_runtime import InputError, OutputError, SignatureError

SHELLS = {"dash": ["dash"], "busybox": ["busybox", "sh"], "bash": ["bash", "--posix"]}
OLD_SHA, NEW_SHA = digest(OLD), digest(NEW)


@pytest.fixture(params=list(SHELLS))
def shell(request):
    command = SHELLS[request.param]
    if shutil.which(command[0]) is None:
        pytest.skip(f"there is no {command[0]} here")
    return command


@pytest.fixture
def device(tmp_path):
    return BundleDevice(tmp_path)


def install(shell, script, *arguments):
    """Run install.sh; returns its exit code, standard output and standard error."""
    done = subprocess.run(
        [*shell, str(script), *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    return done.returncode, done.stdout, done.stderr


def test_the_archive_has_the_same_bytes_each_time(device, tmp_path, monkeypatch):
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    first = device.pack(NEW, tmp_path / "a.tar", name="kws", version="1.4.2")
    old_umask = os.umask(0o077)
    try:
        device.pack(NEW, tmp_path / "b.tar", name="kws", version="1.4.2")
    finally:
        os.umask(old_umask)
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    assert first.size_bytes == os.path.getsize(tmp_path / "a.tar")
    with tarfile.open(tmp_path / "a.tar") as archive:
        entries = archive.getmembers()
        manifest = json.load(archive.extractfile("kws-1.4.2/manifest.json"))
        assert archive.extractfile(f"kws-1.4.2/models/{NEW_SHA}.onnx").read() == NEW.read_bytes()
    assert [(entry.name.partition("/")[2], entry.mode) for entry in entries] == [
        ("", 0o755),
        ("install.sh", 0o755),
        ("manifest.json", 0o644),
        ("models", 0o755),
        (f"models/{NEW_SHA}.onnx", 0o644),
    ]
    assert {(entry.uid, entry.gid, entry.uname, entry.gname, entry.mtime) for entry in entries} == {(0, 0, "", "", 0)}
    assert manifest == {
        "format": 1,
        "name": "kws",
        "version": "1.4.2",
        "model": {"path": f"models/{NEW_SHA}.onnx", "sha256": NEW_SHA, "size_bytes": NEW.stat().st_size},
        "signature": None,
        "install": {"script": "install.sh", "path": str(device.root)},
    }
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    device.pack(NEW, tmp_path / "c.tar")
    with tarfile.open(tmp_path / "c.tar") as archive:
        assert {entry.mtime for entry in archive.getmembers()} == {1_700_000_000}
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(InputError, match="SOURCE_DATE_EPOCH is 'yesterday', expected a number of seconds"):
        device.pack(NEW, tmp_path / "d.tar")


def test_a_model_is_checked_swung_to_and_reloaded(shell, device, tmp_path):
    log = tmp_path / "reloaded"
    reload = f"readlink \"$LSTM_EDGE_MODEL\" || echo loaded >>'{log}'"
    first = device.unpack(OLD, tmp_path / "old", reload=reload)
    second = device.unpack(NEW, tmp_path / "new", reload=reload, health="true", watch_seconds=0, version="2")
    assert install(shell, first)[::2] == (0, "")
    assert device.links() == (OLD_SHA, None, None)
    code, out, err = install(shell, second)
    assert (code, err) == (0, "")
    assert out == f"{device.root}: exported_int8-2 is current\n"
    assert device.links() == (NEW_SHA, OLD_SHA, None)
    assert (device.root / "current").read_bytes() == NEW.read_bytes()
    assert device.asked() == [f"check --kernels required {device.root}/models/{s}.onnx" for s in (OLD_SHA, NEW_SHA)]
    assert log.read_text() == "loaded\n" * 2
    # Once more: checked, and not reloaded.
    assert install(shell, second)[:2] == (0, f"{device.root}: exported_int8-2 was current already\n")
    assert log.read_text() == "loaded\n" * 2
    assert len(device.asked()) == 3
    assert device.models() == sorted([f"{OLD_SHA}.onnx", f"{NEW_SHA}.onnx"])
    assert os.listdir(device.root / "locks") == []


@pytest.mark.parametrize(
    ("options", "answer", "sentence"),
    [
        ({}, "exit 3", "the check command failed (exit code 3)"),
        ({"step_seconds": 1}, "sleep 60", "the check command took longer than 1 s and was killed"),
        ({"device_command": "/nowhere/lstm-edge"}, "exit 0", "the check command failed (exit code 127)"),
        ({"reload": "exit 4"}, "exit 0", "the reload command failed (exit code 4)"),
        ({"health": "exit 5"}, "exit 0", "the health command failed (exit code 5)"),
    ],
)
def test_a_failure_keeps_the_old_model(shell, device, tmp_path, options, answer, sentence):
    assert install(shell, device.unpack(OLD, tmp_path / "old"))[0] == 0
    device.answer(answer)
    code, _, err = install(shell, device.unpack(NEW, tmp_path / "new", **options))
    assert code == 1
    assert f"install.sh: {sentence}\n" in err
    assert ("the old model is back" in err) == ("reload" in options or "health" in options)
    assert device.links() == (OLD_SHA, None, None)
    assert (device.root / "current").read_bytes() == OLD.read_bytes()
    assert os.listdir(device.root / "locks") == []


def test_a_failure_of_the_first_model_leaves_no_link(shell, device, tmp_path):
    code, _, err = install(shell, device.unpack(OLD, tmp_path / "old", health="false"))
    assert (code, device.links()) == (1, (None, None, None))
    assert err.endswith("install.sh: no model is current, as before\n")


def test_a_damaged_or_missing_model_is_refused(shell, device, tmp_path):
    script = device.unpack(NEW, tmp_path / "new")
    model = script.parent / "models" / f"{NEW_SHA}.onnx"
    data = bytearray(model.read_bytes())
    data[1000] ^= 1
    model.write_bytes(data)
    code, _, err = install(shell, script)
    got = hashlib.sha256(data).hexdigest()
    assert (code, err) == (1, f"install.sh: the file arrived with SHA-256 {got}, expected {NEW_SHA}\n")
    assert (device.links(), device.models(), device.asked()) == ((None, None, None), [], [])
    model.unlink()
    code, _, err = install(shell, script)
    assert (code, err) == (1, f"install.sh: {model} is missing: the bundle is not whole\n")


def test_an_interrupted_installation_is_put_back(shell, device, tmp_path):
    assert install(shell, device.unpack(OLD, tmp_path / "old"))[0] == 0
    script = device.unpack(NEW, tmp_path / "new", health="true", watch_seconds=60)
    process = subprocess.Popen([*shell, str(script)], stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 30
    while device.links()[0] != NEW_SHA and time.monotonic() < end:
        time.sleep(0.01)
    assert device.links() == (NEW_SHA, None, OLD_SHA)
    process.send_signal(signal.SIGTERM)
    assert "the deploy was stopped\ninstall.sh: the old model is back" in process.communicate(timeout=30)[1]
    assert process.returncode == 1
    assert device.links() == (OLD_SHA, None, None)


def test_a_trial_that_nobody_ended_is_put_back_first(shell, device, tmp_path):
    # As after a power cut while the new model was watched.
    assert install(shell, device.unpack(OLD, tmp_path / "old"))[0] == 0
    script = device.unpack(NEW, tmp_path / "new")
    assert install(shell, script, "--trial")[0] == 0
    assert device.links() == (NEW_SHA, None, OLD_SHA)
    device.answer("exit 1")
    code, _, err = install(shell, script)
    assert code == 1
    assert "a trial was not finished; the old model was put back first" in err
    assert device.links() == (OLD_SHA, None, None)


def test_a_trial_is_kept_or_put_back(shell, device, tmp_path):
    assert install(shell, device.unpack(OLD, tmp_path / "old"))[0] == 0
    script = device.unpack(NEW, tmp_path / "new")
    for order, after in (("--back", (OLD_SHA, None, None)), ("--commit", (NEW_SHA, OLD_SHA, None))):
        assert install(shell, script, "--trial")[0] == 0
        assert device.links() == (NEW_SHA, None, OLD_SHA)
        assert install(shell, script, order)[0] == 0
        assert device.links() == after
        # A second time it changes nothing.
        code, _, err = install(shell, script, order)
        assert (code, device.links()) == (0 if order == "--back" or after[0] == NEW_SHA else 1, after), err
    assert install(shell, script, "--back")[0] == 0
    assert device.links() == (NEW_SHA, OLD_SHA, None)


def test_a_trial_that_was_replaced_cannot_be_kept(shell, device, tmp_path):
    old, new = device.unpack(OLD, tmp_path / "old"), device.unpack(NEW, tmp_path / "new")
    assert install(shell, old)[0] == install(shell, new, "--trial")[0] == install(shell, old)[0] == 0
    code, _, err = install(shell, new, "--commit")
    assert (code, err) == (1, f"install.sh: exported_int8-{NEW_SHA[:12]} is not current any more\n")


def test_the_script_takes_another_folder_and_says_how_it_is_used(shell, device, tmp_path):
    script = device.unpack(NEW, tmp_path / "new")
    assert install(shell, script, str(tmp_path / "else where"))[0] == 0
    assert (tmp_path / "else where" / "current").exists()
    assert not device.root.exists()
    code, out, _ = install(shell, script, "--help")
    assert (code, out.splitlines()[0]) == (0, "usage: sh install.sh [--trial | --commit | --back] [FOLDER]")
    assert install(shell, script, "--wrong")[:2] == (2, "")


@pytest.fixture
def signed(tmp_path):
    pytest.importorskip("cryptography")
    lstm_edge.keygen(tmp_path / "fleet")
    model = tmp_path / "m.onnx"
    model.write_bytes(NEW.read_bytes())
    lstm_edge.sign(model, key=tmp_path / "fleet", name="kws", version="1.4.2")
    return model


def test_a_signature_is_packed_and_gets_its_name_after_the_check(shell, device, tmp_path, signed):
    report = device.pack(signed, tmp_path / "x.tar")
    assert (report.name, report.version, report.signed) == ("kws", "1.4.2", True)
    trust = {"device_trusted_key": "/etc/my keys/fleet.pub", "signed_name": "kws", "minimum_version": "1.4"}
    script = device.unpack(signed, tmp_path / "new", **trust)
    manifest = json.loads((script.parent / "manifest.json").read_text())
    signature = signed.with_name("m.onnx.sig").read_bytes()
    assert manifest["signature"]["sha256"] == hashlib.sha256(signature).hexdigest()
    model = f"{device.root}/models/{NEW_SHA}.onnx"
    device.answer("exit 1")
    assert install(shell, script)[0] == 1
    assert not os.path.exists(f"{model}.sig")
    device.answer("exit 0")
    assert install(shell, script)[::2] == (0, "")
    assert device.asked()[-1] == (
        "check --kernels required --trusted-key /etc/my keys/fleet.pub --signed-name kws --minimum-version 1.4 "
        f"--signature {model}.sig.part {model}"
    )
    assert device.models() == [f"{NEW_SHA}.onnx", f"{NEW_SHA}.onnx.sig"]
    assert (device.root / "models" / f"{NEW_SHA}.onnx.sig").read_bytes() == signature


def test_a_signature_of_another_file_and_a_missing_one_are_refused(device, tmp_path, signed):
    with pytest.raises(InputError, match=r"--version is '2', but .*m\.onnx\.sig was signed for '1\.4\.2'"):
        device.pack(signed, tmp_path / "x.tar", version="2")
    signed.write_bytes(OLD.read_bytes())
    with pytest.raises(InputError, match=r"m\.onnx\.sig is the signature of another file: sign the model again"):
        device.pack(signed, tmp_path / "x.tar")
    signed.with_name("m.onnx.sig").write_text("no signature\n")
    with pytest.raises(SignatureError, match="not a signature file"):
        device.pack(signed, tmp_path / "x.tar")
    signed.with_name("m.onnx.sig").unlink()
    with pytest.raises(InputError, match=r"--device-trusted-key: there is no signature file .* lstm-edge sign$"):
        device.pack(signed, tmp_path / "x.tar", device_trusted_key="/etc/fleet.pub")
    assert not (tmp_path / "x.tar").exists()


@pytest.mark.slow
def test_the_real_runtime_checks_kernels_and_signature(device, tmp_path, signed):
    program = device_program(tmp_path / "lstm-edge")
    options = {"device_command": str(program), "device_trusted_key": str(tmp_path / "fleet.pub")}
    script = device.unpack(signed, tmp_path / "new", **options)
    code, _, err = install(["sh"], script)
    assert (code, err, device.links()) == (0, "", (NEW_SHA, None, None))
    lstm_edge.keygen(tmp_path / "other")
    options["device_trusted_key"] = str(tmp_path / "other.pub")
    code, out, err = install(["sh"], device.unpack(signed, tmp_path / "refused", **options))
    assert (code, err) == (1, "install.sh: the check command failed (exit code 1)\n")
    assert "which is not trusted" in out


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"format": "zip"}, "--format is 'zip', expected one of rauc, mender, tar"),
        ({"path": "srv/kws"}, "--path is 'srv/kws', expected an absolute path on the devices"),
        ({"path": "/srv/k\nws"}, "--path is '/srv/k.nws', expected an absolute path"),
        ({"name": "a b"}, "--name is 'a b', expected up to 128 letters, digits"),
        ({"version": "v1"}, "the version is 'v1', expected one to four numbers with dots"),
        ({"reload": " "}, "--reload is ' ', expected a command line"),
        ({"step_seconds": 0}, "--step-seconds is 0, expected 1 or more"),
        ({"compatible": "board"}, "--compatible requires --format rauc, got tar"),
        ({"device_type": ["rpi"]}, "--device-type requires --format mender, got tar"),
        ({"key": "k.pem"}, "--key requires --format rauc or mender, got tar"),
        ({"format": "rauc", "compatible": "board", "cert": "c"}, "--format rauc requires --key"),
        ({"format": "mender"}, "--format mender requires --device-type"),
        ({"device_trusted_key": "k.pub"}, "--device-trusted-key: there is no signature file"),
        ({"signed_name": "kws"}, "--signed-name requires --device-trusted-key: without a key nothing is verified"),
        ({"device_trusted_key": "/k.pub", "signed_name": "a b"}, "--signed-name is 'a b', expected"),
    ],
)
def test_a_wrong_option_is_refused(device, tmp_path, options, sentence):
    with pytest.raises(InputError, match=f"^{sentence}"):
        device.pack(NEW, tmp_path / "x.tar", **options)
    assert not (tmp_path / "x.tar").exists()


def test_the_command_prints_the_default_name_and_json(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["bundle", str(NEW), "--format", "tar", "--path", "/srv/kws", "--name", "kws", "--version", "1.4"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"kws-1.4.tar: tar bundle of kws 1.4 ({NEW_SHA[:12]}), without a signature of the")
    first = (tmp_path / "kws-1.4.tar").read_bytes()
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert json.loads(result.stdout) == {
        "output": "kws-1.4.tar",
        "format": "tar",
        "name": "kws",
        "version": "1.4",
        "sha256": NEW_SHA,
        "signed": False,
        "size_bytes": len(first),
        "update_module": None,
    }
    with tarfile.open(fileobj=io.BytesIO(first)) as archive:
        assert archive.getnames()[0] == "kws-1.4"
    with pytest.raises(OutputError, match=r"none/x\.tar"):
        lstm_edge.bundle(NEW, format="tar", path="/srv/kws", output=tmp_path / "none" / "x.tar")


@pytest.mark.parametrize(
    ("options", "program", "package"),
    [
        (["--format", "rauc", "--compatible", "b", "--cert", "c", "--key", "k"], "rauc", "rauc"),
        (["--format", "mender", "--device-type", "rpi"], "mender-artifact", "mender-artifact"),
    ],
)
def test_a_missing_program_is_named_with_its_package(tmp_path, monkeypatch, options, program, package):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["bundle", str(NEW), "--path", "/srv/kws", *options])
    assert result.exit_code == 2
    expected = f"the program {program} is not installed: install Debian's package {package} (apt-get install {package})"
    assert expected in " ".join(result.stderr.split())
    assert os.listdir(tmp_path) == []
