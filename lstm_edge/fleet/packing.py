"""Bundles in the formats of others: a tar archive, a RAUC bundle, a Mender artifact."""

import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from lstm_edge.fleet.installation import Installation, PackedFile, packed_files
from lstm_edge_runtime.errors import InputError, MissingToolError, OutputError

__all__ = ["MENDER_MODULE", "pack_mender", "pack_rauc", "pack_tar"]

AnyPath = str | os.PathLike[str]

# Name of the update module on a device.
MENDER_MODULE = "lstm-edge-model"
# Programs and Debian's packages that have them.
_PACKAGES = {"mender-artifact": "mender-artifact", "mksquashfs": "squashfs-tools", "rauc": "rauc"}
_TOOL_SECONDS = 600


def pack_tar(installation: Installation) -> bytes:
    """Return a tar archive (POSIX ustar) with one folder: the same bytes each time.

    Every file belongs to user 0 and has the time of ``SOURCE_DATE_EPOCH``, or 1970.

    Raises:
        InputError: ``SOURCE_DATE_EPOCH`` in the environment is not a number of seconds.
    """
    files = packed_files(installation)
    time_s = _source_date_s()
    folders = {f"{parent}/" for file in files for parent in Path(file.path).parents if parent != Path()} | {""}
    entries: dict[str, PackedFile | None] = dict.fromkeys(folders) | {file.path: file for file in files}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(entries):
            file = entries[path]
            entry = tarfile.TarInfo(f"{installation.label}/{path}".rstrip("/"))
            entry.mtime = time_s
            entry.mode = 0o755 if file is None or file.executable else 0o644
            if file is None:
                entry.type = tarfile.DIRTYPE
                archive.addfile(entry)
            else:
                entry.size = len(file.data)
                archive.addfile(entry, io.BytesIO(file.data))
    return buffer.getvalue()


def pack_rauc(installation: Installation, *, compatible: str, cert: AnyPath, key: AnyPath) -> bytes:
    """Return a signed RAUC bundle (format verity) whose own handler, ``install.sh``, does the update.

    Args:
        installation: what is installed.
        compatible: what ``system.conf`` of the devices has as compatible.
        cert: the signer's certificate: a PEM file or a PKCS#11 URL.
        key: its private key: a PEM file or a PKCS#11 URL.

    Raises:
        MissingToolError: ``rauc`` or ``mksquashfs`` is not installed.
        OutputError: ``rauc`` refused.
    """
    manifest = (
        f"[update]\ncompatible={compatible}\nversion={installation.version or installation.package.sha256}\n"
        f"description={installation.label}\n\n[bundle]\nformat=verity\n\n[handler]\nfilename=install.sh\n"
    )
    files = (*packed_files(installation), PackedFile(path="manifest.raucm", data=manifest.encode()))
    _require("rauc", "mksquashfs")
    with tempfile.TemporaryDirectory(prefix="lstm-edge-") as folder:
        content, output = Path(folder) / "content", Path(folder) / "bundle.raucb"
        _write(files, content)
        # Time stamps of the file system inside come from SOURCE_DATE_EPOCH; the signature has its own time.
        options = (f"--cert={os.fsdecode(cert)}", f"--key={os.fsdecode(key)}", "--mksquashfs-args=-all-root")
        _run("rauc", "bundle", *options, str(content), str(output))
        return output.read_bytes()


def pack_mender(installation: Installation, *, device_types: Sequence[str], key: AnyPath | None) -> bytes:
    """Return a Mender artifact for the update module ``lstm-edge-model``.

    Args:
        installation: what is installed.
        device_types: types of devices that take it, at least one.
        key: file of the private key that signs the artifact; None does not sign it.

    Raises:
        MissingToolError: ``mender-artifact`` is not installed.
        OutputError: ``mender-artifact`` refused.
    """
    files = packed_files(installation, folder="")
    _require("mender-artifact")
    with tempfile.TemporaryDirectory(prefix="lstm-edge-") as folder:
        content, output = Path(folder) / "content", Path(folder) / "artifact.mender"
        _write(files, content)
        options = ["--type", MENDER_MODULE, "--artifact-name", installation.label, "--output-path", str(output)]
        version = installation.version or installation.package.sha256
        # A model is not part of the root file system, which a new one of would replace.
        options += ["--software-filesystem", "data-partition"]
        options += ["--software-name", installation.name, "--software-version", version]
        for device_type in device_types:
            options += ["--device-type", device_type]
        for file in files:
            options += ["--file", str(content / file.path)]
        if key is not None:
            options += ["--key", os.fsdecode(key)]
        _run("mender-artifact", "write", "module-image", *options)
        return output.read_bytes()


def _source_date_s() -> int:
    text = os.environ.get("SOURCE_DATE_EPOCH", "0")
    # An octal field of eleven digits in a tar archive.
    if not (text.isascii() and text.isdigit() and int(text) < 8**11):
        raise InputError(f"SOURCE_DATE_EPOCH is {text!r}, expected a number of seconds since 1970")
    return int(text)


def _write(files: Sequence[PackedFile], folder: Path) -> None:
    for file in files:
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.data)
        path.chmod(0o755 if file.executable else 0o644)


def _require(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            package = _PACKAGES[program]
            raise MissingToolError(
                f"the program {program} is not installed: install Debian's package {package} "
                f"(apt-get install {package})"
            )


def _run(*command: str) -> None:
    name = f"{command[0]} {command[1]}"
    try:
        done = subprocess.run(  # noqa: S603  # the programs of _PACKAGES
            command,
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TOOL_SECONDS,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        raise OutputError(f"{name} took longer than {_TOOL_SECONDS} s and was killed") from None
    except OSError as error:
        raise OutputError(f"{name} cannot run ({error.strerror})") from error
    if done.returncode != 0:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        reason = lines[-1].strip() if lines else "it gave no reason"
        raise OutputError(f"{name} failed (exit code {done.returncode}): {reason}")
