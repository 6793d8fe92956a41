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

# Unicode's replacement character is one character and means just this; words have a text of their own for it.
UNKNOWN = {"character": "\N{REPLACEMENT CHARACTER}", "word": "<unknown>"}
END = "<end>"
BYTES = 256
# Enough that common words of one language are one or two tokens; a float32 embedding of 64 is then 0.5 MB.
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

    Ids go to the unknown token first (characters and words), then to the end token where there is one, then to
    characters by code point; words by count, equal counts by code point; byte pairs as ``tokenizers`` numbers them. The
    id of a byte is its value, an end token comes after them.

    Args:
        text: the training text.
        kind: ``character``, ``byte``, ``word`` or ``bpe``.
        size: how many tokens it may have, those for unknown and end included: the most frequent ones stay. None: all
            characters or words; 2048 for ``bpe``. ``byte`` has always 256, and the end token.
        min_count: leave out characters and words that come less often, and pairs of bytes likewise.
        end: have an end token, ``<end>``.
        max_size: the most tokens that the device has room for: a larger vocabulary is refused.

    Raises:
        InputError: an option is out of its range, or the vocabulary is larger than ``max_size``.
        MissingExtraError: ``bpe``, and the package ``tokenizers`` is not installed.
    """
    if kind not in KINDS:
        raise InputError(f"vocabulary {kind!r}: unknown; expected one of {', '.join(KINDS)}")
    if not text:
        raise InputError("vocabulary: the text is empty, expected at least one character")
    if max_size is not None and max_size < 1:
        raise InputError(f"vocabulary: the most tokens (--max-vocabulary) are {max_size}, expected 1 or more")
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
    """Return the tokens but the special ones."""
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
        raise InputError(f"vocabulary: byte has always {BYTES + special} tokens, got the size {size}: leave it out")
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
        # Every byte, so that nothing is ever unknown.
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(text.splitlines(keepends=True), trainer)
    ids = tokenizer.get_vocab(with_added_tokens=True)
    rules = Text(kind="bpe", end=END if special else None, tokenizer=tokenizer.to_str())
    return Vocabulary(tokens=tuple(sorted(ids, key=ids.__getitem__)), text=rules)
