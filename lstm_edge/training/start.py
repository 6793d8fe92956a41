"""Where a training starts from: new weights, or a trained model of the same configuration; and what it is for."""

import json
from dataclasses import replace
from typing import TypeVar

from torch import nn

from lstm_edge.training.models import RecurrentConfig
from lstm_edge.training.options import TrainingOptions
from lstm_edge.training.quantize_aware.scheme import parse_scheme
from lstm_edge_runtime.errors import InputError

__all__ = ["prepare"]

C = TypeVar("C", bound=RecurrentConfig)

# What may differ from the model that training starts from: how it is trained, not what it is.
HOW = ("dropout", "input_noise", "trained_for")


def prepare(config: C, options: TrainingOptions, start: nn.Module | None) -> C:
    """Return the configuration of the trained model: ``config``, with the scheme that its training is aware of.

    Raises:
        InputError: ``start`` has another configuration, dropout and input noise aside; or a first forget bias was given
            beside it.
    """
    if start is not None:
        _check_start(config, start)
        if options.forget_bias != TrainingOptions.forget_bias:
            raise InputError(
                f"training: forget_bias is {options.forget_bias:g}, but a model to start from brings its own; leave it "
                "out"
            )
    scheme = None if options.quantize_aware is None else parse_scheme(options.quantize_aware).text
    return replace(config, trained_for=scheme)


def _check_start(config: RecurrentConfig, start: nn.Module) -> None:
    found: object = getattr(start, "config", None)
    if not isinstance(found, type(config)):
        raise InputError(f"training: the model to start from is a {type(start).__name__}, expected a {config.noun}")
    mine, theirs = config.to_json(), found.to_json()
    for name in mine:
        if name not in HOW and mine[name] != theirs[name]:
            raise InputError(
                f"training: the model to start from has {name} {_short(theirs[name])}, this training asks for "
                f"{_short(mine[name])}: give the same configuration"
            )


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:37] + "..."
