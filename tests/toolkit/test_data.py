"""Data sets: the bundled one, .npz files, refusals, padding."""

import contextlib
import gc
import re
import warnings
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lstm_edge.data import Dataset, load, load_npz, pad
from lstm_edge_runtime.errors import DataError


def good(**changes):
    """Three sequences of two features; ``None`` leaves a key out."""
    arrays = {
        "x": np.arange(12, dtype=np.float32).reshape(6, 2),
        "lengths": np.array([3, 1, 2], dtype=np.uint8),
        "y": np.array([0, 2, 1], dtype=np.int32),
    } | changes
    return {key: value for key, value in arrays.items() if value is not None}


def write(path, **changes):
    np.savez(path, **good(**changes))
    return path


@pytest.mark.parametrize(("split", "samples", "longest"), [("train", 270, 26), ("test", 370, 29)])
def test_the_bundled_set_has_the_official_splits(split, samples, longest):
    data = load(f"japanese-vowels:{split}", default_split="train")
    assert (len(data), data.features, data.classes) == (samples, 12, 9)
    # uint8 sums wrap at 256: the widened lengths must not.
    assert int(data.lengths.sum()) == len(data.x) > 4000
    assert (int(data.lengths.min()), int(data.lengths.max())) == (7, longest)
    assert data.labels[0] == "speaker 1"
    assert len(data.labels) == 9
    assert [len(row) for row in data] == data.lengths.tolist()


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_bundled_name_alone_means_the_default_split(split):
    assert load("japanese-vowels", default_split=split).name == f"japanese-vowels:{split}"


def test_an_npz_file_gives_its_rows_and_widened_integers(tmp_path):
    data = load(str(write(tmp_path / "d.npz", labels=np.array(["a", "b", "c"]))), default_split="train")
    assert data.lengths.dtype == data.y.dtype == np.int64
    assert data.labels == ("a", "b", "c")
    assert data[1].tolist() == [[6.0, 7.0]]
    assert data[2].tolist() == data[-1].tolist() == [[8.0, 9.0], [10.0, 11.0]]


def test_float_targets_are_for_regression(tmp_path):
    data = load_npz(write(tmp_path / "d.npz", y=np.array([[0.5], [1.0], [2.0]], dtype=np.float32)))
    assert not data.is_classification


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"lengths": None}, "the key 'lengths' is missing; found x, y, expected x, lengths, y"),
        ({"x": np.zeros((6, 2))}, "x is float64 [6, 2]; expected float32 [sum(lengths), features]"),
        ({"x": np.zeros(6, np.float32)}, "x is float32 [6]; expected float32 [sum(lengths), features]"),
        ({"x": np.zeros((0, 2), np.float32)}, "x is empty, shape [0, 2]; expected at least one step and one feature"),
        ({"lengths": np.array([3, 1, 3])}, "lengths add up to 7, but x has 6 rows; expected the same number"),
        ({"lengths": np.array([2**63 - 1, 1, 6])}, "lengths add up to 9223372036854775814, but x has 6 rows"),
        ({"lengths": np.array([3.0, 1.0, 2.0])}, "lengths is float64 [3]; expected int64 [samples]"),
        ({"lengths": np.array([4, 0, 2])}, "lengths[1] is 0; expected every sequence to have 1 step or more"),
        ({"lengths": np.array([], np.int64)}, "lengths is empty; expected at least one sequence"),
        ({"y": np.array([0, 1])}, "y has 2 entries, but lengths has 3; expected the same number"),
        ({"y": np.array([0, -1, 1])}, "y[1] is -1; expected 0 or more"),
        ({"y": np.array([True, False, True])}, "y is bool [3]; expected int64 [samples] (classes) or float32"),
        ({"y": np.array([2**63, 1, 1], np.uint64)}, "y is uint64 [3]; expected int64 [samples] (classes) or float32"),
        ({"y": np.array([0, np.nan, 0], np.float32)}, "y holds NaN or infinity; expected finite numbers"),
        ({"labels": np.array(["a", "b"])}, "y[1] is 2; expected a class from 0 to 1, as there are 2 labels"),
        ({"labels": np.array([1, 2, 3])}, "labels is int64 [3]; expected text [classes]"),
        ({"y": np.array([0, None, 1])}, "cannot be read (it holds a pickled object array, which is never loaded)"),
    ],
)
def test_a_wrong_file_gets_one_sentence(tmp_path, changes, sentence):
    path = write(tmp_path / "d.npz", **changes)
    with pytest.raises(DataError, match="^" + re.escape(f"data {path}: {sentence}")):
        load_npz(path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_found_in_their_row(tmp_path, bad):
    x = good()["x"]
    x[4, 1] = bad
    with pytest.raises(DataError, match=r"x holds NaN or infinity, first in row 4; expected finite numbers$"):
        load_npz(write(tmp_path / "d.npz", x=x))


def test_files_that_are_no_archives_are_refused(tmp_path):
    missing, folder, text, array = (tmp_path / name for name in ("a.npz", "b.npz", "c.npz", "d.npz"))
    folder.mkdir()
    text.write_text("x,y\n1,2\n")
    with array.open("wb") as file:
        np.save(file, np.zeros(3))
    for path, sentence in (
        (missing, "no such file"),
        (folder, "not a file"),
        (text, "not an .npz archive, or a damaged one; expected the keys x, lengths, y"),
        (array, "not an .npz archive, or a damaged one; expected the keys x, lengths, y"),
    ):
        with pytest.raises(DataError, match="^" + re.escape(f"data {path}: {sentence}") + "$"):
            load_npz(path)


def test_a_member_that_is_no_array_is_refused(tmp_path):
    path = write(tmp_path / "d.npz", y=None)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("y", "0 2 1")
    with pytest.raises(DataError, match=r"y is not a NumPy array; expected one in .npy format$"):
        load_npz(path)


def test_a_header_that_claims_more_than_memory_is_refused(tmp_path):
    path = write(tmp_path / "d.npz", x=None)
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000000, 2)}".ljust(117) + b"\n"
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(DataError, match="cannot be read"):
        load_npz(path)


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("japanese-vowels:dev", "data 'japanese-vowels:dev': japanese-vowels has no split 'dev'; expected one of"),
        ("japanese-vowels:", "data 'japanese-vowels:': japanese-vowels has no split ''"),
        (
            "mnist",
            "data 'mnist': no such data set; expected one of japanese-vowels (with :train or :test), or the path",
        ),
    ],
)
def test_an_unknown_name_gets_one_sentence(spec, sentence):
    with pytest.raises(DataError, match="^" + re.escape(sentence)):
        load(spec, default_split="train")


@pytest.mark.slow
def test_a_damaged_directory_is_refused_and_the_file_is_closed(tmp_path):
    path = write(tmp_path / "d.npz")
    path.write_bytes(path.read_bytes().replace(b"PK\x01\x02", b"PK\x01\x03"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(DataError, match=r"cannot be read \(Bad magic number for central directory\)"):
            load_npz(path)
        gc.collect()
    assert caught == []


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 4000), value=st.integers(0, 255), cut=st.integers(0, 4000))
@pytest.mark.filterwarnings("ignore:Reading `.npy` or `.npz` file required additional header parsing")
def test_a_damaged_file_is_refused_or_read_but_never_a_traceback(tmp_path, position, value, cut):
    whole = write(tmp_path / "whole.npz").read_bytes()
    data = bytearray(whole)
    data[position % len(data)] = value
    path = tmp_path / "damaged.npz"
    for damaged in (bytes(data), whole[: cut % len(whole)]):
        path.write_bytes(damaged)
        # Any other error than a DataError fails the test.
        with contextlib.suppress(DataError):
            load_npz(path)


def test_pad_puts_zeros_after_each_rows_end():
    rows = list(load("japanese-vowels:train", default_split="train"))[:5]
    x, lengths = pad(rows)
    assert x.shape == (5, max(map(len, rows)), 12)
    assert lengths.dtype == np.int64
    for index, row in enumerate(rows):
        assert np.array_equal(x[index, : lengths[index]], row)
        assert not x[index, lengths[index] :].any()


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([], "pad: got no sequences, expected at least one"),
        ([np.zeros((2, 3)), np.zeros((2, 4))], r"pad: sequence 1 has shape \[2, 4\], expected \[time, 3\]"),
        ([np.zeros(3)], r"pad: sequence 0 has shape \[3\], expected \[time, features\]"),
    ],
)
def test_rows_that_do_not_fit_are_refused(rows, sentence):
    with pytest.raises(DataError, match=f"^{sentence}$"):
        pad(rows)


def test_a_dataset_checks_itself():
    with pytest.raises(DataError, match="data mine: lengths add up to 2, but x has 3 rows"):
        Dataset(name="mine", x=np.zeros((3, 1), np.float32), lengths=np.array([2]), y=np.array([0]))
