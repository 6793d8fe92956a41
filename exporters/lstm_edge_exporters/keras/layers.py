"""Builds a torch module and its call from a layer's options and weights; one function for each kind of layer.

Whatever has no function here is refused by the layer's name and class. Letters: F features, K kernel size.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lstm_edge_exporters.keras import calls
from lstm_edge_exporters.keras.activations import LAYERS as ACTIVATION_LAYERS
from lstm_edge_exporters.keras.activations import read_activation, read_activation_layer
from lstm_edge_exporters.keras.archive import Part
from lstm_edge_exporters.keras.calls import Padding
from lstm_edge_exporters.keras.config import wrapped
from lstm_edge_exporters.keras.hdf5 import shown
from lstm_edge_exporters.keras.options import Options
from lstm_edge_exporters.keras.recurrent_layers import build_bidirectional, build_recurrent
from lstm_edge_exporters.keras.shapes import Built, Shape, Source
from lstm_edge_runtime.errors import CaptureError

__all__ = ["build_layer"]

# Layers that do nothing outside training, with the options that only say what they do there.
TRAINING_ONLY = {
    "Dropout": ("rate",),
    "SpatialDropout1D": ("rate",),
    "GaussianDropout": ("rate",),
    "AlphaDropout": ("rate",),
    "GaussianNoise": ("stddev",),
    "ActivityRegularization": ("l1", "l2"),
    "Identity": (),
}
# What TimeDistributed may wrap: layers that treat every step alike anyway.
EVERY_STEP = ("Dense", "Activation", "LayerNormalization", "BatchNormalization", *ACTIVATION_LAYERS, *TRAINING_ONLY)


def build_layer(options: Options, source: Source) -> Built:
    """Build a layer.

    Raises:
        CaptureError: it is of a class, or has an option, that is not exported.
        ArtifactError: its weights are missing or not those that its options ask for.
    """
    builder = BUILDERS.get(options.class_name)
    if builder is None:
        raise _unknown(options)
    return builder(options, source)


def _unknown(options: Options) -> CaptureError:
    return options.refuse(
        f"layers of this class are not exported; these are: {', '.join(sorted(BUILDERS))}. "
        "A Lambda or a custom class contains code, which is never run"
    )


def _embedding(options: Options, source: Source) -> Built:
    if source.shape.features is not None:
        raise options.refuse("it takes features, expected ids [batch, time] directly from the input")
    rows, features = options.size("input_dim"), options.size("output_dim")
    mask_zero = options.flag("mask_zero", False)
    options.finish()
    [[table]] = source.read([Part(path="", arrays=(("embeddings", (rows, features)),))])
    return Built(
        module=nn.Embedding(rows, features, _weight=torch.from_numpy(table)),
        call=calls.Embed(mask_zero=mask_zero),
        shapes=(replace(source.shape, features=features, mask=source.index if mask_zero else None),),
    )


def _masking(options: Options, source: Source) -> Built:
    source.over_time(options)
    value = options.number("mask_value", 0.0)
    options.finish()
    return Built(module=None, call=calls.MaskSteps(value=value), shapes=(replace(source.shape, mask=source.index),))


def _dense(options: Options, source: Source, path: str = "") -> Built:
    features, units, bias = source.features(options), options.size("units"), options.flag("use_bias", True)
    activation = read_activation(options, source.version)
    options.finish()
    arrays: list[tuple[str, tuple[int, ...]]] = [("kernel", (features, units))]
    if bias:
        arrays.append(("bias", (units,)))
    [weights] = source.read([Part(path=path, arrays=tuple(arrays))])
    module = nn.Linear(features, units, bias=bias)
    _fill(module.weight, weights[0].T)
    if bias:
        _fill(module.bias, weights[1])
    return Built(
        module=module, call=calls.Plain(activation=activation), shapes=(replace(source.shape, features=units),)
    )


def _activation(options: Options, source: Source, _path: str = "") -> Built:
    source.features(options)
    activation = read_activation(options, source.version)
    options.finish()
    return Built(module=None, call=calls.Plain(activation=activation), shapes=(source.shape,))


def _activation_layer(options: Options, source: Source, _path: str = "") -> Built:
    source.features(options)
    if options.class_name == "Softmax" and source.shape.mask is not None:
        raise options.refuse("it gets a mask of time steps, which Keras does not accept either")
    activation = read_activation_layer(options)
    return Built(module=None, call=calls.Plain(activation=activation), shapes=(source.shape,))


def _training_only(options: Options, source: Source, _path: str = "") -> Built:
    for key in TRAINING_ONLY[options.class_name]:
        options.get(key, None)
    options.finish()
    return Built(module=None, call=calls.Plain(), shapes=(source.shape,))


def _batch_normalization(options: Options, source: Source, path: str = "") -> Built:
    features = _normalized_axis(options, source)
    epsilon = options.number("epsilon", least=0.0)
    names = [
        *(["gamma"] if options.flag("scale", True) else []),
        *(["beta"] if options.flag("center", True) else []),
        "moving_mean",
        "moving_variance",
    ]
    options.only("renorm", False)
    options.get("virtual_batch_size", None)
    options.finish()
    [arrays] = source.read([Part(path=path, arrays=tuple((name, (features,)) for name in names))])
    found = dict(zip(names, arrays, strict=True))
    if (found["moving_variance"] < 0).any():
        raise options.refuse("its moving variance has a negative element")
    deviation = np.sqrt(found["moving_variance"].astype(np.float64) + epsilon)
    scale = (found.get("gamma", np.ones(features)) / deviation).astype(np.float32)
    shift = found.get("beta", np.zeros(features, np.float32))
    module = calls.Normalize(*(torch.from_numpy(array) for array in (found["moving_mean"], scale, shift)))
    return Built(module=module, call=calls.Plain(), shapes=(source.shape,))


def _layer_normalization(options: Options, source: Source, path: str = "") -> Built:
    features = _normalized_axis(options, source)
    epsilon = options.number("epsilon", least=0.0)
    options.only("rms_scaling", False)
    names = [
        *(["gamma"] if options.flag("scale", True) else []),
        *(["beta"] if options.flag("center", True) else []),
    ]
    options.finish()
    [arrays] = source.read([Part(path=path, arrays=tuple((name, (features,)) for name in names))])
    found = dict(zip(names, arrays, strict=True))
    module = nn.LayerNorm(features, eps=epsilon)
    for name, parameter in (("gamma", module.weight), ("beta", module.bias)):
        if name in found:
            _fill(parameter, found[name])
    return Built(module=module, call=calls.Plain(), shapes=(source.shape,))


def _normalized_axis(options: Options, source: Source) -> int:
    """Return the features; refuse any axis but the last."""
    features = source.features(options)
    axis = options.get("axis", -1)
    value = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    inside = options.class_name.startswith("TimeDistributed")
    if isinstance(value, bool) or value not in (-1, 2 if source.shape.time and not inside else 1):
        raise options.refuse(f"it normalizes over axis {shown(axis)}, expected the last, the features")
    return features


def _time_distributed(options: Options, source: Source) -> Built:
    source.over_time(options)
    inner = wrapped(options, "layer")
    options.finish()
    class_name = inner.class_name.removeprefix("TimeDistributed of ")
    if class_name not in EVERY_STEP:
        raise options.refuse(f"it wraps a layer of class {class_name}, expected one of {', '.join(EVERY_STEP)}")
    builder: Callable[..., Built] = BUILDERS[class_name]
    if class_name in ACTIVATION_LAYERS or class_name in TRAINING_ONLY:
        inner = Options(inner.name, class_name, inner.values)
    return builder(inner, source, "layer")


def _conv1d(options: Options, source: Source) -> Built:
    features, filters, kernel = source.over_time(options), options.size("filters"), options.step("kernel_size")
    stride, dilation = options.step("strides", 1), options.step("dilation_rate", 1)
    groups, bias = options.size("groups", 1), options.flag("use_bias", True)
    padding = cast(Padding, options.choice("padding", ("valid", "same", "causal"), "valid"))
    options.only("data_format", "channels_last")
    activation = read_activation(options, source.version)
    options.finish()
    if features % groups or filters % groups:
        raise options.refuse(f"{groups} groups do not divide {features} features and {filters} filters")
    shape = (kernel, features // groups, filters)
    arrays: list[tuple[str, tuple[int, ...]]] = [("kernel", shape)]
    if bias:
        arrays.append(("bias", (filters,)))
    [weights] = source.read([Part(path="", arrays=tuple(arrays))])
    module = nn.Conv1d(features, filters, kernel, stride=stride, dilation=dilation, groups=groups, bias=bias)
    _fill(module.weight, weights[0].transpose(2, 1, 0))
    if module.bias is not None:
        _fill(module.bias, weights[1])
    call = calls.Convolve(kernel=kernel, stride=stride, dilation=dilation, padding=padding, activation=activation)
    span = (kernel - 1) * dilation + 1
    return Built(module=module, call=call, shapes=(_shortened(source.shape, filters, span, stride, padding),))


def _pooling(options: Options, source: Source) -> Built:
    features, size = source.over_time(options), options.step("pool_size", 2)
    stride = size if options.get("strides", None) is None else options.step("strides")
    padding = cast(Padding, options.choice("padding", ("valid", "same"), "valid"))
    options.only("data_format", "channels_last")
    options.finish()
    call = calls.Pool(
        kind="max" if options.class_name == "MaxPooling1D" else "average", size=size, stride=stride, padding=padding
    )
    return Built(module=None, call=call, shapes=(_shortened(source.shape, features, size, stride, padding),))


def _shortened(shape: Shape, features: int, span: int, stride: int, padding: Padding) -> Shape:
    steps = shape.steps
    if steps is not None:
        steps = (steps - span) // stride + 1 if padding == "valid" else (steps + stride - 1) // stride
    return Shape(features=features, time=True, steps=steps)


def _average_over_time(options: Options, source: Source) -> Built:
    keep, shape = _over_all_steps(options, source)
    empty = "of a row in which every step is masked, the average is 0, where Keras gives NaN"
    notes = (f"{options.name}: {empty}",) if source.shape.mask is not None else ()
    return Built(module=None, call=calls.AverageOverTime(keep=keep), shapes=(shape,), notes=notes)


def _max_over_time(options: Options, source: Source) -> Built:
    keep, shape = _over_all_steps(options, source)
    return Built(module=None, call=calls.MaxOverTime(keep=keep), shapes=(shape,))


def _over_all_steps(options: Options, source: Source) -> tuple[bool, Shape]:
    features, keep = source.over_time(options), options.flag("keepdims", False)
    options.only("data_format", "channels_last")
    options.finish()
    return keep, Shape(features=features, time=keep, steps=1 if keep else None)


def _flatten(options: Options, source: Source) -> Built:
    features = source.features(options)
    options.only("data_format", "channels_last")
    options.finish()
    if not source.shape.time:
        return Built(module=None, call=calls.Flatten(), shapes=(Shape(features=features, time=False),))
    if source.shape.steps is None or source.shape.steps < 1:
        raise options.refuse("it flattens the time axis, so the model's input must fix the number of steps")
    shape = Shape(features=features * source.shape.steps, time=False)
    return Built(module=None, call=calls.Flatten(), shapes=(shape,), fixed_time=True)


def _fill(parameter: Tensor, array: NDArray[Any]) -> None:
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(np.ascontiguousarray(array)))


BUILDERS: dict[str, Callable[[Options, Source], Built]] = {
    "Embedding": _embedding,
    "Masking": _masking,
    "LSTM": build_recurrent,
    "GRU": build_recurrent,
    "Bidirectional": build_bidirectional,
    "TimeDistributed": _time_distributed,
    "Dense": _dense,
    "Activation": _activation,
    "BatchNormalization": _batch_normalization,
    "LayerNormalization": _layer_normalization,
    "Conv1D": _conv1d,
    "MaxPooling1D": _pooling,
    "AveragePooling1D": _pooling,
    "GlobalAveragePooling1D": _average_over_time,
    "GlobalMaxPooling1D": _max_over_time,
    "Flatten": _flatten,
    **dict.fromkeys(ACTIVATION_LAYERS, _activation_layer),
    **dict.fromkeys(TRAINING_ONLY, _training_only),
}
