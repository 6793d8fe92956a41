"""`--help` of every command: 80 columns, no cut word, no broken type, the same text from argparse and from typer."""

import io
import os
import re
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from lstm_edge.cli import COMMANDS, app
from lstm_edge.cli._help import choices_of
from lstm_edge_runtime import cli as device
from lstm_edge_runtime.cli.completion import BASH_SCRIPT
from lstm_edge_runtime.cli.help import HelpRow, HelpSection, format_help, with_default

ROOT = Path(__file__).parents[2]
PATHS = os.pathsep.join(str(ROOT / folder) for folder in ("", "exporters", "runtime"))
ASK_TYPER = "from lstm_edge.cli import app; app(prog_name='lstm-edge')"
ASK_ARGPARSE = "import sys; from lstm_edge_runtime.cli import device_main; sys.exit(device_main(sys.argv[1:]))"


def commands(group=None, words=()):
    """Yield the words of each group and command, and typer's form of it."""
    group = group or typer.main.get_command(app)
    yield words, group
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*words, name))


ALL = dict(commands())


def help_of(words, monkeypatch, columns="80"):
    monkeypatch.setenv("COLUMNS", columns)
    result = CliRunner().invoke(app, [*words, "--help"], prog_name="lstm-edge")
    assert result.exit_code == 0
    return result.stdout


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_help_has_80_columns_and_no_cut_word_and_no_broken_type(words, monkeypatch):
    text = help_of(words, monkeypatch)
    assert max(map(len, text.splitlines())) <= 80
    assert not set(text) & set("…│╭"), "a cut word, or a frame"
    lines = text.splitlines()
    for option in ALL[words].params:
        if option.param_type_name != "option" or getattr(option, "hidden", False):
            continue
        (label,) = (
            line for line in lines if re.match(rf"  (-\w, )?{re.escape(max(option.opts, key=len))}\b(?!-)", line)
        )
        assert "|" not in label or not label.endswith("|"), "choices that go on in the next line"
        if option.metavar:
            assert option.metavar in label


def test_help_of_a_wide_terminal_is_not_wider_and_that_of_a_narrow_one_fits(monkeypatch):
    assert help_of(("export",), monkeypatch, "200") == help_of(("export",), monkeypatch)
    assert max(map(len, help_of(("check",), monkeypatch, "60").splitlines())) <= 60


@pytest.mark.parametrize("name", device.COMMANDS)
def test_both_parsers_print_the_same_help(name, monkeypatch):
    printed = io.StringIO()
    monkeypatch.setenv("COLUMNS", "80")
    with redirect_stdout(printed), pytest.raises(SystemExit) as leaving:
        device.device_main([name, "--help"])
    assert leaving.value.code == 0
    assert printed.getvalue() == help_of((name,), monkeypatch)


def test_the_help_names_the_exit_codes_in_both(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    assert device.device_main(["--help"]) == 0
    for text in (capsys.readouterr().out, help_of((), monkeypatch)):
        assert "Exit codes: 0 done; 1 a check or a budget failed, or a file is damaged; 2 wrong" in text
        assert "130 after Ctrl-C" in text


def test_a_long_command_line_is_cut_so_that_it_can_be_copied(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    line = f'lstm-edge export {"m" * 40}.safetensors --input "x: float32[batch, time, 40]" -o out.onnx'
    text = format_help("x", f"For example:\n\n    {line}\n\n`a b`", ())
    example = text.split("\n\n")[2]
    assert max(map(len, example.splitlines())) <= 80
    assert example.splitlines()[0].endswith(" \\")
    assert " ".join(example.replace("\\\n", "").split()) == line
    assert text.endswith("\n\n    a b")


def test_a_default_stays_on_its_line_and_long_choices_are_cut_between_two():
    rows = [
        HelpRow(label="--n N", text=with_default("Word " * 10, 128)),
        HelpRow(label=f"--c {'|'.join('abc' * 30)}", text="x"),
    ]
    text = format_help("x", "", [HelpSection(title="Options", rows=rows), HelpSection(title="None", rows=())])
    assert "\n" + " " * 28 + "[default: 128]" in text
    assert "None:" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert with_default("a [default: 3]", 4) == "a [default: 3]"
    assert with_default("a", None) == with_default("a", False) == "a"


def complete(code, words):
    """Return what a shell gets for the words of a command line, the last of which may be empty."""
    asked = {"_LSTM_EDGE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | asked | {"PYTHONPATH": PATHS},
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    return done.stdout.split()


@pytest.mark.parametrize("code", [ASK_TYPER, ASK_ARGPARSE], ids=["typer", "argparse"])
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("lstm-edge insp", ["inspect"]),
        ("lstm-edge check m.onnx --kernels ", ["auto", "required", "off"]),
        ("lstm-edge run m.onnx --on", ["--on-bad-line"]),
    ],
)
def test_a_shell_completes_commands_options_and_choices(code, words, expected):
    assert complete(code, words) == expected


def test_every_choice_of_every_command_is_completed():
    tried = 0
    for words, command in ALL.items():
        for option in command.params:
            values = choices_of(option, command)
            if not values or getattr(option, "hidden", False):
                continue
            found = [item.value for item in option.shell_complete(typer.Context(command), "")]
            assert found == list(values), (words, option.name)
            tried += 1
    assert tried > 40


def test_bash_completes_on_a_device(tmp_path):
    program = tmp_path / "lstm-edge"
    program.write_text(f"#!/bin/sh\nexec '{sys.executable}' -c '{ASK_ARGPARSE}' \"$@\"\n")
    program.chmod(0o755)
    script = (
        BASH_SCRIPT
        + """
        COMP_WORDS=(lstm-edge check m.onnx --kernels ''); COMP_CWORD=4
        _lstm_edge_completion lstm-edge
        echo "${COMPREPLY[@]}"
    """
    )
    environment = os.environ | {"PYTHONPATH": PATHS, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["auto", "required", "off"], done.stderr
    shown = subprocess.run([program, "--show-completion"], env=environment, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == BASH_SCRIPT


def test_the_commands_of_the_work_have_their_help():
    assert {words[0] for words in ALL if words} == set(COMMANDS)
