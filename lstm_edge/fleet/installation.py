"""What a bundle installs on a device: the model, its signature, a manifest and the script ``install.sh``."""

import json
import shlex
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from lstm_edge.fleet.protocol import Package
from lstm_edge.fleet.scripts import source

__all__ = ["Installation", "PackedFile", "install_script", "packed_files"]

# Scripts of a deploy that install.sh runs as functions, each in a subshell.
_STEPS = ("locate", "examine", "receive", "finish")


@dataclass(frozen=True, kw_only=True)
class Installation:
    """A model and how a device installs it.

    ``name``, ``version``: of the model, None for no version. ``path``: folder on the device. ``device_command``:
    command line of the runtime there, empty to find it. ``reload``, ``health``: command lines, empty for none; the
    ``_seconds`` are limits as for a deploy. ``device_trusted_key``: file of a public key on the device, empty for none;
    ``signed_name`` and ``minimum_version``: what the signature must say, None for anything.
    """

    name: str
    version: str | None
    package: Package
    path: str
    device_command: str = ""
    reload: str = ""
    health: str = ""
    watch_seconds: int = 10
    step_seconds: int = 120
    health_seconds: int = 10
    device_trusted_key: str = ""
    signed_name: str | None = None
    minimum_version: str | None = None

    @property
    def label(self) -> str:
        """The name with the version, or with the first digits of the digest."""
        return f"{self.name}-{self.version or self.package.sha256[:12]}"

    @property
    def check_options(self) -> str:
        """The options of the device's ``check``, each with a space before it, for a shell."""
        if not self.device_trusted_key:
            return ""
        words = ["--trusted-key", self.device_trusted_key]
        for option, value in (("--signed-name", self.signed_name), ("--minimum-version", self.minimum_version)):
            words += [] if value is None else [option, value]
        return f' {shlex.join(words)} --signature "$LSTM_EDGE_SIGNATURE"'


@dataclass(frozen=True, kw_only=True)
class PackedFile:
    """A file of a bundle: its path, with ``/``; its bytes; and whether it may be executed."""

    path: str
    data: bytes
    executable: bool = False


def packed_files(installation: Installation, folder: str = "models/") -> tuple[PackedFile, ...]:
    """Return the files of a bundle, sorted by their paths.

    Args:
        installation: what is installed.
        folder: where the model is in the bundle: empty, or a path that ends in ``/``.
    """
    model = f"{folder}{installation.package.sha256}.onnx"
    files = [
        PackedFile(path="install.sh", data=install_script(installation, model).encode(), executable=True),
        PackedFile(path="manifest.json", data=_manifest(installation, model)),
        PackedFile(path=model, data=installation.package.data),
    ]
    if installation.package.signature is not None:
        files.append(PackedFile(path=f"{model}.sig", data=installation.package.signature))
    return tuple(sorted(files, key=lambda file: file.path))


def install_script(installation: Installation, model: str) -> str:
    """Return ``install.sh`` for a POSIX shell: the steps of a deploy (docs/deploy.md), from the same texts.

    Args:
        installation: what is installed.
        model: path of the model in the bundle; its signature is beside it.
    """
    signature = installation.package.signature
    variables: dict[str, object] = {
        "label": installation.label,
        "sha256": installation.package.sha256,
        "model": model,
        "signature": "" if signature is None else f"{model}.sig",
        "signature_sha256": "" if signature is None else sha256(signature).hexdigest(),
        "root": installation.path,
        "device_command": installation.device_command,
        "check_options": installation.check_options,
        "reload": installation.reload,
        "health": installation.health,
        "watch_seconds": installation.watch_seconds,
        "step_seconds": installation.step_seconds,
        "health_seconds": installation.health_seconds,
    }
    parts = [
        "#!/bin/sh\n# Installs a model. Made by lstm-edge bundle; docs/handover.md of lstm-edge describes the steps.\n",
        "".join(f"{name}={shlex.quote(str(value))}\n" for name, value in variables.items()),
        source("install_options"),
        source("prelude"),
        source("switching"),
        *(f"{step}() (\n{source(step)})\n" for step in _STEPS),
        source("install"),
    ]
    return "\n".join(parts)


def _manifest(installation: Installation, model: str) -> bytes:
    package, signature = installation.package, installation.package.signature
    values: dict[str, Any] = {
        "format": 1,
        "name": installation.name,
        "version": installation.version,
        "model": {"path": model, "sha256": package.sha256, "size_bytes": len(package.data)},
        "signature": None,
        "install": {"script": "install.sh", "path": installation.path},
    }
    if signature is not None:
        values["signature"] = {
            "path": f"{model}.sig",
            "sha256": sha256(signature).hexdigest(),
            "size_bytes": len(signature),
        }
    return (json.dumps(values, ensure_ascii=False, indent=2) + "\n").encode()
