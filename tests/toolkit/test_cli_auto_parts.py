"""`lstm-edge quantize --part`, with any scheme and with `--scheme auto`; and a language model."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from support.auto_cases import SCHEMES, clock, command, no_timer, search
from support.budget_models import write_classifier, write_data
from support.text_models import CHARACTERS, exported_model

from lstm_edge.precision_search import BudgetRequest, quantize_to_budget
from lstm_edge_exporters.quantize import quantize_bytes
from lstm_edge_runtime.errors import BudgetError, InputError, QuantizationError
from lstm_edge_runtime.session import Session

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("budget")
    model = write_classifier(folder / "model.onnx", hidden=64)
    return model, write_data(folder / "data.npz", model)


@pytest.fixture(scope="module", autouse=True)
def few_schemes():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lstm_edge.precision_search.space.SCHEMES", SCHEMES)
        patch.setattr("lstm_edge.precision_search.smallest.UNIFORM", ("float16", *SCHEMES))
        yield


def test_a_fixed_part_stays_as_it_was_asked(files, tmp_path):
    report = search(files, tmp_path, parts={"lstm.W": "float16"}, max_drop="50%")
    # A plain file has the fixed scheme too; its card names a whole layer where all its matrices have one scheme.
    assert all(found.parts.get("lstm.W", found.parts.get("lstm")) == "float16" for found in report.evaluations[1:])
    assert report.looks[-1].parts.keys() == {"lstm.R", "lstm.W", "head"}
    kept = search(files, tmp_path, output=tmp_path / "kept.onnx", parts={"head": "float32"}, max_drop="50%")
    assert kept.looks[-1].parts["head"] == "float32"
    assert kept.looks[-1].parts.keys() == {"lstm.R", "lstm.W", "head"}
    with pytest.raises(BudgetError, match="Nothing was written"):
        search(files, tmp_path, output=tmp_path / "no.onnx", parts={"head": "float32"}, max_drop="0%").check()
    with pytest.raises(QuantizationError, match="no layer that the search could quantize and that has no fixed scheme"):
        search(files, tmp_path, parts={"lstm": "int8", "head": "int8"})
    with pytest.raises(InputError, match="prefer is 'speed', expected one of size, latency"):
        search(files, tmp_path, prefer="speed")


def test_a_part_goes_with_any_scheme_and_data_calibrate_the_rounding(files, tmp_path):
    model, data = files
    plain, mixed, known, again = (tmp_path / name for name in ("a.onnx", "b.onnx", "c.onnx", "d.onnx"))
    command(model, "-o", plain, "--scheme", "int4", "--block", "32")
    assert plain.read_bytes() == quantize_bytes(model.read_bytes(), scheme="int4:32").data, "without data: as before"
    result = command(model, "-o", mixed, "--scheme", "int8", "--part", "lstm.R=int4:128", "--part", "head=float32")
    assert "R int4" in " ".join(result.stdout.split())
    card = Session(mixed).card.quantization
    assert card.scheme == "mixed"
    assert card.parts["lstm.R"] == "int4:128"
    command(model, "-o", known, "--scheme", "int4", "--block", "32", "--data", data)
    off = ["--no-compensate", "--no-scale-search", "--no-clip"]
    command(model, "-o", again, "--scheme", "int4", "--block", "32", "--data", data, *off)
    cards = [Session(path).card.quantization for path in (plain, known, again)]
    assert cards[0].calibration_sha256 is None
    assert re.fullmatch("[0-9a-f]{64}", cards[1].calibration_sha256)
    assert cards[1].calibration_sha256 == cards[2].calibration_sha256
    x = np.random.default_rng(5).normal(size=(6, 40, 12)).astype(np.float32)
    exact, *others = (Session(path).run(x)[0]["logits"] for path in (model, plain, known, again))
    assert np.array_equal(others[0], others[2]), "all three off is plain rounding"
    assert np.square(others[1] - exact).sum() < np.square(others[0] - exact).sum()


def test_help_stays_light():
    code = (
        "import sys; from lstm_edge.cli import app; print([m for m in ('numpy', 'onnx', 'torch') if m in sys.modules])"
    )
    paths = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": paths}
    )
    assert done.stdout.strip() == "[]"


def test_a_language_model_is_tuned_and_verified_on_halves_of_a_text(tmp_path):
    model, text = tmp_path / "lm.onnx", tmp_path / "text.txt"
    model.write_bytes(exported_model())
    random = np.random.default_rng(0)
    text.write_text("".join(random.choice(list(CHARACTERS.tokens[2:]), 24_000)))
    asked = {"source": model, "data": str(text), "metric": "perplexity", "max_drop": "30%", "max_evaluations": 40}
    small = quantize_to_budget(BudgetRequest(output=tmp_path / "small.onnx", **asked), timer=no_timer)
    assert (small.tuning_data.samples, small.held_out_data.samples) == (12_000, 12_000)
    assert small.tuning_data.samples_are == "characters"
    # Stretches of 256 tokens, of the 128 that were asked for as many as the first half has.
    assert small.calibration.samples == 12_000 // 256
    assert {layer.kind for layer in small.layers} == {"embedding", "recurrent", "linear"}
    # Of so few weights a quantized file is no smaller: the operators' bodies take more than they save.
    with pytest.raises(BudgetError, match=r" and is smaller than the source: \d+ are within it, none of them smaller"):
        small.check()
    fast = quantize_to_budget(BudgetRequest(output=tmp_path / "fast.onnx", prefer="latency", **asked), timer=clock)
    assert fast.validation is not None
    assert fast.validation.samples_are == "tokens"
    assert fast.passed
    assert os.listdir(tmp_path).count("fast.onnx") == 1
