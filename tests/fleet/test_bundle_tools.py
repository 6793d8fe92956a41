"""RAUC bundles and Mender artifacts, taken apart with Debian's own tools and installed as the systems do."""

import json
import os
import shutil
import subprocess

import pytest
from support.bundle_cases import BundleDevice
from support.fleet_cases import NEW, OLD, digest

import lstm_edge
from lstm_edge.fleet.scripts import source_path
from lstm_edge_runtime import OutputError

OLD_SHA, NEW_SHA = digest(OLD), digest(NEW)
MODULE = source_path("mender_module")


def requires(*programs):
    missing = [program for program in programs if shutil.which(program) is None]
    return pytest.mark.skipif(bool(missing), reason=f"make test-bundle installs {', '.join(missing)}")


def run(*command, code=0, **options):
    done = subprocess.run(
        [str(word) for word in command],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        **options,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def device(tmp_path):
    return BundleDevice(tmp_path)


def make_certificate(folder, name):
    """A throw-away key and its own certificate; returns both paths."""
    key, cert = folder / f"{name}.key.pem", folder / f"{name}.cert.pem"
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    run("openssl", "req", "-x509", *curve, "-nodes", "-keyout", key, "-out", cert, "-subj", f"/CN={name}", "-days", 2)
    return key, cert


@requires("rauc", "mksquashfs", "openssl")
def test_a_rauc_bundle_is_signed_and_has_the_files(device, tmp_path):
    pytest.importorskip("cryptography")
    model = tmp_path / "m.onnx"
    model.write_bytes(NEW.read_bytes())
    lstm_edge.keygen(tmp_path / "fleet")
    lstm_edge.sign(model, key=tmp_path / "fleet", name="kws", version="1.4.2")
    key, cert = make_certificate(tmp_path, "signer")
    output = tmp_path / "kws.raucb"
    report = device.pack(model, output, format="rauc", compatible="my board", cert=cert, key=key)
    assert (report.format, report.signed, report.size_bytes) == ("rauc", True, output.stat().st_size)
    said = json.loads(run("rauc", "info", f"--keyring={cert}", "--output-format=json", output).strip().splitlines()[-1])
    assert (said["compatible"], said["version"], said["description"]) == ("my board", "1.4.2", "kws-1.4.2")
    run("rauc", "extract", f"--keyring={cert}", output, tmp_path / "content")
    content = tmp_path / "content"
    names = {path.relative_to(content).as_posix() for path in content.rglob("*") if path.is_file()}
    assert names == {
        "install.sh",
        "manifest.json",
        "manifest.raucm",
        f"models/{NEW_SHA}.onnx",
        f"models/{NEW_SHA}.onnx.sig",
    }
    assert (content / "models" / f"{NEW_SHA}.onnx").read_bytes() == NEW.read_bytes()
    assert (content / "models" / f"{NEW_SHA}.onnx.sig").read_bytes() == (tmp_path / "m.onnx.sig").read_bytes()
    manifest = (content / "manifest.raucm").read_text()
    assert "[bundle]\nformat=verity\n" in manifest
    assert "[handler]\nfilename=install.sh\n" in manifest
    # Another certificate does not verify it, nor does its own if a byte differs.
    _, other = make_certificate(tmp_path, "other")
    run("rauc", "info", f"--keyring={other}", output, code=1)
    data = bytearray(output.read_bytes())
    data[2000] ^= 1
    (tmp_path / "damaged.raucb").write_bytes(data)
    run("rauc", "extract", f"--keyring={cert}", tmp_path / "damaged.raucb", tmp_path / "none", code=1)


@requires("rauc", "mksquashfs", "openssl")
def test_the_handler_of_a_rauc_bundle_installs_or_says_why_not(device, tmp_path):
    key, cert = make_certificate(tmp_path, "signer")
    device.pack(NEW, tmp_path / "kws.raucb", format="rauc", compatible="board", cert=cert, key=key)
    content = tmp_path / "content"
    run("rauc", "extract", f"--keyring={cert}", tmp_path / "kws.raucb", content)
    # RAUC executes the file itself and sets this variable.
    environment = os.environ | {"RAUC_BUNDLE_MOUNT_POINT": str(content)}
    device.answer("exit 1")
    out = run(content / "install.sh", code=1, env=environment)
    assert "<< error the check command failed (exit code 1)\n" in out
    assert device.links() == (None, None, None)
    device.answer("exit 0")
    run(content / "install.sh", env=environment)
    assert device.links() == (NEW_SHA, None, None)


@requires("rauc", "mksquashfs", "openssl")
def test_the_reason_of_rauc_is_passed_on(device, tmp_path):
    key, _ = make_certificate(tmp_path, "signer")
    _, cert = make_certificate(tmp_path, "other")
    with pytest.raises(OutputError, match=r"^rauc bundle failed \(exit code 1\): .*key"):
        device.pack(NEW, tmp_path / "kws.raucb", format="rauc", compatible="board", cert=cert, key=key)
    assert not (tmp_path / "kws.raucb").exists()


@requires("mender-artifact")
def test_a_mender_artifact_has_the_files(device, tmp_path):
    output = tmp_path / "kws.mender"
    report = device.pack(NEW, output, format="mender", device_type=["rpi4", "rpi5"], name="kws", version="1.4.2")
    assert report.update_module == str(MODULE)
    said = run("mender-artifact", "read", output)
    assert "Name: kws-1.4.2\n" in said
    assert "Compatible devices: '[rpi4 rpi5]'" in said
    assert "Type:   lstm-edge-model\n" in said
    assert "data-partition.kws.version: 1.4.2\n" in said
    assert f"checksum: {NEW_SHA}" in said
    (tmp_path / "files").mkdir()
    run("mender-artifact", "dump", "--files", tmp_path / "files", output)
    assert sorted(os.listdir(tmp_path / "files")) == sorted([f"{NEW_SHA}.onnx", "install.sh", "manifest.json"])
    assert (tmp_path / "files" / f"{NEW_SHA}.onnx").read_bytes() == NEW.read_bytes()


@requires("mender-artifact", "openssl")
def test_a_mender_artifact_is_signed_with_a_key(device, tmp_path):
    key, public, other = (tmp_path / name for name in ("key.pem", "key.pub", "other.pub"))
    run("openssl", "ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", key)
    run("openssl", "ec", "-in", key, "-pubout", "-out", public)
    device.pack(NEW, tmp_path / "kws.mender", format="mender", device_type=["rpi4"], key=key)
    run("mender-artifact", "validate", "-k", public, tmp_path / "kws.mender")
    second = tmp_path / "second.pem"
    run("openssl", "ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", second)
    run("openssl", "ec", "-in", second, "-pubout", "-out", other)
    run("mender-artifact", "validate", "-k", other, tmp_path / "kws.mender", code=4)


def unpack_artifact(device, model, folder, **options):
    """Pack a model for Mender and unpack it as its client does; returns the folder that an update module is given."""
    (folder / "files").mkdir(parents=True)
    (folder / "tmp").mkdir()
    device.pack(model, folder / "x.mender", format="mender", device_type=["rpi4"], **options)
    run("mender-artifact", "dump", "--files", folder / "files", folder / "x.mender")
    return folder


@requires("mender-artifact")
def test_the_states_of_the_update_module(device, tmp_path):
    old, new = (unpack_artifact(device, m, tmp_path / n) for m, n in ((OLD, "old"), (NEW, "new")))

    def state(name, folder, code=0):
        return run("sh", MODULE, name, folder, code=code, cwd="/")

    assert state("SupportsRollback", old) == "Yes\n"
    assert state("NeedsArtifactReboot", old) == "No\n"
    for name in ("ArtifactInstall", "ArtifactCommit", "Cleanup"):
        state(name, old)
    assert device.links() == (OLD_SHA, None, None)
    state("ArtifactInstall", new)
    assert device.links() == (NEW_SHA, None, OLD_SHA)
    state("ArtifactRollback", new)
    assert device.links() == (OLD_SHA, None, None)
    device.answer("exit 1")
    state("ArtifactInstall", new, code=1)
    for name in ("ArtifactRollback", "ArtifactFailure", "Cleanup"):
        state(name, new)
    assert device.links() == (OLD_SHA, None, None)
    device.answer("exit 0")
    for name in ("ArtifactInstall", "ArtifactCommit"):
        state(name, new)
    assert device.links() == (NEW_SHA, OLD_SHA, None)


# Installs an artifact with Debian's client, whose folders for update modules and settings are replaced for it alone.
CLIENT = """
set -eu
cp "$1" modules/lstm-edge-model
chmod 755 modules/lstm-edge-model
mount --bind modules /usr/share/mender/modules/v3
mount --bind settings /etc/mender
shift
exec mender --no-syslog --log-level error --data "$PWD/data" "$@"
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="replacing folders of the system for one process needs root")
@requires("mender", "mender-artifact", "unshare")
def test_the_client_of_mender_installs_commits_and_rolls_back(device, tmp_path):
    trial = ["unshare", "-m", "mount", "--bind", str(tmp_path), str(tmp_path)]
    if subprocess.run(trial, check=False, capture_output=True, timeout=60).returncode:
        pytest.skip("no mounts are allowed here")
    for name in ("modules", "settings", "data"):
        (tmp_path / name).mkdir()
    (tmp_path / "settings" / "mender.conf").write_text("{}")
    (tmp_path / "settings" / "artifact_info").write_text("artifact_name=none\n")
    (tmp_path / "data" / "device_type").write_text("device_type=rpi4\n")

    def client(*arguments, code=0):
        run("unshare", "-m", "sh", "-c", CLIENT, "sh", MODULE, *arguments, code=code, cwd=tmp_path)

    for model, name in ((OLD, "old"), (NEW, "new")):
        device.pack(model, tmp_path / f"{name}.mender", format="mender", device_type=["rpi4"])
    client("install", tmp_path / "old.mender")
    client("commit")
    assert device.links() == (OLD_SHA, None, None)
    client("install", tmp_path / "new.mender")
    assert device.links() == (NEW_SHA, None, OLD_SHA)
    client("rollback")
    assert device.links() == (OLD_SHA, None, None)
    device.answer("exit 1")
    client("install", tmp_path / "new.mender", code=1)
    assert device.links() == (OLD_SHA, None, None)
    device.answer("exit 0")
    client("install", tmp_path / "new.mender")
    client("commit")
    assert device.links() == (NEW_SHA, OLD_SHA, None)
