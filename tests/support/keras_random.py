"""Random graphs of Keras layers: every value is [batch, time, 4], with or without a mask."""

from collections.abc import Callable
from typing import Any

import numpy as np

FEATURES, WORDS = 4, 9
EXAMPLES = (((2, 6), (2, 6, FEATURES)), ((3, 3), (3, 3, FEATURES)))

Make = Callable[[Any, Any, Any], Any]


def _nested(keras: Any, x: Any) -> Any:
    L = keras.layers
    inside = keras.Input((None, FEATURES))
    y = L.Dense(FEATURES, activation="tanh")(inside)
    return keras.Model(inside, L.LSTM(FEATURES, return_sequences=True)(y))(x)


def _sequential(keras: Any, x: Any) -> Any:
    L = keras.layers
    return keras.Sequential([L.GRU(3, return_sequences=True), L.Dropout(0.2), L.Dense(FEATURES)])(x)


def _decoded(keras: Any, x: Any, y: Any) -> Any:
    L = keras.layers
    _, h, c = L.LSTM(FEATURES, return_state=True)(x)
    return L.LSTM(FEATURES, return_sequences=True)(y, initial_state=[h, c])


def _both(keras: Any, x: Any) -> Any:
    L = keras.layers
    return L.Bidirectional(L.GRU(2, return_sequences=True))(x)


ONE: tuple[Callable[[Any, Any], Any], ...] = (
    lambda k, x: k.layers.LSTM(FEATURES, return_sequences=True)(x),
    lambda k, x: k.layers.GRU(FEATURES, return_sequences=True, go_backwards=True)(x),
    _both,
    lambda k, x: k.layers.Dense(FEATURES, activation="relu")(x),
    lambda k, x: k.layers.Dropout(0.5)(x),
    lambda k, x: k.layers.LayerNormalization()(x),
    lambda k, x: k.layers.BatchNormalization()(x),
    lambda k, x: k.layers.Conv1D(FEATURES, 3, padding="causal")(x),
    lambda k, x: k.layers.SeparableConv1D(FEATURES, 3, padding="same")(x),
    lambda k, x: k.layers.DepthwiseConv1D(3, padding="same")(x),
    lambda k, x: k.layers.MaxPooling1D(3, strides=1, padding="same")(x),
    lambda k, x: k.layers.TimeDistributed(k.layers.Dense(FEATURES))(x),
    lambda k, x: k.layers.PReLU(shared_axes=[1])(x),
    lambda k, x: k.layers.Rescaling(0.5, offset=0.1)(x),
    lambda k, x: k.layers.Masking(0.0)(x),
    lambda k, x: k.layers.Activation("tanh")(x),
    lambda k, x: k.layers.Permute((2, 1))(k.layers.Permute((2, 1))(x)),
    lambda k, x: k.layers.Reshape((-1, FEATURES))(x),
    lambda k, x: k.layers.Cropping1D((1, 0))(k.layers.ZeroPadding1D((1, 0))(x)),
    lambda k, x: k.layers.UpSampling1D(2)(x)[:, ::2],
    lambda k, x: x * 2.0 - 1.0,
    lambda k, x: k.ops.concatenate([x[:, :1], x[:, :-1]], axis=1),
    lambda k, x: x - k.ops.mean(x, axis=1, keepdims=True),
    lambda k, x: k.ops.softmax(x, axis=-1),
    _nested,
    _sequential,
)
TWO: tuple[Make, ...] = (
    lambda k, x, y: k.layers.Add()([x, y]),
    lambda k, x, y: k.layers.Subtract()([x, y]),
    lambda k, x, y: k.layers.Multiply()([x, y]),
    lambda k, x, y: k.layers.Average()([x, y]),
    lambda k, x, y: k.layers.Maximum()([x, y]),
    lambda k, x, y: k.layers.Minimum()([x, y]),
    lambda k, x, y: k.layers.Dense(FEATURES)(k.layers.Concatenate()([x, y])),
    lambda k, x, y: k.layers.Attention()([x, y]),
    lambda k, x, y: k.layers.Attention(use_scale=True)([x, y], use_causal_mask=True),
    lambda k, x, y: k.layers.AdditiveAttention()([x, y]),
    lambda k, x, y: k.layers.MultiHeadAttention(2, 3)(x, y),
    lambda k, x, y: k.layers.MultiHeadAttention(2, 3, dropout=0.1)(x, y, use_causal_mask=True),
    lambda k, x, y: x * y + x,
    lambda k, x, y: k.ops.where(x > 0.0, x, y),
    _decoded,
)
LAST: tuple[Callable[[Any, Any], Any], ...] = (
    lambda k, x: k.layers.LSTM(3)(x),
    lambda k, x: k.layers.Bidirectional(k.layers.LSTM(2))(x),
    lambda k, x: x[:, -1],
    lambda k, x: k.layers.GlobalMaxPooling1D()(x),
    lambda k, x: x,
)


def random_model(keras: Any, seed: int) -> Any:
    """Return a model of masked ids and masked features, with a few random layers between them and three outputs."""
    rng = np.random.default_rng(seed)
    ids = keras.Input((None,), dtype="int32", name="ids")
    x = keras.Input((None, FEATURES), name="x")
    values = [keras.layers.Embedding(WORDS, FEATURES, mask_zero=bool(rng.integers(2)))(ids), x]
    for _ in range(rng.integers(3, 9)):
        first, second = (values[rng.integers(len(values))] for _ in range(2))
        if rng.random() < 0.5:
            values.append(ONE[rng.integers(len(ONE))](keras, first))
        else:
            values.append(TWO[rng.integers(len(TWO))](keras, first, second))
    outputs = [LAST[rng.integers(len(LAST))](keras, values[index]) for index in (-1, rng.integers(2, len(values)))]
    # Both inputs are used, and one layer is recurrent.
    return keras.Model([ids, x], [*outputs, keras.layers.LSTM(3)(values[0]), keras.layers.GRU(2)(x)])
