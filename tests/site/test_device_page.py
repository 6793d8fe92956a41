"""docs/device.md: consumers that answer like Python and feed the watchdog, valid units, updates, a read-only root."""

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from support.c_build import MissingToolError, build_library, find_onnxruntime
from support.symptoms import Tagger

import lstm_edge
from lstm_edge_runtime import Session

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "device.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent
LABELS = ("yes", "no", "other", "noise")
pytestmark = pytest.mark.long


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tagger of six features whose classes have names, int8."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    options = {"inputs": ["x: float32[batch, time, 6]"], "labels": LABELS, "scheme": "int8"}
    lstm_edge.export(Tagger().eval(), output=path, **options)
    return path


@pytest.fixture(scope="module")
def frames():
    """Frames that a stream of the model answers with different classes."""
    return (40 * np.random.default_rng(3).normal(size=(40, 6))).astype(np.float32)


@pytest.fixture(scope="module")
def classes(model, frames):
    stream = Session(model).stream()
    return [int(np.argmax(stream.push(frame))) for frame in frames]


@contextmanager
def systemd(folder):
    """A socket such as systemd gives; yields its path and the list of what was told."""
    told, path = [], folder / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        listener.settimeout(0.2)
        done = threading.Event()

        def listen():
            while not done.is_set():
                try:
                    # The barrier of systemd-notify sends a descriptor, which is closed when it was received.
                    data, descriptors, *_ = socket.recv_fds(listener, 4096, 4)
                except TimeoutError:
                    continue
                for descriptor in descriptors:
                    os.close(descriptor)
                told.extend(data.decode().splitlines())

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield path, told
        finally:
            done.set()
            thread.join()


@pytest.mark.skipif(shutil.which("systemd-notify") is None, reason="no systemd here")
def test_the_consumer_in_bash_hears_and_tells(model, frames, classes, tmp_path):
    [script] = blocks("bash")
    program, lines = tmp_path / "kws", tmp_path / "frames.jsonl"
    program.write_text(script.replace("/opt/lstm-edge/bin/", f"{BIN}/"))
    lines.write_text("[1, 2]\n" + "".join(f"{frame.tolist()}\n" for frame in frames))
    capture = tmp_path / "capture-frames"
    capture.write_text(f"#!/bin/sh\ncat {lines}\n")
    capture.chmod(0o755)
    with systemd(tmp_path) as (path, told):
        environment = os.environ | {"NOTIFY_SOCKET": str(path), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
        result = subprocess.run(
            ["bash", program, model], env=environment, capture_output=True, text=True, check=True, timeout=120
        )
    heard = classes.count(LABELS.index("yes"))
    assert 0 < heard < len(frames)
    assert result.stdout.splitlines() == ["heard: yes"] * heard
    assert {"READY=1", "WATCHDOG=1"} <= set(told)


def test_the_consumer_in_c_answers_like_python_and_tells(model, frames, classes, tmp_path):
    try:
        library = build_library()
    except MissingToolError as error:
        pytest.skip(str(error))
    [source] = blocks("c")
    (tmp_path / "kws.c").write_text(source)
    header = ROOT / "runtime" / "c" / "include"
    flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", f"-I{header}"]
    link = [f"-L{library}", "-llstm_edge", f"-Wl,-rpath,{library}"]
    subprocess.run(["cc", *flags, tmp_path / "kws.c", *link, "-o", tmp_path / "kws"], check=True, timeout=120)
    bad = np.full((1, 6), np.nan, np.float32)
    with systemd(tmp_path) as (path, told):
        result = subprocess.run(
            [tmp_path / "kws", model],
            input=np.concatenate([frames[:5], bad, frames[5:]]).tobytes(),
            env=os.environ | {"NOTIFY_SOCKET": str(path), "LSTM_EDGE_ONNXRUNTIME": str(find_onnxruntime())},
            capture_output=True, check=True, timeout=120,
        )  # fmt: skip
    assert result.stdout.decode().splitlines() == [f"class {number}" for number in classes]
    assert result.stderr.decode().startswith("skipped: step 5: input 'x' holds nan")
    assert {"READY=1", "WATCHDOG=1"} <= set(told)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_accepts_the_units(tmp_path):
    written = {re.match(r"# (\S+)\n", block)[1]: block for block in blocks("ini")}
    assert [Path(path).name for path in written] == ["kws.service", "watchdog.conf", "trial.conf", "kws.conf"]
    unit = tmp_path / "kws.service"
    # The programs are not installed here: verify looks for them.
    program = re.compile(r"(?<==)(\+?)(/opt/\S+|/usr/local/bin/kws)")
    unit.write_text(program.sub(r"\1/bin/true", written["/etc/systemd/system/kws.service"]))
    dropped = tmp_path / "kws.service.d" / "trial.conf"
    dropped.parent.mkdir()
    dropped.write_text(program.sub(r"\1/bin/true", written["/etc/systemd/system/kws.service.d/trial.conf"]))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False, timeout=60)
    assert [line for line in done.stderr.splitlines() if "kws" in line] == []
    command = ["systemd-analyze", "security", "--offline=yes", unit]
    score = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout
    assert float(re.search(r"Overall exposure level for .*?: ([\d.]+)", score)[1]) < 2.5


@pytest.mark.parametrize("passes", [True, False], ids=["the check passes", "the check fails"])
def test_an_update_of_the_runtime_changes_all_or_nothing(passes, tmp_path):
    [script] = [block for block in blocks("sh") if block.startswith("#!/bin/sh")]
    opt, tools = tmp_path / "opt", tmp_path / "tools"
    tools.mkdir()
    (opt / "lstm-edge-1").mkdir(parents=True)
    (opt / "lstm-edge").symlink_to("lstm-edge-1")
    stand_ins = {
        "python3": f'mkdir -p "$3/bin"; cp {tools}/pip {tools}/lstm-edge "$3/bin"',
        "pip": "true",
        "lstm-edge": "true" if passes else "false",
        "systemctl": f"echo $* >> {tmp_path}/restarted",
    }
    for name, body in stand_ins.items():
        (tools / name).write_text(f"#!/bin/sh\n{body}\n")
        (tools / name).chmod(0o755)
    program = tmp_path / "update-runtime"
    program.write_text(script.replace("/opt/", f"{opt}/"))
    environment = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}"}
    command = ["sh", program, "lstm-edge-2", "wheels"]
    done = subprocess.run(command, env=environment, check=False, timeout=60)
    assert (done.returncode == 0) == passes
    assert os.readlink(opt / "lstm-edge") == ("lstm-edge-2" if passes else "lstm-edge-1")
    assert (tmp_path / "restarted").exists() == passes


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root, for a read-only root")
def test_a_read_only_root_is_enough(model):
    code = (
        'mount --bind / /mnt && mount -o remount,bind,ro /mnt && exec chroot /mnt sh -ec "'
        f"! touch {model.parent}/written 2> /dev/null; {BIN}/lstm-edge check {model}; "
        f"echo '[1, 2, 3, 4, 5, 6]' | {BIN}/lstm-edge run {model} --stream"
        '"'
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", code],
        env=os.environ | {"ORT_DISABLE_TELEMETRY": "1"}, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    if "unshare failed" in done.stderr or "mount:" in done.stderr:
        pytest.skip("no mounts here")
    assert done.returncode == 0, done.stderr
    assert "passed" in done.stdout
    assert not (model.parent / "written").exists()
