"""The name of a process, by which other processes that share its work find out that it is gone."""

import os
from pathlib import Path

__all__ = ["is_dead", "owner_of"]


def owner_of(pid: int) -> str:
    """Return the owner of a piece of work: boot id of the machine, process namespace, process id and start time."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        # The program name, in parentheses, may contain anything; the start time is field 22.
        started = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        return f"{boot} {os.readlink('/proc/self/ns/pid')} {pid} {started}"
    except OSError:
        return ""


def is_dead(owner: str) -> bool:
    """Return whether a process is known to be gone; False for a process on another machine."""
    parts, own = owner.split(), owner_of(os.getpid()).split()
    return len(parts) == len(own) == 4 and parts[:2] == own[:2] and owner_of(int(parts[2])) != owner
