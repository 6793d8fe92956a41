"""Shared code of the ready-made models: the checked sizes of a recurrent stack."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self, get_args

from torch import nn

from lstm_edge.layers import LSTM, Peephole
from lstm_edge.training.models.distilled import Distilled
from lstm_edge_runtime.card import stored_scheme
from lstm_edge_runtime.errors import InputError

__all__ = [
    "LARGEST_SIZE",
    "RecurrentConfig",
    "check_flag",
    "check_integer",
    "check_names",
    "check_number",
    "make_lstm",
    "set_forget_bias",
]

# Far above the sizes for embedded devices; the limits keep a damaged checkpoint from allocating all memory.
LARGEST_SIZE = 16384
MOST_LAYERS = 32
# Keys that checkpoints of version 0.1 lack; the defaults give the behaviour of 0.1.
LATER_KEYS = frozenset({"projection", "trained_for", "sparse", "distilled"})


@dataclass(frozen=True, kw_only=True)
class RecurrentConfig:
    """The recurrent stack of a model; each task's configuration adds its own fields.

    ``hidden``: size of the cell state, 1 to 16384; ``layers``: 1 to 32; ``projection``: size of the projected output,
    below ``hidden``; 0: no projection. ``dropout``: dropout probability between the layers and before the last linear
    layer, 0 or more and below 1. ``trained_for``: the scheme of quantization-aware training (``int8``, ``int4:32``,
    ``int4:128:zero``), which training sets; None without it. ``sparse``: the densities to which training pruned the
    recurrent layers (``0.33``, ``0.33,w=1``); None without pruning. ``distilled``: the teacher and its weight in the
    loss, which training sets; None without a teacher.

    Raises:
        InputError: a value has the wrong type or is out of its range.
    """

    # The name of the model in messages.
    noun: ClassVar[str] = "model"

    hidden: int = 64
    layers: int = 1
    peephole: Peephole = "none"
    projection: int = 0
    dropout: float = 0.0
    trained_for: str | None = None
    sparse: str | None = None
    distilled: Distilled | None = None

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
        for name in ("trained_for", "sparse"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise InputError(f"{self.noun}: {name} is {value!r}, expected text or null")
        if self.distilled is not None and not isinstance(self.distilled, Distilled):
            raise InputError(f"{self.noun}: distilled is {self.distilled!r}, expected a Distilled or None")

    def to_json(self) -> dict[str, Any]:
        """Return the configuration as JSON values; what training sets only if it is not None."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in ("trained_for", "sparse", "distilled"):
            # Versions that do not know a key refuse it.
            if values[name] is None:
                del values[name]
        if self.distilled is not None:
            values["distilled"] = self.distilled.to_json()
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Build the configuration from the result of ``to_json``.

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
        if isinstance(arguments.get("trained_for"), str):
            arguments["trained_for"] = stored_scheme(arguments["trained_for"])
        if arguments.get("distilled") is not None:
            arguments["distilled"] = Distilled.from_json(arguments["distilled"])
        return cls(**arguments)


def make_lstm(input_size: int, config: RecurrentConfig, *, bidirectional: bool = False) -> LSTM:
    """Return the recurrent layers of a configuration, for inputs ``[batch, time, features]``."""
    return LSTM(
        input_size,
        config.hidden,
        config.layers,
        batch_first=True,
        # With one layer nn.LSTM warns that dropout, which acts between layers, has no effect.
        dropout=config.dropout if config.layers > 1 else 0.0,
        bidirectional=bidirectional,
        proj_size=config.projection,
        peephole=config.peephole,
    )


def set_forget_bias(model: nn.Module, value: float) -> None:
    """Set the forget-gate biases of all LSTM layers (in ``bias_ih``; ``bias_hh`` starts at 0) to ``value``.

    The default of the layer is 1 (Jozefowicz, Zaremba, Sutskever, An Empirical Exploration of Recurrent Network
    Architectures, 2015). Longer lags need larger values.
    """
    for layer in model.modules():
        if isinstance(layer, LSTM):
            for name, parameter in layer.named_parameters():
                if name.startswith("bias_ih"):
                    # Gates are stacked i f g o.
                    nn.init.constant_(parameter.detach()[layer.hidden_size : 2 * layer.hidden_size], value)


def check_integer(noun: str, name: str, value: Any, smallest: int, largest: int) -> None:
    """Require an integer from ``smallest`` to ``largest``."""
    if isinstance(value, bool) or not isinstance(value, int) or not smallest <= value <= largest:
        raise InputError(f"{noun}: {name} is {value!r}, expected an integer from {smallest} to {largest}")


def check_number(noun: str, name: str, value: Any, *, below: float) -> None:
    """Require a number that is 0 or more and less than ``below``."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value < below:
        limit = "a finite number" if math.isinf(below) else f"a number below {below:g}"
        raise InputError(f"{noun}: {name} is {value!r}, expected {limit}, 0 or more")


def check_flag(noun: str, name: str, value: Any) -> None:
    """Require a bool."""
    if not isinstance(value, bool):
        raise InputError(f"{noun}: {name} is {value!r}, expected true or false")


def check_names(noun: str, name: str, value: Any, count: int, *, each: str) -> None:
    """Require a tuple of texts that is empty or has ``count`` entries."""
    if not isinstance(value, tuple) or not all(isinstance(entry, str) for entry in value):
        raise InputError(f"{noun}: {name} is {value!r}, expected a tuple of text")
    if value and len(value) != count:
        raise InputError(f"{noun}: got {len(value)} {name}, expected {count}, one for each {each}")
