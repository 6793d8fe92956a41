"""CSV and JSON Lines files: what is read, and the sentence for each wrong one."""

import gzip
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lstm_edge.data import Columns, TableOptions, load, load_csv, load_json_lines, load_npz, parse_columns
from lstm_edge_runtime.errors import DataError, InputError

# Two sequences of 2 and 3 steps, two features; the lines of b come in the wrong order, zeros are data.
LONG = """sequence,step,speed,level,target
a,0,0,1.5,low
b,3,6,7,high
a,1,2,3,low
b,1,0,0,high
b,2,4,5,high
"""
STEPS = [[[0, 1.5], [2, 3]], [[0, 0], [4, 5], [6, 7]]]


def csv_file(tmp_path, text, name="d.csv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def replaced(line, text):
    """``LONG`` with another line, counted from 1."""
    lines = LONG.splitlines()
    lines[line - 1] = text
    return "\n".join(lines) + "\n"


def steps_of(data):
    return [row.tolist() for row in data]


def test_a_long_csv_gives_its_sequences_with_steps_sorted(tmp_path):
    data = load(str(csv_file(tmp_path, LONG)), default_split="train")
    assert (data.task, data.features, data.ids, data.labels) == ("classification", 2, ("a", "b"), ("high", "low"))
    assert steps_of(data) == STEPS
    assert data.y.tolist() == [1, 0]
    assert data.groups is None
    assert data.times is None


def test_a_byte_order_mark_crlf_and_gzip_change_nothing(tmp_path):
    path = tmp_path / "d.csv.gz"
    with gzip.open(path, "wb") as file:
        file.write(b"\xef\xbb\xbf" + LONG.replace("\n", "\r\n").encode())
    assert steps_of(load(str(path), default_split="train")) == STEPS


def test_named_columns_groups_and_times(tmp_path):
    text = "u,t,p,q,who,label,when\n1,0,1,2,x,5,20\n1,1,3,4,x,5,20\n2,0,5,6,y,7,10\n"
    columns = parse_columns("sequence=u,step=t,target=label,group=who,time=when,features=q+p")
    assert columns == Columns(sequence="u", step="t", target=("label",), group="who", time="when", features=("q", "p"))
    data = load_csv(csv_file(tmp_path, text), table=TableOptions(columns=columns))
    assert steps_of(data) == [[[2, 1], [4, 3]], [[6, 5]]]
    assert (data.groups.tolist(), data.times.tolist(), data.labels) == ([0, 1], [20.0, 10.0], ("5", "7"))


@pytest.mark.parametrize(
    ("cells", "task", "found", "y"),
    [
        # The same in each sequence: a target of the sequence, unless the task says otherwise.
        (("2", "2", "10"), None, "classification", [0, 1]),
        (("2", "2", "10"), "tagging", "tagging", [0, 0, 1]),
        (("2", "2", "10"), "forecast", "forecast", [2.0, 10.0]),
        (("2.5", "2.5", "1e1"), None, "forecast", [2.5, 10.0]),
        (("2", "10", "2"), None, "tagging", [0, 1, 0]),
        (("0.5", "1", "2"), None, "forecast", [0.5, 1.0, 2.0]),
        (("b", "a", "b"), "tagging", "tagging", [1, 0, 1]),
    ],
)
def test_what_a_target_is(tmp_path, cells, task, found, y):
    # The sequences have 2 and 1 steps.
    text = "sequence,step,v,target\n" + "".join(
        f"{name},{step},1,{cell}\n" for name, step, cell in zip("aab", (0, 1, 0), cells, strict=True)
    )
    data = load_csv(csv_file(tmp_path, text), task=task)
    assert (data.task, data.y.tolist(), data.per_step) == (found, y, len(y) == 3)
    assert data.y.dtype == (np.float32 if found == "forecast" else np.int64)


def test_several_target_columns_are_one_vector(tmp_path):
    text = "sequence,step,v,dx,dy\na,0,1,1,2\na,1,1,3,4\n"
    data = load_csv(csv_file(tmp_path, text), table=TableOptions(columns=Columns(target=("dx", "dy"))))
    assert (data.task, data.per_step, data.targets, data.features) == ("forecast", True, 2, 1)
    assert data.y.tolist() == [[1, 2], [3, 4]]
    with pytest.raises(DataError, match=r"line 2: got 2 target columns, expected one for tagging$"):
        load_csv(csv_file(tmp_path, text), table=TableOptions(columns=Columns(target=("dx", "dy"))), task="tagging")


def test_integer_labels_are_sorted_by_value(tmp_path):
    text = "sequence,step,v,target\n" + "".join(f"s{label},0,1,{label}\n" for label in ("10", "9", "-1"))
    assert load_csv(csv_file(tmp_path, text)).labels == ("-1", "9", "10")


def test_the_labels_of_a_model_number_the_classes(tmp_path):
    data = load_csv(csv_file(tmp_path, LONG), labels=("none", "low", "high"))
    assert (data.labels, data.y.tolist()) == (("none", "low", "high"), [1, 2])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", ": the file is empty; expected a header and a line for each step"),
        ("sequence,step,v,target\n", ": has a header and no line after it; expected one for each step"),
        (LONG.replace("target", "class"), ", line 1: no column 'target' (target); found sequence, step, speed, level,"),
        (LONG.replace(",", "#"), ", line 1: no column 'sequence' (sequence); found sequence#step#speed#level#target."),
        (LONG.replace("level", "speed"), ", line 1: the column 'speed' is given twice"),
        ("sequence,step,target\na,0,1\n", ", line 1: no column is left for features; found sequence, step, target"),
        (replaced(4, "a,1,2,3"), ", line 4: has 4 cells, expected 5 as in the header"),
        (replaced(4, "a,1,2,3,low,6"), ", line 4: has 6 cells, expected 5 as in the header"),
        (replaced(4, "a,1,nan,3,low"), ", line 4: speed is 'nan', expected a finite number"),
        (replaced(4, "a,1,2,-inf,low"), ", line 4: level is '-inf', expected a finite number"),
        (replaced(4, "a,1,2,1e39,low"), ", line 4: level is '1e39', expected a finite number"),
        (replaced(4, "a,1,2,,low"), ", line 4: level is '', expected a finite number"),
        (replaced(4, "a,1,1_0,3,low"), ", line 4: speed is '1_0', expected a finite number"),
        (replaced(4, "a,1.5,2,3,low"), ", line 4: sequence 'a' goes from step 0 (line 2) to 1.5, 1.5 later"),
        (replaced(4, "a," + "9" * 5000 + ",2,3,low"), ", line 4: step is '999"),
        (replaced(4, ",1,2,3,low"), ", line 4: sequence is empty, expected the sequence"),
        (replaced(4, "a,1,2,3,"), ", line 4: the target is empty, expected a class or a number"),
        (replaced(6, "b,1,4,5,high"), ", line 6: sequence 'b' has step 1 again, first on line 5"),
        (replaced(6, "b,4,4,5,high"), ", line 3: sequence 'b' goes from step 1 (line 5) to 3; expected 2"),
        (replaced(4, 'a,1,2,"3,low'), ", line 6: not CSV (unexpected end of data)"),
        (LONG.replace("high", "2.5"), ", line 2: the target is not a number, but the target on line 3 has a decimal"),
    ],
)
def test_a_wrong_csv_gets_one_sentence_with_its_line(tmp_path, text, sentence):
    path = csv_file(tmp_path, text)
    with pytest.raises(DataError, match="^" + re.escape(f"data {path}{sentence}")):
        load_csv(path)


@pytest.mark.parametrize(
    ("kwargs", "text", "sentence"),
    [
        (
            {"task": "classification"},
            replaced(4, "a,1,2,3,high"),
            ", line 4: the target goes from 'low' to 'high' within a sequence; expected one for the whole sequence",
        ),
        ({"task": "forecast"}, LONG, ", line 2: the target 'low' is not a finite number; expected one to forecast"),
        ({"labels": ("low", "mid")}, LONG, ", line 5: the label 'high' was never seen in training; expected one of "),
        (
            {"table": TableOptions(columns=Columns(group="who"))},
            LONG,
            ", line 1: no column 'who' (group); found sequence, step",
        ),
        (
            {"table": TableOptions(columns=Columns(features=("x",)))},
            LONG,
            ", line 1: no column 'x' (features); found sequence, step",
        ),
        (
            {},
            "sequence,step,v,group,target\na,0,1,g,1\na,1,1,h,1\n",
            ", line 3: the group of sequence 'a' changes to 'h'; expected one for all its steps",
        ),
        ({}, "sequence,step,v,time,target\na,0,1,noon,1\n", ", line 2: the time is 'noon', expected a number"),
    ],
)
def test_a_csv_that_does_not_fit_what_was_asked_gets_one_sentence(tmp_path, kwargs, text, sentence):
    path = csv_file(tmp_path, text)
    with pytest.raises(DataError, match="^" + re.escape(f"data {path}{sentence}")):
        load_csv(path, **kwargs)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("sequence", "columns: 'sequence' is not key=name"),
        ("step=", "columns: 'step=' is not key=name"),
        ("colour=a", "columns: 'colour=a' is not key=name; expected each of sequence, step, target, group, time, feat"),
        ("step=a,step=b", "columns: 'step=b' is not key=name"),
        ("step=a+b", "columns: step is one column, got 2: a, b"),
    ],
)
def test_wrong_columns_get_one_sentence(text, sentence):
    with pytest.raises(InputError, match="^" + re.escape(sentence)):
        parse_columns(text)


def test_columns_are_for_tables_only(tmp_path):
    with pytest.raises(InputError, match=r"--columns, --step-every and --missing are for tables, leave them out$"):
        load(str(tmp_path / "d.npz"), default_split="train", table=TableOptions(columns=Columns()))


JSON_LINES = '{"x": [[0, 1.5], [2, 3]], "y": "low", "id": "a", "group": 7, "time": 2}\n' + (
    '\n{"x": [[0, 0], [4, 5], [6, 7]], "y": "high", "id": "b", "group": 8, "time": 1.5}\n'
)


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_json_lines_give_their_sequences(tmp_path, suffix):
    path = tmp_path / f"d{suffix}"
    with (gzip.open if suffix.endswith("gz") else open)(path, "wt", encoding="utf-8") as file:
        file.write(JSON_LINES)
    data = load(str(path), default_split="train")
    assert (data.task, data.ids, data.labels, data.y.tolist()) == (
        "classification",
        ("a", "b"),
        ("high", "low"),
        [1, 0],
    )
    assert steps_of(data) == STEPS
    assert (data.groups.tolist(), data.times.tolist()) == ([0, 1], [2.0, 1.5])


@pytest.mark.parametrize(
    ("first", "second", "task", "y"),
    [
        ('"y": [1, 2]', '"y": [2]', "tagging", [0, 1, 1]),
        ('"y": [1, 2.5]', '"y": [0]', "forecast", [1, 2.5, 0]),
        ('"y": [[1, 2], [3, 4]]', '"y": [[5, 6]]', "forecast", [[1, 2], [3, 4], [5, 6]]),
        ('"y_vector": [1, 2, 3]', '"y_vector": [4, 5, 6]', "forecast", [[1, 2, 3], [4, 5, 6]]),
        ('"y": 0.5', '"y": 2', "forecast", [0.5, 2]),
    ],
)
def test_what_y_is_in_json_lines(tmp_path, first, second, task, y):
    path = csv_file(tmp_path, f'{{"x": [[0], [1]], {first}}}\n{{"x": [[2]], {second}}}\n', "d.jsonl")
    data = load_json_lines(path)
    assert (data.task, data.y.tolist(), data.per_step) == (task, y, len(y) == 3)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("\n \n", ": the file is empty; expected one JSON object on a line for each sequence"),
        ('\n{"x": [[1]], "y": 1', ", line 2: not JSON (Expecting ',' delimiter"),
        ("[" * 100_000, ", line 1: not JSON ("),
        ("[1]", ', line 1: holds a list, expected an object such as {"x": [[...]], "y": ...}'),
        ('{"x": [[1]]}', ", line 1: has the keys x; expected x, and either y or y_vector"),
        ('{"x": [[1]], "y": 1, "y_vector": [1]}', ", line 1: has the keys x, y, y_vector; expected x, and either"),
        ('{"x": [[1]], "y": 1, "z": 1}', ", line 1: the key 'z' is unknown; expected x, y, y_vector, id, group, time"),
        ('{"x": [[1]], "x": [[2]], "y": 1}', ", line 1: the key 'x' is given twice"),
        ('{"x": [], "y": 1}', ", line 1: x is an empty list, expected a list of at least one step"),
        ('{"x": [1, 2], "y": 1}', ", line 1: x[0] is int, expected numbers"),
        ('{"x": [[1], []], "y": 1}', ", line 1: x[1] is an empty list, expected numbers"),
        ('{"x": [[1, 2], [3]], "y": 1}', ", line 1: x[1] has 1 numbers, expected 2 as x[0]"),
        ('{"x": [[NaN]], "y": 1}', ", line 1: holds NaN; expected finite numbers"),
        ('{"x": [[-Infinity]], "y": 1}', ", line 1: holds -Infinity; expected finite numbers"),
        ('{"x": [[1e400]], "y": 1}', ", line 1: x[0] holds 'inf', expected a finite number"),
        ('{"x": [[true]], "y": 1}', ", line 1: x[0] holds 'True', expected a finite number"),
        ('{"x": [["1"]], "y": 1}', ", line 1: x[0] holds '1', expected a finite number"),
        ('{"x": [[1]], "y": true}', ", line 1: y is True, expected text or a number"),
        ('{"x": [[1]], "y": null}', ", line 1: y is None, expected text or a number"),
        ('{"x": [[1]], "y": [1, 2]}', ", line 1: y has 2 entries, but x has 1 steps; expected one for each (a vector"),
        ('{"x": [[1]], "y": 1, "id": 1.5}', ", line 1: id is 1.5, expected text or an integer"),
        (
            '{"x": [[1]], "y": 1}\n{"x": [[1, 2]], "y": 1}',
            ", line 2: x has 2 features, expected 1 as on the lines before",
        ),
        ('{"x": [[1]], "y": 1}\n\n{"x": [[1]], "y": [1]}', ", line 3: y is one a step, but one a sequence on line 1"),
        ('{"x": [[1]], "y": 1}\n{"x": [[1]], "y": 1, "id": 1}', ": id is on 1 of 2 lines; expected on all or none"),
        ('{"x": [[1]], "y_vector": [1]}\n{"x": [[1]], "y_vector": [1, 2]}', ", line 2: the target has 2 numbers, expe"),
    ],
)
def test_a_wrong_json_lines_file_gets_one_sentence_with_its_line(tmp_path, text, sentence):
    path = csv_file(tmp_path, text, "d.jsonl")
    with pytest.raises(DataError, match="^" + re.escape(f"data {path}{sentence}")):
        load_json_lines(path)


@pytest.mark.parametrize("task", ["classification", "tagging"])
def test_json_lines_for_another_task_are_refused(tmp_path, task):
    y = '"a"' if task == "tagging" else '["a"]'
    path = csv_file(tmp_path, f'{{"x": [[1]], "y": {y}}}', "d.jsonl")
    with pytest.raises(DataError, match=rf"line 1: y is one a s\w+, expected one a s\w+ for {task}$"):
        load_json_lines(path, task=task)


@pytest.mark.parametrize("read", [load_csv, load_json_lines])
def test_files_that_cannot_be_read_are_refused(tmp_path, read):
    latin, broken, cut = tmp_path / "a", tmp_path / "b.gz", tmp_path / "c.gz"
    latin.write_bytes(b"caf\xe9,1\n")
    broken.write_bytes(b"not gzip")
    cut.write_bytes(gzip.compress(LONG.encode() * 50)[:-20])
    for path, sentence in (
        (tmp_path / "none", "no such file"),
        (tmp_path, "not a file"),
        (latin, "not UTF-8 text"),
        (broken, "not a gzip file, or a damaged one"),
    ):
        with pytest.raises(DataError, match="^" + re.escape(f"data {path}: {sentence}")):
            read(path)
    # What comes before the cut may be refused first.
    with pytest.raises(DataError, match="^" + re.escape(f"data {cut}")):
        read(cut)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 4000), byte=st.integers(0, 255), suffix=st.sampled_from([".csv", ".jsonl", ".csv.gz"]))
def test_a_damaged_text_file_is_refused_or_read_but_never_a_traceback(tmp_path, position, byte, suffix):
    whole = (JSON_LINES if suffix == ".jsonl" else LONG).encode()
    data = bytearray(gzip.compress(whole, mtime=0) if suffix.endswith(".gz") else whole)
    data[position % len(data)] = byte
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(bytes(data))
    try:
        load(str(path), default_split="train")
    except DataError as error:
        assert str(error).startswith(f"data {path}")  # noqa: PT017  any other error fails the test


def npz(path, **changes):
    arrays = {
        "x": np.arange(12, dtype=np.float32).reshape(6, 2),
        "lengths": np.array([3, 1, 2]),
        "y": np.array([0, 2, 1]),
    } | changes
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    ("y", "task", "per_step", "targets"),
    [
        (np.arange(6), "tagging", True, 1),
        (np.zeros((6, 2), np.float32), "forecast", True, 2),
        (np.zeros((3, 4), np.float32), "forecast", False, 4),
        (np.zeros(6, np.float32), "forecast", True, 1),
    ],
)
def test_an_npz_file_may_have_targets_of_steps_and_vectors(tmp_path, y, task, per_step, targets):
    data = load_npz(npz(tmp_path / "d.npz", y=y, groups=np.array([1, 1, 2], np.int8), times=np.array([1, 2, 3])))
    assert (data.task, data.per_step, data.targets) == (task, per_step, targets)
    assert data.target(2).tolist() == (y[4:].tolist() if per_step else y[2].tolist())
    assert (data.groups.dtype, data.times.dtype) == (np.int64, np.float64)


def test_the_task_decides_what_is_open_in_an_npz_file(tmp_path):
    single = npz(tmp_path / "d.npz", x=np.zeros((3, 1), np.float32), lengths=np.ones(3, np.int64))
    assert load_npz(single).task == "classification"
    assert load_npz(single, task="tagging").task == "tagging"
    forecast = load_npz(single, task="forecast")
    assert (forecast.y.dtype, forecast.y.tolist()) == (np.float32, [0, 2, 1])


@pytest.mark.parametrize(
    ("changes", "task", "sentence"),
    [
        ({}, "tagging", "y holds a class (integer) for each sequence; expected a class (integer) for each step"),
        ({"y": np.zeros(3, np.float32)}, "classification", "y holds values (float32); expected a class (integer) for"),
        ({"y": np.array([0, 2**24 + 1, 0])}, "forecast", "y holds 16777217, not exact in float32; expected at most"),
        ({"groups": np.array([1, 2])}, None, "groups is int64 [2]; expected int64 [3], one for each sequence"),
        ({"times": np.array([1, 2, np.nan])}, None, "times holds NaN or infinity; expected finite numbers"),
        ({"times": np.array(["a", "b", "c"])}, None, "times is <U1 [3]; expected float64 [3], one for each sequence"),
        (
            {"y": np.zeros(3, np.float32), "labels": np.array(["a"])},
            None,
            "there are 1 labels, but y is float32; expected integer classes",
        ),
        ({"y": np.zeros((3, 0), np.float32)}, None, "y is float32 [3, 0]; expected int64 [samples] (classes) or"),
    ],
)
def test_an_npz_file_for_another_task_is_refused(tmp_path, changes, task, sentence):
    path = npz(tmp_path / "d.npz", **changes)
    with pytest.raises(DataError, match="^" + re.escape(f"data {path}: {sentence}")):
        load_npz(path, task=task)
