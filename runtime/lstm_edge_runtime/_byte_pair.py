"""Byte-level byte pairs: check a tokenizer's JSON, return the bytes of its tokens, and encode text with it.

Only one form is read: a ``BPE`` model with a ``ByteLevel`` pre-tokenizer and decoder, without normalizer and
post-processor. This form is lossless, so a table of bytes decodes it without the package.
"""

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_edge_runtime._json import shortened
from lstm_edge_runtime.card import Text
from lstm_edge_runtime.errors import CardError, MissingExtraError
from lstm_edge_runtime.reading import parse_json, reason

__all__ = ["load_byte_pair", "parts_of", "token_bytes"]

# A long text can be split here without changing its ids: after a single newline between two characters that are not
# spaces, because the pre-tokenizer makes that newline a separate piece.
_SEAM = re.compile(r"(?<=\S\n)(?=\S)")
# An encoding takes about 200 bytes per token; with 65,536 characters at a time it takes a few megabytes.
_CHARACTERS = 65_536
_EXPECTED = (
    ("model", "type", "BPE"),
    ("pre_tokenizer", "type", "ByteLevel"),
    ("pre_tokenizer", "add_prefix_space", False),
    ("decoder", "type", "ByteLevel"),
)


@cache
def _letters() -> Mapping[str, int]:
    """Return the byte of each of GPT-2's 256 characters: visible Latin-1 is unchanged, the rest starts at U+0100."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(0x100 + place): byte for place, byte in enumerate(hidden)}


def token_bytes(index: int, token: str) -> bytes:
    """Return the bytes of a byte-level token.

    Raises:
        CardError: a character of the token is none of GPT-2's 256 characters.
    """
    letters = _letters()
    if not all(letter in letters for letter in token):
        raise CardError(
            f"model card: card.vocabulary[{index}] is {shortened(token)}, expected letters of byte-level byte pairs "
            "only, or the token that card.text names as unknown or end"
        )
    return bytes(letters[letter] for letter in token)


def load_byte_pair(text: Text, ids: Mapping[str, int]) -> Callable[[str], NDArray[np.int64]]:
    """Return the function from text to ids.

    Args:
        text: the card's ``text``, with the tokenizer's JSON.
        ids: the card's vocabulary, from token to id.

    Raises:
        CardError: the JSON is missing, has another form, or its tokens differ from the vocabulary.
        MissingExtraError: the package ``tokenizers`` is not installed.
    """
    document = _parse(text.tokenizer)
    for part, key, expected in _EXPECTED:
        got = (document.get(part) or {}).get(key)
        if got != expected:
            raise CardError(f"model card: card.text.tokenizer.{part}.{key} is {shortened(got)}, expected {expected!r}")
    for part in ("normalizer", "post_processor", "truncation", "padding"):
        if document.get(part) is not None:
            raise CardError(f"model card: card.text.tokenizer.{part} is given, expected null: text is never changed")
    _check_tokens(document, ids)
    try:
        import tokenizers
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "a byte-pair vocabulary needs 'tokenizers', which is not installed: pip install 'lstm-edge-runtime[text]'"
        ) from error
    try:
        tokenizer = tokenizers.Tokenizer.from_str(str(text.tokenizer))
    except BaseException as error:
        # The package raises plain Exception for JSON that it cannot read, and PanicException, which is not an
        # Exception, for its internal errors.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise CardError(f"model card: card.text.tokenizer cannot be read by tokenizers ({reason(error)})") from error
    # A text that contains the end token's spelling is ordinary text, not an end.
    tokenizer.encode_special_tokens = True

    def encode(characters: str) -> NDArray[np.int64]:
        parts = [tokenizer.encode(part, add_special_tokens=False).ids for part in parts_of(characters)]
        return np.concatenate([np.zeros(0, np.int64), *(np.array(part, np.int64) for part in parts)])

    return encode


def _parse(text: str | None) -> dict[str, Any]:
    if text is None:
        raise CardError("model card: card.text.tokenizer is null, expected the JSON of a tokenizer for kind 'bpe'")
    try:
        document = parse_json(text)
    except ValueError as error:
        raise CardError(f"model card: card.text.tokenizer is not a JSON document ({error})") from error
    parts = ("model", "pre_tokenizer", "decoder")
    if not isinstance(document, dict) or any(not isinstance(document.get(part), dict | None) for part in parts):
        raise CardError(f"model card: card.text.tokenizer must be an object with objects for {', '.join(parts)}")
    return document


def _check_tokens(document: dict[str, Any], ids: Mapping[str, int]) -> None:
    """Refuse a tokenizer whose ids differ from the card's vocabulary."""
    vocabulary, added = document["model"].get("vocab"), document.get("added_tokens") or []
    entries = [entry for entry in added if isinstance(entry, dict)] if isinstance(added, list) else []
    if not isinstance(vocabulary, dict) or len(entries) != len(added):
        raise CardError("model card: card.text.tokenizer.model.vocab must be an object, added_tokens a list of objects")
    found = vocabulary | {str(entry.get("content")): entry.get("id") for entry in entries}
    for token in (*ids, *found):
        if found.get(token) != ids.get(token):
            raise CardError(
                f"model card: card.text.tokenizer gives the token {shortened(token)} the id "
                f"{shortened(found.get(token))}, card.vocabulary gives it {ids.get(token)}"
            )


def parts_of(text: str) -> list[str]:
    """Split a long text into parts of about 65,536 characters, only where the ids do not change."""
    parts, start = [], 0
    while start < len(text):
        seam = _SEAM.search(text, start + _CHARACTERS)
        stop = seam.start() if seam else len(text)
        parts.append(text[start:stop])
        start = stop
    return parts
