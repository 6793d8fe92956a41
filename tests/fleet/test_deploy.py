"""Deploys to real OpenSSH servers, five on five ports of the loopback interface."""

import json
import os
import re
import subprocess
import sys
import time

import pytest
from support.fleet_cases import NEW, OLD, STAND_IN, deploy_with, digest, old_model_everywhere, write_program
from support.sshd import Fleet, make_key, missing_sshd
from typer.testing import CliRunner

import lstm_edge
from lstm_edge.cli import app

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(bool(missing_sshd()), reason=missing_sshd() or "there is one"),
]
OLD_SHA, NEW_SHA = digest(OLD), digest(NEW)


@pytest.fixture
def fleet(tmp_path):
    with Fleet(tmp_path, 5) as servers:
        yield servers


@pytest.fixture
def stand_in(tmp_path):
    return write_program(tmp_path / "stand in")  # the caller quotes it


def quoted(program):
    return f"'{program}'"


def asked(options):
    """The options of `status` and `prune`."""
    return {name: options[name] for name in ("hosts", "known_hosts", "identity")}


def test_deploy_status_rollback_and_prune_with_the_real_runtime(fleet):
    options = fleet.options(device_command=str(fleet.program))
    for model, before, after in ((OLD, None, OLD_SHA), (NEW, OLD_SHA, NEW_SHA)):
        report = lstm_edge.deploy(model, **options, max_p99_us=1e6, parallel=2)
        assert report.sentences() == []
        for result in report.hosts:
            assert (result.result, result.before, result.after) == ("deployed", before, after)
            assert result.sent_bytes == model.stat().st_size
            assert 0 < result.p99_us < 1e6
    assert [device.names() for device in fleet.devices] == [(NEW_SHA, OLD_SHA, None)] * 5
    assert all(device.current() == NEW.read_bytes() for device in fleet.devices)
    status = lstm_edge.status(**asked(options))
    status.check()
    assert {(h.state, h.current, h.previous, h.whole) for h in status.hosts} == {("idle", NEW_SHA, OLD_SHA, True)}
    back = lstm_edge.rollback(**options)
    assert {(h.result, h.before, h.after) for h in back.hosts} == {("rolled back", NEW_SHA, OLD_SHA)}, back.sentences()
    assert all(device.current() == OLD.read_bytes() for device in fleet.devices)
    assert [device.names() for device in fleet.devices] == [(OLD_SHA, NEW_SHA, None)] * 5
    assert {h.removed for h in lstm_edge.prune(**asked(options), keep=1).hosts} == {()}


def test_what_is_there_is_not_sent_again(fleet, stand_in):
    device = fleet.devices[0]
    reloads = device.folder / "reloads"
    more = {"reload": f"echo >>{reloads}"}
    [first] = deploy_with(fleet, quoted(stand_in), NEW, device, **more)
    [second] = deploy_with(fleet, quoted(stand_in), NEW, device, **more)
    assert (first.result, second.result, second.sent_bytes) == ("deployed", "unchanged", 0)
    assert reloads.read_text() == "\n"
    deploy_with(fleet, quoted(stand_in), OLD, device)
    [third] = deploy_with(fleet, quoted(stand_in), NEW, device)
    assert (third.result, third.sent_bytes) == ("deployed", 0)
    # A file that lost its bytes is sent again.
    path = device.root / "models" / f"{NEW_SHA}.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert lstm_edge.status(**asked(fleet.options(device))).hosts[0].whole is False
    [fourth] = deploy_with(fleet, quoted(stand_in), NEW, device)
    assert (fourth.result, fourth.sent_bytes) == ("unchanged", NEW.stat().st_size)
    assert device.current() == NEW.read_bytes()


def test_the_service_reads_the_new_model_at_reload(fleet, stand_in):
    device = fleet.devices[0]
    served = device.folder / "served"
    quoted_link = "'" + str(device.root / "current").replace("'", "'\\''") + "'"
    reload = f"cat {quoted_link} >{served}"
    [result] = deploy_with(fleet, quoted(stand_in), OLD, device, reload=reload)
    assert result.result == "deployed", result
    [result] = deploy_with(fleet, quoted(stand_in), NEW, device, reload=reload, health="false")
    assert result.result == "failed"
    assert served.read_bytes() == OLD.read_bytes()
    [result] = deploy_with(fleet, quoted(stand_in), NEW, device, reload=reload, health="true", watch_seconds=0)
    assert served.read_bytes() == NEW.read_bytes()


def test_a_first_deploy_that_fails_leaves_no_model(fleet, stand_in):
    device = fleet.devices[0]
    [result] = deploy_with(fleet, quoted(stand_in), OLD, device, health="false")
    assert result.sentence == "the health command failed (exit code 1); no model is current, as before"
    assert device.names() == (None, None, None)


def test_a_canary_that_fails_stops_the_others(fleet, stand_in):
    old_model_everywhere(fleet, quoted(stand_in))
    only = fleet.devices[0].folder
    results = deploy_with(fleet, quoted(stand_in), NEW, health=f'test "$HOME" != {only}', watch_seconds=0)
    assert [result.result for result in results] == ["failed"] + ["not tried"] * 4
    assert results[0].sentence == "the health command failed (exit code 1); the old model is back"
    assert [device.names()[0] for device in fleet.devices] == [OLD_SHA] * 5
    assert not any((d.root / "models" / f"{NEW_SHA}.onnx").exists() for d in fleet.devices[1:])
    # A failure past the canary within the limit: the others go on.
    only = fleet.devices[2].folder
    results = deploy_with(
        fleet, quoted(stand_in), NEW, health=f'test "$HOME" != {only}', watch_seconds=0, max_failures=1
    )
    assert [result.result for result in results] == ["deployed", "deployed", "failed", "deployed", "deployed"]
    assert [device.names()[0] == NEW_SHA for device in fleet.devices] == [True, True, False, True, True]


def test_host_keys_are_verified(fleet, stand_in, tmp_path):
    known, other, unknown = fleet.devices[:3]
    make_key(tmp_path / "another")
    public = (tmp_path / "another.pub").read_text()
    fleet.known_hosts.write_text(f"{known.known_hosts_line}[127.0.0.1]:{other.port} {public}")
    results = deploy_with(fleet, quoted(stand_in), NEW, known, other, unknown, canary=0, max_failures=9)
    assert [result.result for result in results] == ["deployed", "failed", "failed"]
    assert results[1].sentence.startswith(f"its host key differs from the one in {fleet.known_hosts}")
    assert results[2].sentence.startswith(f"its host key is not in {fleet.known_hosts}: compare the fingerprint")
    assert not other.root.exists()
    assert not unknown.root.exists()
    # Neither a file nor ssh's configuration turns it off.
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "config").write_text("Host *\n  UserKnownHostsFile none\n  StrictHostKeyChecking no\n")
    code = "import sys, lstm_edge; print(lstm_edge.status(to=[sys.argv[1]], path='/x', identity=sys.argv[2]).hosts)"
    paths = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", code, unknown.to, str(fleet.key)],
        env=os.environ | {"HOME": str(home), "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert "its host key is not in " in done.stdout


def test_a_login_and_a_port_that_do_not_work(fleet, stand_in, tmp_path):
    make_key(tmp_path / "stranger")
    device = fleet.devices[0]
    fleet.devices[1].stop()
    [result] = deploy_with(fleet, quoted(stand_in), NEW, device, identity=tmp_path / "stranger")
    assert result.sentence == "the device refuses the login: none of the keys is in its authorized_keys"
    [result] = deploy_with(fleet, quoted(stand_in), NEW, fleet.devices[1])
    assert result.sentence.startswith("the device cannot be reached: ")
    with pytest.raises(lstm_edge.InputError, match="not a private key that can be read"):
        deploy_with(fleet, quoted(stand_in), NEW, device, identity=fleet.known_hosts)


CHECK = 'case $1 in check) {}; esac; echo \'{{"step": {{"p99_us": 900}}}}\''
FAILURES = {
    "a check that fails": (
        CHECK.format("echo 'worst difference 3' >&2; exit 1"),
        {},
        "the check failed (exit code 1): worst difference 3",
    ),
    "a check that hangs": (
        CHECK.format("sleep 60"),
        {"step_seconds": 1},
        "the check took longer than 1 s and was killed",
    ),
    "a bench too slow": ("", {"max_p99_us": 500}, "the bench is too slow: p99 is 900.0 us, the limit is 500 us"),
    "a bench without a figure": (
        "[ $1 = check ] || echo fast; exit 0",
        {"max_p99_us": 5},
        "the bench printed no p99: 'fast'",
    ),
    "a health command that fails": (
        "",
        {"health": "echo down; exit 3"},
        "the health command failed (exit code 3): down; the old model is back",
    ),
    "a health command that fails later": (
        "",
        {"health": 'echo >>"$HOME/n"; test $(wc -l <"$HOME/n") -lt 3', "watch_seconds": 9},
        "the health command failed (exit code 1); the old model is back",
    ),
    "a health command that hangs": (
        "",
        {"health": 'echo $$ >"$HOME/pid"; sleep 97', "health_seconds": 1},
        "the health command took longer than 1 s and was killed; the old model is back",
    ),
    "a reload that fails": (
        "",
        {"reload": "echo bad; false"},
        "the reload command failed (exit code 1): bad; the old model is back, but its reload failed too (exit code 1)",
    ),
    "a reload that hangs": (
        "",
        {"reload": 'test -e "$HOME/once" || { : >"$HOME/once"; sleep 97; }', "step_seconds": 1},
        "the reload command took longer than 1 s and was killed; the old model is back",
    ),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_failure_leaves_the_old_model(fleet, stand_in, tmp_path, case):
    body, more, sentence = FAILURES[case]
    device = fleet.devices[0]
    old_model_everywhere(fleet, quoted(stand_in), device)
    program = write_program(tmp_path / "bad", f"#!/bin/sh\n{body or CHECK.format('exit 0')}\n")
    began = time.monotonic()
    [result] = deploy_with(fleet, program, NEW, device, **more)
    assert time.monotonic() - began < 60
    assert (result.result, result.sentence, result.after) == ("failed", sentence, OLD_SHA)
    assert device.current() == OLD.read_bytes()
    assert device.names() == (OLD_SHA, None, None)
    pid = device.folder / "pid"
    if pid.exists():
        assert not os.path.exists(f"/proc/{pid.read_text().strip()}/environ") or not _command(pid)
    [result] = deploy_with(fleet, quoted(stand_in), NEW, device)
    assert (result.result, device.names()) == ("deployed", (NEW_SHA, OLD_SHA, None))


def _command(pid):
    """The command line of a process; empty for one that has ended and was not waited for."""
    with open(f"/proc/{pid.read_text().strip()}/cmdline", "rb") as file:
        return file.read()


def test_no_runtime_and_no_permission(fleet, stand_in, tmp_path):
    device = fleet.devices[0]
    old_model_everywhere(fleet, quoted(stand_in), device)
    [result] = deploy_with(fleet, quoted(tmp_path / "none"), NEW, device)
    assert re.fullmatch(r"the check cannot run: .*none: (not found|No such file or directory)", result.sentence)
    options = fleet.options(device)
    [result] = lstm_edge.deploy(NEW, **options).hosts
    assert result.sentence.startswith("there is neither lstm-edge nor lstm-edge-device in PATH (")
    assert device.current() == OLD.read_bytes()
    for path in ("/proc/nothing", "/sys/kernel/kws"):
        [result] = lstm_edge.deploy(NEW, **options, path=path).hosts
        assert result.sentence.startswith(f"the folder {path}/locks cannot be made: ")


def test_two_deploys_do_not_interleave(fleet, stand_in, tmp_path):
    device = fleet.devices[0]
    old_model_everywhere(fleet, quoted(stand_in), device)
    slow = write_program(tmp_path / "slow", STAND_IN.replace("check) ;;", "check) sleep 15 ;;"))
    options = fleet.options(device)
    code = (
        "import sys, lstm_edge; print(lstm_edge.deploy(sys.argv[1], hosts=sys.argv[2], known_hosts=sys.argv[3], "
        "identity=sys.argv[4], device_command=sys.argv[5]).hosts[0].result)"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", code, str(NEW), *map(str, options.values()), slow],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    while not (device.root / "models" / f"{NEW_SHA}.onnx").exists():
        assert first.poll() is None
        time.sleep(0.05)
    assert lstm_edge.status(**options).hosts[0].state == "busy"
    [second] = deploy_with(fleet, quoted(stand_in), NEW, device)
    assert re.fullmatch(r"another deploy works on .* \(process \d+ of the device\)", second.sentence)
    assert first.communicate(timeout=60)[0] == "deployed\n"
    assert device.names() == (NEW_SHA, OLD_SHA, None)


@pytest.mark.skipif(os.getuid() != 0, reason="a small file system is mounted as root only")
def test_a_full_disk_leaves_the_old_model(fleet, stand_in):
    device = fleet.devices[0]
    device.root.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=28k", "tmpfs", str(device.root)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        old_model_everywhere(fleet, quoted(stand_in), device)
        [result] = deploy_with(fleet, quoted(stand_in), NEW, device)
        assert result.result == "failed"
        assert "could not be written to" in result.sentence
        assert result.sentence.endswith("No space left on device")
        assert device.current() == OLD.read_bytes()
        assert os.listdir(device.root / "models") == [f"{OLD_SHA}.onnx"]
        subprocess.run(["mount", "-o", "remount,size=1m", str(device.root)], check=True)
        [result] = deploy_with(fleet, quoted(stand_in), NEW, device)
        assert result.result == "deployed", result
        assert device.names() == (NEW_SHA, OLD_SHA, None)
    finally:
        subprocess.run(["umount", str(device.root)], check=True)


def test_a_file_that_is_too_large_for_the_device(fleet, stand_in, tmp_path):
    # A limit on the size of files, as a quota would have it; it works without root.
    device = fleet.devices[0]
    old_model_everywhere(fleet, quoted(stand_in), device)
    wrapper = write_program(tmp_path / "wrapper", '#!/bin/sh\nulimit -f 8\nexec sh -c "$SSH_ORIGINAL_COMMAND"\n')
    device.stop()
    device.start(wrapper=wrapper)
    [result] = deploy_with(fleet, quoted(stand_in), NEW, device)
    assert result.result == "failed"
    assert device.current() == OLD.read_bytes()
    assert os.listdir(device.root / "models") == [f"{OLD_SHA}.onnx"]


def test_a_signature_is_sent_and_one_that_is_refused_replaces_nothing(fleet, tmp_path):
    device = fleet.devices[0]
    model = tmp_path / "m.onnx"
    model.write_bytes(NEW.read_bytes())
    for name in ("fleet key", "stranger"):
        lstm_edge.keygen(tmp_path / name)
    more = {"device_trusted_key": str(tmp_path / "fleet key.pub")}
    with pytest.raises(lstm_edge.InputError, match=re.escape("m.onnx.sig: no such file; a trusted key is asked for")):
        deploy_with(fleet, fleet.program, model, device, **more)
    lstm_edge.sign(model, key=tmp_path / "stranger")
    [result] = deploy_with(fleet, fleet.program, model, device, **more)
    assert result.sentence.startswith("the check failed (exit code 1): error: ")
    assert "which is not trusted" in result.sentence
    assert device.current() is None
    lstm_edge.sign(model, key=tmp_path / "fleet key")
    good = (tmp_path / "m.onnx.sig").read_bytes()
    [result] = deploy_with(fleet, fleet.program, model, device, **more)
    assert (result.result, result.sent_bytes) == ("deployed", 0), result
    signature = device.root / "models" / f"{NEW_SHA}.onnx.sig"
    assert signature.read_bytes() == good
    # The same model again, signed by a stranger: the device keeps the signature that its service accepts.
    lstm_edge.sign(model, key=tmp_path / "stranger")
    [result] = deploy_with(fleet, fleet.program, model, device, **more)
    assert result.result == "failed"
    assert signature.read_bytes() == good
    assert lstm_edge.check(device.root / "models" / f"{NEW_SHA}.onnx", trusted_keys=[more["device_trusted_key"]]).passed


def test_the_command_line(fleet, stand_in):
    options = fleet.options(device_command=quoted(stand_in))
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    result = CliRunner().invoke(app, ["deploy", str(NEW), *words])
    assert result.exit_code == 0, result.output
    assert result.stdout.count("deployed") == 5
    assert result.stderr.splitlines() == sorted(result.stderr.splitlines(), key=lambda line: line[0])
    result = CliRunner().invoke(app, ["deploy", str(OLD), *words, "--health", "false", "--json"])
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert (report["passed"], report["model"]) == (False, OLD_SHA)
    assert [host["result"] for host in report["hosts"]] == ["failed"] + ["not tried"] * 4
    assert result.stderr.splitlines()[-1] == (
        "error: deploy: 1 of 5 hosts failed, and 4 were not tried; see their sentences"
    )
    result = CliRunner().invoke(app, ["deploy", str(OLD), *words, "--health", "false"])
    assert result.exit_code == 1
    sentences = [line for line in result.stdout.splitlines() if line.startswith(fleet.devices[0].to)]
    assert sentences[-1].endswith(": the health command failed (exit code 1); the old model is back")
    words = words[:3]
    result = CliRunner().invoke(app, ["status", *words, "--json"])
    assert {host["current"] for host in json.loads(result.stdout)["hosts"]} == {NEW_SHA}
    result = CliRunner().invoke(app, ["prune", *words, "--keep", "1"])
    assert (result.exit_code, result.stdout.count("pruned")) == (0, 5)
    result = CliRunner().invoke(app, ["rollback", *words])
    assert result.exit_code == 1
    assert "there is no previous model to go back to" in result.stdout
