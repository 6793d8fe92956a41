"""The scripts behind docs/limits-of-lstms.md and docs/training.md's cells run, at sizes that prove no figure."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.long]

pytest.importorskip("matplotlib")

ROOT = Path(__file__).parents[2]


def run(script, *arguments):
    paths = os.pathsep.join(str(ROOT / folder) for folder in ("", "exporters", "runtime"))
    return subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / script), *arguments],
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def columns(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


@pytest.mark.parametrize(("part", "rows", "width"), [("gradients", 12, 6), ("adding", 4, 4), ("cost", 2, 6)])
def test_the_limits_are_drawn_and_tabled(part, rows, width, tmp_path):
    drawing = tmp_path / f"{part}.svg"
    result = run("lstm_limits.py", part, str(drawing), "--quick")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.strip().splitlines()
    assert len(lines) == 2 + rows
    assert {len(columns(line)) for line in lines} == {width}
    assert "<svg" in drawing.read_text()


def test_the_speed_up_of_two_processes_is_tabled_and_all_searches_write_one_file():
    result = run("scale.py", "--quick")
    assert result.returncode == 0, result.stderr
    rows = [columns(line) for line in result.stdout.strip().splitlines()[2:]]
    assert [row[0] for row in rows] == ["training"] * 2 + ["selection"] * 2 + ["search"] * 3
    assert all(float(row[2]) > 0 and float(row[3]) > 0 for row in rows)


def test_a_new_layer_forgets_large_weights_explode_and_clipping_changes_no_ratio():
    limits = load(ROOT / "benchmarks" / "lstm_limits.py")
    sizes = limits.Sizes(lags=(0, 60), gradient_hidden=32, gradient_seeds=1)
    for cell in limits.CELLS:
        fresh, _ = limits.gradient_norms(cell, 1.0, sizes)
        large, total = limits.gradient_norms(cell, 8.0, sizes)
        assert fresh[60] < fresh[0] / 30
        assert large[60] > large[0]
        assert total > limits.CLIP_NORM


def test_the_adding_problem_marks_one_number_in_each_half():
    import numpy as np

    limits = load(ROOT / "benchmarks" / "lstm_limits.py")
    x, y = limits.make_adding(np.random.default_rng(0), 11, 500)
    marks = x[:, :, 1].numpy()
    assert (marks[:5].sum(axis=0) == 1).all()
    assert (marks[5:].sum(axis=0) == 1).all()
    assert y.var().item() == pytest.approx(1 / 6, abs=0.02)


def test_the_cells_are_compared_at_one_number_of_parameters():
    result = run("cells.py", "--hidden", "32", "--seeds", "1", "--epochs", "1", "--steps", "20")
    assert result.returncode == 0, result.stderr
    rows = [columns(line) for line in result.stdout.strip().splitlines()]
    assert [row[0] for row in rows[2:]] == ["standard", "diagonal peephole", "full peephole"]
    assert {len(row) for row in rows} == {8}
    counts = [int(row[2].replace(",", "")) for row in rows[2:]]
    assert all(abs(count / counts[0] - 1) <= 0.03 for count in counts)


def test_students_are_compared_with_and_without_a_teacher():
    result = run("distillation.py", "--seeds", "2", "--epochs", "1", "--characters", "20000")
    assert result.returncode == 0, result.stderr
    rows = [columns(line) for line in result.stdout.splitlines() if line.startswith("| hidden")]
    assert [row[0] for row in rows] == [
        *("hidden 8", "hidden 32, density 0.33"),
        *("hidden 64", "hidden 128, density 0.33"),
    ]
    # A teacher changes what is learned, and only a paired difference has a standard error.
    assert all(len(row) == 4 and row[1] != row[2] and "±" in row[3] for row in rows)


def test_sizes_that_are_too_far_apart_are_refused():
    cells = load(ROOT / "benchmarks" / "cells.py")
    data = cells.load("japanese-vowels", default_split="train")
    with pytest.raises(ValueError, match="over 3 % away"):
        cells.same_budget(data, "full", 1000)


def test_streams_are_compared_before_and_behind_unusual_lines(tmp_path):
    result = run("stuck_streams.py", "--quick", "--keep", str(tmp_path))
    assert result.returncode == 0, result.stderr
    rows = [columns(line) for line in result.stdout.splitlines() if line.startswith("|")]
    first, second = rows[2:6], rows[8:]
    assert [row[:2] for row in first] == [[p, scheme] for p in ("0", "0.05") for scheme in ("float32", "int8")]
    assert {len(row) for row in first} == {5}
    assert len(second) == 4 * 5
    assert {len(row) for row in second} == {7}
    # Nothing comes between: the state that is carried through it only starts earlier.
    assert all(abs(float(row[3]) - float(row[4])) < 0.05 for row in second if row[2] == "none")
    # Models that lie there are taken.
    written = (tmp_path / "reset-0.safetensors").stat().st_mtime_ns
    assert run("stuck_streams.py", "--quick", "--keep", str(tmp_path), "--train", "0").returncode == 0
    assert (tmp_path / "reset-0.safetensors").stat().st_mtime_ns == written


def test_a_document_without_its_markers_is_an_error():
    generate = load(ROOT / "docs" / "generate.py")
    text = "a\n<!-- x: written by `make y` -->\nold\n<!-- x: end -->\nb\n"
    filled = generate.fill(text, "x", "y", "new")
    assert filled == text.replace("old", "\nnew\n")
    assert generate.fill(filled, "x", "y", "new") == filled
    with pytest.raises(ValueError, match="markers of z are missing"):
        generate.fill(text, "z", "y", "new")


def test_every_marker_of_the_documents_is_there():
    generate = load(ROOT / "docs" / "generate.py")
    for part in generate.LIMITS_PARTS:
        generate.fill(generate.LIMITS.read_text(), part, "docs-limits", "")
    generate.fill(generate.LIMITS.read_text(), "stuck-streams", "docs-stuck-streams", "")
    generate.fill(generate.TRAINING.read_text(), "cells", "docs-cells", "")
    generate.fill(generate.TRAINING.read_text(), "quantize-aware", "docs-quantize-aware", "")
    generate.fill(generate.TRAINING.read_text(), "distillation", "docs-distillation", "")
    for part in ("language", "vowels"):
        generate.fill(generate.SPARSE.read_text(), part, "docs-sparse", "")


@pytest.mark.parametrize(("third", "share", "met"), [(4.05, 0.36, True), (4.07, 0.36, False), (4.05, 0.41, False)])
def test_the_table_of_sparse_models_says_whether_its_goals_are_met(third, share, met, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    sparse = load(ROOT / "benchmarks" / "sparse.py")
    perplexities = {"dense-384": 4.0, "sparse-384-half": 4.01, "sparse-384-third": third}
    rows = [
        sparse.Row(
            model=model,
            float32=3.9,
            int8=perplexities.get(model.name, 5.0),
            file_bytes=1000,
            recurrent_share=share if model.density else 1.0,
            step_us=10.0,
            stored_us=12.0,
        )
        for model in sparse.MODELS
    ]
    assert sparse.print_rows(rows, 7) == met
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == ("Met." if met else "Missed.")
    assert sum(line.startswith("| ") for line in lines) == 1 + len(rows)
    sparse.draw(rows, tmp_path / "figure.svg")
    drawn = (tmp_path / "figure.svg").read_text()
    assert all(model.name in drawn for model in sparse.MODELS)


@pytest.mark.parametrize(
    ("options", "lengths"), [(["--no-c"], [5, 6]), pytest.param([], [7, 6, 4], marks=pytest.mark.long)]
)
def test_the_streams_of_a_pool_are_counted(options, lengths):
    result = run("pool.py", "--quick", *options)
    assert result.returncode == 0, result.stderr
    rows = [columns(line) for line in result.stdout.splitlines() if line.startswith("| (64, 128)")]
    assert [len(row) for row in rows] == lengths
    assert all(int(count.replace(",", "")) > 0 for count in rows[0][1:])
