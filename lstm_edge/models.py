"""Ready-made models around ``lstm_edge.layers.LSTM``."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, get_args

import torch
from torch import Tensor, nn

from lstm_edge.layers import LSTM, Peephole
from lstm_edge_runtime.errors import InputError

__all__ = ["ClassifierConfig", "SequenceClassifier"]

# Far above what an embedded device runs; they keep a damaged checkpoint from asking for all memory.
LARGEST_SIZE = 16384
MOST_LAYERS = 32


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """Everything that fixes the shape and the training behaviour of a ``SequenceClassifier``.

    ``features``, ``classes``, ``hidden``: sizes, from 1 (classes from 2) to 16384; ``layers``: 1 to 32. ``dropout``:
    the share of values dropped in training between the layers and before the last linear layer, 0 up to, not
    including, 1. ``input_noise``: standard deviation of the Gaussian noise that training adds to the standardized
    inputs (why 1.2: see ``lstm_edge.training.classification``). ``labels``: one name for each class, or none.

    Raises:
        InputError: a value has the wrong type or is out of its range.
    """

    features: int
    classes: int
    hidden: int = 64
    layers: int = 1
    bidirectional: bool = False
    peephole: Peephole = "none"
    dropout: float = 0.0
    input_noise: float = 1.2
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_integer("features", self.features, 1, LARGEST_SIZE)
        _check_integer("classes", self.classes, 2, LARGEST_SIZE)
        _check_integer("hidden", self.hidden, 1, LARGEST_SIZE)
        _check_integer("layers", self.layers, 1, MOST_LAYERS)
        if not isinstance(self.bidirectional, bool):
            raise InputError(f"classifier: bidirectional is {self.bidirectional!r}, expected true or false")
        if self.peephole not in get_args(Peephole):
            raise InputError(f"classifier: peephole is {self.peephole!r}, expected {', '.join(get_args(Peephole))}")
        _check_number("dropout", self.dropout, below=1.0)
        _check_number("input_noise", self.input_noise, below=math.inf)
        if not isinstance(self.labels, tuple) or not all(isinstance(label, str) for label in self.labels):
            raise InputError(f"classifier: labels is {self.labels!r}, expected a tuple of text")
        if self.labels and len(self.labels) != self.classes:
            raise InputError(f"classifier: got {len(self.labels)} labels, expected {self.classes}, one for each class")

    def to_json(self) -> dict[str, Any]:
        """Return the configuration as JSON values."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return values | {"labels": list(self.labels)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "ClassifierConfig":
        """Build the configuration from what ``to_json`` returned.

        Raises:
            InputError: a key is missing or unknown, or a value is not allowed.
        """
        known = {field.name for field in fields(cls)}
        for key in sorted(known ^ set(values)):
            raise InputError(f"classifier: configuration key {key!r} is {'missing' if key in known else 'unknown'}")
        if not isinstance(values["labels"], list):
            raise InputError(f"classifier: labels is {values['labels']!r}, expected a list of text")
        arguments: dict[str, Any] = dict(values) | {"labels": tuple(values["labels"])}
        return cls(**arguments)


class SequenceClassifier(nn.Module):
    """One class for a whole sequence: standardize, LSTM, last valid hidden state of the last layer, linear.

    The standardization ``(x - mean) / std`` is part of the model, so that the exported graph takes raw inputs.
    ``mean`` and ``std`` are float32 buffers ``[features]``, 0 and 1 until ``set_standardization`` is called.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean", torch.zeros(config.features))
        self.register_buffer("std", torch.ones(config.features))
        self.lstm = LSTM(
            config.features,
            config.hidden,
            config.layers,
            batch_first=True,
            # Between layers only: with one layer nn.LSTM warns that its dropout does nothing.
            dropout=config.dropout if config.layers > 1 else 0.0,
            bidirectional=config.bidirectional,
            peephole=config.peephole,
        )
        self.dropout = nn.Dropout(config.dropout)
        self.linear = nn.Linear(config.hidden * (2 if config.bidirectional else 1), config.classes)

    def set_standardization(self, mean: Tensor, std: Tensor) -> None:
        """Set the statistics of the inputs, each ``[features]``; a feature that never varies (std 0) gets std 1.

        Raises:
            InputError: a shape is not ``[features]``, or a value is negative (std), NaN or infinite.
        """
        expected = (self.config.features,)
        for name, value in (("mean", mean), ("std", std)):
            if tuple(value.shape) != expected:
                raise InputError(f"classifier: {name} has shape {list(value.shape)}, expected {list(expected)}")
            if not bool(torch.isfinite(value).all()):
                raise InputError(f"classifier: {name} holds NaN or infinity, expected finite numbers")
        if bool((std < 0).any()):
            raise InputError("classifier: std holds a negative number, expected 0 or more")
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > 0, std, torch.ones_like(std)))

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Classify a batch of sequences; B sequences of T steps, F features, C classes.

        Args:
            x: float32 ``[B, T, F]``, raw features.
            lengths: int64 ``[B]``, valid steps of each row; None means T for all.

        Returns:
            Logits, float32 ``[B, C]``.
        """
        x = (x - self.mean) / self.std
        if self.training and self.config.input_noise > 0:
            x = x + self.config.input_noise * torch.randn_like(x)
        _, (hidden, _) = self.lstm(x, lengths=lengths)
        # hidden is [layers * directions, B, H], the last layer's directions last. Taken from the layer's final
        # state, not gathered from its outputs: so a chunk's answer continues the chunk before it.
        last = torch.cat((hidden[-2], hidden[-1]), dim=-1) if self.config.bidirectional else hidden[-1]
        logits: Tensor = self.linear(self.dropout(last))
        return logits

    def describe_model(self) -> dict[str, Any]:
        """Return what the model card says of this model: task, labels, preprocessing, inputs, outputs."""
        return {
            "task": "classification",
            "labels": self.config.labels or None,
            "preprocessing": (
                f"inside the graph: x is standardized to (x - mean) / std with {self.config.features} means and "
                "standard deviations of the training data",
            ),
            "inputs": [f"x: float32[batch, time, {self.config.features}]"],
            "outputs": ["logits"],
        }


def _check_integer(name: str, value: Any, smallest: int, largest: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not smallest <= value <= largest:
        raise InputError(f"classifier: {name} is {value!r}, expected an integer from {smallest} to {largest}")


def _check_number(name: str, value: Any, *, below: float) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value < below:
        limit = "a finite number" if math.isinf(below) else f"a number below {below:g}"
        raise InputError(f"classifier: {name} is {value!r}, expected {limit}, 0 or more")
