"""The table of docs/boards.md: every committed report is one, and its row says what may have slowed the device."""

import dataclasses
import json
import sys
from pathlib import Path

import pytest

from lstm_edge_runtime.bench import bench
from lstm_edge_runtime.errors import InputError

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))

from boards_table import NOTHING, boards_table, read_reports  # noqa: E402

MODEL = ROOT / "tests" / "device" / "models" / "exported_int8.onnx"


def test_the_committed_reports_are_reports():
    read_reports(ROOT / "docs" / "boards")


def test_a_folder_without_reports_has_no_table(tmp_path):
    assert boards_table(tmp_path) == NOTHING


def test_each_report_is_a_row_and_what_slowed_it_down_is_said(tmp_path):
    report = bench(MODEL, steps=4, repeats=4, time_steps=5)
    device = dataclasses.replace(report.device, board="Some Board", governors=("powersave",), max_mhz=1500.0)
    after = dataclasses.replace(report.after, celsius=81.4, throttled="50005")
    step = dataclasses.replace(report.step, first_us=10.0, last_us=15.0)
    slow = dataclasses.replace(report, device=device, after=after, step=step, batch_size=2)
    for name, one in (("b", report), ("a", slow)):
        (tmp_path / f"{name}.json").write_text(json.dumps(one.to_json()))
    first, second = boards_table(tmp_path).splitlines()[2:]
    assert first.startswith("| Some Board: ")
    assert "1.5 GHz" in first
    for part in ("batch 2", "governor powersave", "81 °C", "50005", "the last steps took 1.50 times"):
        assert part in first
        assert part not in second
    assert f"`{report.sha256[:8]}`" in second


def test_a_file_that_is_no_report_is_named(tmp_path):
    (tmp_path / "mine.json").write_text("{}")
    with pytest.raises(InputError, match=r"mine.json: expected a report of version 1"):
        boards_table(tmp_path)
