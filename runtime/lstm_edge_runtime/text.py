"""Convert between text and ids with the four kinds of vocabulary of a model card.

=========== =================================================== =============================================
kind        how text is split                                   a token in ``card.vocabulary``
=========== =================================================== =============================================
character   one Unicode code point                              the character itself
byte        one byte of the text's UTF-8                        ``<0x00>`` to ``<0xFF>``
word        one match of ``WORD``                               the match, with the space before it
bpe         byte-level byte pairs (``tokenizers``)              GPT-2's visible characters for the bytes
=========== =================================================== =============================================

The index of a token is its id. Every token represents UTF-8 bytes, and decoding joins them, so ``decode`` returns the
text that was encoded. ``StreamDecoder`` decodes token by token and waits for the last byte of each character.
``docs/text.md`` describes the format for readers without this package. NumPy only; ``bpe`` also needs ``tokenizers``.
"""

import codecs
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_edge_runtime._byte_pair import load_byte_pair, token_bytes
from lstm_edge_runtime._json import shortened
from lstm_edge_runtime.card import ModelCard, TensorSpec, Text
from lstm_edge_runtime.errors import CardError, InputError

__all__ = ["WORD", "StreamDecoder", "Vocabulary", "byte_token"]

Ids = NDArray[np.int64]

# Letters, digits and underscores with the space before them; one other sign with the space before it; or one space
# of any kind. Each character belongs to exactly one match, so the joined matches equal the text.
WORD = re.compile(r" ?\w+| ?[^\w\s]|\s")

_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")


def byte_token(value: int) -> str:
    """Return the token of one byte (0 to 255): ``<0x0A>`` for 10."""
    return f"<0x{value:02X}>"


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The tokens of a model (the index of a token is its id) and the rules for encoding text.

    ``tokens`` is ``card.vocabulary``, ``text`` is ``card.text``. The unknown token replaces everything that is not in
    the vocabulary; it decodes to the token's text. The end token ends a text; if it cannot occur in text, it decodes to
    nothing. Equal vocabularies have equal tokens and equal rules.

    Raises:
        CardError: tokens and rules contradict each other; the message holds the dotted path of the value.
        MissingExtraError: the kind is ``bpe`` and the package ``tokenizers`` is not installed.
    """

    tokens: tuple[str, ...]
    text: Text
    _pieces: tuple[bytes, ...] = field(init=False, repr=False, compare=False)
    _cut: Callable[[str], Ids] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        ids = _number(self.tokens)
        for name, token in (("unknown", self.text.unknown), ("end", self.text.end)):
            if token is not None and token not in ids:
                raise CardError(f"model card: card.text.{name} is {shortened(token)}, which is not in card.vocabulary")
        if self.text.kind != "bpe" and self.text.tokenizer is not None:
            raise CardError(f"model card: card.text.tokenizer is given, but card.text.kind is {self.text.kind!r}")
        object.__setattr__(self, "_pieces", tuple(self._piece(index) for index in range(len(self))))
        object.__setattr__(self, "_cut", self._make_cut(ids))

    @classmethod
    def from_card(cls, card: ModelCard | None) -> "Vocabulary":
        """Read the vocabulary of a model.

        Args:
            card: the model's card; None for a file without one.

        Raises:
            CardError: the card has no vocabulary, a token twice, an unknown or end token that is not in the
                vocabulary, or a different number of tokens than the logits; the message holds the dotted path.
            MissingExtraError: the kind is ``bpe`` and the package ``tokenizers`` is not installed.
        """
        if card is None:
            raise CardError("model card: the file has none, so it does not say which text its ids represent")
        if card.vocabulary is None or card.text is None:
            missing = " and ".join(f"card.{name}" for name in ("vocabulary", "text") if getattr(card, name) is None)
            raise CardError(
                f"model card: {missing} must be given, the file does not say which text its ids represent; "
                "lstm-edge train language-model writes both"
            )
        _check_width(card.vocabulary, card.outputs)
        return cls(tokens=card.vocabulary, text=card.text)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def unknown_id(self) -> int | None:
        """The id of the unknown token, or None."""
        return None if self.text.unknown is None else self.tokens.index(self.text.unknown)

    @property
    def end_id(self) -> int | None:
        """The id of the end token, or None."""
        return None if self.text.end is None else self.tokens.index(self.text.end)

    def encode(self, text: str) -> Ids:
        """Return the ids of a text; no end token is added.

        Args:
            text: any text; it may be empty.

        Returns:
            int64 ``[tokens]``.

        Raises:
            InputError: a token of the text is not in the vocabulary and there is no unknown token, or the text
                cannot be encoded as UTF-8 (half a surrogate pair).
        """
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError(
                f"text: the character at position {error.start} is half a surrogate pair, expected valid Unicode"
            ) from error
        return self._cut(text)

    def decode(self, ids: Iterable[int] | Ids) -> str:
        """Return the text of ids; bytes that are not UTF-8 become U+FFFD.

        Raises:
            InputError: an id is not in the vocabulary.
        """
        return b"".join(self.piece(int(index)) for index in ids).decode("utf-8", errors="replace")

    def decoder(self) -> "StreamDecoder":
        """Return a decoder for ids that come one by one."""
        return StreamDecoder(self)

    def piece(self, index: int) -> bytes:
        """Return the UTF-8 bytes of an id; empty for an end token that cannot occur in text.

        Raises:
            InputError: the id is not in the vocabulary.
        """
        if not 0 <= index < len(self.tokens):
            raise InputError(f"id {index} is not in the vocabulary, expected 0 to {len(self.tokens) - 1}")
        return self._pieces[index]

    def _piece(self, index: int) -> bytes:
        token, kind = self.tokens[index], self.text.kind
        byte = _BYTE_TOKEN.fullmatch(token) if kind == "byte" else None
        if byte:
            return bytes([int(byte[1], 16)])
        if token == self.text.end and not self._text_holds(token):
            return b""
        if token == self.text.unknown:
            return token.encode("utf-8")
        if kind == "bpe":
            return token_bytes(index, token)
        if kind == "byte":
            raise CardError(
                f"model card: card.vocabulary[{index}] is {shortened(token)}, expected a byte as <0x00> to <0xFF>, "
                "or the token that card.text names as unknown or end"
            )
        if kind == "character" and len(token) != 1:
            raise CardError(
                f"model card: card.vocabulary[{index}] is {shortened(token)}, expected one character, or the token "
                "that card.text names as unknown or end"
            )
        return token.encode("utf-8")

    def _text_holds(self, token: str) -> bool:
        """Return whether encoding can yield this token: a newline may be both the end token and a character."""
        return (self.text.kind == "character" and len(token) == 1) or (
            self.text.kind == "word" and WORD.fullmatch(token) is not None
        )

    def _make_cut(self, ids: dict[str, int]) -> Callable[[str], Ids]:
        kind = self.text.kind
        if kind == "bpe":
            return load_byte_pair(self.text, ids)
        if kind == "word":
            return self._cut_words(ids)
        if kind == "byte":
            codes = {piece[0]: at for at, piece in enumerate(self._pieces) if _BYTE_TOKEN.fullmatch(self.tokens[at])}
            return self._cut_codes(codes, lambda text: np.frombuffer(text.encode("utf-8"), np.uint8), "byte")
        codes = {ord(token): at for token, at in ids.items() if len(token) == 1}
        return self._cut_codes(codes, lambda text: np.frombuffer(text.encode("utf-32-le"), "<u4"), "character")

    def _cut_words(self, ids: dict[str, int]) -> Callable[[str], Ids]:
        unknown = self.unknown_id

        def cut(text: str) -> Ids:
            found = np.array([ids.get(match[0], -1) for match in WORD.finditer(text)], np.int64)
            missing = found < 0
            if unknown is None and missing.any():
                place = int(np.argmax(missing))
                word = next(match for number, match in enumerate(WORD.finditer(text)) if number == place)
                raise _not_in_vocabulary(f"the word {word[0]!r} at position {word.start()}")
            return np.where(missing, -1 if unknown is None else unknown, found)

        return cut

    def _cut_codes(self, codes: dict[int, int], read: Callable[[str], NDArray[Any]], what: str) -> Callable[[str], Ids]:
        """Return an encoder that looks numbers up; ``codes`` maps a number to its id."""
        unknown = self.unknown_id
        # The last entry is above every code, so that a search never ends past the table.
        known = np.array([*sorted(codes), 2**32 - 1], np.uint32)
        places = np.array([*(codes[code] for code in sorted(codes)), -1], np.int64)

        def cut(text: str) -> Ids:
            numbers = read(text).astype(np.uint32)
            at = np.searchsorted(known, numbers)
            missing = known[at] != numbers
            if unknown is None and missing.any():
                place = int(np.argmax(missing))
                name = repr(chr(numbers[place])) if what == "character" else byte_token(int(numbers[place]))
                raise _not_in_vocabulary(f"the {what} {name} at position {place}")
            return np.where(missing, -1 if unknown is None else unknown, places[at])

        return cut


class StreamDecoder:
    """Decodes ids one by one and returns a character when its last byte is known.

    The joined results of ``push`` and of a final ``finish`` equal ``Vocabulary.decode`` of all ids.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, index: int) -> str:
        """Return the text that this id completes, which may be empty.

        Raises:
            InputError: the id is not in the vocabulary.
        """
        return self._decoder.decode(self._vocabulary.piece(int(index)))

    def finish(self) -> str:
        """Return the remaining text, U+FFFD for an incomplete character, and reset the decoder."""
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return rest


def _number(tokens: tuple[str, ...]) -> dict[str, int]:
    """Return the id of each token; refuse an empty vocabulary, a token given twice and a token that is not text."""
    if not tokens:
        raise CardError("model card: card.vocabulary is empty, expected at least one token")
    ids: dict[str, int] = {}
    for index, token in enumerate(tokens):
        first = ids.setdefault(token, index)
        if first != index:
            raise CardError(
                f"model card: card.vocabulary[{index}] is {shortened(token)}, the same as card.vocabulary[{first}]"
            )
        try:
            token.encode("utf-8")
        except UnicodeEncodeError as error:
            raise CardError(f"model card: card.vocabulary[{index}] is half a surrogate pair, expected text") from error
    return ids


def _check_width(tokens: tuple[str, ...], outputs: tuple[TensorSpec, ...]) -> None:
    """Refuse a vocabulary whose number of tokens differs from the first output's last axis, if that is fixed."""
    width = outputs[0].axes[-1] if outputs and outputs[0].axes else None
    if isinstance(width, int) and width != len(tokens):
        raise CardError(
            f"model card: card.vocabulary has {len(tokens)} tokens, but card.outputs[0].axes ends in {width}; "
            "expected one token for each logit"
        )


def _not_in_vocabulary(what: str) -> InputError:
    return InputError(f"text: {what} is not in the vocabulary, which has no unknown token")
