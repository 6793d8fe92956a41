"""The environment of a result: versions of packages, and the machine."""

import hashlib
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lstm_edge_runtime.library import choose_library

__all__ = ["arithmetic", "machine", "versions"]

PACKAGES = ("lstm-edge", "onnxruntime", "onnx", "numpy")
# Variables by which a user limits the threads of matrix products.
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
# CPU flag in /proc/cpuinfo -> display name, best first.
INSTRUCTIONS = {
    "avx512_vnni": "AVX-512 VNNI",
    "avx_vnni": "AVX VNNI",
    "avx2": "AVX2",
    "i8mm": "NEON i8mm",
    "asimddp": "NEON dot product",
    "asimd": "NEON",
}


def versions() -> dict[str, str]:
    """Return the versions of the packages that a result depends on."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # a checkout on the path, or onnxruntime-gpu
            found[package] = getattr(sys.modules.get(package), "__version__", "not installed")
    return found | {"python": platform.python_version()}


def arithmetic() -> dict[str, str]:
    """Return what the last bits of a result depend on, besides the versions.

    Kernels and matrix products are chosen by the processor's features, and sums are split among threads.
    """
    features = hashlib.sha256(" ".join(sorted(_flags())).encode()).hexdigest()
    threads = {name: os.environ[name] for name in THREADS if name in os.environ}
    library, _ = choose_library("auto", "cpu")
    return {"machine": machine(), "features": features, "kernels": str(library is not None)} | threads


def machine() -> str:
    """Return the machine in words: ``x86_64, 2 cores, AVX-512 VNNI``."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    flags = _flags()
    known = [name for flag, name in INSTRUCTIONS.items() if flag in flags][:1]
    return ", ".join([platform.machine(), f"{cores} core{'s' * (cores != 1)}", *known])


def _flags() -> set[str]:
    """Return the processor's features as Linux names them."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        text = ""
    lines = (line for line in text.splitlines() if line.startswith(("flags", "Features")))
    return set(next(lines, "").partition(":")[2].split())
