"""JSON Lines with columns and Parquet files: the same tables as in CSV, and what only they have."""

import builtins
import contextlib
import datetime as dt
import importlib.util
import json
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.tables import iso, make_rows, split_rows

from lstm_edge.data import load, table_options
from lstm_edge_runtime.errors import DataError, InputError, MissingExtraError

HEADER = ["sequence", "step", "a", "b", "target"]
# Without pyarrow the tests of Parquet files are skipped.
SUFFIXES = (".jsonl", ".parquet") if importlib.util.find_spec("pyarrow") else (".jsonl",)
QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read(path, *, say=None, task=None, **options):
    return load(str(path), default_split="train", task=task, table=table_options(**options), say=say)


def refused(path, sentence, error=DataError, **options):
    with pytest.raises(error) as caught:
        read(path, **options)
    assert re.match("^" + re.escape(f"data {path}{sentence}"), str(caught.value)), str(caught.value)
    return str(caught.value)


def json_lines(path, objects):
    path.write_text("".join(json.dumps(value) + "\n" for value in objects))
    return path


def parquet(path, table, **options):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pq.write_table(pa.table(table), path, **options)
    return path


def write_steps(path, rows):
    """One step per line or row, numbers as numbers and empty cells as null."""
    typed = [
        dict(zip(HEADER, (s, t, float(a) if a else None, float(b) if b else None, y), strict=True))
        for s, t, a, b, y in rows
    ]
    if path.suffix == ".parquet":
        return parquet(path, {key: [row[key] for row in typed] for key in HEADER}, row_group_size=3)
    # A null may also be left out.
    return json_lines(path, [{k: v for k, v in row.items() if v is not None or n == 0} for n, row in enumerate(typed)])


def same(found, expected):
    assert list(found) == list(expected)
    for name, x in expected.items():
        np.testing.assert_array_equal(found[name], x)


@QUICK
@given(st.data())
def test_steps_come_back_with_their_holes(tmp_path, data):
    suffix = data.draw(st.sampled_from(SUFFIXES))
    made = make_rows(
        np.random.default_rng(data.draw(st.integers(0, 99))), write_step=lambda s: iso(s, 500), lengths=(3, 4)
    )
    rows = [list(row) for row in made.rows]
    path = tmp_path / f"d{suffix}"
    same(split_rows(read(write_steps(path, rows), step_every="500ms")), made.sequences)
    rows[data.draw(st.integers(0, 6))][2] = ""
    gone = data.draw(st.sampled_from([1, 4, 5]))
    hole, unit = next(place for place, row in enumerate(rows) if not row[2]), "row" if suffix == ".parquet" else "line"
    kept = [row for place, row in enumerate(rows) if place != gone]
    write_steps(path, kept)
    cells = f" and 1 cell missing on {unit} {kept.index(rows[hole]) + 1}" if hole != gone else ""
    sentence = refused(path, f", {unit} {gone + 1}: sequence 's {int(gone > 2)}' goes from step", step_every="500ms")
    assert f"In all 1 step is missing in 1 gap{cells}: " in sentence
    dropped = read(path, step_every="500ms", missing="drop")
    left = [place for place in range(7) if place not in (gone, hole)]
    x = np.concatenate(list(made.sequences.values()))
    assert dropped.x.tolist() == x[left].tolist()


def test_a_line_may_be_a_sequence_with_a_list_for_each_column(tmp_path):
    lines = [
        {
            "id": "r",
            "imu": {"acc": [[1, 2], [3, 4]]},
            "temp": [5, 6],
            "label": "walk",
            "group": 1,
            "time": "2024-01-01",
        },
        {"id": "s", "imu": {"acc": [[7, 8]]}, "temp": [9], "label": "run", "group": 2, "time": 3},
    ]
    path = json_lines(tmp_path / "d.jsonl", lines)
    data = read(path, columns="sequence=id,target=label,features=imu.acc+temp")
    same(split_rows(data), {"r": [[1, 2, 5], [3, 4, 6]], "s": [[7, 8, 9]]})
    assert (data.labels, data.y.tolist(), data.groups.tolist()) == (("run", "walk"), [1, 0], [0, 1])
    assert data.times.tolist() == [1704067200.0, 3.0]
    assert read(path, columns="target=label,features=temp").ids == ("line 1", "line 2")
    refused(
        path, ", line 1: tmp is None, expected a list with an entry for each step", columns="target=label,features=tmp"
    )
    refused(path, ": no line has the column 'who' (sequence)", columns="sequence=who,target=label,features=temp")


def test_the_steps_and_targets_of_a_line_may_be_lists(tmp_path):
    lines = [{"t": ["2024-01-01T00:00:02Z", "2024-01-01T00:00:00Z"], "v": [2, 0], "target": [0.5, None]}]
    path = json_lines(tmp_path / "d.jsonl", lines)
    refused(
        path, ", line 1: the target is empty, expected a class or a number. In all 1 cell missing", columns="step=t"
    )
    data = read(path, columns="step=t", step_every="2s", missing="drop")
    assert (data.x.tolist(), data.y.tolist()) == ([[2]], [0.5])
    for change, sentence in (
        ({"v": [1]}, ", line 1: t has 2 entries, expected 1, one for each step"),
        ({"target": [1, 2, 3]}, ", line 1: target has 3 entries, expected 2, one for each step"),
        ({"v": 1}, ", line 1: v is 1, expected a list with an entry for each step"),
        ({"v": []}, ", line 1: v is an empty list, expected a list with an entry for each step"),
        ({"v": [1, "x"]}, ", line 1: v is 'x', expected a finite number"),
        ({"v": [1, [2, 3]]}, ", line 1: v has 2 numbers, expected one number as in the rows before"),
        ({"sequence": ["r", "s"]}, ", line 1: sequence has 2 entries, expected one value"),
    ):
        refused(json_lines(path, [lines[0] | change]), sentence, columns="step=t")
    refused(
        json_lines(path, [{"sequence": "r", **lines[0]}] * 2),
        ", line 2: the sequence 'r' is on a line before",
        columns="step=t",
    )
    refused(
        json_lines(path, [lines[0], {**lines[0], "t": 1}]), ", line 2: t is 1, but a list on line 1", columns="step=t"
    )
    refused(json_lines(path, lines * 2), ", line 2: has a second sequence", columns="step=t,sequence=-")


def test_a_table_of_json_lines_needs_no_columns_if_it_has_the_usual_names(tmp_path):
    steps = [{"sequence": "r", "step": step, "v": step, "flag": step == 1, "target": "u"} for step in range(3)]
    path = json_lines(tmp_path / "d.jsonl", steps)
    assert read(path).x.tolist() == [[0, 0], [1, 1], [2, 0]]
    path = json_lines(tmp_path / "d.jsonl", [*steps, {**steps[0], "step": 3, "w": 1}])
    refused(path, ", line 4: the key 'w' is not on line 1; expected sequence, step, v, flag, target. Name the features")
    assert read(path, columns="features=v").x.tolist() == [[0], [1], [2], [0]]
    refused(path, ": no line has the column 'vv' (features)", columns="features=v+vv", missing="drop")
    path = json_lines(tmp_path / "x.jsonl", [{"x": [[1]], "y": 1}])
    sentence = ": --columns, --step-every and --missing are for tables, leave them out"
    refused(path, sentence, InputError, missing="ffill")
    path = json_lines(tmp_path / "x.jsonl", [{"dev": 1, "acc": [[1]]}])
    assert "(other keys are the columns of a table: give --columns)" in refused(
        path, ", line 1: the key 'dev' is unknown"
    )


def test_keys_that_are_one_column_are_refused(tmp_path):
    path = json_lines(tmp_path / "d.jsonl", [{"sequence": "r", "step": 0, "a": {"b": 1}, "a.b": 2, "target": "u"}])
    refused(path, ", line 1: the column 'a.b' is given twice")


def test_what_only_parquet_has(tmp_path):
    pa = pytest.importorskip("pyarrow")
    start = dt.datetime(2024, 10, 27, 0, 59, tzinfo=dt.UTC)
    times = pa.array([start + dt.timedelta(minutes=m) for m in range(3)], pa.timestamp("ms", tz="Europe/Berlin"))
    table = {
        "who": pa.array(["r", "r", "r"]).dictionary_encode(),
        "t": times,
        "half": pa.array([1, 2, 3], pa.float16()),
        "money": pa.array(["1.25", "2.5", "3"]).cast(pa.decimal128(6, 2)),
        "ok": [True, False, True],
        "acc": pa.array([[1, 2], [3, 4], [5, None]], pa.list_(pa.int8(), 2)),
        "label": ["u", "v", "v"],
        "__index_level_0__": [7, 8, 9],
        "more": [{"a": 1}] * 3,
    }
    path = parquet(tmp_path / "d.parquet", table)
    said, columns = [], "sequence=who; step=t; target=label; features=half,money,ok,acc"
    sentence = refused(
        path, ", row 3: acc[1] is '', expected a finite number. In all 1 cell missing on row 3", columns=columns
    )
    assert "--missing ffill" in sentence
    data = read(path, columns=columns, missing="ffill", step_every="1min", say=said.append)
    assert data.x.tolist() == [[1, 1.25, 1, 1, 2], [2, 2.5, 0, 3, 4], [3, 3, 1, 5, 4]]
    assert said == [
        f"data {path}: the index of pandas left out: __index_level_0__",
        f"data {path}: 1 missing cell, the first on row 3: filled with the step before",
    ]
    refused(
        path,
        ": the column 'more' is struct<a: int64>; expected numbers, texts",
        columns="sequence=who,step=t,target=label",
    )
    dates = {"sequence": ["r", "r"], "step": pa.array([0, 1], pa.date32()), "v": [1, 2], "target": [0.5, 1]}
    assert read(parquet(path, dates), step_every="1d").y.tolist() == [0.5, 1]


def test_a_parquet_file_is_read_within_limits(tmp_path):
    pa = pytest.importorskip("pyarrow")
    count = 20_000_000
    same_text = pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int8)), ["r"])
    path = parquet(
        tmp_path / "d.parquet", {"sequence": same_text, "step": same_text, "v": same_text, "target": same_text}
    )
    assert path.stat().st_size < 2**20
    refused(path, ": cannot be read (more than 1,073,741,824 bytes of data")
    whole = parquet(path, {"sequence": ["r"], "step": [0], "v": [1.5], "target": ["u"]}).read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] = rng.integers(256)
        path.write_bytes(damaged[: rng.integers(len(whole) // 2, len(whole) + 1)])
        with contextlib.suppress(DataError):
            read(path)


def test_a_missing_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    path = tmp_path / "d.parquet"
    path.write_bytes(b"PAR1")
    real = builtins.__import__

    def without(name, *rest):
        if name.split(".")[0] == "pyarrow":
            raise ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    sentence = r"needs 'pyarrow', which is not installed: pip install 'lstm-edge\[parquet\]'$"
    with pytest.raises(MissingExtraError, match=sentence):
        read(path)
