"""`validate --on`: a real OpenSSH server on the loopback interface answers for both files."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from support.fleet_cases import NEW, OLD, write_program
from support.sshd import ROOT, Fleet, make_key, missing_sshd

import lstm_edge
from lstm_edge_runtime.errors import BudgetError, DeviceError, InputError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing_sshd()), reason=missing_sshd() or "there is one"),
]
STEPS = (9, 4, 7)

# Runs the real program, and adds to an output of each answer for the candidate.
OTHER_ANSWERS = """
import sys
from lstm_edge_runtime.commands import calls
right = calls.encode_arrays
def wrong(arrays):
    return right({name: array[..., ::-1] for name, array in arrays.items()})
if sys.argv[-1].count("CANDIDATE"):
    calls.encode_arrays = wrong
from lstm_edge.cli import main
sys.exit(main())
"""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fleet")
    with Fleet(folder, 1) as servers:
        yield servers


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Sequences of different lengths with a class for each step."""
    path = tmp_path_factory.mktemp("data") / "steps.npz"
    rng = np.random.default_rng(1)
    x = rng.normal(size=(sum(STEPS), 6)).astype(np.float32)
    np.savez(path, x=x, y=rng.integers(0, 4, size=sum(STEPS)), lengths=np.array(STEPS))
    return str(path)


def device_options(fleet, program=None, **more):
    device = fleet.devices[0]
    values = {"on": device.to, "known_hosts": fleet.known_hosts, "identity": fleet.key}
    return values | {"device_command": str(program or fleet.program)} | more


def left_behind(fleet):
    """The folders of validations that are still on the device."""
    return [path for path in os.listdir(fleet.devices[0].temporary) if path.startswith("lstm-edge-")]


def test_the_report_is_that_of_this_machine(fleet, data):
    options = {"against": OLD, "data": data, "max_drop": "50pt"}
    here = lstm_edge.validate(NEW, **options).to_json()
    report = lstm_edge.validate(NEW, **options, **device_options(fleet))
    there = report.to_json()
    device = there.pop("device")
    assert here.pop("device") is None
    assert there == here
    assert device["host"] == fleet.devices[0].to
    assert device["program"] == "lstm-edge"
    assert device["onnxruntime"]
    assert report.device.row() in report.rows()
    assert left_behind(fleet) == []


@pytest.mark.long
def test_a_device_with_other_answers_fails_the_budget(fleet, data, tmp_path):
    """The stand-in turns the logits of one file around: only the device's answers can show it."""
    script = tmp_path / "other.py"
    script.write_text(OTHER_ANSWERS.replace("CANDIDATE", hashlib.sha256(OLD.read_bytes()).hexdigest()))
    paths = os.pathsep.join(str(ROOT / folder) for folder in ("", "exporters", "runtime"))
    program = write_program(
        tmp_path / "lstm-edge", f"#!/bin/sh\nPYTHONPATH='{paths}' exec {sys.executable} {script} \"$@\"\n"
    )
    # The targets are the reference's own decisions, by the metric of agreement.
    options = {"against": NEW, "data": data, "metric": "agreement", "max_drop": "20pt"}
    lstm_edge.validate(OLD, **options).check()
    report = lstm_edge.validate(OLD, **options, **device_options(fleet, program))
    assert not report.passed
    with pytest.raises(BudgetError, match="over the budget"):
        report.check()


def test_an_unknown_host_key_is_refused(fleet, data, tmp_path):
    make_key(tmp_path / "another")
    other = tmp_path / "known_hosts"
    other.write_text(f"[127.0.0.1]:{fleet.devices[0].port} {(tmp_path / 'another.pub').read_text()}")
    with pytest.raises(DeviceError, match=f"^{fleet.devices[0].to}: its host key differs from"):
        lstm_edge.validate(NEW, OLD, data, max_drop="50pt", **device_options(fleet, known_hosts=other))


def test_a_device_without_the_runtime_or_that_refuses_a_file(fleet, data, tmp_path):
    with pytest.raises(DeviceError, match=r"/nowhere/lstm-edge.*No such file|/nowhere/lstm-edge.*not found") as missing:
        lstm_edge.validate(NEW, OLD, data, max_drop="50pt", **device_options(fleet, "/nowhere/lstm-edge"))
    assert str(missing.value).startswith(f"{fleet.devices[0].to}: ")
    assert missing.value.exit_code == 2
    help_text = 'case "$*" in *--help) echo --calls; exit;; esac'
    refusing = write_program(tmp_path / "refuse", f"#!/bin/sh\n{help_text}\necho error: no such operator >&2\nexit 2\n")
    with pytest.raises(DeviceError, match=r"run ended with exit code 2: error: no such operator$"):
        lstm_edge.validate(NEW, OLD, data, max_drop="50pt", **device_options(fleet, refusing))
    old = write_program(tmp_path / "old", '#!/bin/sh\ncase "$*" in *--help) echo usage; exit;; esac\nexit 2\n')
    with pytest.raises(DeviceError, match="has no run --calls: install a newer lstm-edge there"):
        lstm_edge.validate(NEW, OLD, data, max_drop="50pt", **device_options(fleet, old))
    assert left_behind(fleet) == []


def test_a_device_that_gives_no_answer_is_not_waited_for(fleet, data, tmp_path):
    silent = write_program(
        tmp_path / "silent", '#!/bin/sh\ncase "$*" in *--help) echo --calls; exit;; esac\nsleep 60\n'
    )
    begun = time.monotonic()
    with pytest.raises(DeviceError, match="gave no answer within 1 s"):
        lstm_edge.validate(NEW, OLD, data, max_drop="50pt", **device_options(fleet, silent, step_seconds=1))
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupt_leaves_no_file_and_no_process(fleet, data, tmp_path, number):
    begun = tmp_path / "begun"
    stuck = write_program(
        tmp_path / "stuck",
        f'#!/bin/sh\ncase "$*" in *--help) echo --calls; exit;; esac\n'
        f'for last; do :; done\necho $$ "$last" >{begun}.new\nmv {begun}.new {begun}\nexec sleep 60\n',
    )
    options = device_options(fleet, stuck)
    command = [sys.executable, "-m", "lstm_edge", "validate", str(NEW), "--against", str(OLD), "--data", data]
    command += ["--max-drop", "50pt", "--on", options["on"], "--known-hosts", str(options["known_hosts"])]
    command += ["--identity", str(options["identity"]), "--device-command", options["device_command"]]
    paths = os.pathsep.join(str(ROOT / folder) for folder in ("", "exporters", "runtime"))
    process = subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": paths}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait_until(begun.exists)
        pid, model = begun.read_text().split()
        assert os.path.exists(model)
        assert left_behind(fleet)
        process.send_signal(number)
        assert process.wait(timeout=60) == (130 if number == signal.SIGINT else -number)
        _wait_until(lambda: left_behind(fleet) == [])
        _wait_until(lambda: not os.path.exists(f"/proc/{pid}"))
    finally:
        process.kill()
        process.wait(timeout=60)


def _wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_what_cannot_run_on_a_device_is_refused_before_a_connection(data):
    with pytest.raises(InputError, match=re.escape("--on is given 2 times (a, b): validate on one device at a time")):
        lstm_edge.validate(NEW, OLD, data, on=["a", "b"])
    with pytest.raises(
        InputError, match=re.escape("--against is net.pt, but a device runs .onnx files only: export it first")
    ):
        lstm_edge.validate(NEW, "net.pt", data, on="a")
    with pytest.raises(InputError, match=re.escape("--identity requires --on HOST")):
        lstm_edge.validate(NEW, OLD, data, identity="key")
    with pytest.raises(InputError, match=re.escape("--kernels is 'maybe', expected auto, required or off")):
        lstm_edge.validate(NEW, OLD, data, on="a", kernels="maybe")
