"""Tables as people have them: times, numbers and gaps in the step column, missing cells, delimiters."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.tables import HEADER, iso, make_rows, read, refused, split_rows, write

from lstm_edge.data import table_options
from lstm_edge_runtime.errors import DataError, InputError

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def same(found, expected):
    assert list(found) == list(expected)
    for name, x in expected.items():
        np.testing.assert_array_equal(found[name], x)


WRITERS = {
    "integers": (str, None),
    "integers from 7": (lambda step: str(step + 7), None),
    "every 20": (lambda step: str(20 * step), "20"),
    "negative, halves": (lambda step: str(step / 2 - 3), None),
    "halves": (lambda step: str(step / 2 - 3), "0.5"),
    "epoch, tenths": (lambda step: f"{1711843200 + step / 10:.1f}", "0.1"),
    "exponents": (lambda step: f"{step * 1e-3:e}", "0.001"),
    "times": (lambda step: iso(step, 1000), "1s"),
    "times, even": (lambda step: iso(step, 1000), None),
    "times with a space": (lambda step: iso(step, 100, apart=" ", zone=""), "100ms"),
    "times of zones that change": (lambda step: iso(step, 15 * 60_000, zone=60 if step < 3 else 120), "15min"),
    "days": (lambda step: f"2024-02-{27 + step:02}" if step < 3 else f"2024-03-{step - 2:02}", "1d"),
}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_table_gives_its_sequences_back_whatever_its_steps_are(tmp_path, kind, seed):
    write_step, step_every = WRITERS[kind]
    rng = np.random.default_rng(seed)
    made = make_rows(rng, write_step=write_step)
    data = read(write(tmp_path / "d.csv", made.rows), step_every=step_every)
    same(split_rows(data), made.sequences)
    assert data.notes == ()
    # Rows in any order: sequences come in the order in which they are first seen, and the user is told.
    shuffled = [made.rows[row] for row in rng.permutation(len(made.rows))]
    data = read(write(tmp_path / "d.csv", shuffled), step_every=step_every)
    found = split_rows(data)
    assert list(found) == list(dict.fromkeys(row[0] for row in shuffled))
    same({name: found[name] for name in made.sequences}, made.sequences)
    assert "are not in the order of their steps" in "".join(data.notes)


@QUICK
@given(st.data())
def test_injected_gaps_are_found_exactly_and_filled_or_closed(tmp_path, data):
    kind = data.draw(st.sampled_from([kind for kind in WRITERS if WRITERS[kind][1] or kind.startswith("integers")]))
    write_step, step_every = WRITERS[kind]
    # Without a spacing, integers of which most are missing are refused for that.
    step_every = step_every or "1"
    lengths = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    made = make_rows(np.random.default_rng(data.draw(st.integers(0, 99))), write_step=write_step, lengths=lengths)
    # The first and the last step of a sequence are no gap when they are missing.
    inner = [
        place
        for place in range(1, len(made.rows) - 1)
        if made.rows[place - 1][0] == made.rows[place][0] == made.rows[place + 1][0]
    ]
    out = set(data.draw(st.lists(st.sampled_from(inner), unique=True))) if inner else set()
    kept = [row for place, row in enumerate(made.rows) if place not in out]
    path = write(tmp_path / "d.csv", kept)
    if not out:
        same(split_rows(read(path, step_every=step_every)), made.sequences)
        return
    # Python's own bookkeeping: runs of places that were taken out, and the line of the row behind each.
    gaps = [place for place in out if place - 1 not in out]
    behind = min(next(p for p in range(place, len(made.rows)) if p not in out) for place in gaps)
    line = 2 + kept.index(made.rows[behind])
    sentence = refused(path, f", line {line}: sequence {made.rows[behind][0]!r} goes from step", step_every=step_every)
    assert f" missing in {len(gaps)} gap{'s' * (len(gaps) > 1)}: --missing ffill" in sentence
    assert f"In all {len(out)} step" in sentence
    expected_drop, expected_fill = {}, {}
    for name, x in made.sequences.items():
        here = [place for place, row in enumerate(made.rows) if row[0] == name]
        present = [place not in out for place in here]
        last = np.maximum.accumulate(np.where(present, np.arange(len(here)), 0))
        expected_drop[name], expected_fill[name] = x[np.array(present)], x[last]
    same(split_rows(read(path, step_every=step_every, missing="drop")), expected_drop)
    filled = read(path, step_every=step_every, missing="ffill")
    same(split_rows(filled), expected_fill)
    assert filled.notes[0].startswith(f"{len(out)} step")


@QUICK
@given(st.data())
def test_missing_cells_are_counted_filled_or_dropped_and_never_across_sequences(tmp_path, data):
    made = make_rows(
        np.random.default_rng(data.draw(st.integers(0, 99))), lengths=data.draw(st.sampled_from([(3, 2), (5,)]))
    )
    cells = [(row, column) for row in range(len(made.rows)) for column in (2, 3)]
    blank = data.draw(st.lists(st.sampled_from(cells), unique=True, min_size=1))
    rows = [list(row) for row in made.rows]
    for row, column in blank:
        rows[row][column] = data.draw(st.sampled_from(["", " ", "NaN", "nan", "null", "NULL", "NA"]))
    path = write(tmp_path / "d.csv", rows)
    first = min(blank)
    called, text = HEADER[first[1]], rows[first[0]][first[1]].strip()
    sentence = refused(path, f", line {first[0] + 2}: {called} is {text!r}, expected a finite number. In all ")
    lines = "s" * (len({row for row, _ in blank}) > 1)
    assert f"In all {len(blank)} cell{'s' * (len(blank) > 1)} missing on line{lines} {first[0] + 2}" in sentence
    x = np.concatenate(list(made.sequences.values()))
    holes = np.zeros(x.shape, dtype=bool)
    for row, column in blank:
        holes[row, column - 2] = True
    names = [row[0] for row in made.rows]
    whole = [row for row in range(len(x)) if not holes[row].any()]
    if whole:
        found = split_rows(read(path, missing="drop"))
        same(
            found,
            {name: x[[row for row in whole if names[row] == name]] for name in dict.fromkeys(names[r] for r in whole)},
        )
    # Filled by hand, value by value.
    filled, state = {name: [] for name in made.sequences}, {}
    for row, name in enumerate(names):
        for column in range(2):
            if not holes[row, column]:
                state[name, column] = x[row, column]
        if all((name, column) in state for column in range(2)):
            filled[name].append([state[name, 0], state[name, 1]])
    if all(filled.values()):
        same(
            split_rows(read(path, missing="ffill")), {name: np.array(rows, np.float32) for name, rows in filled.items()}
        )
    else:
        with pytest.raises(DataError, match="no step at which every column has had a value"):
            read(path, missing="ffill")


def test_a_leading_gap_is_dropped_and_said(tmp_path):
    path = write(tmp_path / "d.csv", [["s", "0", "", "1", "u"], ["s", "1", "2", "", "u"], ["s", "2", "", "3", "u"]])
    data = read(path, missing="ffill")
    assert data.x.tolist() == [[2, 1], [2, 3]]
    assert data.notes == (
        "1 step before a column's first value dropped, the first is line 2",
        "2 missing cells, the first on line 3: filled with the step before",
    )


def test_missing_targets(tmp_path):
    rows = [
        ["s", "0", "1", "1", "2.5"],
        ["s", "1", "1", "1", "null"],
        ["s", "2", "1", "1", ""],
        ["s", "3", "1", "1", "3"],
    ]
    path = write(tmp_path / "d.csv", rows)
    refused(path, ", line 3: the target is empty, expected a class or a number. In all 2 cells missing on lines 3, 4: ")
    filled = read(path, missing="ffill")
    assert filled.y.tolist() == [2.5, 2.5, 2.5, 3]
    assert filled.notes == ("2 missing targets, the first on line 3: filled with the step before",)
    assert read(path, missing="drop").y.tolist() == [2.5, 3]
    # null may be the name of a class.
    path = write(tmp_path / "d.csv", [["s", "0", "1", "1", "walk"], ["s", "1", "1", "1", "null"]])
    assert read(path).labels == ("null", "walk")
    path = write(tmp_path / "d.csv", [["r", "0", "1", "1", "u"], ["s", "0", "1", "1", ""], ["s", "1", "1", "1", "u"]])
    refused(path, ", line 3: the target is empty, and no step of sequence 's' before it has one", missing="ffill")


def test_rows_without_a_step_are_dropped_only_when_asked(tmp_path):
    path = write(tmp_path / "d.csv", [["s", "0", "1", "1", "u"], ["s", "", "1", "1", "u"], ["s", "1", "2", "2", "u"]])
    for missing in ("refuse", "ffill"):
        refused(path, ", line 3: step is '', expected an integer, a number or an ISO time", missing=missing)
    data = read(path, missing="drop")
    assert (data.x.tolist(), data.notes) == ([[1, 1], [2, 2]], ("1 line without a step dropped, the first is line 3",))


def test_an_hour_that_summer_time_leaves_out_or_repeats(tmp_path):
    # Berlin, 2024-03-31 02:00 becomes 03:00; on 2024-10-27 03:00 becomes 02:00.
    spring = ["01:45:00", "01:59:59", "03:00:00", "03:00:01"]
    rows = [["s", f"2024-03-31 {spring[0]}", "1", "1", "u"]]
    local = [["s", f"2024-03-31 {clock}", "1", "1", "u"] for clock in spring[1:]]
    sentence = refused(
        write(tmp_path / "d.csv", local),
        ", line 3: sequence 's' goes from step 2024-03-31T01:59:59 (line 2)",
        step_every="1s",
    )
    assert "the times have no zone: a local clock that is set for summer time" in sentence
    zoned = [
        ["s", f"2024-03-31 {clock}{zone}", "1", "1", "u"]
        for clock, zone in zip(spring[1:], ("+01:00", "+02:00", "+0200"), strict=True)
    ]
    assert len(read(write(tmp_path / "d.csv", zoned), step_every="1s").x) == 3
    autumn = [("02:59:59", "+02"), ("02:00:00", "+01"), ("02:00:01", "+01")]
    zoned = [["s", f"2024-10-27T{clock}{zone}", "1", "1", "u"] for clock, zone in autumn]
    assert len(read(write(tmp_path / "d.csv", zoned), step_every="1s").x) == 3
    repeated = [["s", f"2024-10-27T{clock}", "1", "1", "u"] for clock in ("02:00:00", "02:30:00", "02:00:00")]
    sentence = refused(
        write(tmp_path / "d.csv", repeated),
        ", line 4: sequence 's' has step 2024-10-27T02:00:00 again, first on line 2",
        step_every="30min",
    )
    assert "summer time" in sentence
    mixed = [*rows, ["s", "2024-03-31T01:46:00Z", "1", "1", "u"]]
    refused(
        write(tmp_path / "d.csv", mixed), ", line 3: step has a zone, but the times before have none; expected all or"
    )


def test_spacing_that_is_uneven_or_of_another_kind(tmp_path):
    mixed = [["r", iso(s, 1000), "1", "1", "u"] for s in range(3)] + [
        ["s", iso(s, 2000), "1", "1", "u"] for s in range(3)
    ]
    path = write(tmp_path / "d.csv", mixed)
    sentence = refused(
        path, ", line 6: sequence 's' goes from step 2024-03-31T00:30:00Z (line 5) to 2024-03-31T00:30:02Z, 2s later; "
    )
    assert "give --step-every 1s to find gaps, or --step-every any" in sentence
    assert read(path, step_every="any").lengths.tolist() == [3, 3]
    assert "In all 2 steps are missing in 2 gaps" in refused(path, ", line 6: ", step_every="1s")
    with pytest.raises(
        InputError, match=r"the steps are times; expected --step-every with a unit, such as 1s or 100ms"
    ):
        read(path, step_every="1")
    # A clock that jitters by up to a quarter of a step, and one that is off the grid.
    jitter = write(tmp_path / "j.csv", [["s", str(t), "1", "1", "u"] for t in (0, 1001, 1995, 3240)])
    assert read(jitter, step_every="1000").lengths.tolist() == [4]
    off = write(tmp_path / "o.csv", [["s", str(t), "1", "1", "u"] for t in (0, 1000, 2400)])
    refused(
        off,
        ", line 4: sequence 's' goes from step 1000 (line 3) to 2400, 1400 later; expected a multiple of 1000",
        step_every="1000",
    )
    with pytest.raises(
        InputError, match=r"the steps are numbers; expected --step-every with a number, such as 1, or any"
    ):
        read(jitter, step_every="1s")


@pytest.mark.parametrize("text", ["", "0", "-1", "1 fortnight", "1S", "0.5ns", "s", "nan", "inf"])
def test_a_wrong_spacing_gets_one_sentence(text):
    with pytest.raises(InputError, match=r"^step_every is "):
        table_options(step_every=text)
    with pytest.raises(InputError, match=r"^missing is 'some', expected one of refuse, ffill, drop$"):
        table_options(missing="some")


@pytest.mark.parametrize(
    "step",
    [
        "2024-13-01",
        "2024-02-30T00:00:00",
        "2024-01-01T25:00",
        "20240101T00",
        "0000-01-01",
        "noon",
        "1e400",
        "nan",
        "0x1",
        "1_0",
    ],
)
def test_what_is_no_step_is_refused(tmp_path, step):
    path = write(tmp_path / "d.csv", [["s", step, "1", "1", "u"]])
    refused(path, f", line 2: step is {step!r}, expected an integer, a number or an ISO time such as ")


def test_integers_that_are_not_1_apart_are_no_gaps_to_fill(tmp_path):
    path = write(tmp_path / "d.csv", [["s", str(20 * step), "1", "1", "u"] for step in range(4)])
    for missing in ("refuse", "ffill", "drop"):
        sentence = ", line 3: sequence 's' goes from step 0 (line 2) to 20; expected 1; the median spacing is 20: give"
        assert refused(path, sentence, missing=missing).endswith(
            "--step-every 20, or --step-every 1 if steps are missing"
        )
    assert read(path, step_every="20").lengths.tolist() == [4]
    assert read(path, step_every="1", missing="ffill").lengths.tolist() == [61]


def test_a_gap_that_is_too_long_to_fill_is_refused(tmp_path):
    rows = [["s", "2024-01-01T00:00:00", "1", "1", "u"], ["s", "2042-01-01T00:00:00", "1", "1", "u"]]
    sentence = refused(
        write(tmp_path / "d.csv", rows), ", line 3: sequence 's' goes from step", step_every="1s", missing="ffill"
    )
    assert "to 2042-01-01T00:00:00: 568,079,999 steps are missing, and at most 65,536 are filled in a file" in sentence
    assert read(tmp_path / "d.csv", step_every="1s", missing="drop").lengths.tolist() == [2]


@pytest.mark.parametrize("year", ["1899", "2192", "9000"])
def test_times_whose_differences_do_not_fit_are_refused(tmp_path, year):
    path = write(tmp_path / "d.csv", [["s", f"{year}-06-01", "1", "1", "u"]])
    refused(path, ", line 2: step is a time outside the years 1900 to 2191")
    rows = [["s", "1900-01-01T00:00:00Z", "1", "1", "u"], ["s", "2191-12-31T23:59:59Z", "1", "1", "u"]]
    found = refused(
        write(tmp_path / "d.csv", rows), ", line 3: sequence 's' goes from step 1900-01-01", step_every="1s"
    )
    assert "In all 9,214,646,398 steps are missing" in found


def test_a_duplicate_is_refused_whatever_missing_is(tmp_path):
    row = ["s", "1", "1", "1", "u"]
    path = write(tmp_path / "d.csv", [["s", "0", "1", "1", "u"], row, row, row])
    for missing in ("refuse", "ffill", "drop"):
        refused(
            path,
            ", line 4: sequence 's' has step 1 again, first on line 3; 2 rows repeat a step in all; keep one",
            missing=missing,
        )


def test_the_time_of_a_sequence_may_be_an_iso_time(tmp_path):
    rows = [["r", "0", "1", "1", "u", "2024-01-01T00:00:01Z"], ["s", "0", "1", "1", "v", "1970-01-01"]]
    data = read(write(tmp_path / "d.csv", rows, header=[*HEADER, "time"]))
    assert data.times.tolist() == [1704067201.0, 0.0]
