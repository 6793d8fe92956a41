"""Vocabularies: text to ids and back, whole and token by token, and cards that contradict themselves."""

import functools
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lstm_edge_runtime
from lstm_edge_runtime.card import Text, parse_card, serialize_card
from lstm_edge_runtime.errors import CardError, InputError, MissingExtraError
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.text import WORD, Vocabulary, byte_token

MODELS = Path(__file__).parent / "models"
CARD = Session(MODELS / "language_model.onnx").card

CHARACTERS = Vocabulary(
    tokens=("\N{REPLACEMENT CHARACTER}", "<end>", "\n", " ", "a", "b", "é", "漢", "😀"),
    text=Text(kind="character", unknown="\N{REPLACEMENT CHARACTER}", end="<end>"),
)
BYTES = Vocabulary(tokens=(*map(byte_token, range(256)), "<end>"), text=Text(kind="byte", end="<end>"))
WORDS = Vocabulary(
    tokens=("<unknown>", "<end>", " the", "the", " king", ",", " ,", "\n", " "),
    text=Text(kind="word", unknown="<unknown>", end="<end>"),
)
# All of Unicode but halves of surrogate pairs, which no UTF-8 text holds.
UNICODE = st.text(st.characters(exclude_categories=["Cs"]))


def streamed(vocabulary, ids):
    """What a reader sees who gets the ids one by one."""
    decoder = vocabulary.decoder()
    return [decoder.push(index) for index in ids] + [decoder.finish()]


def test_the_models_card_gives_its_vocabulary():
    vocabulary = Vocabulary.from_card(CARD)
    assert (len(vocabulary), vocabulary.unknown_id, vocabulary.end_id) == (11, 0, 1)
    ids = vocabulary.encode("ab é漢?")
    assert ids.dtype == np.int64
    assert ids.tolist() == [5, 6, 3, 9, 10, 0]
    assert vocabulary.decode(ids) == "ab é漢\N{REPLACEMENT CHARACTER}"


@given(st.text("\n ab\u00e9\u6f22\U0001f600"))
def test_characters_come_back(text):
    ids = CHARACTERS.encode(text)
    assert len(ids) == len(text)
    assert CHARACTERS.decode(ids) == "".join(streamed(CHARACTERS, ids)) == text


@given(UNICODE)
def test_bytes_come_back(text):
    ids = BYTES.encode(text)
    assert ids.tolist() == list(text.encode())
    assert BYTES.decode(ids) == "".join(streamed(BYTES, ids)) == text


@given(st.lists(st.integers(0, 256)))
@settings(max_examples=300)
def test_a_stream_of_any_bytes_is_the_whole_decoded(ids):
    assert "".join(streamed(BYTES, ids)) == BYTES.decode(ids)


def test_a_character_comes_out_with_its_last_byte():
    assert streamed(BYTES, "a漢".encode()) == ["a", "", "", "漢", ""]
    assert streamed(BYTES, "漢".encode()[:2]) == ["", "", "\N{REPLACEMENT CHARACTER}"]
    # A broken character does not eat the one after it.
    assert "".join(streamed(BYTES, [0xE6, 0x61])) == "\N{REPLACEMENT CHARACTER}a"


def test_a_decoder_starts_anew_after_its_end():
    decoder = BYTES.decoder()
    assert (decoder.push(0xE6), decoder.finish(), decoder.push(0x61)) == ("", "\N{REPLACEMENT CHARACTER}", "a")


@given(UNICODE)
def test_words_cover_the_text(text):
    assert "".join(WORD.findall(text)) == text


def test_words_take_the_space_before_them():
    assert WORD.findall("And the king's, two  words\n") == [
        "And",
        " the",
        " king",
        "'",
        "s",
        ",",
        " two",
        " ",
        " words",
        "\n",
    ]
    ids = WORDS.encode("the the king , queen\n")
    assert ids.tolist() == [3, 2, 4, 6, 0, 7]
    assert WORDS.decode(ids) == "the the king ,<unknown>\n"


def test_an_end_token_decodes_to_nothing_unless_text_can_hold_it():
    assert CHARACTERS.decode([4, 1, 5]) == "ab"
    assert BYTES.decode([97, 256, 98]) == "ab"
    newline = Vocabulary(tokens=("a", "\n"), text=Text(kind="character", end="\n"))
    assert (newline.encode("a\n").tolist(), newline.decode([0, 1]), newline.end_id) == ([0, 1], "a\n", 1)


def test_text_that_spells_a_special_token_is_text():
    assert 1 not in CHARACTERS.encode("<end>").tolist()
    assert 256 not in BYTES.encode("<end>").tolist()
    assert 1 not in WORDS.encode("<end>").tolist()


@pytest.mark.parametrize(
    ("vocabulary", "text", "sentence"),
    [
        (Vocabulary(tokens=("a",), text=Text(kind="character")), "ab", "the character 'b' at position 1"),
        (Vocabulary(tokens=("<0x61>",), text=Text(kind="byte")), "aé", "the byte <0xC3> at position 1"),
        (Vocabulary(tokens=("a",), text=Text(kind="word")), "a b", "the word ' b' at position 1"),
    ],
)
def test_what_is_not_in_the_vocabulary_is_refused_without_an_unknown_token(vocabulary, text, sentence):
    expected = f"text: {sentence} is not in the vocabulary, which has no unknown token"
    with pytest.raises(InputError, match="^" + re.escape(expected) + "$"):
        vocabulary.encode(text)


def test_half_a_surrogate_pair_is_refused():
    with pytest.raises(
        InputError, match=r"^text: the character at position 1 is half a surrogate pair, expected valid"
    ):
        CHARACTERS.encode("a\ud800")


@pytest.mark.parametrize("index", [-1, 9])
def test_an_id_outside_the_vocabulary_is_refused(index):
    with pytest.raises(InputError, match=rf"^id {index} is not in the vocabulary, expected 0 to 8$"):
        CHARACTERS.decode([index])


@pytest.mark.parametrize("vocabulary", [CHARACTERS, BYTES, WORDS])
def test_an_empty_text_has_no_ids(vocabulary):
    ids = vocabulary.encode("")
    assert (ids.dtype, ids.shape) == (np.int64, (0,))
    assert vocabulary.decode(ids) == ""


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"vocabulary": None, "text": None}, "card.vocabulary and card.text must be given"),
        ({"text": None}, "card.text must be given"),
        ({"vocabulary": ()}, "card.vocabulary has 0 tokens, but card.outputs[0].axes ends in 11"),
        ({"vocabulary": (*CARD.vocabulary, "y")}, "card.vocabulary has 12 tokens, but card.outputs[0].axes ends in 11"),
        ({"vocabulary": CARD.vocabulary[:-1]}, "card.vocabulary has 10 tokens, but card.outputs[0].axes ends in 11"),
        ({"vocabulary": (*CARD.vocabulary[:-1], "a")}, "card.vocabulary[10] is 'a', the same as card.vocabulary[5]"),
        ({"vocabulary": (*CARD.vocabulary[:-1], "th")}, "card.vocabulary[10] is 'th', expected one character, or"),
        ({"vocabulary": (*CARD.vocabulary[:-1], "\ud800")}, "card.vocabulary[10] is half a surrogate pair"),
        ({"text": Text(kind="character", unknown="?")}, "card.text.unknown is '?', which is not in card.vocabulary"),
        ({"text": Text(kind="character", end="?")}, "card.text.end is '?', which is not in card.vocabulary"),
        ({"text": Text(kind="word", tokenizer="{}")}, "card.text.tokenizer is given, but card.text.kind is 'word'"),
        (
            {"text": Text(kind="byte")},
            "card.vocabulary[0] is '\N{REPLACEMENT CHARACTER}', expected a byte as <0x00> to",
        ),
    ],
)
def test_a_card_that_contradicts_itself_is_refused_with_its_path(changes, sentence):
    with pytest.raises(CardError, match="^model card: " + re.escape(sentence)):
        Vocabulary.from_card(CARD.replace(**changes))


def test_a_file_without_a_card_is_refused():
    with pytest.raises(
        CardError, match=r"^model card: the file has none, so it does not say which text its ids represent"
    ):
        Vocabulary.from_card(None)


def test_the_vocabulary_survives_the_card():
    assert Vocabulary.from_card(parse_card(serialize_card(CARD))) == Vocabulary.from_card(CARD)


# A tokenizer as the package writes it, made by hand: the 256 letters of the bytes, an end token, and merges
# of letters and of line ends.
LETTERS = [chr(c) for c in (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100), *range(0x100, 0x144))]
TOKENS = ("<end>", *LETTERS, "th", "Ġth", "ĊĊ", "ĊĠ")
TOKENIZER = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [
        {
            "id": 0,
            "content": "<end>",
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
    ],
    "normalizer": None,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    "post_processor": None,
    "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
    "model": {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": {token: index for index, token in enumerate(TOKENS)},
        "merges": [["t", "h"], ["Ġ", "th"], ["Ċ", "Ċ"], ["Ċ", "Ġ"]],
    },
}


def byte_pairs(**changes):
    document = json.loads(json.dumps(TOKENIZER))
    for path, value in changes.items():
        part, _, key = path.partition("__")
        if key:
            document[part][key] = value
        else:
            document[part] = value
    text = Text(kind="bpe", end="<end>", tokenizer=json.dumps(document))
    return Vocabulary(tokens=TOKENS, text=text)


@functools.cache
def tokenizer_vocabulary():
    """Return the vocabulary above, read once a process."""
    return byte_pairs()


def test_byte_pairs_merge_and_come_back():
    pytest.importorskip("tokenizers")
    vocabulary = byte_pairs()
    ids = vocabulary.encode("the th<end>")
    assert [TOKENS[index] for index in ids] == ["th", "e", "Ġth", "<", "e", "n", "d", ">"]
    assert vocabulary.decode(ids) == "the th<end>"
    assert vocabulary.encode("").dtype == np.int64
    assert vocabulary.decode([0]) == ""
    assert streamed(vocabulary, vocabulary.encode("漢")) == ["", "", "漢", ""]


@given(UNICODE)
def test_a_stream_of_byte_pairs_is_the_text(text):
    pytest.importorskip("tokenizers")
    vocabulary = tokenizer_vocabulary()
    ids = vocabulary.encode(text)
    assert "".join(streamed(vocabulary, ids)) == vocabulary.decode(ids) == text


@given(st.text("a \n\r\t.\u00e9", max_size=60))
@settings(max_examples=300)
def test_a_long_text_is_cut_where_its_byte_pairs_stay_the_same(text):
    tokenizers = pytest.importorskip("tokenizers")
    from lstm_edge_runtime import _byte_pair

    vocabulary = tokenizer_vocabulary()
    whole = tokenizers.Tokenizer.from_str(vocabulary.text.tokenizer).encode(text).ids
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_byte_pair, "_CHARACTERS", 1)
        assert vocabulary.encode(text).tolist() == whole
        assert "".join(_byte_pair.parts_of(text)) == text


def test_a_long_text_is_cut_at_all():
    pytest.importorskip("tokenizers")
    from lstm_edge_runtime import _byte_pair

    assert [len(part) for part in _byte_pair.parts_of("word\n" * 30_000)] == [65_540, 65_540, 18_920]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model__type": "WordPiece"}, "card.text.tokenizer.model.type is 'WordPiece', expected 'BPE'"),
        ({"decoder": None}, "card.text.tokenizer.decoder.type is None, expected 'ByteLevel'"),
        ({"pre_tokenizer__add_prefix_space": True}, "card.text.tokenizer.pre_tokenizer.add_prefix_space is True"),
        ({"normalizer": {"type": "NFC"}}, "card.text.tokenizer.normalizer is given, expected null"),
        ({"model": []}, "card.text.tokenizer must be an object with objects for model, pre_tokenizer, decoder"),
        ({"model__vocab": []}, "card.text.tokenizer.model.vocab must be an object"),
        ({"model__vocab": {"a": 5}}, "card.text.tokenizer gives the token '!' the id None, card.vocabulary gives it 1"),
        ({"added_tokens": [{"id": 1, "content": "<end>"}]}, "card.text.tokenizer gives the token '<end>' the id 1"),
        ({"model__merges": [["t", "q"]]}, "card.text.tokenizer cannot be read by tokenizers"),
    ],
)
def test_a_tokenizer_that_is_not_the_one_form_is_refused(changes, sentence):
    if "merges" in str(changes):
        pytest.importorskip("tokenizers")
    with pytest.raises(CardError, match="^model card: " + re.escape(sentence)):
        byte_pairs(**changes)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "is null, expected the JSON of a tokenizer for kind 'bpe'"),
        ("{", "is not a JSON document"),
        ("[]", "must be an object"),
    ],
)
def test_a_tokenizer_that_is_no_json_object_is_refused(text, sentence):
    with pytest.raises(CardError, match="^model card: card.text.tokenizer " + sentence):
        Vocabulary(tokens=("a",), text=Text(kind="bpe", tokenizer=text))


def test_a_token_of_other_letters_is_refused():
    with pytest.raises(CardError, match=re.escape("card.vocabulary[1] is 'a b', expected letters of byte-level byte")):
        Vocabulary(tokens=("a", "a b"), text=Text(kind="bpe", tokenizer="{}"))


def test_a_missing_package_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    expected = (
        "a byte-pair vocabulary needs 'tokenizers', which is not installed: pip install 'lstm-edge-runtime[text]'"
    )
    with pytest.raises(MissingExtraError, match="^" + re.escape(expected) + "$"):
        byte_pairs()


def test_the_other_kinds_do_not_load_the_package():
    code = (
        "import sys\nfrom lstm_edge_runtime.session import Session\nfrom lstm_edge_runtime.text import Vocabulary\n"
        f"Vocabulary.from_card(Session({str(MODELS / 'language_model.onnx')!r}).card).encode('a')\n"
        "assert 'lstm_edge_runtime.text' in sys.modules\nassert 'tokenizers' not in sys.modules"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(Path(lstm_edge_runtime.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
