"""The lines of README and docs that call lstm-edge parse: the command, its options and their choices exist."""

import re
import shlex
from functools import cache
from pathlib import Path

import pytest

from lstm_edge.cli import COMMANDS

ROOT = Path(__file__).parents[2]
CLI = ROOT / "docs" / "cli"
PAGES = (
    ROOT / "README.md",
    *(page for page in sorted((ROOT / "docs").rglob("*.md")) if page.parent.name != "cli"),
    *sorted((ROOT / "examples").glob("*/README.md")),
)
FENCED = re.compile(r"^[ ]*```(\w*)\n(.*?)^[ ]*```$", re.DOTALL | re.MULTILINE)
SHELLS = ("sh", "bash", "console")
# The shell's words after which the arguments of a command end.
ENDS = ("|", "<", ">", "2>", "&&", ";", "||", "\\")
OPTION = re.compile(r"^  (?:(-\w), )?(--[\w-]+)(?:/(--[\w-]+))?(?: (\S+))?(?:  .*)?$", re.MULTILINE)
CALL = re.compile(r"(?:^|[\s/('])lstm-edge (?=[a-z])")


def lines_of(text):
    """Yield each line of a block of a shell or of commands that calls lstm-edge, continued lines as one."""
    for language, block in FENCED.findall(text):
        for line in re.split(r"\n\s*(?:\$ )?", block.replace("\\\n", " ").strip("$ ")):
            if language in SHELLS and not line.startswith("#") and CALL.search(line) and "pip install" not in line:
                yield line


def mentions_of(text):
    """Yield each piece of inline code that begins with lstm-edge and a command."""
    for code in re.findall(r"`([^`]+)`", FENCED.sub("", text).replace("\n", " ")):
        if re.match(r"lstm-edge (\w+)", code) and code.split()[1] in COMMANDS:
            yield code


def words_of(line):
    """Return the arguments of lstm-edge in a line of a shell, or of a shell on a device."""
    _, after = CALL.split(line, maxsplit=1)
    try:
        words = shlex.split(after, comments=True)
    except ValueError:  # `ssh board 'lstm-edge check model.onnx'`: the quotation began before
        words = shlex.split(re.split(r"['\"]", after)[0])
    return words[: min((words.index(end) for end in ENDS if end in words), default=len(words))]


@cache
def options_of(command):
    """Return each option of a command, as its page in docs/cli has it, with what its value may be: None for a flag."""
    text = (CLI / f"{command}.md").read_text(encoding="utf-8")
    known = {"--help": None, "-h": None}
    for short, long, other, value in OPTION.findall(text):
        known |= {name: value or None for name in (short, long, other) if name}
    return known


def split_command(words):
    """Return the page of a command, such as train-classification, and the arguments after its name."""
    names = {path.stem for path in CLI.glob("*.md")} - {"README"}
    name = "-".join(words[:2])
    if name in names:
        return name, words[2:]
    assert words[0] in names, f"no command {words[0]}"
    return words[0], words[1:]


def parse(words):
    """Raise where an option does not exist or lacks its value, or where a choice is none."""
    command, words = split_command(words)
    known, rest = options_of(command), iter(words)
    for word in rest:
        name, given, value = word.partition("=")
        if not name.startswith("-") or name == "-":
            continue
        assert name in known, f"{command} has no option {name}"
        if known[name] is None:
            assert not given, f"{name} takes no value"
            continue
        value = value if given else next(rest, None)
        assert value is not None, f"{name} lacks its value"
        if "|" in known[name] and known[name].islower():  # FILE|- is no choice
            assert value in known[name].split("|"), f"{name} {value} is not one of {known[name]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_parse(page):
    text = page.read_text(encoding="utf-8")
    for line in lines_of(text):
        parse(words_of(line))
    for code in mentions_of(text):
        command, words = split_command(code.split()[1:])
        assert {word.split("=")[0] for word in words if word.startswith("-")} <= set(options_of(command)), code


def test_the_lines_are_many():
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    lines = [line for text in texts for line in lines_of(text)]
    assert {words_of(line)[0] for line in lines} >= {
        "train",
        "export",
        "quantize",
        "validate",
        "check",
        "run",
        "deploy",
    }
    assert len(lines) > 80
    assert sum(len(list(mentions_of(text))) for text in texts) > 80


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("lstm-edge quantise a.onnx", "no command"),
        ("lstm-edge quantize a.onnx --budget 1pt", "quantize has no option --budget"),
        ("ssh board1 'lstm-edge check a.onnx --kernels always'", "--kernels always is not one of auto"),
        ("cat x | /opt/bin/lstm-edge run a.onnx --stream --on-bad-line", "--on-bad-line lacks its value"),
        ("lstm-edge train tagging --teacher a --stream | cat", "no option --stream"),
    ],
)
def test_a_line_that_does_not_parse_is_found(line, said):
    with pytest.raises(AssertionError, match=said):
        parse(words_of(line))
