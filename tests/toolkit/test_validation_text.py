"""Validation of language models: perplexity and bits per character against figures made by hand, and the bootstrap."""

import json
import math
import re

import numpy as np
import pytest
from support.text_models import CHARACTERS, exported_model, quantized_model, with_vocabulary
from typer.testing import CliRunner

from lstm_edge.cli import app
from lstm_edge.data import Dataset
from lstm_edge.data.text import TextData, text_batches
from lstm_edge.validation import text as text_validation
from lstm_edge.validation.judge import load_data, validate
from lstm_edge_runtime.card import Text
from lstm_edge_runtime.errors import BudgetError, DataError, InputError
from lstm_edge_runtime.generate import score
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.text import Vocabulary

pytestmark = pytest.mark.slow

# float32 logits of order one, run in rows and windows of another size: onnxruntime sums in another order.
REORDERED = 2e-6


def made_text(characters, seed=0):
    random = np.random.default_rng(seed)
    return "".join(random.choice(list(CHARACTERS.tokens[2:]), characters))


TEXT = TextData(name="made", text=made_text(5000))


def by_hand(data, text, rows):
    """Nats of each token, float64 [B, T]: every row scored alone, in one go, from a zero state."""
    whole = next(text_batches(CHARACTERS.encode(text), rows, len(text)))
    return -np.stack([score(Session(data), row) for row in whole])


def test_the_report_has_the_figures():
    report = validate(quantized_model(), exported_model(), TEXT, metric="perplexity", max_drop="50%")
    # 5000 characters: two rows of at least 2,048, and one character that is left out.
    old, new = by_hand(exported_model(), TEXT.text, 2), by_hand(quantized_model(), TEXT.text, 2)
    assert (report.samples, report.samples_are, report.data, report.metric) == (4998, "tokens", "made", "perplexity")
    assert report.reference == pytest.approx(math.exp(old.mean()), rel=REORDERED)
    assert report.candidate == pytest.approx(math.exp(new.mean()), rel=REORDERED)
    assert report.drop == pytest.approx(math.exp(new.mean()) - math.exp(old.mean()), abs=1e-4)
    assert report.drop != 0, "an int8 file that answers as the float32 one shows nothing"
    assert (report.max_drop, report.budget, report.passed) == (pytest.approx(report.reference / 2), "50%", True)
    assert (report.reference_bytes, report.candidate_bytes) == (len(exported_model()), len(quantized_model()))
    assert ("validated on", "made, 4,998 tokens") in report.rows()
    json.dumps(report.to_json(), allow_nan=False)


def test_differences_are_over_all_logits():
    report = validate(quantized_model(), exported_model(), TEXT, metric="perplexity", max_drop="50%")
    ids = next(text_batches(CHARACTERS.encode(TEXT.text), 2, 5000))[:, :-1]
    old, new = (
        next(iter(Session(data).run({"ids": ids})[0].values())).astype(np.float64)
        for data in (exported_model(), quantized_model())
    )
    assert report.agreement == pytest.approx((old.argmax(-1) == new.argmax(-1)).mean(), abs=1e-3)
    assert report.max_abs_difference == pytest.approx(np.abs(new - old).max(), rel=1e-3)
    assert report.mean_abs_difference == pytest.approx(np.abs(new - old).mean(), rel=1e-3)
    assert report.snr_db == pytest.approx(10 * math.log10((old**2).sum() / ((new - old) ** 2).sum()), abs=0.01)


def test_bits_per_character_count_characters():
    report = validate(exported_model(), exported_model(), TEXT, metric="bits-per-character", max_drop="0pt")
    bits = by_hand(exported_model(), TEXT.text, 2).mean() / math.log(2)
    assert (report.reference, report.unit) == (pytest.approx(bits, rel=REORDERED), "bits")
    # The same model read as one of bytes: "é" is two tokens then, its text has 3 tokens for 2 characters.
    tokens = tuple(f"<0x{byte:02X}>" for byte in "é abcdefghiklmno".encode())
    data = with_vocabulary(exported_model(), Vocabulary(tokens=tokens, text=Text(kind="byte")))
    text = TextData(name="bytes", text="aé" * 200)
    perplexity = validate(data, data, text, metric="perplexity").reference
    per_character = validate(data, data, text, metric="bits-per-character").reference
    assert per_character == pytest.approx(math.log2(perplexity) * 3 / 2)
    [output] = (spec.name for spec in Session(data).outputs)
    named = validate(data, data, text, metric=f"bits-per-character:output={output}").reference
    assert named == per_character
    with pytest.raises(
        InputError, match=rf"^metric perplexity:output=y2: .* no output 'y2'; expected one of {output}$"
    ):
        validate(data, data, text, metric="perplexity:output=y2")


def test_equal_models_pass_with_a_zero_budget():
    report = validate(exported_model(), exported_model(), TEXT, metric="perplexity", max_drop="0%", confidence=0.95)
    assert (report.drop, report.drop_bound, report.passed, report.agreement) == (0.0, 0.0, True, 1.0)
    assert (report.max_abs_difference, report.snr_db) == (0.0, math.inf)


def worse_model(scale):
    """The float32 model with logits times ``scale``: more certain than it should be."""
    import onnx
    from onnx import numpy_helper

    from lstm_edge_runtime.artifact import TRAILER_KEY, append_trailer

    model = onnx.ModelProto()
    model.ParseFromString(exported_model())
    widths = [tensor for tensor in model.graph.initializer if 17 in tensor.dims and "embedding" not in tensor.name]
    assert widths, "the head's weights"
    for tensor in widths:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(scale), tensor.name))
    kept = [entry for entry in model.metadata_props if entry.key != TRAILER_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    return append_trailer(model.SerializeToString(deterministic=True))


def test_a_relative_budget_is_a_share_of_the_references_perplexity():
    worse = worse_model(1.5)
    report = validate(worse, exported_model(), TEXT, metric="perplexity", max_drop="0.3%")
    assert report.max_drop == pytest.approx(0.003 * report.reference)
    assert not report.passed
    with pytest.raises(BudgetError, match=r"^over the budget: perplexity goes from .*; allowed is .* \(0.3%\)$"):
        report.check()
    just = 100 * report.drop / report.reference
    assert validate(worse, exported_model(), TEXT, metric="perplexity", max_drop=f"{just + 0.01:.4f}%").passed
    assert not validate(worse, exported_model(), TEXT, metric="perplexity", max_drop=f"{just - 0.01:.4f}%").passed
    assert validate(exported_model(), worse, TEXT, metric="perplexity", max_drop="0%").drop < 0


def test_the_bound_is_that_of_a_bootstrap_over_paired_blocks(monkeypatch):
    worse = worse_model(1.2)
    report = validate(worse, exported_model(), TEXT, metric="perplexity", confidence=0.95, seed=7)
    old, new = by_hand(exported_model(), TEXT.text, 2), by_hand(worse, TEXT.text, 2)
    blocks = [(row, slice(start, start + 500)) for row in range(2) for start in range(0, 2499, 500)]
    drops = []
    random = np.random.default_rng(99)
    for _ in range(4000):
        drawn = [blocks[index] for index in random.integers(len(blocks), size=len(blocks))]
        a, b = (np.concatenate([nats[block] for block in drawn]).mean() for nats in (old, new))
        drops.append(math.exp(b) - math.exp(a))
    # Two bootstraps with other seeds: the 95 % point moves by a few percent of the distance between drop and bound.
    distance = report.drop_bound - report.drop
    assert distance > 0
    assert report.drop_bound == pytest.approx(np.quantile(drops, 0.95), abs=0.1 * distance)
    # The block size of the resampling does not change the draws.
    monkeypatch.setattr("lstm_edge.validation.bootstrap.BLOCK", 1234)
    again = validate(worse, exported_model(), TEXT, metric="perplexity", confidence=0.95, seed=7)
    assert again.drop_bound == report.drop_bound


def test_the_bound_decides_when_asked_for():
    worse = worse_model(1.2)
    report = validate(worse, exported_model(), TEXT, metric="perplexity", confidence=0.95)
    between = 100 * (report.drop + report.drop_bound) / 2 / report.reference
    assert validate(worse, exported_model(), TEXT, metric="perplexity", max_drop=f"{between}%").passed
    assert not validate(
        worse, exported_model(), TEXT, metric="perplexity", max_drop=f"{between}%", confidence=0.95
    ).passed


@pytest.mark.parametrize(("characters", "rows"), [(2, 1), (4096, 1), (4097, 2), (2048 * 20, 16)])
def test_rows_are_long_and_at_most_16(monkeypatch, characters, rows):
    seen = []
    real = text_validation.LanguageStream
    monkeypatch.setattr(text_validation, "LanguageStream", lambda session, n: seen.append(n) or real(session, n))
    text = TextData(name="made", text=made_text(characters))
    calls = []
    validate(
        exported_model(),
        exported_model(),
        text,
        metric="perplexity",
        on_progress=lambda *figures: calls.append(figures),
    )
    assert seen == [rows, rows]
    total = 2 * ((characters - 1) // rows) * rows
    assert calls[-1] == (total, total)
    assert calls == sorted(calls)


def test_windows_do_not_change_the_answer(monkeypatch):
    whole = validate(quantized_model(), exported_model(), TEXT, metric="perplexity", max_drop="50%")
    monkeypatch.setattr("lstm_edge_runtime.generate._MOST_STEPS", 37)
    parts = validate(quantized_model(), exported_model(), TEXT, metric="perplexity", max_drop="50%")
    assert parts.reference == pytest.approx(whole.reference, rel=REORDERED)
    assert parts.candidate == pytest.approx(whole.candidate, rel=1e-4)  # a rounding of int8 may flip
    assert parts.mean_abs_difference == pytest.approx(whole.mean_abs_difference, rel=1e-3)


def test_models_of_different_vocabularies_are_refused():
    tokens = (*CHARACTERS.tokens[:-1], "z")
    other = with_vocabulary(exported_model(), Vocabulary(tokens=tokens, text=CHARACTERS.text))
    expected = (
        "model: its vocabulary (17 tokens, character) is not that of the reference (17 tokens, character); "
        "expected the same"
    )
    with pytest.raises(InputError, match="^" + re.escape(expected) + "$"):
        validate(other, exported_model(), TEXT, metric="perplexity")


def test_metrics_and_data_that_do_not_fit_are_refused():
    sequences = Dataset(
        name="s", x=np.ones((2, 3), np.float32), lengths=np.array([1, 1]), y=np.array([0, 1], dtype=np.int64)
    )
    with pytest.raises(InputError, match=r"^metric perplexity: data s holds sequences; expected a text for perp"):
        validate(exported_model(), exported_model(), sequences, metric="perplexity")
    with pytest.raises(InputError, match=r"^metric accuracy: data made is a text; expected a text for perplex"):
        validate(exported_model(), exported_model(), TEXT, metric="accuracy")
    expected = r"^metric accuracy: data king-james is a text, expected perplexity, bits-per-character or agreement$"
    with pytest.raises(InputError, match=expected):
        load_data("king-james", "accuracy")
    with pytest.raises(DataError, match=r"^text: got 1 tokens, expected at least 2"):
        validate(exported_model(), exported_model(), TextData(name="x", text="a"), metric="perplexity")


def test_the_bundled_name_means_its_test_part():
    data = load_data("king-james", "perplexity")
    assert (data.name, len(data)) == ("king-james:test", 206_893)


def test_the_command_prints_the_report_and_breaks_the_budget(tmp_path):
    good, bad, text = tmp_path / "good.onnx", tmp_path / "bad.onnx", tmp_path / "text.txt"
    good.write_bytes(exported_model())
    bad.write_bytes(worse_model(1.5))
    text.write_text(TEXT.text, encoding="utf-8")

    def run(candidate, *options):
        arguments = ["validate", candidate, "--against", good, "--data", text, "--metric", "perplexity", *options]
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    passed = run(good, "--max-drop", "0.3%")
    assert passed.exit_code == 0, passed.output
    assert f"validating on {text}: 5,000 characters, seed 0" in passed.stderr
    # Joined again: the path beside it is folded where it is long.
    assert "4,998 tokens" in " ".join(passed.stdout.split())
    broken = run(bad, "--max-drop", "0.3%", "--json")
    assert broken.exit_code == 1
    assert json.loads(broken.stdout)["samples_are"] == "tokens"
    assert "error: over the budget: perplexity goes from" in broken.stderr


@pytest.mark.parametrize("data", ["japanese-vowels", "japanese-vowels:train"])
def test_a_bundled_set_of_sequences_is_no_text(data):
    with pytest.raises(
        InputError, match=rf"^metric perplexity: data {data} holds sequences, expected a text, such as "
    ):
        load_data(data, "perplexity")
