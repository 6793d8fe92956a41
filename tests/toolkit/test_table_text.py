"""Tables as text: delimiters, marks, quotes, decimal commas, columns without a name."""

import numpy as np
import pytest
from support.tables import HEADER, read, refused, write

from lstm_edge.data import load, parse_columns
from lstm_edge_runtime.errors import DataError


@pytest.mark.parametrize(
    ("name", "delimiter", "note"),
    [
        ("d.csv", ",", ()),
        ("d.tsv", "\t", ()),
        ("d.csv", ";", ("the delimiter is the semicolon",)),
        ("d.csv", "\t", ("the delimiter is the tab",)),
        ("d.csv", "|", ("the delimiter is the vertical bar",)),
    ],
)
def test_delimiters_marks_quotes_and_line_ends(tmp_path, name, delimiter, note):
    rows = [['x; y, "z"\tw|v', "0", "1.5", "-2e-1", "a\nb"], ['x; y, "z"\tw|v', "1", " 2 ", "3", "a\nb"]]
    path = write(tmp_path / name, rows, delimiter=delimiter, end="\r\n", mark="\ufeff")
    said = []
    data = load(str(path), default_split="train", say=said.append)
    assert data.x.tolist() == [[1.5, np.float32(-0.2)], [2, 3]]
    assert (data.ids, data.labels, data.notes) == (('x; y, "z"\tw|v',), ("a\nb",), note)
    assert said == [f"data {path}: {line}" for line in note]


def test_a_missing_column_is_named_at_the_files_own_delimiter(tmp_path):
    path = write(tmp_path / "d.csv", [["s", "0", "1", "2", "u"]], delimiter=";")
    refused(path, ", line 1: no column 'when' (step); found sequence, step, a, b, target. Give", columns="step=when")
    # A comma in a name is no delimiter where another one finds more columns.
    path = write(
        tmp_path / "d.csv", [["s", "0", "1", "2", "u"]], header=[*HEADER[:2], "a, b", "c", "target"], delimiter="|"
    )
    assert read(path, columns="step=step; features=c").x.tolist() == [[2]]


def test_a_decimal_comma_is_refused_with_its_reason(tmp_path):
    path = write(tmp_path / "d.csv", [["s", "0", "1,5", "2", "u"]], delimiter=";")
    refused(path, ", line 2: a is '1,5', a number with a decimal comma; expected a decimal point")
    path = write(tmp_path / "d.csv", [["s", "0", "1.234,5", "2", "u"]])
    refused(path, ", line 2: a is '1.234,5', a number with a decimal comma; expected a decimal point")
    path = write(tmp_path / "d.csv", [["s", "0,5", "1", "2", "u"]])
    refused(path, ", line 2: step is '0,5', a number with a decimal comma; expected a decimal point")
    # Not classes.
    path = write(tmp_path / "d.csv", [["s", "0", "1", "2", "1"], ["s", "1", "1", "2", "0,5"]])
    refused(path, ", line 3: the target is '0,5', a number with a decimal comma; expected a decimal point")
    path = write(tmp_path / "d.csv", [["s", "0", "1", "2", "1,2"], ["s", "1", "1", "2", "several, such as 3,4"]])
    assert read(path).labels == ("1,2", "several, such as 3,4")
    path.write_text("sequence,step,a,b,target\ns,0,1,5,2,5,u\n")
    refused(path, ", line 2: has 7 cells, expected 5 as in the header (an unquoted number with a decimal comma becomes")


def test_a_column_without_a_name_is_no_feature(tmp_path):
    # What pandas writes before the first column, and a delimiter at the end of each line.
    for header, row in (
        (["", *HEADER], ["0", "s", "0", "1", "2", "u"]),
        ([*HEADER, ""], ["s", "0", "1", "2", "u", ""]),
    ):
        path = write(tmp_path / "d.csv", [row], header=header)
        place = header.index("") + 1
        refused(
            path, f", line 1: column {place} has no name, such as the index that pandas writes, or what follows a last"
        )
        assert read(path, columns="features=b+a").x.tolist() == [[2, 1]]


def test_a_log_of_one_sequence_whose_steps_are_called_time(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("time,temp,state\n2024-05-01 10:00:00,20.5,on\n2024-05-01 10:00:01,20.75,off\n")
    with pytest.raises(DataError, match=r"Give its name with columns, or sequence=- if the file is one sequence$"):
        read(path, columns="step=time,target=state")
    data = read(path, columns="sequence=-,step=time,target=state")
    assert (data.x.tolist(), data.labels, data.lengths.tolist()) == ([[20.5], [20.75]], ("off", "on"), [2])
    assert (data.times, data.task) == (None, "tagging")


def test_semicolons_between_roles_let_commas_join_names():
    assert parse_columns("sequence=id; step=t; target=y; features=a,b+c;") == parse_columns(
        "sequence=id,step=t,target=y,features=a+b+c"
    )
