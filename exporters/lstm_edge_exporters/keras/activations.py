"""Keras's activation functions in PyTorch, by Keras's names and with Keras's parameters."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lstm_edge_exporters.keras.config import class_and_config
from lstm_edge_exporters.keras.hdf5 import shown
from lstm_edge_exporters.keras.options import Options

__all__ = [
    "BY_NAME",
    "LAYERS",
    "Activation",
    "linear",
    "named_activation",
    "prelu",
    "read_activation",
    "read_activation_layer",
    "read_axes",
    "relu",
]

Activation = Callable[[Tensor], Tensor]


def linear(x: Tensor) -> Tensor:
    """Return x."""
    return x


def _hard_sigmoid_2(x: Tensor) -> Tensor:
    """Keras before version 3: slope 1/5; since then it is 1/6, as PyTorch's."""
    return torch.clamp(0.2 * x + 0.5, 0.0, 1.0)


def relu(x: Tensor, *, negative_slope: float, max_value: float | None, threshold: float) -> Tensor:
    """Return Keras's ReLU."""
    y = torch.where(x >= threshold, x, negative_slope * (x - threshold))
    return y if max_value is None else torch.clamp(y, max=max_value)


# Plain functions and partials of them: a captured module is copied, and lambdas do not say what they are.
BY_NAME: dict[str, Activation] = {
    "linear": linear,
    "relu": torch.relu,
    "relu6": functional.relu6,
    "sigmoid": torch.sigmoid,
    "log_sigmoid": functional.logsigmoid,
    "hard_sigmoid": functional.hardsigmoid,
    "tanh": torch.tanh,
    "hard_tanh": functional.hardtanh,
    "softmax": partial(torch.softmax, dim=-1),
    "log_softmax": partial(torch.log_softmax, dim=-1),
    "softplus": functional.softplus,
    "softsign": functional.softsign,
    "silu": functional.silu,
    "swish": functional.silu,
    "hard_silu": functional.hardswish,
    "hard_swish": functional.hardswish,
    "elu": functional.elu,
    "celu": functional.celu,
    "selu": functional.selu,
    "gelu": functional.gelu,
    "leaky_relu": partial(functional.leaky_relu, negative_slope=0.2),
    "exponential": torch.exp,
    "mish": functional.mish,
}


def named_activation(options: Options, value: Any, version: str) -> Activation:
    """Return the function that an option names.

    Raises:
        CaptureError: it is neither in ``BY_NAME`` nor an activation layer: a user's function is never run.
    """
    if value is None:
        return linear
    if isinstance(value, dict) and value.get("class_name") in LAYERS and isinstance(value.get("config"), dict):
        class_and_config(value, f"{options}: its activation")
        return read_activation_layer(Options(options.name, value["class_name"], value["config"]))
    if not isinstance(value, str) or value not in BY_NAME:
        raise options.refuse(f"the activation {shown(value)} is not one that is exported: {', '.join(sorted(BY_NAME))}")
    if value == "hard_sigmoid" and version.split(".", maxsplit=1)[0] in ("1", "2"):
        return _hard_sigmoid_2
    return BY_NAME[value]


def read_activation(options: Options, version: str) -> Activation:
    """Return the function in a layer's option ``activation``."""
    return named_activation(options, options.get("activation", None), version)


def _read_leaky_relu(options: Options) -> Activation:
    # Keras 2 calls it alpha; both have 0.3 as default.
    key = "alpha" if "alpha" in options.values else "negative_slope"
    return partial(functional.leaky_relu, negative_slope=options.number(key, 0.3))


def _read_elu(options: Options) -> Activation:
    return partial(functional.elu, alpha=options.number("alpha", 1.0))


def _read_relu(options: Options) -> Activation:
    limit = options.get("max_value", None)
    return partial(
        relu,
        negative_slope=options.number("negative_slope", 0.0),
        max_value=None if limit is None else options.number("max_value"),
        threshold=options.number("threshold", 0.0),
    )


def prelu(x: Tensor, alpha: Tensor) -> Tensor:
    """Return x, times alpha where it is below zero."""
    return torch.relu(x) - alpha * torch.relu(-x)


def softmax_over(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Return the softmax over one axis or over several together."""
    if len(axes) == 1:
        return torch.softmax(x, dim=axes[0])
    return torch.exp(x - torch.logsumexp(x, dim=axes, keepdim=True))


def read_axes(options: Options, key: str, rank: int | None = None) -> tuple[int, ...]:
    """Read one axis or a list of axes; from the front where the rank is known.

    Raises:
        CaptureError: it is none, or the axis of the batch.
    """
    value = options.get(key, -1)
    found = value if isinstance(value, list | tuple) else [value]
    good = 0 < len(found) <= 8 and all(isinstance(axis, int) and not isinstance(axis, bool) for axis in found)
    if not good or 0 in found or (rank is not None and not all(-rank < axis < rank for axis in found)):
        raise options.refuse(f"its {key} is {shown(value)}, expected an axis of its input, or a list, after the batch")
    return tuple(axis % rank if rank else axis for axis in found)


def _read_softmax(options: Options) -> Activation:
    return partial(softmax_over, axes=read_axes(options, "axis"))


LAYERS: dict[str, Callable[[Options], Activation]] = {
    "LeakyReLU": _read_leaky_relu,
    "ELU": _read_elu,
    "ReLU": _read_relu,
    "Softmax": _read_softmax,
}


def read_activation_layer(options: Options) -> Activation:
    """Return the function of an activation layer, one of ``LAYERS``."""
    activation = LAYERS[options.kind](options)
    options.finish()
    return activation
