"""A deploy to an emulated 64-bit ARM device: its Python, onnxruntime and kernels behind a real server."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.fleet_cases import NEW, digest, write_program
from support.sshd import ROOT, Fleet, missing_sshd

import lstm_edge

CACHE = ROOT / ".cache" / "arm64"
KERNELS = ROOT / ".cache" / "kernels-arm64" / "liblstm_edge_kernels.so"
# What the command line needs besides numpy and onnxruntime; these packages have no compiled parts.
PURE = ["typer", "rich", "click", "shellingham", "markdown_it", "mdurl", "pygments", "annotated_doc"]


def missing():
    """Why there is no emulated device, or nothing."""
    if not (CACHE / "ready").exists() or not KERNELS.exists():
        return "no emulated root: make test-c-arm64 sets one up"
    return missing_sshd()


pytestmark = [pytest.mark.long, pytest.mark.skipif(bool(missing()), reason=missing() or "there is one")]


@pytest.fixture
def program(tmp_path):
    """The device's `lstm-edge`: this checkout on the emulated interpreter."""
    site = tmp_path / "site"
    site.mkdir()
    for name in PURE:
        for folder in map(Path, sys.path):
            for found in (folder / name, folder / f"{name}.py"):
                if found.exists() and not (site / found.name).exists():
                    (shutil.copytree if found.is_dir() else shutil.copy)(found, site / found.name)
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "exporters", ROOT / "runtime", site)))
    return write_program(
        tmp_path / "lstm-edge",
        f"#!/bin/sh\nexport PYTHONPATH={shlex.quote(paths)} LSTM_EDGE_LIBRARY={shlex.quote(str(KERNELS))}\n"
        f'exec {shlex.quote(str(CACHE / "arm64-python"))} -m lstm_edge "$@"\n',
    )


def test_an_emulated_board_gets_a_model_that_its_own_kernels_checked(tmp_path, program):
    machine = [str(CACHE / "arm64-python"), "-c", "import platform; print(platform.machine())"]
    assert subprocess.run(machine, capture_output=True, text=True, check=True, timeout=120).stdout == "aarch64\n"
    with Fleet(tmp_path, 1) as fleet:
        [device] = fleet.devices
        checked = f"{program} check --kernels required --json {shlex.quote(str(device.root / 'current'))}"
        health = f"{checked} >{shlex.quote(str(tmp_path / 'report'))}"
        options = fleet.options(device_command=program, step_seconds=300)
        report = lstm_edge.deploy(NEW, **options, health=health, health_seconds=300, watch_seconds=0)
        assert report.sentences() == []
        assert device.names() == (digest(NEW), None, None)
        found = json.loads((tmp_path / "report").read_text())
        assert (found["passed"], found["kind"]) == (True, "kernels")
        assert lstm_edge.status(**fleet.options()).hosts[0].whole is True
