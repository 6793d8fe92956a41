"""Keras models with transposed convolutions, EinsumDense, groups and features first; ``keras_graph_run`` runs them."""

from typing import Any

from support.keras_graphs import Graph

__all__ = ["BLOCKS"]


def _steps(keras: Any) -> Any:
    """Transposed convolutions over a time axis of any length."""
    L = keras.layers
    x = keras.Input((None, 3), name="x")
    options: list[dict[str, Any]] = [
        {"filters": 4, "kernel_size": 3},
        {"filters": 4, "kernel_size": 3, "strides": 2, "activation": "relu"},
        {"filters": 2, "kernel_size": 4, "strides": 2, "padding": "same"},
        {"filters": 3, "kernel_size": 3, "strides": 2, "padding": "same", "use_bias": False},
        {"filters": 3, "kernel_size": 5, "padding": "same"},
        {"filters": 3, "kernel_size": 3, "dilation_rate": 2},
        {"filters": 2, "kernel_size": 2, "strides": 3},
        {"filters": 2, "kernel_size": 3, "strides": 2, "output_padding": 1},
        {"filters": 2, "kernel_size": 2, "padding": "same"},
        {"filters": 2, "kernel_size": 1, "strides": 3, "padding": "same"},
        {"filters": 2, "kernel_size": 5, "strides": 3, "padding": "same", "output_padding": 2},
    ]
    return keras.Model(x, [L.GRU(2)(x), *(L.Conv1DTranspose(**more)(x) for more in options)])


def _decoder(keras: Any) -> Any:
    """The usual autoencoder of a denoiser: down, a recurrent layer, up again."""
    L = keras.layers
    x = keras.Input((None, 3), name="x")
    y = L.Conv1D(5, 4, strides=2, padding="same", activation="relu")(x)
    y = L.GroupNormalization(5)(L.GRU(5, return_sequences=True)(y))
    return keras.Model(x, L.Conv1DTranspose(3, 4, strides=2, padding="same")(y))


def _planes(keras: Any) -> Any:
    L = keras.layers
    x = keras.Input((5, 4, 3), name="x")
    options: list[dict[str, Any]] = [
        {"filters": 2, "kernel_size": (3, 2), "strides": (2, 1), "padding": "same"},
        {"filters": 2, "kernel_size": 2, "strides": (3, 2)},
        {"filters": 4, "kernel_size": 3, "dilation_rate": (2, 1), "activation": "tanh"},
        {"filters": 3, "kernel_size": 4, "strides": 2, "padding": "same", "output_padding": (0, 0)},
    ]
    return keras.Model(x, [L.GRU(2)(L.Reshape((5, 12))(x)), *(L.Conv2DTranspose(**more)(x) for more in options)])


def _einsum(keras: Any) -> Any:
    L = keras.layers
    x = keras.Input((None, 6), name="x")
    heads = L.EinsumDense("abc,cde->abde", output_shape=(None, 2, 3), bias_axes="de")(x)
    found = [
        L.EinsumDense("...x,xy->...y", output_shape=4, bias_axes="y", activation="relu")(x),
        L.EinsumDense("abc,cd->abd", output_shape=(None, 5), bias_axes="d")(x),
        L.EinsumDense("abc,cd->abd", output_shape=(None, 5))(x),
        heads,
        L.EinsumDense("abde,def->abf", output_shape=(None, 4), bias_axes="f")(heads),
        L.EinsumDense("abde,de->abd", output_shape=(None, 2), bias_axes="d")(heads),
        L.EinsumDense("abde,eg->abgd", output_shape=(None, 4, 2), bias_axes="g")(heads),
        L.EinsumDense("...de,ef->...df", output_shape=(2, 4), bias_axes="d")(heads),
        L.GRU(2)(x),
    ]
    return keras.Model(x, found)


def _einsum_over_steps(keras: Any) -> Any:
    """The steps are contracted too, so that their number is fixed."""
    L = keras.layers
    x = keras.Input((4, 3), name="x")
    found = [
        L.EinsumDense("abc,bd->adc", output_shape=(5, 3), bias_axes="dc")(x),
        L.EinsumDense("ab...,bd->ad...", output_shape=5, bias_axes="d")(x),
        L.EinsumDense("abc,bcd->ad", output_shape=6, bias_axes="d")(x),
        L.GRU(2)(x),
    ]
    return keras.Model(x, found)


def _groups(keras: Any) -> Any:
    L = keras.layers
    x = keras.Input((None, 6), name="x")
    found = [
        L.GroupNormalization(2)(x),
        L.GroupNormalization(-1, epsilon=0.01)(x),
        L.GroupNormalization(1, scale=False)(x),
        L.GroupNormalization(3, center=False, axis=2)(x),
        L.LSTM(3)(L.GroupNormalization(2)(L.Masking()(x))),
    ]
    return keras.Model(x, found)


def _groups_of_axes(keras: Any) -> Any:
    L = keras.layers
    x = keras.Input((4, 3, 6), name="x")
    found = [L.GroupNormalization(groups, axis=axis)(x) for groups, axis in ((2, 1), (3, 2), (3, -1), (2, -3), (1, -2))]
    return keras.Model(x, [*found, L.GroupNormalization(3)(L.Flatten()(x)), L.GRU(2)(L.Reshape((4, 18))(x))])


def _images(keras: Any) -> Any:
    """Two axes, features first."""
    L, first = keras.layers, {"data_format": "channels_first"}
    x = keras.Input((3, 6, 5), name="x")
    y = L.Conv2D(4, (3, 2), strides=(2, 1), padding="same", activation="relu", **first)(x)
    found = [
        y,
        L.Conv2D(6, 2, dilation_rate=2, groups=3, **first)(x),
        L.DepthwiseConv2D(2, depth_multiplier=2, padding="same", **first)(x),
        L.SeparableConv2D(4, 3, **first)(x),
        L.MaxPooling2D(2, **first)(y),
        L.AveragePooling2D((2, 1), padding="same", **first)(y),
        L.GlobalAveragePooling2D(**first)(y),
        L.GlobalMaxPooling2D(keepdims=True, **first)(y),
        L.Conv2DTranspose(2, 3, strides=2, **first)(x),
        L.Conv2DTranspose(2, (4, 2), strides=2, padding="same", **first)(x),
        L.LSTM(3)(L.Reshape((3, 10))(L.MaxPooling2D((2, 1), **first)(L.Conv2D(2, 3, padding="same", **first)(x)))),
    ]
    return keras.Model(x, found)


def _sequences(keras: Any) -> Any:
    """One axis, features first: of a fixed length, and of any behind a Permute."""
    L, first = keras.layers, {"data_format": "channels_first"}
    x = keras.Input((None, 3), name="x")
    turned = L.Permute((2, 1))(x)
    y = L.Conv1D(4, 3, padding="causal", **first)(turned)
    found = [
        L.GRU(4, return_sequences=True)(L.Permute((2, 1))(y)),
        L.Conv1D(4, 3, strides=2, padding="same", dilation_rate=1, **first)(turned),
        L.DepthwiseConv1D(2, padding="same", **first)(turned),
        L.SeparableConv1D(4, 3, padding="same", **first)(turned),
        L.MaxPooling1D(2, padding="same", **first)(turned),
        L.GlobalMaxPooling1D(**first)(y),
        L.GlobalAveragePooling1D(**first)(y),
        L.Conv1DTranspose(2, 3, strides=2, **first)(turned),
    ]
    return keras.Model(x, found)


def _shapes(*shapes: tuple[int, ...]) -> tuple[tuple[tuple[int, ...], ...], ...]:
    return tuple((shape,) for shape in shapes)


BLOCKS = tuple(
    Graph(name=name, build=build, kinds=(kind,), examples=examples, forms=(".keras",), exported=True)
    for name, build, kind, examples in (
        ("transposed-steps", _steps, "floats", _shapes((2, 9, 3), (3, 5, 3))),
        ("denoiser", _decoder, "floats", _shapes((2, 8, 3), (1, 14, 3))),
        ("transposed-planes", _planes, "floats", _shapes((2, 5, 4, 3), (3, 5, 4, 3))),
        ("einsum", _einsum, "floats", _shapes((2, 7, 6), (4, 3, 6))),
        ("einsum-over-steps", _einsum_over_steps, "floats", _shapes((2, 4, 3), (3, 4, 3))),
        ("groups", _groups, "masked", _shapes((2, 7, 6), (3, 4, 6))),
        ("groups-of-axes", _groups_of_axes, "floats", _shapes((2, 4, 3, 6), (3, 4, 3, 6))),
        ("images-first", _images, "floats", _shapes((2, 3, 6, 5), (3, 3, 6, 5))),
        ("sequences-first", _sequences, "floats", _shapes((2, 9, 3), (3, 6, 3))),
    )
)
