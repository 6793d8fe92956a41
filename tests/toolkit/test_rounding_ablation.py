"""The script behind the ablation table of docs/quantization.md runs, at a size that proves no figure."""

import importlib.util
import sys
from pathlib import Path

import pytest
from support.text_models import exported_model

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "rounding_ablation.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location(SCRIPT.stem, SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[SCRIPT.stem] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[SCRIPT.stem]


@pytest.mark.slow
def test_every_choice_has_a_row_and_the_document_is_filled(script, tmp_path, monkeypatch, capsys):
    path, document = tmp_path / "model.onnx", tmp_path / "doc.md"
    path.write_bytes(exported_model())
    options = ["--data", "king-james", "--metric", "perplexity", "--samples", "600", "--calibration-samples", "2"]
    monkeypatch.setattr(sys, "argv", [SCRIPT.name, str(path), *options, "--seeds", "1", "--write", str(document)])
    script.main()
    table = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"][2:]
    assert len(rows) == 9
    assert rows[0][0] == "int8"
    assert len({tuple(row[1:4]) for row in rows[1:]}) == 8
    assert rows[1][1:4] == ["–", "–", "–"]
    assert rows[1][6] == "1.00"
    assert rows[-1][1:4] == ["yes", "yes", "yes"]
    assert document.read_text() == f"{script.HEADING}{script.BEGIN}\n{table}\n{script.END}"


def test_the_table_stands_between_the_markers(script, tmp_path):
    document = tmp_path / "doc.md"
    document.write_text(f"# A\n\n{script.BEGIN}old\n{script.END}\nb\n")
    script.fill(document, "new\n")
    assert document.read_text() == f"# A\n\n{script.BEGIN}\nnew\n\n{script.END}\nb\n"
    document.write_text("# A\n")
    with pytest.raises(ValueError, match="the markers are missing"):
        script.fill(document, "new\n")
    assert document.read_text() == "# A\n"


def test_data_with_a_part_is_refused(script, tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    path.write_bytes(exported_model())
    monkeypatch.setattr(sys, "argv", [SCRIPT.name, str(path), "--data", "king-james:test", "--metric", "perplexity"])
    with pytest.raises(SystemExit, match="expected one of japanese-vowels, king-james, without a part"):
        script.main()
