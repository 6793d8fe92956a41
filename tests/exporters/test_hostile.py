"""Nothing in a foreign file is executed or trusted: each hostile file, each command that reads one, little memory.

Every command runs in its own process with 1.5 GiB of address space (``hostile_driver``). What it prints must be
one sentence that a terminal shows as it is, and nothing may be written.

A model that runs is a program: ``run`` cannot bound what its nodes ask for, so there the limit of the process does.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import hostile_files
from support.hostile_files import FILES
from support.onnx_files import H, I

from lstm_edge.cli._frame import printable
from lstm_edge_exporters.onnx_graph.reading import parse_model
from lstm_edge_runtime.errors import ArtifactError
from lstm_edge_runtime.function_check import check_functions

DRIVER = Path(hostile_files.__file__).with_name("hostile_driver.py")
# The imports alone take 210 MB; a file of 100 MB is in memory as bytes, parsed, and in onnxruntime.
MOST_BYTES = 1_200_000_000
MOST_SECONDS = 15

# What adopt and quantize say, by the start of the file's name.
SENTENCES = {
    "external absolute": "only a relative path to a file beside the model is read",
    "external (parent|dotted|symlink|folder symlink)": "outside the model's folder: it is not read",
    "external device": "only a relative path",
    "external (pipe|folder$)": "there is no such file beside the model",
    "external huge length": "4611686018427387904 bytes are declared and the file has 240",
    "external (negative offset|offset no number)": "its offset and length must be numbers",
    "external in": r"is stored in '/etc/passwd'",
    "external sparse": "sparse initializers are not supported",
    "declared (2|overflow|to zero)": "bytes: at most 2147483648",
    "declared negative": "a size cannot be negative",
    "declared 100,000": "declares 100000 axes: at most 64",
    "declared short": "240 bytes, and holds 5 bytes",
    "cyclic functions": "calls itself, directly or through others",
    "10,000 functions": "functions call each other more than 100 deep",
    "functions that double": "with its functions inlined the model has over 1000000 nodes",
    "graphs (1,000|20,000)": "not an ONNX model|more than 32 deep",
    "two weights": "two weights have the name 'W'",
    "custom domain": "com.evil:Shell",
    "card of 100 MB": r"model card: \d+ characters, at most \d+ are read|already has a model card",
    "card of states": "card.states.*'h'|already has a model card",
    "constant computed shape": "not constant|bytes: at most 2147483648",
    "constant": "bytes: at most 2147483648|not constant",
    "name": "holds a control character",
}
# What another tool's garbage under our keys, or a name that nothing prints, does not stop.
HARMLESS = {
    "adopt": r"golden of 100 MB",
    "quantize": r"golden of 100 MB",
    # onnxruntime opens these: what is huge is only computed when the model runs, and names inside are not printed.
    "inspect": r"golden of 100 MB|constant|declared 100,000 axes|two weights|name (node|weight)",
    "check": "",
    "run": r"golden of 100 MB|two weights|name (node|weight)",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The hostile files, and beside and above them what they point at."""
    root = tmp_path_factory.mktemp("hostile")
    inside = root / "in"
    inside.mkdir()
    weights = bytes(4 * 4 * H * I)
    (root / "secret.bin").write_bytes(weights)
    (inside / "weights.bin").write_bytes(weights)
    (inside / "link.bin").symlink_to(root / "secret.bin")
    (inside / "linked").symlink_to(root)
    os.mkfifo(inside / "pipe")
    np.save(inside / "x.npy", np.zeros((2, 1, I), np.float32))
    for name, build in FILES.items():
        _path(inside, name).write_bytes(build())
    yield inside
    for name in FILES:  # 300 MB that pytest would keep for three runs
        _path(inside, name).unlink()


def _path(folder: Path, name: str) -> Path:
    return folder / (re.sub(r"[^a-z0-9]+", "-", name.lower()) + ".onnx")


def _arguments(command: str, path: Path) -> list[str]:
    if command in ("adopt", "quantize"):
        return [command, str(path), "-o", str(path.with_suffix(".out.onnx"))]
    return [command, str(path), *([str(path.with_name("x.npy"))] if command == "run" else [])]


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("command", list(HARMLESS))
def test_a_hostile_file_is_refused_in_one_sentence(command: str, folder: Path) -> None:
    before = {entry.name for entry in folder.iterdir()}
    jobs = [_arguments(command, _path(folder, name)) for name in FILES]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    environment.pop("LSTM_EDGE_DEBUG", None)
    result = subprocess.run(
        [sys.executable, DRIVER],
        check=False,
        input=json.dumps(jobs),
        capture_output=True,
        text=True,
        env=environment,
        timeout=1800,
    )
    assert result.returncode == 0, result.stderr
    answers = json.loads(result.stdout)
    problems = [problem for name, job in zip(FILES, answers, strict=True) for problem in _problems(command, name, job)]
    assert not problems, "\n".join(problems)
    written = {entry.name for entry in folder.iterdir()} - before
    allowed = {_path(folder, name).with_suffix(".out.onnx").name for name in FILES if _may_pass(command, name)}
    assert written <= allowed
    for name in written:
        (folder / name).unlink()
    assert not Path("/tmp/owned").exists()


def _may_pass(command: str, name: str) -> bool:
    return bool(HARMLESS[command]) and re.match(HARMLESS[command], name) is not None


def _problems(command: str, name: str, job: dict[str, Any]) -> Iterator[str]:
    text, where = job["errors"], f"{command} {name}:"
    lines = [line for line in text.splitlines() if not line.startswith("·")]
    if job["status"] not in ((0, 1, 2) if _may_pass(command, name) else (1, 2)):
        yield f"{where} exit code {job['status']}: {text[-300:]!a}"
    elif job["status"] and (len(lines) != 1 or not lines[0].startswith("error: ") or len(lines[0]) > 1200):
        yield f"{where} not one sentence: {text[-300:]!a}"
    for stream in ("out", "errors"):
        if not job[stream].replace("\n", "").isprintable():
            yield f"{where} prints what a terminal would obey: {job[stream][:300]!a}"
    if job["peak_bytes"] > MOST_BYTES and command != "run":
        yield f"{where} took {job['peak_bytes']:,} bytes"
    if job["seconds"] > MOST_SECONDS:
        yield f"{where} took {job['seconds']:.0f} s"
    expected = next((text for start, text in SENTENCES.items() if re.match(start, name)), None)
    if command in ("adopt", "quantize") and expected and not re.search(expected, text):
        yield f"{where} expected {expected!r}, got {text[-300:]!a}"


def test_functions_may_call_each_other_a_hundred_deep() -> None:
    data = hostile_files.deep_functions(100)()
    parse_model(data)
    check_functions(data)


def test_functions_that_call_each_other_deeper_are_refused() -> None:
    data = hostile_files.deep_functions(101)()
    for check in (parse_model, check_functions):
        with pytest.raises(ArtifactError, match=r"^functions call each other more than 100 deep$"):
            check(data)


def test_many_calls_are_no_crime_while_their_nodes_can_be_counted() -> None:
    """Ten functions that each call the next one twice: 1,024 nodes."""
    data = hostile_files.deep_functions(10, 2)()
    parse_model(data)
    check_functions(data)


@pytest.mark.parametrize("deep", [15, 19])
def test_a_small_file_does_not_become_a_large_model(deep: int) -> None:
    """65,536 nodes took onnxruntime 29 s, and below a million nothing was refused."""
    data = hostile_files.deep_functions(deep, 2)()
    for check in (parse_model, check_functions):
        with pytest.raises(
            ArtifactError, match=rf"the model has {2**deep + 1} nodes, and the file has {2 * deep + 2}: "
        ):
            check(data)


def test_what_a_terminal_would_obey_is_written_out() -> None:
    text = 'é, 日本語 and "quotes"\n\x1b[2J\x9b\u202e\u2028\x7f\U000e0001'
    shown = printable(text)
    assert shown == 'é, 日本語 and "quotes"\n\\u001b[2J\\u009b\\u202e\\u2028\\u007f\\udb40\\udc01'
    # In JSON it means what it meant.
    assert json.loads(printable(json.dumps(text, ensure_ascii=False))) == text
