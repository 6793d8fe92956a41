"""The start of a training: new weights, or a trained model of the same configuration; and its quantization scheme."""

import json
from dataclasses import replace
from typing import TypeVar

from torch import nn

from lstm_edge.sparsity import parse_densities
from lstm_edge.training.models import RecurrentConfig
from lstm_edge.training.options import TrainingOptions
from lstm_edge.training.quantize_aware.scheme import parse_scheme
from lstm_edge_runtime.errors import InputError

__all__ = ["prepare"]

C = TypeVar("C", bound=RecurrentConfig)

# Fields that may differ from the model that training starts from: they concern training, not the architecture.
HOW = ("dropout", "input_noise", "trained_for", "sparse", "distilled")


def prepare(config: C, options: TrainingOptions, start: nn.Module | None) -> C:
    """Return the configuration of the trained model: ``config`` with the scheme and the densities of the training.

    Raises:
        InputError: ``start`` has another configuration (except dropout and input noise), or an initial forget bias is
            given with it.
    """
    if start is not None:
        _check_start(config, start)
        if options.forget_bias != TrainingOptions.forget_bias:
            raise InputError(
                f"training: forget_bias is {options.forget_bias:g}, but the model to start from has its own biases; "
                "leave it out"
            )
    scheme = None if options.quantize_aware is None else parse_scheme(options.quantize_aware).text
    sparse = None if options.sparse is None else parse_densities(options.sparse).text
    return replace(config, trained_for=scheme, sparse=sparse)


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
