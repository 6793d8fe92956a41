"""The token ids that a language model trains on: parts of the text, vocabulary, device budget."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lstm_edge.data.text import load_text
from lstm_edge.data.vocabulary import VocabularyKind, build_vocabulary
from lstm_edge.training.models import LanguageModelConfig
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.text import Vocabulary

__all__ = ["Corpus", "check_device_bytes", "encode_text", "load_corpus"]

Ids = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Corpus:
    """A training and a held-out text as ids, int64 ``[N]`` and ``[M]``, and the training text's vocabulary."""

    name: str
    vocabulary: Vocabulary
    train: Ids
    held_out: Ids


def load_corpus(
    data: str,
    *,
    validation: str | None = None,
    kind: VocabularyKind = "character",
    size: int | None = None,
    max_size: int | None = None,
    lines: bool = False,
) -> Corpus:
    """Load a text, build the vocabulary of its training part, and encode both parts.

    Args:
        data: a name for ``lstm_edge.data.text.load_text``. Without ``validation`` the first 90 % of its characters are
            trained on, the next 5 % held out, and the last 5 % not read.
        validation: name of a held-out text; then all of ``data`` is trained on.
        kind: ``character``, ``byte``, ``word`` or ``bpe``.
        size: largest number of tokens; the most frequent ones are kept; None: see ``build_vocabulary``.
        max_size: limit of the device, in tokens; a larger vocabulary is refused.
        lines: treat each line as a separate text that ends with the end token.

    Raises:
        DataError: a text is missing, damaged or too short.
        InputError: the vocabulary is larger than ``max_size``, or an option is out of its range.
        MissingExtraError: ``bpe`` without the package ``tokenizers``.
    """
    if validation is None:
        base = data.removesuffix(":train")
        train, held_out = load_text(f"{base}:train"), load_text(f"{base}:validation")
    else:
        train, held_out = load_text(data, default_part="train"), load_text(validation, default_part="validation")
    vocabulary = build_vocabulary(train.text, kind, size=size, end=lines, max_size=max_size)
    return Corpus(
        name=train.name,
        vocabulary=vocabulary,
        train=encode_text(vocabulary, train.text, lines=lines),
        held_out=encode_text(vocabulary, held_out.text, lines=lines),
    )


def encode_text(vocabulary: Vocabulary, text: str, *, lines: bool) -> Ids:
    """Return a text's ids, int64 ``[N]``; with ``lines`` the ids of each non-empty line and an end token."""
    if not lines:
        return vocabulary.encode(text)
    assert vocabulary.end_id is not None
    end = np.array([vocabulary.end_id], dtype=np.int64)
    parts = [part for line in text.splitlines() if line for part in (vocabulary.encode(line), end)]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def check_device_bytes(config: LanguageModelConfig, max_bytes: float | None) -> None:
    """Refuse a model whose int8 weights are larger than the device's budget.

    Raises:
        InputError: the weights are larger; the message has the vocabulary's part of them.
    """
    if max_bytes is None or config.device_bytes <= max_bytes:
        return
    size = config.projection or config.hidden
    part = config.tokens * (config.embedding + 4 + size + 4 + 4)
    raise InputError(
        f"language model: the weights take {config.device_bytes:,} bytes as int8, {part:,} of them for the vocabulary "
        f"of {config.tokens:,} tokens, but --max-bytes is {max_bytes:,.0f}: choose a smaller "
        "--vocabulary-size, --embedding or --hidden"
    )
