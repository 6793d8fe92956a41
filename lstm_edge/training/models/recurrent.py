"""What the ready-made models share: the checked sizes of a recurrent stack, and standardized inputs before it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self, get_args

import torch
from torch import Tensor, nn

from lstm_edge.layers import LSTM, Peephole
from lstm_edge_runtime.errors import InputError

__all__ = [
    "LARGEST_SIZE",
    "RecurrentConfig",
    "SequenceModel",
    "check_flag",
    "check_integer",
    "check_names",
    "check_number",
    "make_lstm",
    "set_forget_bias",
]

# Far above what an embedded device runs; they keep a damaged checkpoint from asking for all memory.
LARGEST_SIZE = 16384
MOST_LAYERS = 32
# Keys that checkpoints of version 0.1 do not have; their defaults are what 0.1 did.
LATER_KEYS = frozenset({"projection", "trained_for"})


@dataclass(frozen=True, kw_only=True)
class RecurrentConfig:
    """The recurrent stack of a model; each task's configuration adds its own fields.

    ``hidden``: size of the cell state, 1 to 16384; ``layers``: 1 to 32; ``projection``: size of the output when
    projected, below ``hidden``, 0 without one. ``dropout``: the share of values dropped in training between the layers
    and before the last linear layer, 0 up to, not including, 1. ``trained_for``: the quantization scheme that training
    was aware of (``int8``, ``int4``, ``int4:128:zero``), which training itself sets; None where it was of none.

    Raises:
        InputError: a value has the wrong type or is out of its range.
    """

    # What messages call the model.
    noun: ClassVar[str] = "model"

    hidden: int = 64
    layers: int = 1
    peephole: Peephole = "none"
    projection: int = 0
    dropout: float = 0.0
    trained_for: str | None = None

    def __post_init__(self) -> None:
        check_integer(self.noun, "hidden", self.hidden, 1, LARGEST_SIZE)
        check_integer(self.noun, "layers", self.layers, 1, MOST_LAYERS)
        if self.peephole not in get_args(Peephole):
            raise InputError(f"{self.noun}: peephole is {self.peephole!r}, expected {', '.join(get_args(Peephole))}")
        check_integer(self.noun, "projection", self.projection, 0, LARGEST_SIZE)
        if self.projection >= self.hidden:
            raise InputError(
                f"{self.noun}: projection is {self.projection}, expected less than hidden, which is {self.hidden}"
            )
        check_number(self.noun, "dropout", self.dropout, below=1.0)
        if self.trained_for is not None and not isinstance(self.trained_for, str):
            raise InputError(f"{self.noun}: trained_for is {self.trained_for!r}, expected text or null")

    def to_json(self) -> dict[str, Any]:
        """Return the configuration as JSON values; ``trained_for`` only where it says something."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.trained_for is None:
            # Versions before 0.3 refuse keys that they do not know.
            del values["trained_for"]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Build the configuration from what ``to_json`` returned.

        Raises:
            InputError: a key is missing or unknown, or a value is not allowed.
        """
        known = {field.name: field for field in fields(cls)}
        for key in sorted(known.keys() ^ set(values)):
            if key not in LATER_KEYS or key not in known:
                state = "missing" if key in known else "unknown"
                raise InputError(f"{cls.noun}: configuration key {key!r} is {state}")
        arguments: dict[str, Any] = dict(values)
        for name, field in known.items():
            if isinstance(field.default, tuple) and name in arguments:
                if not isinstance(arguments[name], list):
                    raise InputError(f"{cls.noun}: {name} is {arguments[name]!r}, expected a list of text")
                arguments[name] = tuple(arguments[name])
        return cls(**arguments)


class SequenceModel(nn.Module):
    """Standardized inputs, the recurrent layers and one linear layer: what classifier, tagger and forecaster share.

    The standardization ``(x - mean) / std`` is part of the model, so that the exported graph takes raw inputs.
    ``mean`` and ``std`` are float32 buffers ``[features]``, 0 and 1 until ``set_standardization`` is called.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, config: RecurrentConfig, *, features: int, outputs: int, bidirectional: bool, input_noise: float
    ) -> None:
        super().__init__()
        self.noun = config.noun
        self.trained_for = config.trained_for
        self.features = features
        self.bidirectional = bidirectional
        # Whether training packs rows of different lengths: see TrainingOptions.pack.
        self.pack = True
        self.input_noise = input_noise
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("std", torch.ones(features))
        self.lstm = make_lstm(features, config, bidirectional=bidirectional)
        self.dropout = nn.Dropout(config.dropout)
        self.linear = nn.Linear((config.projection or config.hidden) * (2 if bidirectional else 1), outputs)

    def set_standardization(self, mean: Tensor, std: Tensor) -> None:
        """Set the statistics of the inputs, each ``[features]``; a feature that never varies (std 0) gets std 1.

        Raises:
            InputError: a shape is not ``[features]``, or a value is negative (std), NaN or infinite.
        """
        self._copy_statistics(("mean", self.mean, mean), ("std", self.std, std))

    def _copy_statistics(self, mean: tuple[str, Tensor, Tensor], std: tuple[str, Tensor, Tensor]) -> None:
        for name, buffer, value in (mean, std):
            if value.shape != buffer.shape:
                raise InputError(f"{self.noun}: {name} has shape {list(value.shape)}, expected {list(buffer.shape)}")
            if not bool(torch.isfinite(value).all()):
                raise InputError(f"{self.noun}: {name} holds NaN or infinity, expected finite numbers")
        if bool((std[2] < 0).any()):
            raise InputError(f"{self.noun}: {std[0]} holds a negative number, expected 0 or more")
        mean[1].copy_(mean[2])
        std[1].copy_(torch.where(std[2] > 0, std[2], torch.ones_like(std[2])))

    def standardize(self, x: Tensor) -> Tensor:
        """Return ``(x - mean) / std``, in training with the input noise added; float32 ``[B, T, F]``."""
        x = (x - self.mean) / self.std
        if self.training and self.input_noise > 0:
            x = x + self.input_noise * torch.randn_like(x)
        return x

    def run_steps(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Return the last layer's output of every step, float32 ``[B, T, D * P]``; padding's means nothing."""
        if self._trains_padded(lengths):
            return self._run_padded(x, lengths)
        y, _ = self.lstm(self.standardize(x), lengths=lengths)
        steps: Tensor = y
        return steps

    def run_to_end(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Return the last layer's final output of each row, float32 ``[B, D * P]``.

        It is taken from the layer's final state, not gathered from its outputs: so a chunk's answer continues the
        chunk before it.
        """
        if self._trains_padded(lengths):
            # Training alone: an export must keep the layer's final state, and its lengths may be 0.
            assert lengths is not None
            return self._run_padded(x, lengths)[torch.arange(len(x), device=x.device), lengths - 1]
        _, (hidden, _) = self.lstm(self.standardize(x), lengths=lengths)
        # hidden is [layers * directions, B, P], the last layer's directions last.
        last: Tensor = torch.cat((hidden[-2], hidden[-1]), dim=-1) if self.bidirectional else hidden[-1]
        return last

    def _trains_padded(self, lengths: Tensor | None) -> bool:
        """Say whether what comes after a row's end may run through the layers: no earlier step can see it."""
        return (
            lengths is not None
            and self.training
            and not self.pack
            and not self.bidirectional
            and self.lstm.peephole == "none"
        )

    def _run_padded(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        assert lengths is not None
        past = torch.arange(x.shape[1], device=x.device) >= lengths.unsqueeze(1)
        # A NaN in the padding would come back in the gradients: 0 * NaN is NaN.
        y, _ = self.lstm(self.standardize(x.masked_fill(past.unsqueeze(-1), 0.0)))
        steps: Tensor = y
        return steps

    def describe_inputs(self) -> dict[str, Any]:
        """Return what the model card says of the inputs, what the graph does to them, and what it was trained for."""
        return {
            "trained_for": self.trained_for,
            "preprocessing": (
                f"inside the graph: x is standardized to (x - mean) / std with {self.features} means and "
                "standard deviations of the training data",
            ),
            "inputs": [f"x: float32[batch, time, {self.features}]"],
        }


def make_lstm(input_size: int, config: RecurrentConfig, *, bidirectional: bool = False) -> LSTM:
    """Return the recurrent layers that a configuration asks for, ``[batch, time, features]``."""
    return LSTM(
        input_size,
        config.hidden,
        config.layers,
        batch_first=True,
        # Between layers only: with one layer nn.LSTM warns that its dropout does nothing.
        dropout=config.dropout if config.layers > 1 else 0.0,
        bidirectional=bidirectional,
        proj_size=config.projection,
        peephole=config.peephole,
    )


def set_forget_bias(model: nn.Module, value: float) -> None:
    """Set the forget gates' biases of all LSTM layers (``bias_ih``'s part; ``bias_hh`` starts at 0) to ``value``.

    1 is the layer's own default (Jozefowicz, Zaremba, Sutskever, An Empirical Exploration of Recurrent Network
    Architectures, 2015); the longer the lags, the larger.
    """
    for layer in model.modules():
        if isinstance(layer, LSTM):
            for name, parameter in layer.named_parameters():
                if name.startswith("bias_ih"):
                    # Gates are stacked i f g o.
                    nn.init.constant_(parameter.detach()[layer.hidden_size : 2 * layer.hidden_size], value)


def check_integer(noun: str, name: str, value: Any, smallest: int, largest: int) -> None:
    """Refuse what is not an integer from ``smallest`` to ``largest``."""
    if isinstance(value, bool) or not isinstance(value, int) or not smallest <= value <= largest:
        raise InputError(f"{noun}: {name} is {value!r}, expected an integer from {smallest} to {largest}")


def check_number(noun: str, name: str, value: Any, *, below: float) -> None:
    """Refuse what is not a number from 0 up to, not including, ``below``."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value < below:
        limit = "a finite number" if math.isinf(below) else f"a number below {below:g}"
        raise InputError(f"{noun}: {name} is {value!r}, expected {limit}, 0 or more")


def check_flag(noun: str, name: str, value: Any) -> None:
    """Refuse what is neither true nor false."""
    if not isinstance(value, bool):
        raise InputError(f"{noun}: {name} is {value!r}, expected true or false")


def check_names(noun: str, name: str, value: Any, count: int, *, each: str) -> None:
    """Refuse what is not a tuple of text, and one that is neither empty nor of ``count`` entries."""
    if not isinstance(value, tuple) or not all(isinstance(entry, str) for entry in value):
        raise InputError(f"{noun}: {name} is {value!r}, expected a tuple of text")
    if value and len(value) != count:
        raise InputError(f"{noun}: got {len(value)} {name}, expected {count}, one for each {each}")
