"""Boards with an emulated 64-bit ARM processor: each SSH command enters a root that tests/arm64/board.sh made.

The commands of a board run in a mount namespace: it has a /srv and a /tmp, shares the rest of its root with the other
boards, and shows an ARM /proc/cpuinfo. Linux runs the programs of the root by qemu, which binfmt_misc knows during the
tests.
"""

import os
import re
import shlex
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

from support.sshd import ROOT, Device, missing_sshd

__all__ = ["DeviceBoard", "PythonBoard", "arm64_programs", "missing_board"]

ARM64 = ROOT / ".cache" / "arm64"
BOARDS = ARM64 / "boards"
EMULATOR = ARM64 / "bin" / "qemu-aarch64-static"
# Not "max": its SME arithmetic is wrong in qemu 7.2 (tests/arm64/setup.sh).
PROCESSOR = "cortex-a72"
BINFMT = Path("/proc/sys/fs/binfmt_misc")
OUR_NAME = "lstm-edge-board-"
# The first 20 bytes of a little-endian 64-bit ELF file for AArch64 (machine 183), of any ABI version, a program or a
# shared object; kernel documentation, admin-guide/binfmt-misc.
MAGIC = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
REGISTERED = re.compile(r"enabled\n.*^flags: (?=\w*P)\w*F.*^magic 7f454c4602\w*b700$", re.DOTALL | re.MULTILINE)

ENTER = """set -e
mount --bind "$1/srv" "$2/srv"
mount --bind "$1/tmp" "$2/tmp"
mount --rbind /dev "$2/dev"
mount --rbind /proc "$2/proc"
mount --bind "$3/proc/cpuinfo" "$2/proc/cpuinfo"
mount --bind "$3/sys" "$2/sys"
exec env -i PATH=/usr/local/bin:/usr/bin:/bin HOME=/root QEMU_CPU="$4" \\
  "$5" "$2" /bin/sh -c "$SSH_ORIGINAL_COMMAND"
"""


def missing_board():
    """Why no board can be emulated here, or nothing."""
    if missing_sshd():
        return missing_sshd()
    if os.geteuid() != 0:
        return "only root can enter a root"
    if not os.access(BINFMT / "register", os.W_OK):
        return "binfmt_misc is not mounted at /proc/sys/fs/binfmt_misc"
    if shutil.which("unshare") is None or subprocess.run(["unshare", "--mount", "true"], check=False).returncode != 0:
        return "no mount namespace can be made here"
    if not (BOARDS / "ready").exists():
        return "the roots of the boards are not there: make test-board makes them"
    return ""


@contextmanager
def arm64_programs():
    """Let Linux run programs for 64-bit ARM during the block."""
    others = (entry for entry in BINFMT.iterdir() if not entry.name.startswith(OUR_NAME) and entry.name != "register")
    if any(REGISTERED.match(entry.read_text()) for entry in others):
        yield
        return
    # A name for each process of the tests: one that ends must not take away what another one needs. F: Linux opens the
    # emulator now, so that a root does not need it. P: a program gets its first argument, by which busybox knows
    # which of its programs it is.
    entry = BINFMT / f"{OUR_NAME}{os.getpid()}"
    (BINFMT / "register").write_text(f":{entry.name}:M::{MAGIC}:{MASK}:{EMULATOR}:PF")
    try:
        yield
    finally:
        entry.write_text("-1")


class Board(Device):
    """A board; ``name`` is that of its root."""

    name = ""

    def __init__(self, fleet, index):
        super().__init__(fleet, index)
        self.path = '/srv/it\'s "kws"'
        self.root = self.folder / self.path[1:]
        self.temporary = self.folder / "tmp"
        self.root.parent.mkdir()

    def start(self):
        """Start the server of the board."""
        arguments = [self.folder, BOARDS / self.name, ARM64 / "cpu" / PROCESSOR, PROCESSOR, shutil.which("chroot")]
        wrapper = self.folder / "enter"
        command = shlex.join(["unshare", "--mount", "sh", "-c", ENTER, "enter", *map(str, arguments)])
        wrapper.write_text(f"#!/bin/sh\nexec {command}\n")
        wrapper.chmod(0o755)
        return super().start(wrapper=wrapper)


class DeviceBoard(Board):
    """busybox, lstm-edge-device and onnxruntime."""

    name = "device"


class PythonBoard(Board):
    """dash, coreutils, grep, and Python with lstm-edge-runtime and onnxruntime."""

    name = "python"
