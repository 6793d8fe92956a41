"""Texts read from outputs (CTC and labels), their error rates, the files with texts, and the hash of any data."""

import gzip
import json
import re

import numpy as np
import pytest
from support.judged_models import matrix_model, tagged
from typer.testing import CliRunner

from lstm_edge.cli import app
from lstm_edge.data import Dataset, Transcripts, data_sha256, load_transcripts
from lstm_edge.data.text import TextData
from lstm_edge.validation.judge import Judge, load_data, validate
from lstm_edge.validation.transcription import Transcriber
from lstm_edge_runtime.errors import CardError, DataError, InputError
from lstm_edge_runtime.metrics import METRICS
from lstm_edge_runtime.session import Session

# Feature k of a step is symbol k: the identity reads the symbols of a sequence from its steps.
LETTERS = ("", "a", "b", "c", " ")
EYE = np.eye(5)


def spoken(*paths, texts, symbols=5):
    """Return sequences whose steps say the symbols of each path."""
    steps = [np.eye(symbols, dtype=np.float32)[list(path)] for path in paths]
    lengths = np.array([len(path) for path in paths])
    return Transcripts(name="spoken", x=np.concatenate(steps), lengths=lengths, texts=tuple(texts))


def reader(**options):
    return Transcriber("m", Session(matrix_model(EYE, **({"labels": LETTERS} | options))))


def logits(*path, symbols=5):
    return np.eye(symbols, dtype=np.float32)[list(path)]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ([0, 0, 0], ""),
        ([1, 2, 3], "abc"),
        ([0, 1, 1, 1, 0, 0, 2, 0], "ab"),
        # A repeated symbol needs a blank between; white space is a symbol like any other.
        ([1, 1, 2, 0, 2, 2, 3], "abbc"),
        ([1, 4, 4, 2, 0, 4, 3], "a b c"),
        ([1], "a"),
    ],
)
def test_ctc_collapses_repeats_and_drops_blanks(path, text):
    assert reader().read(logits(*path)) == text


def test_equal_logits_are_the_first_symbols():
    assert reader().read(np.array([[0, 1, 1, 0, 0], [0, 0, 2, 2, 1]], np.float32)) == "ab"


def test_labels_are_not_collapsed():
    read = reader(decided=True).read
    assert read(np.array([1, 1, 2, 0, 2, 4, 3])) == "aabb c"
    without = reader(decided=True, labels=("a", "b", "c", "d", "e"))
    assert without.read(np.array([0, 0, 4])) == "aae"
    for ids in ([0, 5], [-1, 2]):
        with pytest.raises(InputError, match=r"^m: the labels of output 'y' go from -?\d to \d, expected 0 to 4$"):
            read(np.array(ids))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"labels": ("a", "b", "c", " ", "<blank>")}, "ac "),
        # Labels that are words are separate.
        ({"labels": ("yes", "no", "left", "right", "<blank>")}, "yes left right"),
        ({"labels": ("a", "b", "<unknown>", "d", "<blank>")}, "a<unknown>d"),
        ({"vocabulary": ("", "a", "c", " ", "e"), "kind": "character"}, "ec e"),
        ({"vocabulary": ("a", " b", " c", " d", "<blank>"), "kind": "word"}, "a c d"),
    ],
)
def test_symbols_are_the_cards_labels_or_vocabulary(options, text):
    assert reader(**({"labels": None} | options)).read(logits(0, 0, 4, 2, 3, 4, symbols=5)) == text


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"labels": None},
            "m: its card has neither labels nor a vocabulary, expected one of them, which names the symbol",
        ),
        ({"card": False}, "m: output 'y' is float32[batch, time, 5], expected"),
        (
            {"vocabulary": tuple("abcde")},
            "m: its card has both labels and a vocabulary, expected one of them, which names",
        ),
        (
            {"labels": tuple("abcde")},
            "m: none of its symbols is the blank of CTC, expected one named '<blank>', or the first one to have an "
            "empty name",
        ),
        ({"labels": ("", "a", "b", "c", "<blank>")}, "m: symbols 0 and 4 may both be the blank of CTC, expected one"),
        ({"labels": ("a", "", "b", "c", "d")}, "m: none of its symbols is the blank of CTC"),
        ({"labels": ("", "a", "b")}, "m: output 'y' has 5 logits, but its card names 3 symbols; expected one for each"),
        (
            {"labels": ("", "a", "no", "c", "d")},
            "m: its label 'a' is a character, 'no' is not; expected labels that are all characters, which are joined",
        ),
        ({"per_step": False}, "m: output 'y' is float32[batch, 5], expected logits float32[batch, time, symbols] or"),
    ],
)
def test_what_cannot_be_read_is_refused(options, sentence):
    if not options.get("card", True):
        sentence = "m: its card has neither labels nor a vocabulary"
    with pytest.raises(InputError, match="^" + re.escape(sentence)):
        reader(**options)


def test_a_vocabulary_that_contradicts_itself_is_the_cards_fault():
    with pytest.raises(CardError, match=r"card\.vocabulary has 3 tokens, but card\.outputs\[0\]\.axes ends in 5"):
        reader(labels=None, vocabulary=("a", " b", "<blank>"))


def pairs(seed=0, count=40):
    """Return sequences that say random words, and what a model that takes b for a reads from them."""
    generator = np.random.default_rng(seed)
    words = ["".join(generator.choice(list("abc"), 3)) for _ in range(count * 3)]
    texts = [" ".join(words[3 * n : 3 * n + generator.integers(1, 4)]) for n in range(count)]
    paths = [[symbol for letter in text for symbol in (LETTERS.index(letter), 0)] for text in texts]
    return spoken(*paths, texts=texts)


DEAF = EYE.copy()
DEAF[2, 1] = 2.0


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["word-error-rate", "character-error-rate"])
@pytest.mark.parametrize("time_first", [False, True])
def test_the_error_rate_is_a_ratio_of_sums_and_sequences_are_drawn(metric, time_first):
    data = pairs()
    good, deaf = (matrix_model(w, labels=LETTERS, time_first=time_first) for w in (EYE, DEAF))
    report = validate(deaf, good, data, metric=metric, max_drop="90pt")
    heard = [text.replace("b", "a") for text in data.texts]
    assert report.reference == 0.0
    assert report.candidate == report.drop == METRICS[metric](heard, data.texts)
    assert (report.unit, report.samples, report.samples_are, report.units) == ("share", 40, "sequences", 40)
    assert report.agreement == np.mean([a == b for a, b in zip(heard, data.texts, strict=True)])
    assert report.max_abs_difference == 2.0
    generator = np.random.default_rng(5)
    drops = []
    for rows in generator.integers(40, size=(2000, 40)):
        drops.append(METRICS[metric]([heard[n] for n in rows], [data.texts[n] for n in rows]))
    width = report.drop_high - report.drop_low
    assert (report.drop_low, report.drop_high) == pytest.approx(np.quantile(drops, [0.025, 0.975]), abs=0.12 * width)


def test_models_of_labels_have_no_differences_of_outputs():
    good, deaf = (matrix_model(w, labels=LETTERS, decided=True) for w in (EYE, DEAF))
    data = spoken([1, 0, 2], [3], texts=["ab", "c"])
    report = validate(deaf, good, data, metric="character-error-rate", max_drop="90pt")
    assert report.candidate == 1 / 3
    assert (report.max_abs_difference, report.mean_abs_difference, report.snr_db) == (None, None, None)
    assert json.loads(json.dumps(report.to_json(), allow_nan=False))["snr_db"] is None
    assert not any("difference" in name or "noise" in name for name, _ in report.rows())
    logits_model = matrix_model(EYE, labels=LETTERS)
    expected = "model: its outputs are [5] for each sequence, the reference's are int64 []; expected the same shape"
    with pytest.raises(InputError, match="^" + re.escape(expected) + "$"):
        validate(logits_model, good, data, metric="character-error-rate")


def test_texts_and_other_targets_are_not_mixed():
    model = matrix_model(EYE, labels=LETTERS)
    data = spoken([1], texts=["a"])
    with pytest.raises(
        InputError, match=r"^metric accuracy: data spoken has a text for each sequence, expected classes"
    ):
        Judge(model, data, metric="accuracy")
    with pytest.raises(InputError, match=r"^metric word-error-rate: data tagged has y of int64 for each sequence, exp"):
        Judge(model, tagged(), metric="word-error-rate")
    with pytest.raises(
        InputError, match=r"^metric word-error-rate: data japanese-vowels has no texts; expected a \.js"
    ):
        load_data("japanese-vowels", "word-error-rate")
    with pytest.raises(InputError, match=r"^metric word-error-rate: data king-james is a text, expected perplexity"):
        load_data("king-james", "word-error-rate")


def write(path, *lines):
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n"
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8") as file:
        file.write(text)
    return path


@pytest.mark.parametrize("name", ["s.jsonl", "s.jsonl.gz"])
def test_a_file_of_texts_is_read(tmp_path, name):
    path = write(
        tmp_path / name, {"x": [[1, 2], [3, 4]], "text": "é b", "id": "one"}, "", {"x": [[5, 6.5]], "text": ""}
    )
    data = load_transcripts(path)
    assert (data.texts, data.lengths.tolist(), data.features, len(data)) == (("é b", ""), [2, 1], 2, 2)
    assert [row.tolist() for row in data] == [[[1, 2], [3, 4]], [[5, 6.5]]]
    assert data.x.dtype == np.float32
    part = data.subset([0])
    assert (part.texts, part.x.tolist()) == (("é b",), [[1, 2], [3, 4]])


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ([""], ": the file is empty; expected one JSON object on a line for each sequence"),
        (["{"], ", line 1: not JSON (Expecting property name"),
        ([{"x": [[1]], "text": "a"}, {"x": [[1]]}], ", line 2: has the keys x; expected x and text"),
        ([{"x": [[1]], "text": 3}], ", line 1: text is 3, expected a text"),
        ([{"x": [[1]], "text": "a", "y": 1}], ", line 1: the key 'y' is unknown; expected x, text, id, group, time"),
        (
            [{"x": [[1]], "text": "a"}, {"x": [[1, 2]], "text": "a"}],
            ", line 2: x has 2 features, expected 1 as on the lines before",
        ),
        ([{"x": [], "text": "a"}], ", line 1: x is an empty list, expected a list of at least one step"),
        (['{"x": [[NaN]], "text": "a"}'], ", line 1: holds NaN; expected finite numbers"),
        ([{"x": [[1]], "text": " "}], ": no text has a word; expected at least one"),
    ],
)
def test_a_wrong_file_of_texts_is_one_sentence(tmp_path, lines, sentence):
    path = write(tmp_path / "s.jsonl", *lines)
    with pytest.raises(DataError, match="^" + re.escape(f"data {path}{sentence}")):
        load_transcripts(path)


def test_a_file_of_texts_for_another_metric_says_what_texts_are_for(tmp_path):
    path = write(tmp_path / "s.jsonl", {"x": [[1]], "text": "a"})
    with pytest.raises(
        DataError, match=r"line 1: the key 'text' is unknown; .* \(text is read for word-error-rate and ch"
    ):
        load_data(str(path), "accuracy")


def test_transcripts_need_a_text_for_each():
    with pytest.raises(DataError, match=r"^data spoken: there are 1 texts for 2 sequences; expected one for each$"):
        spoken([1], [2], texts=["a"])


def test_the_command_measures_error_rates(tmp_path):
    path = write(
        tmp_path / "s.jsonl", *({"x": EYE[[1, 0, n]].tolist(), "text": "a" + LETTERS[n]} for n in (2, 3, 2, 3))
    )
    (tmp_path / "old.onnx").write_bytes(matrix_model(EYE, labels=LETTERS))
    (tmp_path / "new.onnx").write_bytes(matrix_model(DEAF, labels=LETTERS))
    command = ["validate", tmp_path / "new.onnx", "--against", tmp_path / "old.onnx", "--data", path, "--json"]
    result = CliRunner().invoke(app, list(map(str, [*command, "--metric", "character-error-rate"])))
    assert result.exit_code == 1, result.output
    assert json.loads(result.stdout)["candidate"] == 2 / 8
    assert "4 sequences" in result.stderr


def changed(data, **changes):
    fields = ("name", "x", "lengths", "y", "labels", "per_step", "groups", "times", "ids")
    return Dataset(**{name: getattr(data, name) for name in fields} | changes)


def test_the_hash_of_data_is_of_what_a_model_is_judged_by():
    data = Dataset(
        name="d",
        x=np.arange(6, dtype=np.float32).reshape(3, 2),
        lengths=np.array([2, 1]),
        y=np.array([0, 1]),
        labels=("p", "q"),
    )
    # Made once, to be equal on every machine and in later versions.
    assert data_sha256(data) == "be274cdf2941aba6ca813e3af5cf3174401de2496d606501bbf25d2cac0b70fe"
    assert (
        data_sha256(TextData(name="t", text="é")) == "cf6b0995f1782a5ae8970dc7d2a87a57c7a4e6e7eb44289ad82dcafbc410e8f4"
    )
    assert data_sha256(spoken([1], texts=["a"])) == "f180e95dfa2493184f5190f7719d3dac68f2db64ea251c76247a77abf2fa361d"
    same = changed(data, name="other", groups=np.array([1, 2]), times=np.array([1.0, 2.0]), ids=("a", "b"))
    assert data_sha256(same) == data_sha256(data)
    others = [
        changed(data, x=data.x + 1),
        changed(data, x=data.x.reshape(3, 2)[::-1].copy()),
        changed(data, lengths=np.array([1, 2])),
        changed(data, y=np.array([1, 0])),
        changed(data, y=np.array([0, 1], np.float32), labels=()),
        changed(data, labels=("p", "r")),
        changed(data, labels=()),
        changed(data, x=np.arange(6, dtype=np.float32).reshape(3, 2)[:, ::-1]),
        TextData(name="d", text="x"),
        spoken([1], texts=["b"]),
    ]
    hashes = {data_sha256(other) for other in [data, *others]}
    assert len(hashes) == 1 + len(others)
    steps = [
        Dataset(name="s", x=data.x, lengths=np.ones(3, np.int64), y=np.arange(3), per_step=p) for p in (True, False)
    ]
    assert data_sha256(steps[0]) != data_sha256(steps[1])
    # An array that lies backwards in memory is the same data.
    backwards = changed(data, x=data.x[::-1].copy()[::-1])
    assert data_sha256(backwards) == data_sha256(data)
