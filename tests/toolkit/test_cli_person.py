"""Every command as a person meets it: nothing given, wrong things given, broken files, `--help`."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lstm_edge.cli import COMMANDS, app
from lstm_edge.cli.train import TASKS
from lstm_edge_runtime.errors import LstmEdgeError

TAGGER = Path(__file__).parents[1] / "device" / "models" / "tagger.onnx"

ROOT = Path(__file__).parents[2]
PATHS = os.pathsep.join(str(ROOT / folder) for folder in ("", "exporters", "runtime"))

# For each command the arguments that a broken file BAD goes into.
WITH_A_FILE = {
    "data": ("check", "BAD.npz"),
    "train": ("classification", "--data", "BAD.npz", "-o", "out.safetensors"),
    "select": ("--data", "BAD.npz", "-o", "out.safetensors"),
    "export": ("BAD.safetensors", "-o", "out.onnx"),
    "adopt": ("BAD.onnx", "-o", "out.onnx"),
    "quantize": ("BAD.onnx", "-o", "out.onnx"),
    "validate": ("BAD.onnx", "--against", "BAD.onnx", "--data", "japanese-vowels"),
    "inspect": ("BAD.onnx",),
    "check": ("BAD.onnx",),
    "run": ("BAD.onnx", "BAD.npy", "-o", "out.npy"),
    "bench": ("BAD.onnx",),
    "bundle": ("BAD.onnx", "--format", "tar", "--path", "/srv/kws"),
    "sign": ("BAD.onnx", "--key", "BAD.key"),
    "deploy": ("BAD.onnx", "--to", "board", "--path", "/srv/kws"),
    "status": ("--hosts", "BAD.toml"),
    "rollback": ("--hosts", "BAD.toml"),
    "prune": ("--hosts", "BAD.toml"),
}


def invoke(*arguments):
    result = CliRunner().invoke(app, list(arguments), prog_name="lstm-edge")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result


def shell(*arguments, **environment):
    """Run `lstm-edge` in its own process, without a terminal and without standard input."""
    return subprocess.run(
        [sys.executable, "-c", "from lstm_edge.cli import main; main()", *arguments],
        env=os.environ | {"PYTHONPATH": PATHS} | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def test_the_commands_stand_in_the_order_of_the_work():
    commands = invoke("--help").stdout.partition("Commands:\n")[2].partition("\n\n")[0]
    assert re.findall(r"^  (\w+) ", commands, re.MULTILINE) == list(COMMANDS)
    assert set(WITH_A_FILE) | {"keygen", "zoo"} == set(COMMANDS)  # they read no file


def test_nothing_given_shows_the_help():
    bare, asked = invoke(), invoke("--help")
    assert (bare.exit_code, asked.exit_code) == (2, 0)
    assert "Usage: lstm-edge" in bare.output
    assert bare.output == asked.output


@pytest.mark.parametrize("command", [*([name] for name in COMMANDS), ["train", "classification"], ["zoo", "get"]])
def test_a_command_without_arguments_names_what_is_missing(command):
    bare = invoke(*command)
    assert (bare.exit_code, bare.stdout, bare.stderr.count("\n")) == (2, "", 1)
    assert re.match(r"error: .*\b(is|are) missing;|error: lstm-edge \w+ needs a command|error: no host is", bare.stderr)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_an_option_that_is_none_gets_a_usage_error(command):
    words = [command, *{"train": ["classification"], "data": ["check"], "zoo": ["get"]}.get(command, [])]
    result = invoke(*words, "--no-such-option")
    assert result.exit_code == 2
    assert f"lstm-edge {' '.join(words)} has no option --no-such-option" in result.stderr
    assert result.stdout == ""


@pytest.mark.slow
@pytest.mark.parametrize("content", [None, b"", b"\x00" * 64, b"PK\x03\x04broken", b"\x08\x08\x12\x04oops"])
@pytest.mark.parametrize("command", WITH_A_FILE)
def test_a_broken_file_gets_one_sentence(tmp_path, monkeypatch, command, content):
    monkeypatch.chdir(tmp_path)
    names = sorted({word for word in WITH_A_FILE[command] if word.startswith("BAD")})
    if content is not None:
        for name in names:
            Path(name).write_bytes(content)
    result = invoke(command, *WITH_A_FILE[command])
    assert result.exit_code == 2, result.output
    errors = [line for line in result.stderr.splitlines() if not line.startswith("· ")]
    assert len(errors) == 1, result.stderr
    assert errors[0].startswith("error: ")
    assert "BAD" in errors[0]
    assert result.stdout == ""
    assert sorted(os.listdir()) == ([] if content is None else names)


def test_the_version_is_one_word(monkeypatch):
    result = invoke("--version")
    assert result.exit_code == 0
    assert result.stdout.strip()
    monkeypatch.setattr("importlib.metadata.version", lambda name: f"9.9 of {name}")
    assert invoke("--version").stdout == "9.9 of lstm-edge\n"


# What `--help` may load beside the standard library: typer, and what its help is printed with.
OF_HELP = {
    "annotated_doc", "attr", "lstm_edge", "lstm_edge_runtime", "markdown_it", "mdurl", "pygments", "rich",
    "shellingham", "typer",
}  # fmt: skip


@pytest.mark.slow
def test_help_loads_little():
    # The waiting time is in docs/numbers.md. It is not asserted: the processor time of one `--help` was 0.31 to 0.46 s
    # on one idle virtual machine. What makes it long is counted instead; NumPy alone would be 150 modules more.
    code = (
        "import sys; before = set(sys.modules); from lstm_edge.cli import main\n"
        "sys.argv = ['lstm-edge', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    print(*set(sys.modules) - before, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": PATHS}, capture_output=True, text=True, check=True
    )
    loaded = done.stderr.split()
    others = {name.partition(".")[0] for name in loaded} - set(sys.stdlib_module_names)
    assert others <= OF_HELP
    assert len(loaded) < 450  # 330 with the 18 commands


def interrupted_import():
    """What an extension module raises when Ctrl-C comes while it is imported."""
    error = ImportError("initialization failed")
    error.__cause__ = KeyboardInterrupt()
    return error


@pytest.mark.parametrize(
    ("error", "exit_code", "sentence"),
    [
        (TypeError("x is\nNone"), 2, "error: unexpected TypeError: x is None. This is a defect of lstm-edge; "),
        (LstmEdgeError("one\n  two"), 2, "error: one two\n"),
        (OSError(28, "No space left on device", "out.onnx"), 2, "error: No space left on device: out.onnx\n"),
        (ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn"), 2, "pip install 'lstm-edge[export]'"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
        (interrupted_import(), 130, "error: interrupted\n"),
        (MemoryError("7 TiB"), 2, "error: there is not enough memory (7 TiB)\n"),
    ],
)
def test_whatever_a_command_raises_ends_in_one_sentence(monkeypatch, capsys, error, exit_code, sentence):
    import lstm_edge.cli

    def fail(*arguments, **options):
        raise error

    monkeypatch.delenv("LSTM_EDGE_DEBUG", raising=False)
    monkeypatch.setattr("lstm_edge_runtime.commands.device.Session", fail)
    monkeypatch.setattr(sys, "argv", ["lstm-edge", "inspect", str(TAGGER)])
    with pytest.raises(SystemExit) as leaving:
        lstm_edge.cli.main()
    assert leaving.value.code == exit_code
    out, err = capsys.readouterr()
    assert out == ""
    assert sentence in err
    assert err.count("\n") == 1


def test_the_traceback_is_there_when_asked_for(monkeypatch):
    result = shell("inspect", "none.onnx", LSTM_EDGE_DEBUG="1")
    assert result.returncode == 1
    assert "ArtifactError: none.onnx: no such file" in result.stderr
    assert "Traceback" in result.stderr


def test_a_reader_that_goes_away_is_no_error():
    model = ROOT / "tests" / "device" / "models" / "tagger.onnx"
    command = f"'{sys.executable}' -c 'from lstm_edge.cli import main; main()' inspect '{model}' --json | head -n 1"
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        env=os.environ | {"PYTHONPATH": PATHS},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert (result.stdout, result.stderr) == ("{\n", "")


@pytest.mark.parametrize(
    ("line", "exit_code", "said"),
    [
        # Nothing goes to standard output in place of an stderr that is closed.
        ("check none.onnx 2>&-", 2, ""),
        ("check none.onnx 2>/dev/full", 2, ""),
        ("nope 2>/dev/full", 2, ""),
        ("--help >/dev/full", 2, "error: No space left on device\n"),
        (f"run {TAGGER} --stream <&-", 2, "error: standard input is closed; the option reads it"),
    ],
)
def test_streams_that_are_closed_or_full_leave_the_exit_code(line, exit_code, said):
    result = subprocess.run(
        ["bash", "-c", f"'{sys.executable}' -m lstm_edge_runtime {line}"],
        env=os.environ | {"PYTHONPATH": PATHS},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert (result.returncode, result.stdout) == (exit_code, "")
    assert result.stderr.startswith(said)


def test_ctrl_c_while_the_command_line_is_imported_is_one_sentence(tmp_path):
    """A module that the command line imports first stands for the moment of the signal."""
    (tmp_path / "argparse.py").write_text("raise KeyboardInterrupt\n")
    result = subprocess.run(
        [sys.executable, "-m", "lstm_edge_runtime", "check", "m.onnx"],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{PATHS}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert (result.returncode, result.stderr) == (130, "error: interrupted\n")


@pytest.mark.parametrize(
    "words",
    [
        *([name] for name in COMMANDS if name not in ("data", "train", "zoo")),
        ["data", "check"],
        ["zoo", "list"],
        ["zoo", "get"],
        *(["train", t] for t in TASKS),
    ],
)
def test_every_help_has_an_example(words, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = invoke(*words, "--help").stdout
    usage = f"Usage: lstm-edge {' '.join(words)} [OPTIONS]"
    assert usage in text
    assert text.count(f"lstm-edge {' '.join(words)} ") > 1, "an example besides the usage"
