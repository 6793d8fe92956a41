"""The report of ``bench``: what it says of a device, that it names nobody, and that only a report is read as one."""

import getpass
import json
import os
import socket
from pathlib import Path

import pytest

from lstm_edge_runtime.bench import bench
from lstm_edge_runtime.bench_report import read_report
from lstm_edge_runtime.device_facts import condition, device
from lstm_edge_runtime.errors import InputError

MODEL = Path(__file__).parent / "models" / "exported_int8.onnx"
# A Raspberry Pi 5 as the kernel describes it; two kinds of cores make the other machine a big.LITTLE one.
PI = {
    "proc/cpuinfo": "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b\n\nSerial\t\t: 10000000abcdef01\n",
    "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
    "proc/meminfo": "MemTotal:        8257984 kB\nMemFree:         1000 kB\n",
    "proc/loadavg": "0.07 0.10 0.05 1/200 1234\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_governor": "ondemand\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "1500000\n",
    "sys/devices/system/cpu/cpufreq/policy0/cpuinfo_max_freq": "2400000\n",
    "sys/class/thermal/thermal_zone0/temp": "52000\n",
    "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
}


def system(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.fixture(scope="module")
def report():
    return bench(MODEL, steps=9, repeats=2, time_steps=5)


def test_a_board_is_described_without_its_serial_number(tmp_path):
    facts, now = device(system(tmp_path, PI)), condition(tmp_path)
    assert (facts.board, facts.processors) == ("Raspberry Pi 5 Model B Rev 1.0", ("Cortex-A76",))
    assert (facts.memory_bytes, facts.governors, facts.max_mhz) == (8257984 * 1024, ("ondemand",), 2400)
    assert (now.mhz, now.celsius, now.load, now.throttled) == (1500, 52, 0.07, "50005")
    assert "abcdef01" not in repr((facts, now))


def test_cores_of_several_kinds_and_unknown_ones_are_named(tmp_path):
    text = "CPU implementer : 0x41\nCPU part : 0xd05\n" * 4 + "CPU implementer : 0x61\nCPU part : 0x022\n"
    facts = device(system(tmp_path, PI | {"proc/cpuinfo": text}))
    assert facts.processors == ("Cortex-A55", "implementer 0x61, part 0x022")


@pytest.mark.parametrize("name", list(PI))
def test_what_the_system_does_not_say_is_missing(tmp_path, name):
    files = PI | {name: "\xff\n" if name.endswith("temp") else ""}
    facts, now = device(system(tmp_path, files)), condition(tmp_path)
    said = (facts.processors, facts.board, facts.memory_bytes, now.load, facts.governors, now.mhz, facts.max_mhz)
    said += (now.celsius, now.throttled)
    assert said[list(PI).index(name)] in (None, ())
    assert sum(value in (None, ()) for value in said) == 1


def test_a_system_without_these_files_is_one_too(tmp_path):
    assert device(tmp_path).board is None
    assert condition(tmp_path).celsius is None


def test_a_report_survives_being_written_and_read(report):
    assert read_report(json.dumps(report.to_json()), "r.json") == report


def test_a_report_has_the_digest_of_the_file_and_ordered_latencies(report):
    import hashlib

    assert report.sha256 == hashlib.sha256(MODEL.read_bytes()).hexdigest()
    for timing in (report.step, report.sequence):
        assert timing.p50_us <= timing.p95_us <= timing.p99_us <= timing.worst_us
        assert timing.first_us <= timing.worst_us
        assert timing.last_us <= timing.worst_us


def test_a_report_names_no_user_host_or_folder(report):
    text = json.dumps(report.to_json())
    private = {str(MODEL.parent), os.path.expanduser("~") + "/", socket.gethostname(), os.uname().nodename}
    private.add(f"/{getpass.getuser()}")
    assert not [word for word in private if len(word) > 2 and word in text]


def changed(report, keys):
    return json.dumps(report.to_json() | keys)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"report": 2}, "r.json: expected a report of version 1, got 2"),
        ({"threads": "one"}, "r.json: report.threads must be a int"),
        ({"host": "me"}, "r.json: host is no key of a report"),
        ({"opening": None}, "r.json: report.opening must be an object"),
        ({"opening": {"load_ms": 1.0, "resident_bytes": None, "peak_bytes": None, "user": "me"}}, "opening.user is no"),
    ],
)
def test_what_is_no_report_is_refused(report, keys, says):
    with pytest.raises(InputError, match=says):
        read_report(changed(report, keys), "r.json")


@pytest.mark.parametrize(("text", "says"), [("{", "got no JSON"), ("[]", "got 'list'"), ("{}", "got None")])
def test_another_text_is_refused(text, says):
    with pytest.raises(InputError, match=says):
        read_report(text, "r.json")


def test_a_report_without_a_key_is_refused(report):
    values = report.to_json()
    del values["device"]["kernel"]
    with pytest.raises(InputError, match=r"report.device.kernel is missing"):
        read_report(json.dumps(values), "r.json")
