"""The command line of a device, with the parser of the standard library: what it prints, refuses and returns."""

import inspect
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lstm_edge_runtime
from lstm_edge_runtime import cli
from lstm_edge_runtime.cli import tables
from lstm_edge_runtime.session import Session

TAGGER = str(Path(__file__).parent / "models" / "tagger.onnx")


@pytest.fixture(autouse=True)
def device(monkeypatch):
    """A device without lstm-edge, whatever is installed here, and a terminal of 80 columns."""
    monkeypatch.setattr("lstm_edge_runtime.extras.has_toolkit", lambda: False)
    monkeypatch.setattr("lstm_edge_runtime.cli.has_toolkit", lambda: False)
    monkeypatch.delenv("LSTM_EDGE_DEBUG", raising=False)
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def call(capsys):
    """Run a command; returns (stdout, stderr) after the exit code was compared."""

    def run(*arguments, exit_code=0):
        try:
            code = cli.device_main([str(argument) for argument in arguments])
        except SystemExit as leaving:
            code = leaving.code
        out, err = capsys.readouterr()
        assert code == exit_code, out + err
        return out, err

    return run


def test_the_help_lists_the_commands_of_both_packages(call):
    out, _ = call("--help")
    words = [line.split()[0] for line in out.splitlines() if line.startswith("  ") and line[2] != " "]
    assert words[: len(cli.COMMANDS)] == list(cli.COMMANDS)
    assert all(name in out for name in cli.TOOLKIT_COMMANDS)
    assert call(exit_code=2)[0] == out


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_a_help_has_every_option_an_example_and_80_columns(call, name):
    out, _ = call(name, "--help")
    assert max(map(len, out.splitlines())) <= 80
    assert out.count(f"lstm-edge {name} ") > 1, "an example besides the usage"
    words = out.replace(",", " ").split()
    for option in cli.definition_of(name).options:
        assert set(option.flags) <= set(words)
        assert option.old_flag is None or option.old_flag not in words


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_an_option_is_a_parameter_of_the_command(name):
    definition = cli.definition_of(name)
    parameters = inspect.signature(definition.run).parameters
    names = {option.name for option in definition.options}
    named = {key for key, value in parameters.items() if value.kind is not inspect.Parameter.VAR_KEYWORD}
    assert len(names) == len(definition.options)
    assert named <= names
    # `run` hands the others to the function that computes.
    assert named == names or len(named) < len(parameters)


@pytest.mark.parametrize("name", sorted(cli.TOOLKIT_COMMANDS))
def test_a_command_that_is_missing_names_the_package_and_its_extra(call, name):
    extra = cli.TOOLKIT_COMMANDS[name]
    wanted = f"'lstm-edge[{extra}]'" if extra else "lstm-edge"
    expected = f"error: lstm-edge {name} needs lstm-edge, which is not installed: pip install {wanted}\n"
    assert call(name, "x.onnx", exit_code=2) == ("", expected)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("frobnicate",), "lstm-edge has no command 'frobnicate', expected one of inspect, check, run, bench, data"),
        (("check",), "MODEL.onnx is missing; lstm-edge check --help describes the command"),
        (
            ("check", TAGGER, "--no-such-option"),
            "lstm-edge check has no option --no-such-option; lstm-edge ",
        ),
        (("check", TAGGER, "--thread", "2"), "lstm-edge check has no option --thread (did you mean --threads?)"),
        (("check", TAGGER, "--threads", "0"), "--threads is '0', expected 1 or more; lstm-edge check"),
        (("check", TAGGER, "--threads", "two"), "--threads is 'two', expected an integer"),
        (("run", TAGGER, "--temperature", "hot"), "--temperature is 'hot', expected a number"),
        (("check", TAGGER, "--format", "pgp"), "--format is 'pgp', expected one of lstm-edge, model-signing"),
        (("check", "none.onnx"), "none.onnx: no such file"),
        (("run", TAGGER, "none.npy"), "none.npy: no such file"),
        (("run", "none.onnx", "x.npy"), "none.onnx: no such file"),
        (("bench", TAGGER, "--batch", "2", "--batch-size", "3"), "--batch is the old name of --batch-size: give only"),
        (("bench", TAGGER, "--rate", "0"), "--rate is 0.0, expected calls per second, from 0.001 to 1,000,000"),
        (("bench", TAGGER, "--rate", "fast"), "--rate is 'fast', expected a number"),
        (("check", TAGGER, "--format", "model-signing"), "--format model-signing needs lstm-edge, which is not instal"),
        (("inspect", TAGGER, "--provider", "tpu"), "--provider is 'tpu', expected one of cpu, cuda"),
    ],
)
def test_what_cannot_be_done_is_exit_2_and_one_sentence(call, arguments, sentence):
    out, err = call(*arguments, exit_code=2)
    assert out == ""
    assert err.splitlines()[-1].startswith(f"error: {sentence}")
    assert all(line.startswith("· ") for line in err.splitlines()[:-1])


def test_a_sentence_about_a_file_names_the_argument(call, tmp_path):
    (tmp_path / "x.npy").write_text("no array")
    _, err = call("run", TAGGER, tmp_path / "x.npy", "-o", tmp_path / "y.npy", exit_code=2)
    assert err.endswith("(INPUT.npy|.npz)\n")


def test_a_damaged_file_is_exit_1(call, tmp_path):
    data = bytearray(Path(TAGGER).read_bytes())
    data[len(data) // 2] ^= 4
    (tmp_path / "damaged.onnx").write_bytes(data)
    assert "the file is damaged" in call("check", tmp_path / "damaged.onnx", exit_code=1)[1]


def test_the_commands_print_what_they_found(call, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    assert "passed: 2 golden vectors, worst difference" in call("check", TAGGER)[0]
    assert json.loads(call("check", TAGGER, "--json")[0])["passed"] is True
    assert "labels: 4 (a, b, c, d)" in call("inspect", TAGGER)[0]
    report = json.loads(call("bench", TAGGER, "--steps", "5", "--repeats", "2", "--time", "3", "--json")[0])
    assert (report["time"], report["paced"]) == (3, None)
    paced = json.loads(call("bench", TAGGER, "--steps", "5", "--repeats", "2", "--rate", "500", "--json")[0])["paced"]
    assert (paced["calls"], paced["rate_hz"]) == (5, 500.0)
    assert "step, batch 1, 500 Hz: missed deadlines" in call("bench", TAGGER, "--steps", "5", "--rate", "500")[0]
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    # The input may come after an option, too.
    call("run", TAGGER, "--threads", "1", tmp_path / "x.npy", "-o", tmp_path / "y.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), Session(TAGGER).run(x)[0]["logits"])


def test_a_stream_is_answered_line_by_line(call, monkeypatch):
    stream = Session(TAGGER).stream()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"[1, 0, 0]\n[0, 1, 0]\n")))
    lines = call("run", TAGGER, "--stream")[0].splitlines()
    for line, frame in zip(lines, ([1, 0, 0], [0, 1, 0]), strict=True):
        np.testing.assert_array_equal(np.array(json.loads(line), np.float32), stream.push(np.array(frame, np.float32)))


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (TypeError("x is\nNone"), 2, "error: unexpected TypeError: x is None. This is a defect of lstm-edge; "),
        (OSError(28, "No space left on device", "out.npy"), 2, "error: No space left on device: out.npy\n"),
        (ModuleNotFoundError("No module", name="onnxruntime.capi"), 2, "pip install 'lstm-edge-runtime[cpu]'\n"),
        (ModuleNotFoundError("No module", name="yaml"), 2, "error: the package 'yaml' is not installed\n"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
    ],
)
def test_whatever_a_command_raises_ends_in_one_sentence(call, monkeypatch, error, code, sentence):
    def fail(*_arguments, **_options):
        raise error

    monkeypatch.setattr("lstm_edge_runtime.commands.device.Session", fail)
    out, err = call("check", TAGGER, exit_code=code)
    assert out == ""
    assert sentence in err
    assert err.count("\n") == 1
    monkeypatch.setenv("LSTM_EDGE_DEBUG", "1")
    with pytest.raises(type(error)):
        cli.device_main(["check", TAGGER])


def test_it_loads_neither_numpy_nor_onnxruntime_to_refuse(tmp_path):
    code = (
        "import sys; from lstm_edge_runtime.cli import device_main\n"
        "try:\n    device_main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('numpy', 'onnxruntime', 'typer', 'rich') if name in sys.modules])"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(lstm_edge_runtime.__file__).parents[1])}
    for arguments in (["--help"], ["check"], ["check", "--help"], ["check", "m", "--threads", "0"], ["nothing"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines()[-1] == "[]", arguments


def test_a_table_fits_the_terminal():
    rows = [("a" * 30, "some words of text", "12"), ("b", "日本", "3\n4")]
    assert tables.format_table(("name", "what", "n"), rows, 60) == [
        "",
        " name                                           what    n",
        " ────────────────────────────────────────────────────────",
        " aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa   some words of text   12",
        " b                                              日本    3",
        "                                                        4",
        "",
    ]
    narrow = tables.format_table(("name", "what", "n"), rows, 30)
    assert max(len(line) for line in narrow) <= 30
    assert sum(line.count("a") for line in narrow) == 30 + sum(map("name what".count, "a"))
    assert tables.format_table(("x",), [("\x1b[31m",)], 40)[-2] == " \\u001b[31m"


def test_an_interrupt_while_modules_are_imported_is_130_and_one_sentence(monkeypatch, capsys):
    def interrupted(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("lstm_edge_runtime.cli.has_toolkit", lambda: True)
    monkeypatch.setattr("lstm_edge_runtime.cli.toolkit_module", interrupted)
    with pytest.raises(SystemExit) as leaving:
        cli.main()
    assert leaving.value.code == 130
    assert capsys.readouterr() == ("", "error: interrupted\n")
