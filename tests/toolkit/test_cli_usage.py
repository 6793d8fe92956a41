"""Wrong usage: the same sentence from argparse and from typer; what is missing is named; quiet and verbose."""

import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from lstm_edge.cli import app
from lstm_edge_runtime import cli as device

TAGGER = str(Path(__file__).parents[1] / "device" / "models" / "tagger.onnx")


def invoke(*arguments, stdin=None):
    result = CliRunner().invoke(app, list(arguments), prog_name="lstm-edge", input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def both(capsys, *arguments):
    """Return the exit code, stdout and stderr of typer's command and of argparse's."""
    found = invoke(*arguments)
    try:
        code = device.device_main(list(arguments))
    except SystemExit as leaving:
        code = leaving.code
    out, err = capsys.readouterr()
    return (found.exit_code, found.stdout, found.stderr), (code, out, err)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("check",), "MODEL.onnx is missing"),
        (("check", "m", "--kernels", "none"), "--kernels is 'none', expected one of auto, required, off"),
        (("run", "m", "--on-bad-line", "go"), "--on-bad-line is 'go', expected one of stop, skip, hold"),
        (("check", "m", "--threads", "0"), "--threads is '0', expected 1 or more"),
        (("check", "m", "--threads", "two"), "--threads is 'two', expected an integer"),
        (("bench", "m", "--batch", "x"), "--batch is 'x', expected an integer"),
        (("run", "m", "--temperature", "hot"), "--temperature is 'hot', expected a number"),
        (("check", "m", "--threads"), "--threads needs a value"),
        (("check", "m", "--json=3"), "--json takes no value"),
        (("check", "m", "--kernel", "off"), "lstm-edge check has no option --kernel (did you mean --kernels?)"),
        (("check", "m", "n"), "unexpected argument n"),
        (("check", "m", "n", "o"), "unexpected arguments n o"),
    ],
)
def test_wrong_usage_has_one_sentence_in_both(capsys, arguments, sentence):
    expected = f"error: {sentence}; lstm-edge {arguments[0]} --help describes the command\n"
    typers, argparses = both(capsys, *arguments)
    assert typers == argparses == (2, "", expected)


def test_a_wrong_command_has_its_sentence_in_both(capsys):
    for code, out, err in both(capsys, "chekc"):
        assert (code, out) == (2, "")
        assert err.startswith("error: lstm-edge has no command 'chekc' (did you mean check?), expected one of ")
        assert err.endswith("; lstm-edge --help describes the command\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("validate",), "CANDIDATE.onnx, --against and --data are missing"),
        (("validate", "a.onnx", "--data", "x.npz"), "--against is missing"),
        (("export",), "SOURCE is missing"),
        (("bundle", "m.onnx"), "--format and --path are missing"),
        (
            ("quantize", "m", "--scheme", "int3"),
            "--scheme is 'int3', expected one of float32, float16, int8, int4, auto",
        ),
        (("quantize", "m", "--layer-kinds", "conv"), "--layer-kinds is 'conv', expected one of all, recurrent"),
        (("train", "tagging", "--pad", "left"), "--pad is 'left', expected one of post, pre, random"),
        (("train",), "lstm-edge train needs a command, expected one of classification, tagging, forecast, language-"),
        (
            ("train", "tag"),
            "lstm-edge train has no command 'tag' (did you mean tagging?), expected one of classification, ",
        ),
        (("zoo", "--nope"), "lstm-edge zoo has no option --nope"),
        (("--nope",), "lstm-edge has no option --nope"),
        (("-q", "check", "m"), "-q goes behind the command, as in lstm-edge check -q"),
    ],
)
def test_wrong_usage_of_the_toolkit(arguments, sentence):
    result = invoke(*arguments)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert result.stderr.startswith(f"error: {sentence}")
    assert " --help describes the command" in result.stderr


@pytest.mark.parametrize("flag", ["-V", "--version"])
def test_the_version_has_a_short_flag_in_both(capsys, flag):
    (code, out, err), (other_code, other_out, other_err) = both(capsys, flag)
    assert (code, err, other_code, other_err) == (0, "", 0, "")
    assert out.strip()
    assert other_out.strip()


def test_quiet_prints_results_and_errors_only(tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.ones((2, 5, 3), np.float32))
    arguments = ("run", TAGGER, str(tmp_path / "x.npy"), "--state", str(tmp_path / "s.npz"))
    assert invoke(*arguments[:3], "--save-state", arguments[-1]).exit_code == 0
    loud, quiet = (both(capsys, *arguments, *more) for more in ((), ("-q",)))
    for code, out, err in loud:
        assert (code, err) == (0, "· --state is the old name of --load-state\n")
        assert '"logits"' in out
    for code, out, err in quiet:
        assert (code, err) == (0, "")
        assert '"logits"' in out
    for code, out, err in both(capsys, "check", "none.onnx", "--quiet"):
        assert (code, out, err) == (2, "", "error: none.onnx: no such file\n")


def test_verbose_says_what_runs_and_where_an_error_comes_from(capsys):
    for code, out, err in both(capsys, "check", TAGGER, "--verbose"):
        lines = err.splitlines()
        assert code == 0
        assert "passed: " in out
        assert all(line.startswith("· ") and " s: " in line for line in lines)
        assert "onnxruntime " in lines[0]
        assert "Python " in lines[0]
        assert any("opened a model in onnxruntime: cpu, threads 1" in line for line in lines)
        assert lines[-1].endswith(" s: done")
    for code, _, err in both(capsys, "check", "none.onnx", "-v"):
        assert code == 2
        assert "Traceback" in err
        assert err.splitlines()[-1] == "error: none.onnx: no such file"
    # The next command of the same process prints as before.
    for code, _, err in both(capsys, "check", TAGGER):
        assert (code, err) == (0, "")


def test_quiet_and_verbose_exclude_one_another(capsys):
    expected = (2, "", "error: --quiet and --verbose exclude one another: give one of them\n")
    assert both(capsys, "check", TAGGER, "-q", "-v") == (expected, expected)


def test_a_bar_is_not_drawn_when_quiet(capsys, monkeypatch):
    from lstm_edge.cli._bar import progress_bar
    from lstm_edge_runtime.cli.reporting import verbosity

    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes any output for a terminal
    shown = []
    for quiet in (False, True):
        with verbosity(quiet=quiet, verbose=False), progress_bar("searching", 3) as update:
            update(1, "a note")
        shown.append(capsys.readouterr().err)
    assert "a note" in shown[0]
    assert shown[1] == ""


def test_a_bar_keeps_its_figures_beside_a_long_note(capsys, monkeypatch):
    from lstm_edge.cli._bar import progress_bar

    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    with progress_bar("cross-validating", 400) as update:
        update(123, "a note that is longer than what is left of a line of eighty columns, by far")
    last = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", capsys.readouterr().err).rstrip().splitlines()[-1]
    assert len(last) <= 80
    assert "123/400" in last
    assert re.search(r" 0:00:0\d a note that is .*…$", last), last
