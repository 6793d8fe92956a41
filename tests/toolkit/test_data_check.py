"""`lstm-edge data check` and `check_data`: what is understood of every kind of file."""

import json
import re

import numpy as np
import pytest
from typer.testing import CliRunner

import lstm_edge
from lstm_edge.cli import app

LOG = """sequence;step;accel;temperature of the housing;target
a;2024-05-01T00:00:00+02:00;0.5;20;walk
a;2024-05-01T00:00:01+02:00;0.25;;walk
a;2024-05-01T00:00:04+02:00;-1;21;walk
b;2024-05-01T00:00:00+02:00;3;22;run
"""


def check(*arguments, code=0):
    result = CliRunner().invoke(app, ["data", "check", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(LOG)
    return path


def test_a_table_with_holes_is_reported_whole_and_exits_1(log):
    report = json.loads(check(log, "--step-every", "1s", "--json", code=1).stdout)
    [problem] = report["problems"]
    assert problem.endswith(
        "In all 2 steps are missing in 1 gap and 1 cell missing on line 3: --missing ffill fills them with the step "
        "before, --missing drop leaves the steps out that have a missing cell, and closes gaps"
    )
    assert (report["passed"], report["kind"], report["sequences"], report["steps"]) == (False, "CSV", 2, 4)
    assert (report["gap_count"], report["missing_steps"], report["missing_cells"]) == (1, 2, 1)
    assert report["gaps"] == [
        {
            "sequence": "a",
            "line": 4,
            "line_before": 3,
            "before": "2024-04-30T22:00:01Z",
            "after": "2024-04-30T22:00:04Z",
            "missing": 2,
        }
    ]
    assert report["classes"] == {"run": 1, "walk": 3}
    assert (report["classes_of"], report["spacing"]) == ("steps", "1s to 3s, median 1s; expected 1s")
    columns = {column["name"]: column for column in report["columns"]}
    assert [column["role"] for column in report["columns"]] == ["sequence", "step", "feature", "feature", "target"]
    assert (columns["accel"]["low"], columns["accel"]["high"]) == (-1, 3)
    assert columns["accel"]["first"] == ["0.5", "0.25", "-1"]
    assert columns["temperature of the housing"]["missing"] == 1


def test_what_is_filled_is_counted_and_passes(log):
    report = lstm_edge.check_data(log, step_every="1s", missing="ffill")
    report.check()
    assert (report.task, report.classes, report.classes_of) == ("classification", {"run": 1, "walk": 1}, "sequences")
    assert (report.steps, report.lengths.least, report.lengths.median, report.lengths.most) == (6, 1, 3, 5)
    assert (report.gap_count, report.missing_cells, len(report.notes)) == (1, 1, 3)
    assert lstm_edge.check_data(log, step_every="1s", missing="ffill", task="tagging").classes == {"run": 1, "walk": 5}


def test_repeated_steps_are_listed(log):
    log.write_text(LOG + "b;2024-05-01T00:00:00+02:00;3;22;run\n" * 2)
    report = lstm_edge.check_data(log, step_every="1s", missing="drop")
    assert (report.repeat_count, report.repeats[0].first_line, report.repeats[0].line) == (2, 5, 6)
    with pytest.raises(lstm_edge.DataError, match=r"line 6: sequence 'b' has step 2024-04-30T22:00:00Z again"):
        report.check()


def test_the_tables_fit_80_columns(log, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    log.write_text(LOG + "b;2024-05-01T00:00:00+02:00;3;22;run\n")
    result = check(log, "--step-every", "1s", code=1)
    assert max(map(len, result.stdout.splitlines())) <= 80
    for text in ("steps of a sequence", "temperature of the housing", "2024-04-30T22:00:04Z", "repeated in", "gap in"):
        assert text in result.stdout
    assert "note: the delimiter is the semicolon" in result.stdout
    assert "not looked for: --step-every any" in check(log, "--step-every", "any", "--missing", "drop", code=1).stdout
    assert result.stderr.startswith(f"error: data {log}, line 6: ")


def write_npz(path):
    np.savez(path, x=np.arange(6, dtype=np.float32).reshape(3, 2), lengths=[1, 2], y=[0, 1], labels=["u", "v"])


def write_named(path):
    np.savez(path, imu=np.zeros((4, 5, 6), np.float32), temp=np.ones((4, 5, 1), np.float32), y=np.array([0, 1, 1, 1]))


def write_json_lines(path):
    path.write_text('{"x": [[1, 2]], "y": 0.5}\n{"x": [[3, 4], [5, 6]], "y": 1.5}\n')


def write_transcripts(path):
    path.write_text('{"x": [[1, 2]], "text": "ab"}\n{"x": [[3, 4], [5, 6]], "text": "a"}\n')


def write_parquet(path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"sequence": ["r"] * 3, "step": [0, 1, 2], "v": [[1, 2]] * 3, "target": ["u"] * 3}), path)


FILES = {
    "d.npz": (write_npz, ("NumPy archive", "classification", 2, 3), ["x[0]", "x[1]", "y"]),
    "named.npz": (write_named, ("NumPy archive", None, 4, 4), ["imu", "temp", "y"]),
    "x.npy": (lambda path: np.save(path, np.zeros((4, 5, 6), np.float32)), ("NumPy array", None, 4, 4), ["the array"]),
    "d.jsonl": (write_json_lines, ("JSON Lines", "forecast", 2, 3), ["x[0]", "x[1]", "y"]),
    "t.jsonl": (write_transcripts, ("JSON Lines", None, 2, 3), ["x[0]", "x[1]", "text"]),
    "d.parquet": (write_parquet, ("Parquet", "classification", 1, 3), ["sequence", "step", "v[0]", "v[1]", "target"]),
    "d.txt": (lambda path: path.write_text("one\ntwo\n"), ("text", None, 1, 8), ["text"]),
}


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_is_understood(tmp_path, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "80")
    write, figures, columns = FILES[name]
    write(tmp_path / name)
    result = json.loads(check(tmp_path / name, "--json").stdout)
    assert (result["kind"], result["task"], result["sequences"], result["steps"]) == figures
    assert [column["name"] for column in result["columns"]] == columns
    text = check(tmp_path / name).stdout
    assert max(map(len, text.splitlines())) <= 80


def test_classes_of_named_arrays_and_bundled_sets(tmp_path):
    write_named(tmp_path / "d.npz")
    assert lstm_edge.check_data(tmp_path / "d.npz").classes == {"0": 1, "1": 3}
    assert re.search(r"steps +as the model's axes say", check(tmp_path / "d.npz").stdout)
    report = lstm_edge.check_data("japanese-vowels:test")
    assert (report.sequences, sum(report.classes.values()), report.lengths.most) == (370, 370, 29)


def test_a_log_without_sequence_and_target_is_shown_with_what_is_missing(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("step,ax,ay\n0,0.5,1\n1,0.25,2\n3,1,2\n")
    report = lstm_edge.check_data(path)
    roles = [(column.name, column.role) for column in report.columns]
    assert roles == [("step", "step"), ("ax", "feature"), ("ay", "feature")]
    assert (report.sequences, report.steps, report.gap_count, report.classes) == (1, 3, 1, {})
    no_sequence, no_target, gap = report.problems
    assert "no column 'sequence' (sequence); found step, ax, ay" in no_sequence
    assert "no column 'target' (target)" in no_target
    assert "line 4: sequence 'log.csv' goes from step 1 (line 3) to 3; expected 2" in gap
    assert lstm_edge.check_data(path, columns="sequence=-,target=-", missing="ffill").passed


def test_what_cannot_be_read_exits_2(tmp_path, log):
    assert "no such file" in check(tmp_path / "none.csv", code=2).stderr
    assert "Give its name with columns" in check(log, "--columns", "target=a", code=2).stderr
    assert "are for tables" in check("japanese-vowels", "--missing", "drop", code=2).stderr
    assert "--step-every with a unit" in check(log, "--step-every", "1", code=2).stderr
    log.write_text(LOG.replace("0.25", "0,25"))
    assert "a number with a decimal comma" in check(log, code=2).stderr
