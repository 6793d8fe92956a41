"""Tables whose columns are named inputs and targets of a model."""

import csv
import re

import numpy as np
import pytest
from support.named_models import Conditioned, Policy, conditioned_arrays, exported, policy_arrays, run_policy

import lstm_edge
from lstm_edge.data import Columns, load, load_samples, parse_columns, table_options
from lstm_edge_runtime.errors import DataError, InputError
from lstm_edge_runtime.session import Session

TEXT = """sequence,step,ax,ay,temp,s0,label,value
r,0,1,2,20,7,walk,0.5
r,1,3,4,21,7,walk,1.5
s,0,5,6,22,8,run,2.0
"""
SPEC = "imu=ax,ay; temp=temp; sequence.site=s0; target.word=label; target.v=value"


def write(tmp_path, text=TEXT, name="d.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


def read(path, columns=SPEC, *, say=None, task=None, **options):
    return load_samples(str(path), default_split="test", table=table_options(columns, **options), say=say, task=task)


def lists(arrays):
    return {name: [row.tolist() for row in rows] for name, rows in arrays.items()}


def test_the_grammar_names_inputs_constants_and_targets():
    columns = Columns(
        inputs=(("imu", ("ax", "ay")), ("temp", ("t",))), constants=(("s", ("s0",)),), targets=(("y", ("label",)),)
    )
    assert parse_columns("imu=ax,ay; temp=t; sequence.s=s0; target.y=label") == columns
    assert parse_columns("input.imu=ax+ay,input.temp=t,sequence.s=s0,target.y=label") == columns
    assert parse_columns("input.step=a; step=t").inputs == (("step", ("a",)),)
    for text, sentence in (
        ("imu=ax+ay", "columns: 'imu=ax+ay' is not key=name"),
        ("imu=ax; imu=ay", "columns: 'imu=ay' is not key=name"),
        ("imu=ax; input.imu=ay", "columns: 'input.imu=ay' is not key=name"),
        ("input.=ax", "columns: 'input.=ax' is not key=name"),
        ("imu=ax; =b", "columns: '=b' is not key=name"),
        ("imu=ax; features=b", "columns: features are the model's only input; expected features or named inputs"),
        ("target.y=a; steps.y=b", "columns: the output 'y' has target and steps; expected one of them"),
        ("target=a; target.y=b", "columns: target is for the model's only output; expected target or target.NAME"),
    ):
        with pytest.raises(InputError, match="^" + re.escape(sentence)):
            parse_columns(text)


def test_columns_become_named_inputs_and_targets(tmp_path):
    data = read(write(tmp_path), SPEC.replace("target.word=label; ", ""))
    assert lists(data.inputs) == {"imu": [[[1, 2], [3, 4]], [[5, 6]]], "temp": [[20, 21], [22]], "site": [7, 8]}
    assert lists(data.targets) == {"v": [[0.5, 1.5], [2]]}
    assert (data.ids, data.layout, data.labels) == (("r", "s"), "time-first", ())
    data = read(write(tmp_path))
    assert lists(data.targets) == {"word": [1, 0], "v": [[0.5, 1.5], [2]]}
    assert data.labels == ("run", "walk")
    data = read(write(tmp_path), "imu=ax; steps.word=label; target.v=value")
    assert lists(data.targets) == {"word": [[1, 1], [0]], "v": [[0.5, 1.5], [2]]}
    # No target: calibration, and metrics that need none.
    data = read(write(tmp_path), "target=-; features=ax")
    assert (lists(data.inputs), data.targets) == ({"": [[[1], [3]], [[5]]]}, {})
    # Integers are values where values are asked for.
    assert read(write(tmp_path), "imu=ax; target.v=s0", task="forecast").targets["v"][0].dtype == np.float32


def test_classes_of_several_targets_are_numbers(tmp_path):
    text = "sequence,step,a,p,q\nr,0,1,2,0\nr,1,1,5,0\ns,0,1,2,3\n"
    data = read(write(tmp_path, text), "target.p=p; target.q=q")
    assert lists(data.targets) == {"p": [[2, 5], [2]], "q": [0, 3]}
    assert data.labels == ()
    path = write(tmp_path, text.replace("3\n", "walk\n"))
    with pytest.raises(
        DataError, match=r"the target 'q' has class names \(0, walk\), and another target has classes too"
    ):
        read(path, "target.p=p; target.q=q")


def test_missing_cells_of_named_columns(tmp_path):
    text = TEXT.replace("21,7,walk,1.5", ",7,,1.5").replace("r,0,1,2,20,7,walk,0.5", "r,0,1,2,20,7,walk,null")
    path = write(tmp_path, text)
    with pytest.raises(DataError, match=r"line 2: the target is empty, .* In all 3 cells missing on lines 2, 3: "):
        read(path)
    data = read(path, missing="drop")
    assert lists(data.inputs)["temp"] == [[22]]
    # Each target is filled for itself.
    path = write(tmp_path, TEXT.replace("21,7,walk,1.5", ",7,,1.5"))
    said = []
    data = read(path, missing="ffill", say=said.append)
    assert (lists(data.inputs)["temp"], lists(data.targets)["v"]) == ([[20, 20], [22]], [[0.5, 1.5], [2]])
    filled = "the first on line 3: filled with the step before"
    assert said == [f"data {path}: 1 missing target, {filled}", f"data {path}: 1 missing cell, {filled}"]


def test_what_does_not_fit_is_refused(tmp_path):
    with pytest.raises(
        DataError, match=r"line 3: the input 'site' of sequence 'r' changes; expected one value for all"
    ):
        read(write(tmp_path, TEXT.replace("21,7", "21,9")))
    with pytest.raises(DataError, match=r"line 1: no column 'az' \(features\)"):
        read(write(tmp_path), "imu=ax,az; target.v=value")
    with pytest.raises(
        InputError, match=r"columns name inputs or targets, or no target, which is for validate, quantiz"
    ):
        load(str(write(tmp_path)), default_split="train", table=table_options(SPEC))


def test_data_check_has_the_roles(tmp_path):
    report = lstm_edge.check_data(write(tmp_path), columns=SPEC)
    assert [column.role for column in report.columns] == [
        *("sequence", "step", "input imu", "input imu", "input temp", "input site", "target word", "target v")
    ]
    assert (report.passed, report.sequences, report.steps, report.lengths.most) == (True, 2, 3, 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("named")


def table_of(path, arrays, lengths):
    """Write arrays ``[samples, time, ...]`` as columns; returns the columns of each, as the grammar has them."""
    columns = {}
    for name, array in arrays.items():
        rows = [np.reshape(row, (length, -1)) for row, length in zip(array, lengths, strict=True)]
        columns[name] = np.concatenate(rows).astype(float)
    head = [f"{name}{place}" for name, rows in columns.items() for place in range(rows.shape[1])]
    body = np.concatenate(list(columns.values()), axis=1)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sequence", "step", *head])
        steps = [(f"e{i}", step) for i, length in enumerate(lengths) for step in range(length)]
        writer.writerows([*key, *map(repr, map(float, row))] for key, row in zip(steps, body, strict=True))
    return {name: ",".join(f"{name}{place}" for place in range(rows.shape[1])) for name, rows in columns.items()}


@pytest.mark.slow
def test_a_policy_is_judged_from_a_table_as_from_arrays(tmp_path, folder):
    path, arrays = exported(Policy, folder), policy_arrays(episodes=24)
    arrays = {name: array.astype(np.float32) for name, array in arrays.items() if name not in ("h", "c")}
    arrays |= {f"target.{name}": np.stack(rows) + 0.1 for name, rows in run_policy(path, arrays).items()}
    np.savez(tmp_path / "d.npz", **arrays)
    plain = {name.removeprefix("target."): array for name, array in arrays.items()}
    parts = table_of(tmp_path / "d.csv", plain, [14] * 24)
    targets = ("action", "value")
    columns = "; ".join(f"{'target.' * (name in targets)}{name}={text}" for name, text in parts.items())
    int8 = tmp_path / "int8.onnx"
    lstm_edge.quantize(path, int8, data=str(tmp_path / "d.csv"), columns=columns, calibration_samples=8)
    options = {"metric": "mean-squared-error:output=action", "max_drop": "50%"}
    from_table = lstm_edge.validate(int8, path, str(tmp_path / "d.csv"), columns=columns, **options)
    from_arrays = lstm_edge.validate(int8, path, str(tmp_path / "d.npz"), **options)
    assert from_table.reference == pytest.approx(0.01, rel=1e-3)
    assert (from_table.reference, from_table.candidate) == (from_arrays.reference, from_arrays.candidate)


@pytest.mark.slow
def test_a_constant_input_and_ids_come_from_columns(tmp_path, folder):
    path, arrays = exported(Conditioned, folder), conditioned_arrays(samples=24)
    lengths = arrays.pop("lengths")
    session, speaker = Session(path), arrays["speaker"].astype(np.float32)
    with (tmp_path / "d.csv").open("w") as file:
        file.write("sequence,step,id,word," + ",".join(f"e{place}" for place in range(5)) + "\n")
        for number, (row, spoken) in enumerate(zip(arrays["ids"], speaker, strict=True)):
            ids = row[: lengths[number]]
            words = session.run({"ids": ids[None], "speaker": spoken[None]})[0]["logits"][0].argmax(-1)
            vector = ",".join(repr(float(value)) for value in spoken)
            pairs = enumerate(zip(ids, words, strict=True))
            file.writelines(f"s{number},{step},{i},{word},{vector}\n" for step, (i, word) in pairs)
    columns = "ids=id; sequence.speaker=e0,e1,e2,e3,e4; target.logits=word"
    report = lstm_edge.validate(path, path, str(tmp_path / "d.csv"), columns=columns, metric="accuracy:output=logits")
    assert (report.reference, report.samples) == (1, int(lengths.sum()))
