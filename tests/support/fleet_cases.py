"""What the tests of deploys share: two models, a stand-in of the device's program, and how a device comes to rest."""

import hashlib
import os
import time
from pathlib import Path

import lstm_edge

__all__ = [
    "NEW",
    "OLD",
    "STAND_IN",
    "come_to_rest",
    "deploy_with",
    "digest",
    "old_model_everywhere",
    "runs",
    "write_program",
]

MODELS = Path(__file__).parents[1] / "device" / "models"
OLD = MODELS / "exported_float32.onnx"
NEW = MODELS / "exported_int8.onnx"

# A program in place of the runtime, where a test is about the protocol: it passes every check.
STAND_IN = """#!/bin/sh
case $1 in
  check) ;;
  bench) echo '{"step": {"p99_us": 12.5}}' ;;
esac
"""


def digest(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def write_program(path, text=STAND_IN):
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def deploy_with(fleet, program, model, *devices, **more):
    """Deploy a model; returns the results of the hosts."""
    options = fleet.options(*devices, device_command=str(program))
    return lstm_edge.deploy(model, **options | more).hosts


def old_model_everywhere(fleet, program, *devices):
    """Give each device a current model."""
    results = deploy_with(fleet, program, OLD, *devices, canary=0)
    assert [result.result for result in results] == ["deployed"] * len(results), results


def come_to_rest(device, seconds=30):
    """Wait until no process on the device works on the folder; then `current` is what it will stay."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        folder = device.root / "locks"
        pids = [name.split(".")[0] for name in os.listdir(folder)] if folder.exists() else []
        if not any(runs(pid) for pid in pids):
            return
        time.sleep(0.1)
    raise AssertionError(f"still at work: {pids}")


def runs(pid):
    """Whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
