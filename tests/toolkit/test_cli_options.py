"""One grammar of options: one name, one meaning, one kind of value; old names work and say what they are called now."""

import json
from collections import Counter
from enum import Enum
from pathlib import Path
from typing import get_args, get_origin, get_type_hints

import pytest
import typer
from support.option_meanings import MEANINGS
from support.training_option_meanings import SECOND_MEANINGS
from typer.testing import CliRunner

from lstm_edge.cli import app
from lstm_edge.cli._renamed import OLD_NAMES

TAGGER = str(Path(__file__).parents[1] / "device" / "models" / "tagger.onnx")
ROWS = [*MEANINGS.items(), *SECOND_MEANINGS.items()]
KINDS = {str: "text", int: "integer", float: "number", Path: "path"}


def commands(group=None, words=()):
    """Yield each command with its words, such as "train tagging"."""
    group = group or typer.main.get_command(app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*words, name))
        else:
            yield " ".join((*words, name)), command


def kind_of(option, hint):
    if option.is_flag:
        return "flag"
    base = next(iter(get_args(hint)), hint)
    if get_origin(base) is list:
        return "texts"
    return "choice" if issubclass(base, Enum) else KINDS[base]


def found_options(*, hidden):
    """Return (command, name of the option, kind of its value) of every option."""
    rows = []
    for words, command in commands():
        hints = get_type_hints(command.callback)
        for option in command.params:
            if option.param_type_name == "option" and option.hidden == hidden:
                name = "/".join(sorted(option.opts, key=len, reverse=True) + option.secondary_opts)
                rows.append((words, name, kind_of(option, hints[option.name])))
    return rows


def table(rows):
    return "\n" + "\n".join(f"{name:30} {kind:8} {words}" for words, name, kind in sorted(rows, key=lambda r: r[1]))


def test_every_option_of_every_command_has_its_row_and_its_kind():
    rows = found_options(hidden=False)
    expected = {(words, name, row.kind) for name, row in ROWS for words in row.commands}
    assert len(rows) == len(set(rows)) > 150
    assert set(rows) == expected, table(set(rows) ^ expected)


def test_no_meaning_has_two_names():
    meanings = Counter(row.meaning.rstrip(".").lower() for _, row in ROWS)
    assert [meaning for meaning, count in meanings.items() if count > 1] == []


def test_a_name_without_its_dashes_is_the_parameters_own():
    # What the same option is called from Python; a repeated option is a list there, and a keyword cannot be a name.
    others = {"--json": "as_json", "--from": "start", "--rate": "rate_hz"}
    others |= {"--input": "inputs", "--output-name": "output_names", "--part": "parts", "--trusted-key": "trusted_keys"}
    for words, command in commands():
        for option in command.params:
            if option.param_type_name == "option" and not option.hidden:
                flag = next(name for name in option.opts if name.startswith("--"))
                assert option.name == others.get(flag, flag.removeprefix("--").replace("-", "_")), (words, flag)


def test_an_option_with_a_default_has_it_in_every_command():
    # What a task's training needs differs from task to task; what is asked of a device and of a gate does not.
    defaults = {}
    for words, command in commands():
        for option in command.params:
            if option.name in ("metric", "confidence", "provider", "kernels", "columns", "as_json", "held_out_data"):
                defaults.setdefault(option.name, {}).setdefault(option.default, []).append(words)
    assert {name: len(found) for name, found in defaults.items()} == dict.fromkeys(defaults, 1), defaults


def invoke(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


# Each old name, with arguments that end before anything slow: what it means now must take effect.
OLD = [
    (("bench", TAGGER, "--batch", "0"), "--batch is the old name of --batch-size", "batch"),
    (("bench", TAGGER, "--time", "0"), "--time is the old name of --time-steps", "time"),
    (("run", TAGGER, "x.npy", "--state", "s.npz"), "--state is the old name of --load-state", "s.npz: no such file"),
    (
        ("run", TAGGER, "x.npy", "--lengths", "all"),
        "--lengths is the old name of --row-lengths",
        "--row-lengths is 'all', expected integers separated by commas, such as 5,3",
    ),
    (
        ("quantize", TAGGER, "-o", "q.onnx", "--held-out", "d.npz"),
        "--held-out is the old name of --held-out-data",
        "--held-out-data requires --scheme auto",
    ),
    (
        ("select", "--data", "japanese-vowels", "-o", "m.safetensors", "--hidden", "a"),
        "--hidden is the old name of --hidden-sizes",
        "--hidden-sizes is 'a', expected integers",
    ),
    (
        ("select", "--data", "japanese-vowels", "-o", "m.safetensors", "--layers", "a"),
        "--layers is the old name of --layer-counts",
        "--layer-counts is 'a', expected integers",
    ),
    (
        ("train", "tagging", "--data", "japanese-vowels", "-o", "m.safetensors", "--checkpoint", "none/s"),
        "--checkpoint is the old name of --resume-file",
        "none/s: the folder none does not exist",
    ),
    (
        ("train", "classification", "--data", "japanese-vowels", "-o", "m.safetensors", "--validation-data", "v.npz"),
        "--validation-data is the old name of --held-out-data",
        "data v.npz: no such file",
    ),
    (
        ("export", "m.safetensors", "-o", "m.onnx", "--state", "hidden"),
        "--state is the old name of --states",
        "checkpoint m.safetensors: no such file",
    ),
    (
        ("adopt", TAGGER, "-o", "a.onnx", "--axes", "x=batch,batch"),
        '--axes "x=batch,time,64" is the old form of --input "x: float32[batch, time, 64]"',
        "--axes 'x=batch,batch' must look like",
    ),
]


@pytest.mark.parametrize(("arguments", "notice", "effect"), OLD, ids=[" ".join(case[0][::2]) for case in OLD])
def test_an_old_name_works_and_says_what_it_is_called_now(tmp_path, monkeypatch, arguments, notice, effect):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.npy").write_bytes(b"")
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[0] == f"· {notice}"
    assert effect in result.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (("cache",), "--state 'cache' must look like \"h=hn\": an input and the output that follows it"),
        (("a=b", "c=b"), "--state 'c=b': the input or the output is given twice"),
        (("hidden", "a=b"), "--state IN=OUT names an explicit state, and --states hidden asks for none"),
    ],
)
def test_export_takes_pairs_of_a_states_input_and_output(values, sentence):
    result = invoke(
        "export", "torch.nn:Identity", "-o", "m.onnx", *(text for value in values for text in ("--state", value))
    )
    assert result.exit_code == 2
    assert sentence in result.stderr.splitlines()[-1]


def test_every_old_name_is_hidden_and_tried():
    hidden = {(words.split()[0], name) for words, name, _ in found_options(hidden=True)}
    known = {(command, flag) for command, names in OLD_NAMES.items() for flag in names}
    assert hidden == known | {("adopt", "--axes")}
    tried = {(arguments[0], flag) for arguments, *_ in OLD for flag in arguments if flag.startswith("--")}
    # `export --state` has another meaning now, and still takes what it took; `quantize --layers` has its own test.
    assert hidden | {("export", "--state")} <= tried | {("quantize", "--layers")}


def test_quantize_takes_the_old_name_of_layer_kinds(tmp_path):
    result = invoke("quantize", TAGGER, "-o", tmp_path / "q.onnx", "--layers", "recurrent")
    assert result.exit_code == 0
    assert result.stderr.splitlines()[0] == "· --layers is the old name of --layer-kinds"
    assert "float32: only recurrent" in result.stdout


def test_the_old_and_the_new_name_together_are_refused():
    result = invoke("bench", TAGGER, "--batch", 2, "--batch-size", 3)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == "error: --batch is the old name of --batch-size: give only --batch-size"


def test_run_takes_json_wherever_it_prints_json(tmp_path):
    import numpy as np

    np.save(tmp_path / "x.npy", np.ones((1, 2, 3), np.float32))
    plain, asked = (invoke("run", TAGGER, tmp_path / "x.npy", *more) for more in ((), ("--json",)))
    assert json.loads(plain.stdout) == json.loads(asked.stdout)
    assert (plain.exit_code, asked.exit_code) == (0, 0)
