"""``lstm-edge bundle``: a model in the form that an update system installs. docs/handover.md describes the formats."""

import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from lstm_edge.fleet.installation import Installation
from lstm_edge.fleet.packing import pack_mender, pack_rauc, pack_tar
from lstm_edge.fleet.protocol import Package, read_package
from lstm_edge.fleet.scripts import source_path
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.signature import signature_path
from lstm_edge_runtime.signature_text import parse_signature, parse_version
from lstm_edge_runtime.writing import check_target, write_atomically

__all__ = ["BundleFormat", "BundleReport", "bundle"]

AnyPath = str | os.PathLike[str]
BundleFormat = Literal["rauc", "mender", "tar"]

_ENDINGS = {"rauc": ".raucb", "mender": ".mender", "tar": ".tar"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}", re.ASCII)
# Options that a format has alone or shares with another one, and whether it needs them.
_OF_FORMAT: dict[str, dict[str, bool]] = {
    "rauc": {"compatible": True, "cert": True, "key": True},
    "mender": {"device_type": True, "key": False},
    "tar": {},
}
_SPELLED = {"device_type": "--device-type"}


@dataclass(frozen=True, kw_only=True)
class BundleReport:
    """A bundle that was written.

    ``name``, ``version``, ``sha256``: of the model; ``signed``: whether the model's signature file is in it;
    ``size_bytes``: of the bundle; ``update_module``: file that Mender needs on a device, None for other formats.
    """

    output: str
    format: BundleFormat
    name: str
    version: str | None
    sha256: str
    signed: bool
    size_bytes: int
    update_module: str | None

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return asdict(self)

    def sentences(self) -> tuple[str, ...]:
        """Return what was written, and what a device needs."""
        version = "" if self.version is None else f" {self.version}"
        signature = "with its signature" if self.signed else "without a signature of the model"
        first = (
            f"{self.output}: {self.format} bundle of {self.name}{version} ({self.sha256[:12]}), {signature}, "
            f"{self.size_bytes:,} bytes"
        )
        if self.update_module is None:
            return (first,)
        module = f"devices need {self.update_module} as /usr/share/mender/modules/v3/lstm-edge-model"
        return first, module


def bundle(
    model: AnyPath,
    *,
    format: BundleFormat,  # noqa: A002  # the option's name
    path: str,
    output: AnyPath | None = None,
    name: str | None = None,
    version: str | None = None,
    device_command: str | None = None,
    reload: str | None = None,
    health: str | None = None,
    watch_seconds: int = 10,
    step_seconds: int = 120,
    health_seconds: int = 10,
    device_trusted_key: str | None = None,
    signed_name: str | None = None,
    minimum_version: str | None = None,
    compatible: str | None = None,
    cert: AnyPath | None = None,
    key: AnyPath | None = None,
    device_type: Sequence[str] | None = None,
) -> BundleReport:
    """Pack a model for an update system; implements ``lstm-edge bundle``. An earlier bundle is replaced.

    Its script does the steps of a deploy on the device: copy, compare the digest, run the device's ``check`` with its
    kernels, swing the link ``current``, reload, watch; a failure puts the old model back.

    Args:
        model: the ``.onnx`` file. A signature file beside it is packed too.
        format: ``"rauc"``, ``"mender"`` or ``"tar"``.
        path: folder on the devices that has the models, absolute.
        output: the bundle; None: ``NAME-VERSION`` with the format's ending, in the working directory.
        name: of the model; None is what the signature says, or the file's name.
        version: one to four numbers with dots; None is what the signature says, or none.
        device_command: command line of lstm-edge or lstm-edge-device on the devices; None finds it there.
        reload: command line that makes the service load the model.
        health: command line that must succeed while the device is watched.
        watch_seconds: how long the health command must succeed.
        step_seconds: limit of the check and of the reload.
        health_seconds: limit of one run of the health command.
        device_trusted_key: file of a public key on the devices, which must have signed the model; None does not ask.
        signed_name: the name that the signature must give; requires ``device_trusted_key``.
        minimum_version: the oldest version that the signature may give; requires ``device_trusted_key``.
        compatible: RAUC's compatible of the devices.
        cert: RAUC: certificate of the signer, a PEM file or a PKCS#11 URL.
        key: RAUC: its private key. Mender: private key that signs the artifact, optional.
        device_type: Mender's types of the devices.

    Raises:
        InputError: an option has another form, is missing, or belongs to another format; or the signature file is the
            one of another model.
        ArtifactError, IntegrityError: the model cannot be read, has no trailer, or is damaged.
        SignatureError: the signature file is malformed.
        MissingToolError: a program that the format needs is not installed; the message names Debian's package.
        OutputError: that program refused, or the bundle cannot be written.
    """
    given = {"compatible": compatible, "cert": cert, "key": key, "device_type": device_type}
    _check_format(format, {option for option, value in given.items() if value})
    _check_trust(device_trusted_key, {"--signed-name": signed_name, "--minimum-version": minimum_version})
    package = read_package(Path(model))
    name, version = _check_signature(model, package, name, version, needed=device_trusted_key is not None)
    installation = Installation(
        name=name,
        version=version,
        package=package,
        path=_device_path(path, "--path"),
        device_command=_command_line(device_command, "--device-command"),
        reload=_command_line(reload, "--reload"),
        health=_command_line(health, "--health"),
        watch_seconds=_at_least(watch_seconds, 0, "--watch-seconds"),
        step_seconds=_at_least(step_seconds, 1, "--step-seconds"),
        health_seconds=_at_least(health_seconds, 1, "--health-seconds"),
        device_trusted_key=""
        if device_trusted_key is None
        else _device_path(device_trusted_key, "--device-trusted-key"),
        signed_name=signed_name,
        minimum_version=minimum_version,
    )
    target = check_target(f"{installation.label}{_ENDINGS[format]}" if output is None else output)
    if format == "rauc":
        data = pack_rauc(installation, compatible=_compatible(compatible or ""), cert=cert or "", key=key or "")
    elif format == "mender":
        data = pack_mender(installation, device_types=device_type or (), key=key)
    else:
        data = pack_tar(installation)
    write_atomically(target, data)
    return BundleReport(
        output=os.fsdecode(target),
        format=format,
        name=name,
        version=version,
        sha256=package.sha256,
        signed=package.signature is not None,
        size_bytes=len(data),
        update_module=str(source_path("mender_module")) if format == "mender" else None,
    )


def _check_format(format: str, given: set[str]) -> None:  # noqa: A002  # the option's name
    if format not in get_args(BundleFormat):
        raise InputError(f"--format is {format!r}, expected one of {', '.join(get_args(BundleFormat))}")
    takes = _OF_FORMAT[format]
    for option in sorted({option for options in _OF_FORMAT.values() for option in options}):
        spelled = _SPELLED.get(option, f"--{option}")
        if option in given and option not in takes:
            homes = " or ".join(name for name, options in _OF_FORMAT.items() if option in options)
            raise InputError(f"{spelled} requires --format {homes}, got {format}")
        if takes.get(option) and option not in given:
            raise InputError(f"--format {format} requires {spelled}")


def _check_trust(device_trusted_key: str | None, rules: dict[str, str | None]) -> None:
    rule = next((option for option, value in rules.items() if value is not None), None)
    if rule is not None and device_trusted_key is None:
        raise InputError(f"{rule} requires --device-trusted-key: without a key nothing is verified")
    version, name = rules["--minimum-version"], rules["--signed-name"]
    if version is not None:
        parse_version(version)
    if name is not None:
        _check_name(name, "--signed-name")


def _check_signature(
    model: AnyPath, package: Package, name: str | None, version: str | None, *, needed: bool
) -> tuple[str, str | None]:
    """Check a model's signature file, if there is one; return the name and version of the model."""
    place, data = signature_path(model), package.signature
    if data is not None:
        statement, _, _ = parse_signature(data, place)
        if statement.sha256 != package.sha256:
            raise InputError(f"{place} is the signature of another file: sign the model again, or remove it")
        for option, value, signed in (("--name", name, statement.name), ("--version", version, statement.version)):
            if value is not None and signed is not None and value != signed:
                raise InputError(f"{option} is {value!r}, but {place} was signed for {signed!r}")
        name, version = name or statement.name, version or statement.version
    elif needed:
        raise InputError(f"--device-trusted-key: there is no signature file {place}; make it with lstm-edge sign")
    if name is None:
        name = Path(model).stem
    _check_name(name, "--name")
    if version is not None:
        parse_version(version)
    return name, version


def _check_name(name: str, option: str) -> None:
    if _NAME.fullmatch(name) is None:
        raise InputError(f"{option} is {name!r}, expected up to 128 letters, digits and . _ + -")


def _device_path(path: str, option: str) -> str:
    if not path.startswith("/") or not path.isprintable():
        raise InputError(f"{option} is {path!r}, expected an absolute path on the devices, such as /srv/kws")
    return path


def _command_line(text: str | None, option: str) -> str:
    if text is not None and (not text.strip() or "\0" in text):
        raise InputError(f"{option} is {text!r}, expected a command line")
    return text or ""


def _at_least(value: int, least: int, option: str) -> int:
    if value < least:
        raise InputError(f"{option} is {value}, expected {least} or more")
    return value


def _compatible(text: str) -> str:
    # The value of a line of an ini file.
    if not text.isprintable() or text.strip() != text or "\\" in text:
        raise InputError(f"--compatible is {text!r}, expected a text as system.conf of RAUC has it")
    return text
