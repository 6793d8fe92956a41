"""What the tests of bundles share: a device's folder, a stand-in for its program, and the state of the links."""

import os
import shlex
import subprocess

import lstm_edge
from support.fleet_cases import write_program

__all__ = ["BundleDevice"]

# Writes its arguments down, and says what the file `verdict` holds.
PROGRAM = """#!/bin/sh
printf '%s\\n' "$*" >>"$(dirname "$0")/asked"
. "$(dirname "$0")/verdict"
"""


class BundleDevice:
    """A folder that stands for a device, with a program in place of the runtime."""

    def __init__(self, folder):
        self.folder = folder / "device"
        self.folder.mkdir()
        self.root = self.folder / 'it\'s "kws" $HOME'
        self.program = write_program(self.folder / "lstm-edge", PROGRAM)
        self.command = shlex.quote(self.program)
        self.answer("exit 0")

    def answer(self, text):
        """Let the program do this from now on, a line of shell."""
        (self.folder / "verdict").write_text(f"{text}\n")

    def asked(self):
        """The command lines of the program so far."""
        file = self.folder / "asked"
        return file.read_text().splitlines() if file.exists() else []

    def pack(self, model, output, **options):
        """Pack a model for this device."""
        given = {"format": "tar", "path": str(self.root), "device_command": self.command}
        return lstm_edge.bundle(model, output=output, **given | options)

    def unpack(self, model, folder, **options):
        """Pack a model as a tar archive and unpack it with the system's tar; returns the path of install.sh."""
        folder.mkdir()
        self.pack(model, folder / "bundle.tar", **options)
        subprocess.run(["tar", "xf", "bundle.tar"], cwd=folder, check=True, timeout=60)
        [script] = folder.glob("*/install.sh")
        return script

    def links(self):
        """The digests that current, previous and trial name; None where there is no link."""
        found = [self.root / name for name in ("current", "previous", "trial")]
        return tuple(
            os.readlink(link).removeprefix("models/").removesuffix(".onnx") if link.is_symlink() else None
            for link in found
        )

    def models(self):
        """Names in the folder of models."""
        return sorted(os.listdir(self.root / "models"))
