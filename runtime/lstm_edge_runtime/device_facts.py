"""What Linux says of this device: processor, board, memory, frequency, temperature; nothing that names its owner.

Only single values are taken from /proc and /sys. The host name, serial numbers, users and paths are never read.
"""

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

__all__ = ["Condition", "Device", "condition", "device"]

# Part numbers of ARM's cores (implementer 0x41) in /proc/cpuinfo, where 64-bit ARM has no "model name".
_ARM_PARTS = {
    "0xd03": "Cortex-A53", "0xd04": "Cortex-A35", "0xd05": "Cortex-A55", "0xd07": "Cortex-A57", "0xd08": "Cortex-A72",
    "0xd09": "Cortex-A73", "0xd0a": "Cortex-A75", "0xd0b": "Cortex-A76", "0xd0c": "Neoverse-N1", "0xd0d": "Cortex-A77",
    "0xd40": "Neoverse-V1", "0xd41": "Cortex-A78", "0xd42": "Cortex-A78AE", "0xd44": "Cortex-X1",
    "0xd46": "Cortex-A510", "0xd47": "Cortex-A710", "0xd48": "Cortex-X2", "0xd49": "Neoverse-N2",
    "0xd4d": "Cortex-A715", "0xd80": "Cortex-A520",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Device:
    """The device and its software.

    ``processors``: the different kinds of cores. ``board``: the model in the device tree, None on a machine without
    one. ``cores``: cores that this process may use. ``governors``: the frequency governors in use, empty where the
    system does not say. ``max_mhz``: the highest frequency of a core.
    """

    machine: str
    processors: tuple[str, ...]
    board: str | None
    cores: int
    kernel: str
    memory_bytes: int | None
    governors: tuple[str, ...]
    max_mhz: float | None
    python: str
    numpy: str
    lstm_edge: str | None


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What may slow a device down at one moment; None where the system does not say.

    ``mhz``: the frequency of the fastest core. ``celsius``: the highest temperature. ``load``: the load average of a
    minute. ``throttled``: the flags of a Raspberry Pi's firmware, ``0`` if nothing was throttled since its start.
    """

    mhz: float | None
    celsius: float | None
    load: float | None
    throttled: str | None


def device(root: Path = Path("/")) -> Device:
    """Return the facts of this device. ``root``: the folder that holds proc and sys, for tests."""
    policies = root / "sys/devices/system/cpu/cpufreq"
    highest = [number for number in map(_number, policies.glob("policy*/cpuinfo_max_freq")) if number is not None]
    governors = {text for text in map(_text, policies.glob("policy*/scaling_governor")) if text}
    memory = next((line.split()[1] for line in _lines(root / "proc/meminfo") if line.startswith("MemTotal:")), None)
    try:
        release: str | None = version("lstm-edge-runtime")
    except PackageNotFoundError:
        release = None
    return Device(
        machine=platform.machine(),
        processors=_processors(root),
        board=_text(root / "proc/device-tree/model"),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        kernel=platform.release(),
        memory_bytes=None if memory is None else int(memory) * 1024,
        governors=tuple(sorted(governors)),
        max_mhz=max(highest) / 1e3 if highest else None,
        python=platform.python_version(),
        numpy=np.__version__,
        lstm_edge=release,
    )


def condition(root: Path = Path("/")) -> Condition:
    """Return the frequency, temperature and load of this moment. ``root``: as for ``device``."""
    policies = root / "sys/devices/system/cpu/cpufreq"
    current = [number for number in map(_number, policies.glob("policy*/scaling_cur_freq")) if number is not None]
    zones = (root / "sys/class/thermal").glob("thermal_zone*/temp")
    temperatures = [number for number in map(_number, zones) if number is not None]
    load = (_text(root / "proc/loadavg") or "").split()
    return Condition(
        mhz=max(current) / 1e3 if current else None,
        celsius=max(temperatures) / 1e3 if temperatures else None,
        load=float(load[0]) if load else None,
        throttled=_text(root / "sys/devices/platform/soc/soc:firmware/get_throttled"),
    )


def _processors(root: Path) -> tuple[str, ...]:
    """Return the names of the different cores, in the order of /proc/cpuinfo."""
    names: dict[str, None] = {}
    implementer = ""
    for line in _lines(root / "proc/cpuinfo"):
        key, _, value = (part.strip() for part in line.partition(":"))
        if key == "model name":
            names[value] = None
        elif key == "CPU implementer":
            implementer = value
        elif key == "CPU part":
            known = _ARM_PARTS.get(value) if implementer == "0x41" else None
            names[known or f"implementer {implementer}, part {value}"] = None
    return tuple(names)


def _lines(path: Path) -> Iterator[str]:
    yield from (_text(path) or "").splitlines()


def _text(path: Path) -> str | None:
    """Return the text of a file of the system, or None: any of them may be missing, unreadable or refuse a read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \n") or None
    except OSError:
        return None


def _number(path: Path) -> float | None:
    try:
        return float(_text(path) or "")
    except ValueError:
        return None
