"""A virtual environment for each peer under .cache/peers, with pinned packages and the CPU build of PyTorch."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from given import first_line

__all__ = ["PINS", "environment", "peer_names"]

ROOT = Path(__file__).resolve().parents[2]
CONSTRAINTS = ROOT / "constraints.txt"
# What each environment gets; constraints.txt pins what these need. An unpinned torch could be a CUDA build of
# gigabytes: `environment` asks pip first what it would install, and refuses that.
PINS: Mapping[str, tuple[str, ...]] = {
    "executorch": ("executorch==1.5.1", "torch==2.13.0"),
    "litert": ("ai-edge-litert==2.3.0", "litert-torch==0.10.0", "torch==2.13.0"),
    "onnxruntime": ("onnxruntime==1.32.0", "onnx==1.23.2"),
    "openvino": ("openvino==2026.4.1", "nncf==3.4.0"),
    "torch": ("torch==2.13.0", "numpy==2.4.6"),
    "tract": ("tract==0.23.9", "numpy==2.4.6"),
}
# Seconds that an installation may take.
LIMIT = 900


def peer_names() -> tuple[str, ...]:
    """Return the names of the peers with an environment."""
    return tuple(PINS)


def environment(name: str, folder: Path) -> tuple[Path | None, str]:
    """Make a peer's environment if it is missing or its pins have changed.

    Returns:
        The path of its interpreter and ""; or None and the reason why there is none.
    """
    python, ready = folder / "bin" / "python", folder / "ready"
    stamp = hashlib.sha256("\n".join(PINS[name]).encode() + CONSTRAINTS.read_bytes()).hexdigest()
    if ready.exists() and ready.read_text() == stamp:
        return python, ""
    print(f"installing {name}: {' '.join(PINS[name])}", file=sys.stderr)
    pip = [str(python), "-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", str(CONSTRAINTS)]
    try:
        _run([sys.executable, "-I", "-m", "venv", str(folder)])
        wanted = json.loads(_run([*pip, "--dry-run", "--report", "-", *PINS[name]]))["install"]
        if any(package["metadata"]["name"].startswith("nvidia") for package in wanted):
            return None, "it asks for a CUDA build of PyTorch"
        _run([*pip, *PINS[name]])
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        return None, f"not installed: {_reason(error)}"
    ready.write_text(stamp)
    return python, ""


def _run(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=LIMIT).stdout


def _reason(error: subprocess.CalledProcessError | subprocess.TimeoutExpired) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return f"no end within {LIMIT} s"
    lines = [line for line in error.stderr.splitlines() if line.startswith("ERROR")]
    return first_line(lines[0] if lines else error.stderr)
