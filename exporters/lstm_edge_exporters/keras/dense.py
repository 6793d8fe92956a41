"""Layers that treat every position alike: Dense, activations, embeddings, masking, and what only training uses."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lstm_edge_exporters.keras.activations import (
    Activation,
    linear,
    prelu,
    read_activation,
    read_activation_layer,
    read_axes,
)
from lstm_edge_exporters.keras.archive import Part
from lstm_edge_exporters.keras.options import Options
from lstm_edge_exporters.keras.shapes import Built, Source
from lstm_edge_exporters.keras.values import Arguments, Value, any_feature, differs

__all__ = [
    "TRAINING_ONLY",
    "Plain",
    "build_activation",
    "build_activation_layer",
    "build_dense",
    "build_embedding",
    "build_masking",
    "build_prelu",
    "build_training_only",
    "fill",
]

# Layers that do nothing outside training, with the options that only say what they do there. The spatial dropouts do
# not support masking in Keras, but return the very tensor that they took, with its mask.
TRAINING_ONLY: dict[str, tuple[str, ...]] = {
    "Dropout": ("rate",),
    "SpatialDropout1D": ("rate",),
    "SpatialDropout2D": ("rate", "data_format"),
    "GaussianDropout": ("rate",),
    "AlphaDropout": ("rate",),
    "GaussianNoise": ("stddev",),
    "ActivityRegularization": ("l1", "l2"),
    "Identity": (),
}


@dataclass(frozen=True, kw_only=True)
class Plain:
    """A layer that treats every position alike: the module, then the activation; the mask goes on."""

    activation: Activation = linear

    def __call__(self, module: nn.Module, given: Arguments) -> Value:
        """Call the layer."""
        x: Value = given.first
        tensor = self.activation(module(x.tensor))
        # Keras returns the very tensor where nothing is computed.
        return x if tensor is x.tensor else Value(tensor=tensor, mask=given.first_mask)


@dataclass(frozen=True, kw_only=True)
class _Embed:
    """Rows of a table; with ``mask_zero`` the id 0 is a masked step."""

    mask_zero: bool

    def __call__(self, module: nn.Module, given: Arguments) -> Value:
        """Call the layer."""
        x: Value = given.first
        return Value(tensor=module(x.tensor), mask=differs(x, 0).tensor if self.mask_zero else None)


@dataclass(frozen=True, kw_only=True)
class _MaskSteps:
    """Mask the steps in which every feature is ``value``, and make them zero."""

    value: float

    def __call__(self, _module: nn.Module, given: Arguments) -> Value:
        """Call the layer."""
        x: Value = given.first
        mask = any_feature(differs(x, self.value)).tensor
        return Value(tensor=torch.where(mask.unsqueeze(-1), x.tensor, 0.0), mask=mask)


def build_dense(options: Options, source: Source) -> Built:
    """Build a Dense layer, over the last axis."""
    features, units, bias = source.features(options), options.size("units"), options.flag("use_bias", True)
    activation = read_activation(options, source.version)
    options.finish()
    arrays: list[tuple[str, tuple[int, ...]]] = [("kernel", (features, units))]
    if bias:
        arrays.append(("bias", (units,)))
    [weights] = source.read([Part(path="", arrays=tuple(arrays))])
    module = nn.Linear(features, units, bias=bias)
    fill(module.weight, weights[0].T)
    if bias:
        fill(module.bias, weights[1])
    return Built(module=module, call=Plain(activation=activation))


def build_embedding(options: Options, source: Source) -> Built:
    """Build an Embedding: ids [batch, time], or of any other shape, to vectors."""
    if source.lanes[0].one(options).tensor.is_floating_point():
        raise options.refuse("it takes features, expected ids [batch, time] directly from the input")
    rows, features = options.size("input_dim"), options.size("output_dim")
    mask_zero = options.flag("mask_zero", False)
    options.finish()
    [[table]] = source.read([Part(path="", arrays=(("embeddings", (rows, features)),))])
    return Built(module=nn.Embedding(rows, features, _weight=torch.from_numpy(table)), call=_Embed(mask_zero=mask_zero))


def build_masking(options: Options, source: Source) -> Built:
    """Build a Masking layer."""
    if len(source.shape(options)) < 3:
        raise options.refuse("it takes [batch, features], expected [batch, time, features]")
    value = options.number("mask_value", 0.0)
    options.finish()
    return Built(module=None, call=_MaskSteps(value=value))


def build_activation(options: Options, source: Source) -> Built:
    """Build an Activation layer."""
    source.value(options)
    activation = read_activation(options, source.version)
    options.finish()
    return Built(module=None, call=Plain(activation=activation))


def build_activation_layer(options: Options, source: Source) -> Built:
    """Build ReLU, LeakyReLU, ELU or Softmax."""
    source.value(options)
    if options.kind == "Softmax" and source.lanes[0].first_mask is not None:
        raise options.refuse("it gets a mask of time steps, which Keras does not accept either")
    activation = read_activation_layer(options)
    return Built(module=None, call=Plain(activation=activation))


class _PRelu(nn.Module):
    """The slopes of PReLU, of any shape that broadcasts."""

    alpha: Tensor

    def __init__(self, alpha: Tensor) -> None:
        super().__init__()
        self.register_buffer("alpha", alpha)

    def forward(self, x: Tensor) -> Tensor:
        """Scale what is below zero."""
        return prelu(x, self.alpha)


def build_prelu(options: Options, source: Source) -> Built:
    """Build a PReLU: a slope for each position, except along ``shared_axes``."""
    shape = source.shape(options)
    shared = read_axes(options, "shared_axes", len(shape)) if options.get("shared_axes", None) is not None else ()
    options.finish()
    sizes = [1 if axis in shared else size for axis, size in enumerate(shape)][1:]
    for size in sizes:
        if size is None:
            source.last_of((None, None), options)
    known = tuple(size for size in sizes if size is not None)
    [[alpha]] = source.read([Part(path="", arrays=(("alpha", known),))])
    return Built(module=_PRelu(torch.from_numpy(alpha)), call=Plain())


def build_training_only(options: Options, _source: Source) -> Built:
    """Build a layer that does nothing outside training."""
    for key in TRAINING_ONLY[options.kind]:
        options.get(key, None)
    options.finish()
    return Built(module=None, call=Plain())


def fill(parameter: Tensor, array: NDArray[Any]) -> None:
    """Copy an array into a parameter."""
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(np.ascontiguousarray(array)))


Builder = Callable[[Options, Source], Built]
