"""Building a vocabulary from a text. The same text and options give the same tokens in the same order."""

from collections import Counter
from collections.abc import Iterable
from typing import Literal

from lstm_edge_runtime.card import Text
from lstm_edge_runtime.errors import InputError, MissingExtraError
from lstm_edge_runtime.text import WORD, Vocabulary, byte_token

__all__ = ["END", "KINDS", "UNKNOWN", "VocabularyKind", "build_vocabulary"]

VocabularyKind = Literal["character", "byte", "word", "bpe"]
KINDS: tuple[VocabularyKind, ...] = ("character", "byte", "word", "bpe")

# U+FFFD is one character and means an unknown character; word vocabularies use a separate text.
UNKNOWN = {"character": "\N{REPLACEMENT CHARACTER}", "word": "<unknown>"}
END = "<end>"
BYTES = 256
# With this size common words of one language are one or two tokens, and a float32 embedding of 64 takes 0.5 MB.
BPE_SIZE = 2048


def build_vocabulary(
    text: str,
    kind: VocabularyKind = "character",
    *,
    size: int | None = None,
    min_count: int = 1,
    end: bool = False,
    max_size: int | None = None,
) -> Vocabulary:
    """Build the vocabulary of a text.

    The unknown token has the first id (characters and words), then comes the end token if there is one, then the
    characters by code point, or the words by count and, for equal counts, by code point. Byte pairs keep the ids of
    ``tokenizers``. The id of a byte is its value, and the end token follows the bytes.

    Args:
        text: the training text.
        kind: ``character``, ``byte``, ``word`` or ``bpe``.
        size: largest number of tokens, including the unknown and the end token; the most frequent ones are kept. None:
            all characters or words; 2048 for ``bpe``. ``byte`` always has 256 tokens and the end token.
        min_count: leave out characters, words and byte pairs that occur less often.
        end: add an end token, ``<end>``.
        max_size: limit of the device, in tokens; a larger vocabulary is refused.

    Raises:
        InputError: an option is out of its range, or the vocabulary is larger than ``max_size``.
        MissingExtraError: ``bpe`` without the package ``tokenizers``.
    """
    if kind not in KINDS:
        raise InputError(f"vocabulary {kind!r}: unknown; expected one of {', '.join(KINDS)}")
    if not text:
        raise InputError("vocabulary: the text is empty, expected at least one character")
    if max_size is not None and max_size < 1:
        raise InputError(f"max_vocabulary is {max_size}, expected 1 or more")
    if min_count < 1:
        raise InputError(f"vocabulary: the least count is {min_count}, expected 1 or more")
    special = [UNKNOWN[kind]] if kind in UNKNOWN else []
    special += [END] if end else []
    _check_size(kind, size, len(special))
    if kind == "bpe":
        vocabulary = _byte_pairs(text, size or BPE_SIZE, min_count, special)
    else:
        tokens = _tokens(text, kind, None if size is None else size - len(special), min_count, special)
        # The id of a byte is its value.
        tokens = tokens + special if kind == "byte" else special + tokens
        vocabulary = Vocabulary(
            tokens=tuple(tokens), text=Text(kind=kind, unknown=UNKNOWN.get(kind), end=END if end else None)
        )
    if max_size is not None and len(vocabulary) > max_size:
        raise InputError(
            f"vocabulary: the {kind} vocabulary of this text has {len(vocabulary):,} tokens, more than the "
            f"{max_size:,} that --max-vocabulary allows: choose fewer with --vocabulary-size, or another --vocabulary"
        )
    return vocabulary


def _tokens(text: str, kind: str, room: int | None, min_count: int, special: list[str]) -> list[str]:
    """Return the tokens without the special ones."""
    if kind == "byte":
        return [byte_token(value) for value in range(BYTES)]
    units: Iterable[str] = text if kind == "character" else (match[0] for match in WORD.finditer(text))
    counts = {unit: count for unit, count in Counter(units).items() if count >= min_count and unit not in special}
    frequent = sorted(counts, key=lambda unit: (-counts[unit], unit))[:room]
    return sorted(frequent) if kind == "character" else frequent


def _check_size(kind: str, size: int | None, special: int) -> None:
    if size is None:
        return
    if kind == "byte" and size != BYTES + special:
        raise InputError(
            f"vocabulary: got size {size}, but byte always has {BYTES + special} tokens: leave the size out"
        )
    least = (BYTES if kind == "bpe" else 1) + special
    if size < least:
        raise InputError(f"vocabulary: the size is {size}, expected at least {least} for {kind}")


def _byte_pairs(text: str, size: int, min_count: int, special: list[str]) -> Vocabulary:
    try:
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "a byte-pair vocabulary needs 'tokenizers', which is not installed: pip install 'lstm-edge[text]'"
        ) from error
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=min_count,
        special_tokens=special,
        # All 256 bytes, so no text has an unknown token.
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(text.splitlines(keepends=True), trainer)
    ids = tokenizer.get_vocab(with_added_tokens=True)
    rules = Text(kind="bpe", end=END if special else None, tokenizer=tokenizer.to_str())
    return Vocabulary(tokens=tuple(sorted(ids, key=ids.__getitem__)), text=rules)
