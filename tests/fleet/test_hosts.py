"""Hosts of the command line and of fleet.toml, and the order in which they are served."""

import asyncio
import re
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import lstm_edge
from lstm_edge.cli import app
from lstm_edge.fleet.hosts import Host, find_hosts, parse_host
from lstm_edge.fleet.reports import DeviceStatus, FleetReport, HostResult, StatusReport
from lstm_edge.fleet.rollout import SIDE_BY_SIDE, Rollout, run_all
from lstm_edge_runtime.errors import DeployError, InputError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("board1", ("board1", None, None)),
        ("pi@board1", ("board1", "pi", None)),
        ("pi@board2:2222", ("board2", "pi", 2222)),
        ("10.0.0.7:22", ("10.0.0.7", None, 22)),
        ("[fe80::1]", ("fe80::1", None, None)),
        ("pi@[fe80::1%eth0]:2022", ("fe80::1%eth0", "pi", 2022)),
    ],
)
def test_a_host_is_read(text, expected):
    host = parse_host(text)
    assert (host.name, host.user, host.port) == expected
    assert host.label == text


@pytest.mark.parametrize(
    "text", ["", "pi@", "@board", "a@b@c", "board:", "board:ssh", "fe80::1", "a b", "-oProxy", "pi@-x"]
)
def test_what_is_no_host_is_refused(text):
    with pytest.raises(InputError, match=re.escape(f"host {text!r} must look like pi@board1, board2:2222")):
        parse_host(text)


@pytest.mark.parametrize("port", [0, 65536])
def test_a_port_has_its_range(port):
    with pytest.raises(InputError, match=f"the port is {port}, expected 1 to 65535"):
        parse_host(f"board:{port}")


FILE = """
path = "/srv/kws"
reload = "systemctl reload kws"
watch_seconds = 30

[[host]]
to = "pi@board1"

[[host]]
to = "pi@board2:2222"
path = "/data/it's kws"
health = "test -e /run/kws"
"""


def test_a_file_has_common_settings_and_those_of_a_host(tmp_path):
    path = tmp_path / "fleet.toml"
    path.write_text(FILE)
    first, second = find_hosts(hosts=path)
    assert (first.path, first.reload, first.health, first.watch_seconds) == ("/srv/kws", "systemctl reload kws", "", 30)
    assert (second.path, second.reload, second.health) == ("/data/it's kws", "systemctl reload kws", "test -e /run/kws")
    assert second.port == 2222
    # The command line overrides the file, and its hosts come first.
    three = find_hosts(["other"], path, path="/x", reload=None, watch_seconds=0)
    assert [host.label for host in three] == ["other", "pi@board1", "pi@board2:2222"]
    assert [(host.path, host.watch_seconds) for host in three] == [("/x", 0)] * 3
    assert three[1].reload == "systemctl reload kws"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "it has no host; expected a table [[host]] with to"),
        ("path = 3\n", "'path' is 3, expected a text"),
        ("watch_seconds = true\n", "'watch_seconds' is True, expected an integer"),
        ("pth = '/x'\n", "unknown key 'pth'; expected one of path, reload, health, watch_seconds, device_command, "),
        ("[[host]]\npath = '/x'\n", "host 1: 'to' is None, expected a text such as"),
        ("[[host]]\nto = 'a'\nuser = 'b'\n", "host 1: unknown key 'user'"),
        ("[host]\nto = 'a'\n", "'host' must be tables: [[host]]"),
        ("[[host]\n", "not a TOML file"),
        ("[[host]]\nto = 'a'\n", "host 'a' has no path: give --path, or path in the file"),
        ("[[host]]\nto = 'a'\npath = 'srv'\n", "host 'a': the path is 'srv', expected an absolute one"),
        ("path = '/x'\nwatch_seconds = -1\n[[host]]\nto = 'a'\n", "watch_seconds is -1, expected 0 or more"),
        ("path = '/x'\n[[host]]\nto = 'a'\n[[host]]\nto = 'a'\n", "host 'a' is given twice"),
    ],
)
def test_what_a_file_must_not_say(tmp_path, text, sentence):
    path = tmp_path / "fleet.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=re.escape(sentence)):
        find_hosts(hosts=path)


def test_no_host_and_no_file_are_refused(tmp_path):
    with pytest.raises(InputError, match="no host is given: name each with --to USER@HOST, or all in a file"):
        find_hosts()
    with pytest.raises(InputError, match=re.escape("none.toml: no such file")):
        find_hosts(hosts=tmp_path / "none.toml")


class Work:
    """Work that notes how many hosts are served at once; those of ``bad`` fail."""

    def __init__(self, *bad):
        self.bad, self.order, self.now, self.most = bad, [], 0, 0

    async def __call__(self, host):
        self.order.append(host.label)
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.001)
        self.now -= 1
        return HostResult(host=host.label, result="failed" if host.label in self.bad else "deployed", sentence="bad")


def roll(count, work, **options):
    hosts = [Host(label=str(index), name="x") for index in range(count)]
    results = asyncio.run(run_all(hosts, work, Rollout(**options)))
    assert [result.host for result in results] == [host.label for host in hosts]
    return [result.result for result in results], results


def test_all_hosts_are_served_and_32_at_once_at_most():
    work = Work()
    results, _ = roll(70, work)
    assert results == ["deployed"] * 70
    assert work.most == SIDE_BY_SIDE == 32
    assert roll(5, narrow := Work(), parallel=2)[0] == ["deployed"] * 5
    assert narrow.most == 2


def test_a_canary_goes_first_and_stops_the_others():
    work = Work("0")
    results, reports = roll(4, work, canary=1, max_failures=3)
    assert results == ["failed"] + ["not tried"] * 3
    assert work.order == ["0"]
    assert reports[1].sentence == "not tried, because a canary failed"
    good = Work("3")
    assert roll(4, good, canary=2)[0] == ["deployed", "deployed", "deployed", "failed"]
    assert good.most == 2


@pytest.mark.parametrize(("allowed", "begun"), [(0, 1), (1, 2), (2, 5)])
def test_no_host_is_begun_after_too_many_failures(allowed, begun):
    work = Work("0", "1")
    results, reports = roll(5, work, parallel=1, max_failures=allowed)
    assert len(work.order) == begun
    assert results[begun:] == ["not tried"] * (5 - begun)
    if begun < 5:
        assert reports[-1].sentence == f"not tried, because more than {allowed} hosts failed"


def test_a_report_counts_and_raises():
    failed = HostResult(host="a", result="failed", sentence="no")
    good = HostResult(host="b", result="unchanged", before="1" * 64, after="1" * 64)
    report = FleetReport(command="deploy", model="1" * 64, hosts=(failed, good))
    assert report.sentences() == ["a: no"]
    assert report.rows()[1] == ("b", "unchanged", "1" * 12, "1" * 12, "0.0")
    with pytest.raises(DeployError, match="deploy: 1 of 2 hosts failed; see their sentences"):
        report.check()
    assert report.to_json()["passed"] is False
    FleetReport(command="deploy", model=None, hosts=(good,)).check()
    assert DeployError("x").exit_code == 1


def test_a_status_raises_for_what_is_not_in_order():
    StatusReport(hosts=(DeviceStatus(host="a", state="idle"),)).check()
    damaged = DeviceStatus(host="a", state="idle", current="1" * 64, whole=False, sentence="damaged")
    assert StatusReport(hosts=(damaged,)).rows() == [("a", "idle", "1" * 12, "NO", "-", "0")]
    with pytest.raises(DeployError, match="1 of 1 hosts are not in order"):
        StatusReport(hosts=(damaged,)).check()


MODEL = Path(__file__).parents[1] / "device" / "models" / "exported_int8.onnx"


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "asyncssh", None)
    words = ["--to", "board", "--path", "/srv/kws"]
    for command in (["deploy", str(MODEL)], ["status"], ["rollback"], ["prune"]):
        result = CliRunner().invoke(app, [*command, *words])
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr == (
            "error: a connection over SSH needs 'asyncssh', which is not installed: pip install 'lstm-edge[deploy]'\n"
        )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"parallel": 33}, "parallel is 33, expected 32 at most"),
        ({"canary": -1}, "canary is -1, expected 0 or more"),
        ({"step_seconds": 0}, "step_seconds is 0, expected 1 or more"),
        ({"path": "srv"}, "the path is 'srv', expected an absolute one"),
    ],
)
def test_numbers_that_are_not_valid(options, sentence):
    with pytest.raises(InputError, match=re.escape(sentence)):
        lstm_edge.deploy(MODEL, **{"to": ["board"], "path": "/srv/kws"} | options)


def test_a_file_without_a_trailer_is_not_sent():
    with pytest.raises(lstm_edge.ArtifactError, match="no integrity trailer: export, adopt or quantize it"):
        lstm_edge.deploy(MODEL.with_name("no_card.onnx"), to=["board"], path="/srv/kws")
