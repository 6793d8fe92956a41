"""Building vocabularies: which tokens, in which order, and which sizes are refused."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_edge.data.text import load_text
from lstm_edge.data.vocabulary import build_vocabulary
from lstm_edge_runtime.errors import InputError, MissingExtraError

ROOT = Path(__file__).parents[2]
UNKNOWN = "\N{REPLACEMENT CHARACTER}"
TEXT = "the cat, the hat and the bat\n"
UNICODE = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


def test_characters_by_code_point_after_the_unknown_one():
    vocabulary = build_vocabulary("baé\nb")
    assert vocabulary.tokens == (UNKNOWN, "\n", "a", "b", "é")
    assert (vocabulary.text.kind, vocabulary.text.unknown, vocabulary.text.end) == ("character", UNKNOWN, None)
    assert build_vocabulary("ab", end=True).tokens == (UNKNOWN, "<end>", "a", "b")


def test_a_size_and_a_least_count_leave_the_most_frequent():
    # Of "caabbbc": b 3, a and c 2 each: the tie goes to the lower code point.
    assert build_vocabulary("caabbbc", size=3).tokens == (UNKNOWN, "a", "b")
    assert build_vocabulary("caabbbcd", min_count=2).tokens == (UNKNOWN, "a", "b", "c")
    vocabulary = build_vocabulary("caabbbc", size=2)
    assert vocabulary.decode(vocabulary.encode("abc")) == f"{UNKNOWN}b{UNKNOWN}"


def test_words_by_count():
    vocabulary = build_vocabulary(TEXT, "word", end=True)
    assert vocabulary.tokens == (*("<unknown>", "<end>", " the", "\n", " and", " bat", " cat", " hat", ",", "the"),)
    assert build_vocabulary(TEXT, "word", size=3).tokens == ("<unknown>", " the", "\n")
    assert build_vocabulary(TEXT, "word", min_count=2).tokens == ("<unknown>", " the")


def test_bytes_are_always_all_of_them():
    vocabulary = build_vocabulary("a", "byte", size=256)
    assert (len(vocabulary), vocabulary.tokens[10], vocabulary.tokens[255]) == (256, "<0x0A>", "<0xFF>")
    assert build_vocabulary("a", "byte", end=True).end_id == 256


@given(UNICODE)
def test_the_text_it_was_built_from_comes_back(text):
    for kind in ("character", "byte", "word"):
        vocabulary = build_vocabulary(text, kind)
        ids = vocabulary.encode(text)
        assert vocabulary.decode(ids) == text
        assert vocabulary.unknown_id not in ids.tolist() or UNKNOWN in text


def test_byte_pairs_have_the_size_and_forget_nothing():
    pytest.importorskip("tokenizers")
    text = load_text("king-james:test").text[:50_000]
    vocabulary = build_vocabulary(text, "bpe", size=300, end=True)
    assert (len(vocabulary), vocabulary.tokens[0], vocabulary.end_id, vocabulary.unknown_id) == (300, "<end>", 0, None)
    assert "Ġthe" in vocabulary.tokens
    for some in (text, "漢字 😀 <end>\n\n  é"):
        assert vocabulary.decode(vocabulary.encode(some)) == some
    assert len(vocabulary.encode(text)) < 0.8 * len(text)


def test_a_frequent_pair_is_needed_for_a_merge():
    pytest.importorskip("tokenizers")
    assert len(build_vocabulary(TEXT, "bpe", size=300, min_count=4)) == 256
    assert len(build_vocabulary(TEXT, "bpe", size=300, min_count=3)) > 256


@pytest.mark.slow
def test_another_process_builds_the_same_tokens():
    pytest.importorskip("tokenizers")
    code = (
        "from lstm_edge.data.text import load_text\nfrom lstm_edge.data.vocabulary import build_vocabulary\n"
        "text = load_text('king-james:validation').text[:20_000]\nimport hashlib\n"
        "for kind in ('character', 'word', 'bpe'):\n"
        "    v = build_vocabulary(text, kind, size=400 if kind != 'character' else 30)\n"
        "    print(hashlib.sha256(repr((v.tokens, v.text)).encode()).hexdigest())"
    )
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "runtime")))
    outputs = set()
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONPATH": paths, "PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        outputs.add(done.stdout)
    assert len(outputs) == 1
    assert len(set(outputs.pop().split())) == 3


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("", "character", {}), "the text is empty, expected at least one character"),
        (("a", "letters", {}), "'letters': unknown; expected one of character, byte, word, bpe"),
        (("a", "word", {"min_count": 0}), "the least count is 0, expected 1 or more"),
        (("a", "character", {"size": 1}), "the size is 1, expected at least 2 for character"),
        (("a", "word", {"size": 2, "end": True}), "the size is 2, expected at least 3 for word"),
        (("a", "bpe", {"size": 255}), "the size is 255, expected at least 256 for bpe"),
        (("a", "byte", {"size": 100}), "got size 100, but byte always has 256 tokens: leave the size out"),
        (
            (TEXT, "word", {"max_size": 0}),
            "max_vocabulary is 0, expected 1 or more",
        ),
        (
            (TEXT, "word", {"max_size": 8}),
            "the word vocabulary of this text has 9 tokens, more than the 8 that --max-vocabulary allows: choose fewer "
            "with --vocabulary-size, or another --vocabulary",
        ),
    ],
)
def test_what_cannot_be_built_is_refused(arguments, sentence):
    text, kind, options = arguments
    with pytest.raises(InputError, match="^(vocabulary:? )?" + re.escape(sentence) + "$"):
        build_vocabulary(text, kind, **options)


def test_the_largest_size_that_is_allowed_passes():
    assert len(build_vocabulary(TEXT, "word", max_size=9)) == 9


def test_a_missing_package_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingExtraError, match=r"^a byte-pair vocabulary needs 'tokenizers', which is not installed"):
        build_vocabulary("a", "bpe")
