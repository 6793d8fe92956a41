"""Text from a model's outputs: greedy CTC decoding (Graves et al., ICML 2006), or sequences of labels.

Logits float32 ``[time, symbols]``: take the largest of each step (the first of equal ones), collapse repeats, drop
blanks. Integers ``[time]`` are symbols: blanks, if the model has one, are dropped, and repeats are kept. Imports only
NumPy and the runtime package, so it also runs on the device.

Symbols are the card's vocabulary (``lstm_edge_runtime.text``), or its labels. Labels of one character each are joined
directly, so a space needs a label. If no label is a single character, each label is a word. ``<...>`` other than the
blank counts as neither. The blank is the symbol ``<blank>``, or the first symbol if its name is empty.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_edge_runtime.card import TIME, ModelCard
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.text import Vocabulary

__all__ = ["BLANK", "Transcriber"]

BLANK = "<blank>"


class Transcriber:
    """Reads text from the outputs of one model."""

    def __init__(self, name: str, session: Session) -> None:
        """Look up the model's symbols; ``name`` is the model's name in messages.

        Raises:
            InputError: the output is neither logits nor labels per step, the card has no symbols or several kinds, or
                it is ambiguous which symbol is the blank, or whether symbols are characters or words.
            CardError: the card's vocabulary contradicts itself.
        """
        target = session.outputs[0]
        self._name, self._output = name, target.name
        kind = np.dtype(target.dtype).kind
        self._logits = kind == "f"
        if (len(target.axes), kind) not in ((3, "f"), (2, "i"), (2, "u")) or TIME not in target.axes[:2]:
            axes = ", ".join(map(str, target.axes))
            raise InputError(
                f"{name}: output {target.name!r} is {target.dtype}[{axes}], expected logits "
                "float32[batch, time, symbols] or labels int64[batch, time] to read text from"
            )
        self._symbols, self._vocabulary = _find_symbols(name, session.card)
        self._blank = _find_blank(name, self._symbols, required=self._logits)
        width = target.axes[-1]
        if self._logits and isinstance(width, int) and width != len(self._symbols):
            raise InputError(
                f"{name}: output {target.name!r} has {width} logits, but its card names {len(self._symbols)} symbols; "
                "expected one for each"
            )
        self._between = "" if self._vocabulary else _find_separator(name, self._symbols, self._blank)

    def read(self, row: NDArray[Any]) -> str:
        """Return the text of one sequence: logits ``[time, symbols]``, or integers ``[time]``.

        Raises:
            InputError: an integer is not the number of a symbol, or the numbers of logits and symbols differ.
        """
        if self._logits and row.shape[1] != len(self._symbols):
            raise InputError(
                f"{self._name}: output {self._output!r} has {row.shape[1]} logits, but its card names "
                f"{len(self._symbols)} symbols; expected one for each"
            )
        ids = row.argmax(axis=1) if self._logits else row.astype(np.int64)
        if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < len(self._symbols):
            raise InputError(
                f"{self._name}: the labels of output {self._output!r} go from {ids.min()} to {ids.max()}, "
                f"expected 0 to {len(self._symbols) - 1}"
            )
        if self._logits:
            ids = ids[np.flatnonzero(np.diff(ids, prepend=-1))]
        ids = ids[ids != self._blank]
        if self._vocabulary is not None:
            return self._vocabulary.decode(ids)
        return self._between.join(self._symbols[index] for index in ids)


def _find_symbols(name: str, card: ModelCard | None) -> tuple[tuple[str, ...], Vocabulary | None]:
    labels = None if card is None else card.labels
    vocabulary = None if card is None else card.vocabulary
    if bool(labels) == bool(vocabulary):
        got = "both labels and a vocabulary" if labels else "neither labels nor a vocabulary"
        raise InputError(f"{name}: its card has {got}, expected one of them, which names the symbol of each output")
    if labels:
        return tuple(labels), None
    if card is not None and card.vocabulary and card.text is not None and card.text.kind == "character":
        return card.vocabulary, None  # as labels, because the vocabulary's rules have no blank
    rules = Vocabulary.from_card(card)
    return rules.tokens, rules


def _find_blank(name: str, symbols: tuple[str, ...], *, required: bool) -> int | None:
    places = [place for place, symbol in enumerate(symbols) if symbol == BLANK or (symbol == "" and place == 0)]
    if len(places) > 1 or (required and not places):
        got = "none of its symbols" if not places else f"symbols {places[0]} and {places[1]} may both be"
        sentence = f"{got} is the blank of CTC" if not places else f"{got} the blank of CTC"
        raise InputError(f"{name}: {sentence}, expected one named {BLANK!r}, or the first one to have an empty name")
    return places[0] if places else None


def _find_separator(name: str, symbols: tuple[str, ...], blank: int | None) -> str:
    """Return the separator of labels: nothing between characters, a space between words."""
    plain = [s for place, s in enumerate(symbols) if place != blank and not (s.startswith("<") and s.endswith(">"))]
    single = [symbol for symbol in plain if len(symbol) == 1]
    if len(single) == len(plain):
        return ""
    if single:
        longer = next(symbol for symbol in plain if len(symbol) != 1)
        raise InputError(
            f"{name}: its label {single[0]!r} is a character, {longer!r} is not; expected labels that are all "
            "characters, which are joined directly, or all words, or a vocabulary with its rules in the card"
        )
    return " "
