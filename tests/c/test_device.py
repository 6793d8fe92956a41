"""lstm-edge-device against `lstm-edge run --stream`: the same lines, refusals and exit codes, without Python."""

import dataclasses
import json
import os
import signal
import subprocess
import time

import numpy as np
import pytest
from support.c_build import ROOT, find_onnxruntime

from lstm_edge_runtime import LstmEdgeError, Session
from lstm_edge_runtime.artifact import read_model_bytes
from lstm_edge_runtime.bench_report import Paced
from lstm_edge_runtime.card import serialize_card
from lstm_edge_runtime.errors import ArtifactError
from lstm_edge_runtime.lines import stream_lines

pytestmark = pytest.mark.slow

MODELS = ROOT / "tests" / "device" / "models"
STREAMED = (
    "exported_int8",
    "exported_float32",
    "two_inputs",
    "kept_ids",
    "kept_strided",
    "kept_padded",
    "language_model",
)


@pytest.fixture(scope="module")
def command(c_build):
    return c_build / "lstm-edge-device"


@pytest.fixture
def start(command):
    """Start the program with pipes."""
    begun = []

    def start(*arguments):
        environment = os.environ | {"LSTM_EDGE_ONNXRUNTIME": str(find_onnxruntime())}
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        begun.append(subprocess.Popen([command, *map(str, arguments)], env=environment, **pipes))
        return begun[-1]

    yield start
    for process in begun:
        process.kill()
        process.communicate()


@pytest.fixture
def device(start):
    """Run the program; returns its exit code and what it wrote."""

    def run(*arguments, stdin=b""):
        process = start(*arguments)
        out, error = process.communicate(stdin, timeout=60)
        return process.returncode, out, error.decode()

    return run


def frame(session, random):
    """A frame of one row for each input, as JSON values."""

    def values(spec):
        shape = [size for size in spec.axes if not isinstance(size, str)]
        if spec.dtype == "float32":
            return random.normal(size=shape).astype(np.float32).astype(float).tolist()
        return random.integers(0, 5, size=shape).tolist()

    named = {spec.name: values(spec) for spec in session.inputs}
    return named if len(named) > 1 else next(iter(named.values()))


def python(path, lines, **options):
    """The exit code, the lines and the error of Python's stream."""
    session, out = Session(path), []
    try:
        out.extend(stream_lines(session.stream(1), session.inputs, lines, **options))
    except LstmEdgeError as error:
        return error.exit_code, out, f"error: {' '.join(str(error).split())}\n"
    return 0, out, ""


@pytest.mark.parametrize("name", STREAMED)
def test_the_lines_are_those_of_python(name, device):
    path, random = MODELS / f"{name}.onnx", np.random.default_rng(1)
    pieces = [frame(Session(path), random) for _ in range(30)]
    pieces[11:11] = [{"reset": True}]
    lines = [json.dumps(piece).encode() + b"\n" for piece in pieces]
    code, out, error = python(path, lines)
    assert len(out) > 5
    assert device("run", path, stdin=b"".join(lines)) == (code, "".join(f"{line}\n" for line in out).encode(), error)


BAD = [
    b"[0, 0, 0]", b"[1, 2, 3, 4, 5, NaN]", b"[1, 2, 3, 4, 5, 1e39]", b"[1, 2,", b"{]", b'{"x": 1, "z": 2}', b"{}",
    b'["a", 1, 2, 3, 4, 5]', b"[[1, 2], [3]]", b"[true, false, true, false, true, false]", b"null", b'"text"', b"3",
    b"[1 2]", b'{"x" 1}', b"{1: 2}", b"[1, 2, 3, 4, 5, 18446744073709551616]", b"[1,2,3,4,5,6] 7", b'"\\q"',
    b"\xc3\xa9", b"[[[[1]]]]",
]  # fmt: skip


@pytest.mark.parametrize("policy", ["stop", "skip", "hold"])
def test_bad_lines_are_refused_as_in_python(policy, device):
    path = MODELS / "exported_int8.onnx"
    good = b"[0.5, 1, -2, 16777217, 4, 0.1]"
    for bad in (
        BAD if policy == "stop" else [b"\n".join([BAD[0], good, *BAD[1:], b'{"reset": true}', BAD[0], b"", good])]
    ):
        text = good + b"\n" + bad + b"\n"
        code, out, error = python(path, text.splitlines(keepends=True), on_bad_line=policy)
        got = device("run", "--on-bad-line", policy, path, stdin=text)
        assert got == (code, "".join(f"{line}\n" for line in out).encode(), error), bad


def test_each_line_is_answered_at_once_and_sigterm_keeps_the_state(start, device, tmp_path):
    path, state = MODELS / "exported_int8.onnx", tmp_path / "state.npz"
    line = b"[1, 2, 3, 4, 5, 6]\n"
    process = start("run", "--state", state, path)
    answers = []
    for _ in range(3):
        process.stdin.write(line)
        process.stdin.flush()
        answers.append(process.stdout.readline())
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 143
    assert not process.stdout.read()
    code, out, _ = device("run", "--state", state, path, stdin=line)
    whole = python(path, [line] * 4)[1]
    assert (code, [*answers, out]) == (0, [f"{answer}\n".encode() for answer in whole])
    with np.load(state) as arrays:  # Python goes on from the file
        stream = Session(path).stream()
        stream.restore(dict(arrays))
        assert stream.steps == 4


def test_sigterm_ends_it_whatever_it_does_at_that_moment(start):
    """The signal arrives while it starts, answers or waits; a thread of onnxruntime once took it away."""
    for pause in (0.0, 0.02, 0.05, 0.1, 0.2):
        process = start("run", "--threads", 2, MODELS / "exported_int8.onnx")
        ready = process.stdout if pause == 0.2 else None
        process.stdin.write(b"[1, 2, 3, 4, 5, 6]\n" * 3)
        process.stdin.flush()
        if ready:
            ready.readline()
        else:
            time.sleep(pause)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) in (143, -signal.SIGTERM), pause  # the latter before it is set up


def test_a_closed_pipe_ends_it_quietly(start):
    process = start("run", MODELS / "exported_int8.onnx")
    process.stdin.write(b"[1, 2, 3, 4, 5, 6]\n")
    process.stdin.flush()
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=30) == 0
    assert process.stderr.read() == b""


def test_raw_float32_gives_the_bits_of_python(device):
    path = MODELS / "exported_int8.onnx"
    x = np.random.default_rng(0).normal(size=(1, 12, 6)).astype(np.float32)
    [expected] = Session(path).run(x)[0].values()
    for steps in (1, 4):
        code, out, error = device("run", "--raw", "--steps", steps, path, stdin=x.tobytes())
        assert (code, error) == (0, "")
        np.testing.assert_array_equal(np.frombuffer(out, np.float32).reshape(expected.shape), expected)
    code, _, error = device("run", "--raw", path, stdin=x.tobytes()[:-4])
    assert (code, error) == (2, "error: the input ends within piece 12: got 20 bytes, expected 24\n")


def test_inspect_prints_the_card_and_the_tensors(device):
    path = MODELS / "exported_int8.onnx"
    session = Session(path)
    code, out, _ = device("inspect", "--json", path)
    report = json.loads(out)
    assert (code, report["verified"], report["size_bytes"]) == (0, True, path.stat().st_size)
    assert report["card"] == json.loads(serialize_card(session.card))
    assert [i["name"] for i in report["inputs"]] == [spec.name for spec in session.inputs]
    assert [i["axes"] for i in report["states"]] == [list(spec.axes) for spec in session.states]
    text = device("inspect", path)[1].decode()
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "run by kernels (" in text
    assert "without onnxruntime in a push" in " ".join(text.split())
    assert report["direct"]
    assert not json.loads(device("inspect", "--json", "--kernels", "off", path)[1])["direct"]
    assert not json.loads(device("inspect", "--json", "--threads", "2", path)[1])["direct"]


def test_check_passes_and_refuses_a_damaged_file(device, tmp_path):
    path = MODELS / "exported_int8.onnx"
    code, out, error = device("check", path)
    assert (code, error) == (0, "")
    assert out.decode().startswith("passed: 2 golden vectors, worst difference ")
    assert json.loads(device("check", "--json", "--kernels", "off", path)[1])["kind"] == "bodies"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "damaged.onnx").write_bytes(data)
    code, out, error = device("check", tmp_path / "damaged.onnx")
    assert (code, out) == (1, b"")
    assert error.startswith("error: ")
    assert device("check", tmp_path / "missing.onnx")[0] == 2


def test_bench_counts_calls_and_missed_deadlines(device):
    path = MODELS / "exported_int8.onnx"
    report = json.loads(device("bench", "--json", "--calls", 200, path)[1])
    assert 0 < report["p50_us"] <= report["p99_us"] <= report["p999_us"] <= report["worst_us"]
    assert report["missed_deadlines"] is None
    begin = time.monotonic()
    report = json.loads(device("bench", "--json", "--calls", 100, "--rate", 500, path)[1])
    assert time.monotonic() - begin >= 99 / 500
    assert 0 <= report["missed_deadlines"] <= 100 * 500
    # The words of lstm-edge bench --rate.
    assert {field.name for field in dataclasses.fields(Paced)} <= set(report)
    # No step takes less than a microsecond, so every deadline is missed.
    assert json.loads(device("bench", "--json", "--calls", 50, "--rate", 1e6, path)[1])["missed_deadlines"] >= 50


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("fly",), "lstm-edge-device has no command 'fly', expected one of inspect, check, bench, run"),
        (("run",), "MODEL.onnx is missing"),
        (("run", "--rate", "5", "m.onnx"), "lstm-edge-device run has no option --rate"),
        (("bench", "--rate", "0", "m.onnx"), "--rate is '0', expected calls per second, from 0.001 to 1,000,000"),
        (("bench", "--calls", "x", "m.onnx"), "--calls is 'x', expected an integer from 1 to 100,000,000"),
        (("check", "--kernels", "on", "m.onnx"), "--kernels is 'on', expected one of auto, required, off"),
        (("check", "m.onnx", "--threads"), "--threads needs a value"),
        (("check", "a.onnx", "b.onnx"), "unexpected argument b.onnx"),
        (("check", "--json=1", "a.onnx"), "--json takes no value"),
    ],
)
def test_wrong_usage_is_one_sentence(device, arguments, sentence):
    program = " ".join(["lstm-edge-device", *arguments[: arguments[0] != "fly"]])
    assert device(*arguments) == (2, b"", f"error: {sentence}; {program} --help describes the command\n")


def test_a_file_of_another_kind_is_named_as_in_python(device, tmp_path):
    """One file of each kind that Python names; the sentences are the same."""
    entry = b"PK\x03\x04" + bytes(30)
    kinds = {
        "w.safetensors": b"\x02" + bytes(7) + b"{}",
        "it's.h5": b"\x89HDF\r\n\x1a\n" + bytes(9),
        "m.keras": entry + b"metadata.json",
        "old.pt": b"\x80\x02" + bytes(9),
        "a b.ckpt": entry + b"x/data.pkl",
        "script.pt": entry + b"x/data/0" + bytes(600) + b"x/data.pkl" + bytes(9) + b"x/constants.pkl" + bytes(60),
        "far.pt": entry + b"x/data/0" + bytes(70_000) + b"x/data.pkl",
        "p.pt2": entry + b"x/models/model.json",
        "m.tflite": bytes(4) + b"TFL3" + bytes(9),
        "x.npy": b"\x93NUMPY" + bytes(9),
        "x.npz": entry + b"x.npy",
        "x.zip": entry + b"readme",
        "long.txt": b"hello\r\n" * 9000,
        "a": b"a",
    }
    for name, data in kinds.items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(ArtifactError) as refused:
            read_model_bytes(path)
        assert f"{path}: this is a" in str(refused.value)
        assert device("check", path) == (2, b"", f"error: {refused.value}\n"), name


def test_help_fits_80_columns(device):
    for arguments in ((), ("--help",), *((name, "--help") for name in ("inspect", "check", "bench", "run"))):
        code, out, error = device(*arguments)
        assert (code, error) == (0 if arguments else 2, "")
        assert max(map(len, out.decode().splitlines())) <= 80


def test_the_version_is_that_of_the_package(device):
    project = (ROOT / "runtime" / "pyproject.toml").read_text()
    version = next(line for line in project.splitlines() if line.startswith("version = "))
    assert device("--version")[1].decode().strip() == version.split('"')[1]


def test_the_stripped_program_fits_its_size(command, tmp_path):
    """The goal of a device: everything but onnxruntime in 2.5 MB."""
    stripped = tmp_path / "stripped"
    subprocess.run(["strip", "-o", stripped, command], check=True)
    assert stripped.stat().st_size <= 2_500_000


def test_onnxruntime_leaves_no_file_below_the_home_folder(command, tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "XDG_"))}
    environment |= {"HOME": str(tmp_path), "LSTM_EDGE_ONNXRUNTIME": str(find_onnxruntime())}
    subprocess.run(
        [command, "check", MODELS / "exported_int8.onnx"], env=environment, check=True, stdout=subprocess.DEVNULL
    )
    assert list(tmp_path.iterdir()) == []
