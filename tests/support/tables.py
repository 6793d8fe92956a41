"""Random tables with their sequences, and what was taken out of them."""

import csv
import datetime as dt
import io
import re
from typing import NamedTuple

import numpy as np
import pytest

from lstm_edge.data import load_csv, table_options
from lstm_edge_runtime.errors import DataError

__all__ = ["HEADER", "Made", "iso", "make_rows", "read", "refused", "split_rows", "write"]

HEADER = ["sequence", "step", "a", "b", "target"]

START = dt.datetime(2024, 3, 31, 0, 30, tzinfo=dt.UTC)


class Made(NamedTuple):
    """Rows ``[sequence, step, a, b, target]`` of texts, in the order of their steps, and the steps float32 of each."""

    rows: list[list[str]]
    sequences: dict[str, np.ndarray]
    labels: dict[str, str]


def iso(step, every_ms, *, zone="Z", apart="T"):
    """The ISO time of a step; ``zone`` is ``Z``, an offset in minutes, or empty."""
    when = START + dt.timedelta(milliseconds=step * every_ms)
    suffix = zone
    if isinstance(zone, int):
        when += dt.timedelta(minutes=zone)
        suffix = f"{'+' if zone >= 0 else '-'}{abs(zone) // 60:02}:{abs(zone) % 60:02}"
    return when.strftime(f"%Y-%m-%d{apart}%H:%M:%S.%f") + suffix


def make_rows(rng, *, write_step=str, lengths=(4, 1, 6)):
    """Make sequences of two features in float32, which their texts give back exactly."""
    rows, sequences, labels = [], {}, {}
    for number, length in enumerate(lengths):
        name = f"s {number}"
        x = rng.normal(size=(length, 2)).astype(np.float32)
        sequences[name], labels[name] = x, "abc"[number % 3]
        for step, (a, b) in enumerate(x):
            rows.append([name, write_step(step), repr(float(a)), repr(float(b)), labels[name]])
    return Made(rows, sequences, labels)


def split_rows(data):
    """The steps of each sequence of a data set by its name."""
    return {name: data[index] for index, name in enumerate(data.ids)}


def write(path, rows, *, delimiter=",", header=HEADER, end="\n", mark=""):
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_MINIMAL)
    writer.writerows([header, *rows])
    path.write_bytes((mark + text.getvalue()).encode())
    return path


def read(path, *, columns=None, step_every=None, missing="refuse", **more):
    return load_csv(path, table=table_options(columns, step_every, missing), **more)


def refused(path, sentence, **options):
    with pytest.raises(DataError) as caught:
        read(path, **options)
    assert re.match("^" + re.escape(f"data {path}{sentence}"), str(caught.value)), str(caught.value)
    return str(caught.value)
