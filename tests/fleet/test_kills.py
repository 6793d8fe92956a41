"""A deploy that is killed at every step: the old model is still served, whole, and the next deploy finishes the job."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.fleet_cases import NEW, OLD, come_to_rest, deploy_with, digest, old_model_everywhere, write_program
from support.sshd import Fleet, missing_sshd

import lstm_edge

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(bool(missing_sshd()), reason=missing_sshd() or "there is one"),
]
OLD_SHA, NEW_SHA = digest(OLD), digest(NEW)
MORE = {"reload": "true", "health": "true", "watch_seconds": 1, "max_p99_us": 100.0}
# The steps that a client goes through, as it reports them.
STEPS = (
    "connecting",
    "connected",
    "locked",
    "sending",
    "sent",
    "complete",
    "checking",
    "checked",
    "measured",
    "swinging",
    "swung",
    "reloaded",
    "watching",
    "watched",
    "committing",
)
# What it runs on the device, in order.
COMMANDS = ("agent", "examine", "receive", "finish", "check", "bench")

CLIENT = """
import json, os, signal, sys
import lstm_edge
options = json.loads(sys.argv[3])
def on_event(event):
    if event.step == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)
lstm_edge.deploy(sys.argv[1], on_event=on_event, **options)
print("not killed")
"""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    with Fleet(tmp_path_factory.mktemp("kills"), 1) as servers:
        yield servers


@pytest.fixture
def device(fleet, stand_in):
    """A device that serves the old model and has never seen the new one."""
    [one] = fleet.devices
    subprocess.run(["rm", "-rf", str(one.root)], check=True)
    old_model_everywhere(fleet, stand_in, one)
    return one


@pytest.fixture(scope="module")
def stand_in(fleet):
    return f"'{write_program(fleet.folder / 'stand in')}'"


def check_old_then_finish(fleet, device, stand_in):
    """Assert that the device comes to rest with the old model, and that the next deploy finishes the job."""
    come_to_rest(device)
    assert device.current() == OLD.read_bytes()
    [result] = deploy_with(fleet, stand_in, NEW, device, **MORE)
    assert (result.result, result.sentence) == ("deployed", "")
    assert device.current() == NEW.read_bytes()
    assert device.names() == (NEW_SHA, OLD_SHA, None)
    assert os.listdir(device.root / "locks") == []
    left = set(os.listdir(device.root)) - {"current", "previous", "models", "locks"}
    assert left == set()
    assert sorted(os.listdir(device.root / "models")) == sorted(f"{sha}.onnx" for sha in (OLD_SHA, NEW_SHA))


@pytest.mark.parametrize("step", STEPS)
def test_the_client_is_killed(fleet, device, stand_in, step):
    options = {name: str(value) for name, value in fleet.options(device, device_command=stand_in).items()} | MORE
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, str(NEW), step, json.dumps(options)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, ""), done.stderr
    check_old_then_finish(fleet, device, stand_in)


def test_the_client_is_killed_after_the_commit(fleet, device, stand_in):
    options = {name: str(value) for name, value in fleet.options(device, device_command=stand_in).items()} | MORE
    command = [sys.executable, "-c", CLIENT, str(NEW), "committed", json.dumps(options)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL
    come_to_rest(device)
    assert device.names() == (NEW_SHA, OLD_SHA, None)
    [result] = deploy_with(fleet, stand_in, NEW, device, **MORE)
    assert result.result == "unchanged"


# Kills the server's process of the connection before, during and after one of the remote commands.
WRAPPER = """#!/bin/sh
count=$(cat {counter})
count=$((count + 1))
echo $count >{counter}
if [ $count = {at} ]; then
  case {when} in
    before) kill -KILL $PPID; exit 1 ;;
    during) (sleep 0.03; kill -KILL $PPID) </dev/null >/dev/null 2>&1 & ;;
    after) sh -c "$SSH_ORIGINAL_COMMAND"; kill -KILL $PPID; exit 1 ;;
  esac
fi
exec sh -c "$SSH_ORIGINAL_COMMAND"
"""


@pytest.mark.parametrize("when", ["before", "during", "after"])
@pytest.mark.parametrize("command", COMMANDS)
def test_the_server_is_killed_at_a_remote_command(fleet, device, tmp_path, stand_in, command, when):
    if (command, when) == ("agent", "after"):
        pytest.skip("the agent ends last: nothing is left to kill")
    (tmp_path / "counter").write_text("0")
    values = {"counter": tmp_path / "counter", "at": COMMANDS.index(command) + 1, "when": when}
    wrapper = write_program(tmp_path / "wrapper", WRAPPER.format(**values))
    device.stop()
    device.start(wrapper=wrapper)
    try:
        [result] = deploy_with(fleet, stand_in, NEW, device, **MORE)
    finally:
        device.stop()
        device.start()
    # 30 ms may be over before the client has read the answer of a short command; all but the last have a next one.
    assert result.result == "failed", result
    assert "connection was lost" in result.sentence
    check_old_then_finish(fleet, device, stand_in)


def entries(device):
    return [int(name.split(".")[0]) for name in os.listdir(device.root / "locks")]


def parent(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def command_line(pid):
    return Path(f"/proc/{pid}/cmdline").read_text()


@pytest.mark.parametrize("victim", ["session", "agent", "trial"])
@pytest.mark.parametrize("step", ["swung", "reloaded", "watching", "watched", "committing"])
def test_a_process_of_the_device_is_killed_in_the_trial(fleet, device, stand_in, step, victim):
    seen = []

    def kill(event):
        if event.step != step or seen:
            return
        [trial] = [pid for pid in entries(device) if parent(pid) in entries(device)]
        agent = parent(trial)
        session = parent(agent)
        assert "sshd" in command_line(session), command_line(session)
        seen.append({"session": session, "agent": agent, "trial": trial}[victim])
        os.kill(seen[0], signal.SIGKILL)

    more = MORE | {"watch_seconds": 3}
    [result] = deploy_with(fleet, stand_in, NEW, device, on_event=kill, **more)
    assert seen
    assert result.result == "failed", result
    check_old_then_finish(fleet, device, stand_in)


def test_all_processes_of_the_device_are_killed_in_the_trial(fleet, device, stand_in):
    # As by a power cut: nothing is left that could put the old model back. The next command does.
    def kill(event):
        if event.step == "watched":
            for pid in entries(device):
                os.kill(pid, signal.SIGKILL)

    [result] = deploy_with(fleet, stand_in, NEW, device, on_event=kill, **MORE)
    assert result.result == "failed"
    come_to_rest(device)
    assert device.names() == (NEW_SHA, None, OLD_SHA)
    options = fleet.options(device)
    assert lstm_edge.status(**options).hosts[0].state == "interrupted"
    [back] = lstm_edge.rollback(**options, device_command=stand_in).hosts
    assert (back.result, back.after) == ("rolled back", OLD_SHA)
    check_old_then_finish(fleet, device, stand_in)


def test_the_served_file_is_whole_at_all_times(fleet, device, stand_in):
    # A reader that opens `current` again and again sees the old or the new bytes, and never none.
    seen, stop = set(), time.monotonic() + 120
    deploys = iter([NEW, OLD, NEW])
    allowed = {OLD.read_bytes(): "old", NEW.read_bytes(): "new"}

    def look(event):
        del event
        for _ in range(200):
            seen.add(allowed.get(device.current(), "neither"))

    for model in deploys:
        [result] = deploy_with(fleet, stand_in, model, device, on_event=look, **MORE)
        assert result.result == "deployed"
        assert time.monotonic() < stop
    assert seen == {"old", "new"}
