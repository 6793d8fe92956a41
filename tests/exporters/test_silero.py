"""silero-vad's files, adopted and quantized, on real speech: the requirements of docs/silero.md.

Needs the files that ``make test-silero`` fetches; without them the tests are skipped. The measuring itself is
benchmarks/silero.py, which also writes the document's table.
"""

import dataclasses
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("silero_benchmark", ROOT / "benchmarks" / "silero.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


silero = _load()
MISSING = silero.missing()
needs_files = pytest.mark.skipif(bool(MISSING), reason=f"not fetched, `make test-silero` does: {', '.join(MISSING)}")


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], list[Any]]:
    rows, streams = silero.measure(tmp_path_factory.mktemp("silero"))
    return rows, streams


@needs_files
def test_the_requirements_are_met(measured: tuple[list[Any], list[Any]]) -> None:
    rows, streams = measured
    assert silero.failures(rows, streams) == []
    # Every form, in float32, int8 by kernels and by bodies; nothing dropped out of the comparison.
    assert {(row.form, row.file) for row in rows if row.ours} == {
        (form.title, file) for form in silero.FORMS for file in ("adopted", "int8", "int8, function bodies")
    }
    assert {stream.form for stream in streams} == {form.title for form in silero.FORMS}
    assert [s.file for s in streams if s.form == "sequence"] == ["adopted", "int8", "int8, function bodies"]
    assert {row.frames for row in rows} == {1463}


@needs_files
def test_int8_is_smaller_than_what_it_was_made_from(measured: tuple[list[Any], list[Any]]) -> None:
    rows, _ = measured
    sizes = {(row.form, row.file): row.size_bytes for row in rows}
    for form in silero.FORMS:
        # 528,384 bytes of LSTM weights become 137,216, whatever form they had.
        assert sizes[form.title, "adopted"] - sizes[form.title, "int8"] > 380_000


@needs_files
def test_the_stock_tool_fails_the_same_requirements(measured: tuple[list[Any], list[Any]]) -> None:
    """The comparison can fail: judged as ours, the stock tool's file of the sequence form does."""
    rows, streams = measured
    everything = [row for row in rows if (row.form, row.file) == ("sequence", "stock int8, everything")]
    assert len(everything) == 1
    found = silero.failures([dataclasses.replace(everything[0], ours="int8")], streams)
    assert len(found) == 1
    assert "decisions differ, 99.5% must agree" in found[0]


def _row(**changes: Any) -> Any:
    values = {"form": "f", "file": "g", "condition": "c", "ours": "int8", "size_bytes": 1, "frames": 1000}
    return silero.Row(**({**values, "flipped": 0, "difference": 0.0} | changes))


def test_failures_are_named() -> None:
    assert silero.failures([_row(flipped=5)], []) == []
    assert silero.failures([_row(flipped=6)], []) == ["f, g, c: 6 of 1000 decisions differ, 99.5% must agree"]
    float32 = [_row(ours="float32", difference=value) for value in (1e-5, 2e-5, float("nan"))]
    assert [text.split("differs by ")[1] for text in silero.failures(float32, [])] == [
        "2e-05 from the original, at most 1e-05",
        "nan from the original, at most 1e-05",
    ]
    stream = silero.Streamed(form="f", file="g", against="h", difference=2e-5)
    assert silero.failures([], [stream]) == ["f, g: the stream differs by 2e-05 from the sequence, at most 1e-05"]


def test_frames_carry_the_end_of_the_frame_before() -> None:
    frames = silero.frames_of(np.arange(1, 601, dtype=np.float32), 16000)
    assert frames.shape == (2, 576)
    assert np.array_equal(frames[0], np.concatenate([np.zeros(64), np.arange(1, 513)]))
    assert np.array_equal(frames[1, :152], np.arange(449, 601))
    assert not frames[1, 152:].any()


def test_a_fetched_file_that_is_another_one_is_refused() -> None:
    with pytest.raises(SystemExit, match=r"^wheel: SHA-256 is a, expected b; the download was discarded$"):
        silero.check_digest("wheel", "a", "b")
