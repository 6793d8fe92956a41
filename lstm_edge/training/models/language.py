"""The language model: logits of the next token at every step."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from lstm_edge.training.models.recurrent import RecurrentConfig, check_flag, check_integer, check_names, make_lstm
from lstm_edge_runtime.card import Text
from lstm_edge_runtime.errors import InputError

__all__ = ["LanguageModel", "LanguageModelConfig", "LstmState", "TiedLinear"]

LstmState = tuple[Tensor, Tensor]

LARGEST_VOCABULARY = 1_000_000
LARGEST_EMBEDDING = 16384
TEXT_KEYS = ("kind", "unknown", "end", "tokenizer")
TEXT_KINDS = ("character", "byte", "word", "bpe")


@dataclass(frozen=True, kw_only=True)
class LanguageModelConfig(RecurrentConfig):
    """Architecture and training options of a ``LanguageModel``.

    ``tokens``: size of the vocabulary, 2 to 1,000,000; ``embedding``: size of a token's embedding, 1 to 16384.
        ``tied``:
    the embedding is also the last layer's matrix (Press and Wolf, Using the Output Embedding to Improve Language
    Models, 2017), so ``embedding`` must be the size of the recurrent output. ``vocabulary``: the texts of the tokens in
    the order of their ids, or empty; ``text``: the rules from text to tokens. The model card has both. For the other
    fields see ``RecurrentConfig``. There is no ``bidirectional``, because a backward layer would see the target.

    Raises:
        InputError: a value has the wrong type or is out of its range.
    """

    noun: ClassVar[str] = "language model"

    tokens: int
    embedding: int = 64
    hidden: int = 384
    tied: bool = False
    vocabulary: tuple[str, ...] = ()
    text: Text | None = None

    def __post_init__(self) -> None:
        check_integer(self.noun, "tokens", self.tokens, 2, LARGEST_VOCABULARY)
        check_integer(self.noun, "embedding", self.embedding, 1, LARGEST_EMBEDDING)
        super().__post_init__()
        check_flag(self.noun, "tied", self.tied)
        size = self.projection or self.hidden
        if self.tied and self.embedding != size:
            raise InputError(
                f"{self.noun}: tied embeddings need an embedding of the recurrent output's size, {size} (projection, "
                f"else hidden), got {self.embedding}"
            )
        check_names(self.noun, "vocabulary", self.vocabulary, self.tokens, each="token")

    @property
    def device_bytes(self) -> int:
        """Bytes of the int8 weights on the device: 1 per weight, 4 per row scale and per bias.

        Diagonal peepholes stay float32. A tied embedding is stored once: the last layer's columns are its rows.
        """
        size = self.projection or self.hidden
        total = self.tokens * (size + 4 + 4) + (0 if self.tied else self.tokens * (self.embedding + 4))
        for layer in range(self.layers):
            inputs = self.embedding if layer == 0 else size
            total += 4 * self.hidden * (inputs + size + 3 * 4)
            total += {"none": 0, "diagonal": 3 * 4 * self.hidden, "full": 4 * self.hidden * (self.hidden + 4)}[
                self.peephole
            ]
            total += self.projection * (self.hidden + 4)
        return total

    def to_json(self) -> dict[str, Any]:
        """Return the configuration as JSON values."""
        text = None if self.text is None else {key: getattr(self.text, key) for key in TEXT_KEYS}
        return super().to_json() | {"text": text}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Build the configuration from the result of ``to_json``.

        Raises:
            InputError: a key is missing or unknown, or a value is not allowed.
        """
        text = values.get("text")
        if text is not None:
            values = dict(values) | {"text": _read_text(text)}
        return super().from_json(values)


class TiedLinear(nn.Module):
    """A linear layer with the matrix of another layer and without parameters."""

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Return x [..., K] times weight [N, K], plus bias [N]: [..., N]."""
        return functional.linear(x, weight, bias)


class LanguageModel(nn.Module):
    """Logits of the next token at every step: embedding, LSTM, linear layer (or the embedding matrix, ``tied``)."""

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.tokens, config.embedding)
        self.dropout = nn.Dropout(config.dropout)
        self.lstm = make_lstm(config.embedding, config)
        if config.tied:
            # The rows are also those of the last layer's matrix: an average length of 1 keeps the initial logits of
            # order one.
            nn.init.normal_(self.embedding.weight, std=1 / math.sqrt(config.embedding))
            self.output_bias = nn.Parameter(torch.zeros(config.tokens))
            self.tied = TiedLinear()
        else:
            self.linear = nn.Linear(config.projection or config.hidden, config.tokens)

    def forward(self, ids: Tensor) -> Tensor:
        """Predict from a zero state; B rows of T tokens, V tokens in the vocabulary.

        Args:
            ids: int64 ``[B, T]``.

        Returns:
            Logits of the token after each one, float32 ``[B, T, V]``.
        """
        # Not run(ids, None): export makes a state explicit only if forward passes none to the layer.
        y, _ = self.lstm(self.dropout(self.embedding(ids)))
        return self._predict(y)

    def run(self, ids: Tensor, state: LstmState | None) -> tuple[Tensor, LstmState]:
        """Predict from a given state, for streaming and training in windows.

        Args:
            ids: int64 ``[B, T]``.
            state: h ``[layers, B, P]`` and c ``[layers, B, H]``; zeros when None.

        Returns:
            Logits, float32 ``[B, T, V]``, and the state after the last token.
        """
        y, left = self.lstm(self.dropout(self.embedding(ids)), state)
        return self._predict(y), left

    def _predict(self, y: Tensor) -> Tensor:
        """Return the logits of the last layer's outputs ``[B, T, P]``."""
        y = self.dropout(y)
        logits: Tensor = self.tied(y, self.embedding.weight, self.output_bias) if self.config.tied else self.linear(y)
        return logits

    def describe_model(self) -> dict[str, Any]:
        """Return the entries of the model card: task, vocabulary, text, inputs, outputs."""
        return {
            "task": "language-model",
            "vocabulary": self.config.vocabulary or None,
            "text": self.config.text,
            "trained_for": self.config.trained_for,
            "inputs": ["ids: int64[batch, time]"],
            "outputs": ["logits"],
        }


def _read_text(values: Any) -> Text:
    if not isinstance(values, dict) or sorted(values) != sorted(TEXT_KEYS) or values["kind"] not in TEXT_KINDS:
        raise InputError(
            f"language model: text is {values!r}, expected an object with {', '.join(TEXT_KEYS)}, "
            f"kind one of {', '.join(TEXT_KINDS)}"
        )
    for key in TEXT_KEYS[1:]:
        if values[key] is not None and not isinstance(values[key], str):
            raise InputError(f"language model: text.{key} is {values[key]!r}, expected text or null")
    return dataclasses.replace(Text(kind=values["kind"]), **{key: values[key] for key in TEXT_KEYS[1:]})
