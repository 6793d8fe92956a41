"""Graphs of Keras layers that are not a chain, one for each kind of graph; ``keras_graph_run`` runs them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

WORDS = 9


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A model and the inputs that it is compared at.

    ``kinds`` say what each input is (``keras_graph_run.make``), ``examples`` have a shape for each input. ``forms`` are
    the files that are written. ``specs`` are the inputs that the file is read as having, where a test asks.
    """

    name: str
    build: Callable[[Any], Any]
    kinds: tuple[str, ...]
    examples: tuple[tuple[tuple[int, ...], ...], ...]
    forms: tuple[str, ...] = (".keras", ".h5")
    specs: tuple[str, ...] = ()
    exported: bool = False


def _residual(keras: Any) -> Any:
    x = keras.Input((None, 3), name="x")
    return keras.Model(x, keras.layers.Add()([x, keras.layers.LSTM(3, return_sequences=True)(x)]))


def _two_inputs(keras: Any) -> Any:
    L = keras.layers
    a, b = keras.Input((None, 3), name="a"), keras.Input((None, 2), name="b")
    y = L.LSTM(4, return_sequences=True)(L.Concatenate()([a, b]))
    return keras.Model([a, b], {"steps": L.Dense(2)(y), "ends": [y[:, -1], L.GlobalMaxPooling1D()(y)]})


def _autoencoder(keras: Any) -> Any:
    L = keras.layers
    return keras.Sequential(
        [
            keras.Input((5, 3)),
            L.GRU(6, return_sequences=True),
            L.LSTM(4),
            L.RepeatVector(5),
            L.LSTM(4, return_sequences=True),
            L.TimeDistributed(L.Dense(3)),
        ]
    )


def _encoder_decoder(keras: Any) -> Any:
    L = keras.layers
    source, target = keras.Input((None, 3), name="source"), keras.Input((None, 2), name="target")
    states = L.LSTM(4, return_state=True, name="encoder")(source)[1:]
    y, h, _ = L.LSTM(4, return_sequences=True, return_state=True)(target, initial_state=states)
    return keras.Model([source, target], [L.Dense(5, activation="softmax")(y), h])


def _attention_decoder(keras: Any) -> Any:
    """The usual translator: masked words, both directions, their states joined, attention over the source."""
    L = keras.layers
    source, target = (keras.Input((None,), dtype="int32", name=name) for name in ("source", "target"))
    words = L.Embedding(WORDS, 3, mask_zero=True)(source)
    seen, *states = L.Bidirectional(L.LSTM(3, return_sequences=True, return_state=True))(words)
    h, c = (L.Concatenate()([states[k], states[k + 2]]) for k in (0, 1))
    known = L.Embedding(WORDS, 4, mask_zero=True)(target)
    y = L.LSTM(6, return_sequences=True)(known, initial_state=[h, c])
    return keras.Model([source, target], L.Dense(WORDS)(L.Concatenate()([y, L.Attention()([y, seen])])))


def _masked_decoder(keras: Any) -> Any:
    """A state and a mask that the call names: Keras itself fills none in where there is a state."""
    L = keras.layers
    source, target = (keras.Input((None,), dtype="int32", name=name) for name in ("source", "target"))
    h = L.GRU(3)(L.Embedding(WORDS, 3, mask_zero=True)(source))
    known, mask = L.Embedding(WORDS, 4)(target), keras.ops.not_equal(target, 0)
    return keras.Model(
        [source, target], [L.GRU(3, return_sequences=s)(known, initial_state=h, mask=mask) for s in (True, False)]
    )


def _step(keras: Any) -> Any:
    """The decoder alone, with its state as inputs and outputs."""
    L = keras.layers
    x, h, c = keras.Input((None, 2), name="x"), keras.Input((4,), name="h"), keras.Input((4,), name="c")
    return keras.Model([x, h, c], L.LSTM(4, return_sequences=True, return_state=True)(x, initial_state=[h, c]))


def _shared(keras: Any) -> Any:
    L = keras.layers
    a, b, layer = keras.Input((None, 3), name="a"), keras.Input((None, 3), name="b"), L.LSTM(4)
    return keras.Model([a, b], L.Dot(axes=1, normalize=True)([layer(a), layer(b)]))


def _nested(keras: Any) -> Any:
    """A model in a model in a model, one that is called twice, and one at every step."""
    L = keras.layers
    inside = keras.Input((None, 4))
    inner = keras.Model(inside, keras.Sequential([L.Dense(4, name="d"), L.ReLU()], name="s")(inside), name="inner")
    middle = keras.Sequential([keras.Input((None, 4)), inner, L.BatchNormalization(), L.GRU(4, return_sequences=True)])
    head = keras.Sequential([keras.Input((4,)), L.Dense(4, name="d"), L.Dense(2)], name="head")
    x = keras.Input((None,), dtype="int32", name="x")
    y = middle(L.Embedding(WORDS, 4, mask_zero=True)(x))
    again = keras.Model(again_in := keras.Input((None, 4)), L.LSTM(4, return_sequences=True)(again_in), name="again")
    return keras.Model(x, [L.TimeDistributed(head)(y), L.GRU(2)(again(again(y)))])


def _images(keras: Any) -> Any:
    L = keras.layers
    x = keras.Input((6, 8, 8, 1), name="x")
    y = L.TimeDistributed(L.Conv2D(4, 3, strides=2, padding="same", activation="relu"))(x)
    y = L.TimeDistributed(L.MaxPooling2D())(y)
    return keras.Model(x, L.LSTM(5)(L.TimeDistributed(L.Flatten())(y)))


def _documents(keras: Any) -> Any:
    """A layer over the words of each sentence, and one over the sentences."""
    L = keras.layers
    x = keras.Input((4, None, 3), name="x")
    return keras.Model(x, L.GRU(3, return_sequences=True)(L.TimeDistributed(L.LSTM(4))(x)))


def _text_image(keras: Any) -> Any:
    L = keras.layers
    x = keras.Input((16, 24, 1), name="x")
    y = L.ZeroPadding2D(((1, 0), (0, 2)))(L.Conv2D(4, (3, 5), padding="same", activation="relu")(x))
    y = L.Cropping2D(((0, 1), (2, 0)))(L.DepthwiseConv2D(3, depth_multiplier=2, padding="same")(y))
    y = L.AveragePooling2D((2, 2), padding="same")(L.SeparableConv2D(6, 3, padding="same")(y))
    y = L.MaxPooling2D((2, 1))(L.LeakyReLU()(L.BatchNormalization()(y)))
    y = L.Reshape((12, 24))(L.Permute((2, 1, 3))(y))
    return keras.Model(x, L.Bidirectional(L.GRU(3, return_sequences=True))(L.Dense(6)(y)))


def _long_windows(keras: Any) -> Any:
    L = keras.layers
    x = keras.Input((64, 3), name="x")
    y = L.MaxPooling1D(4)(L.SeparableConv1D(6, 5, depth_multiplier=2)(x))
    return keras.Model(x, L.LSTM(5)(L.AveragePooling1D(3)(L.DepthwiseConv1D(5, use_bias=False)(y))))


def _transformer(keras: Any) -> Any:
    """The block takes the mask off its input, as Keras's MultiHeadAttention does."""
    L = keras.layers
    x = keras.Input((None,), dtype="int32", name="x")
    y = L.Embedding(WORDS, 4, mask_zero=True)(x)
    z = L.LayerNormalization()(L.Add()([y, L.MultiHeadAttention(2, 3)(y, y)]))
    w = L.LSTM(4, return_sequences=True)(z)
    return keras.Model(
        x, [w, *L.MultiHeadAttention(2, 3, value_dim=2)(w, z, return_attention_scores=True), L.GRU(2)(y)]
    )


def _merges(keras: Any) -> Any:
    L = keras.layers
    ids, x = keras.Input((None,), dtype="int32", name="ids"), keras.Input((None, 4), name="x")
    y = L.Embedding(WORDS, 4, mask_zero=True)(ids)
    z = L.LSTM(4, return_sequences=True)(L.Masking()(x))
    merged = [
        getattr(L, kind)()(pair)
        for kind in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate")
        for pair in ([y, z], [z, x])
    ]
    joined = L.Concatenate(axis=1)([y, z])
    ends = [L.GRU(2)(value) for value in (*merged, joined)]
    return keras.Model([ids, x], [*merged[::3], L.Add()([y, L.GRU(4)(z)]), L.Concatenate()(ends)])


def _preprocessing(keras: Any) -> Any:
    L = keras.layers
    x = keras.Input((None, 3), name="x")
    adapted, given = L.Normalization(), L.Normalization(mean=[1.0, 2.0, 3.0], variance=[1.0, 4.0, 9.0], invert=True)
    adapted.adapt(np.asarray([[[1.0, 2.0, 3.0], [4.0, 3.0, 7.0]]], np.float32))
    y = L.UpSampling1D(2)(L.Rescaling(1 / 255.0, offset=-0.5)(given(adapted(x))))
    return keras.Model(x, L.LSTM(3, return_sequences=True)(L.PReLU(shared_axes=[1])(y)))


def _flattened(keras: Any) -> Any:
    """One input needs its number of steps, the other does not."""
    L = keras.layers
    x, kind = keras.Input((None, 3), name="x"), keras.Input((2,), dtype="int32", name="kind")
    y = L.Flatten()(L.Embedding(WORDS, 3)(kind))
    return keras.Model([x, kind], L.Dense(2)(L.Concatenate()([L.LSTM(4)(x), y])))


def _operations(keras: Any) -> Any:
    o, L = keras.ops, keras.layers
    x = keras.Input((None, 4), name="x")
    y = L.LSTM(4, return_sequences=True)(x)
    results = [y[:, -1], y[:, 1:, 1:3], y[..., 0], y[:, None, :, 0], y[:, ::2], 2 * y + 1, 1 - y, 2 / (y + 3), -(y**2)]
    results += [abs(y), 2**y, y @ o.transpose(y, (0, 2, 1)), o.mean(y, axis=1), o.sum(y, axis=(1, 2), keepdims=True)]
    results += [o.max(y, axis=1), o.std(y, axis=-1), o.var(y, axis=1), o.stack([y, x], axis=2), o.flip(y, axis=1)]
    results += [o.squeeze(o.expand_dims(y, 1), 1), o.swapaxes(y, 1, 2), o.moveaxis(y, 1, 2), o.repeat(y, 2, axis=1)]
    results += [o.tile(y, (1, 2, 1)), o.softmax(y, axis=1), o.gelu(y), o.gelu(y, approximate=False), o.leaky_relu(y)]
    results += [o.clip(y, -0.1, 0.2), o.where(y > 0, y, 0.0), o.cumsum(y, axis=1), o.pad(y, [[0, 0], [1, 0], [0, 2]])]
    results += [o.einsum("btf,bsf->bts", y, x), o.normalize(y, axis=-1), *o.split(y, [1, 3], axis=-1)]
    results += [o.concatenate([y, x], axis=1), o.logsumexp(y, axis=-1), o.maximum(y, 0.1), o.reshape(y, (-1, 2, 2))]
    return keras.Model(x, [*results, y * o.convert_to_numpy([1.0, 2.0, 3.0, 4.0]).astype("float32")])


def _mask_input(keras: Any) -> Any:
    x, mask = keras.Input((None, 3), name="x"), keras.Input((None,), dtype="bool", name="mask")
    return keras.Model([x, mask], keras.layers.LSTM(3, return_sequences=True)(x, mask=mask))


def _scores(keras: Any) -> Any:
    L = keras.layers
    x = keras.Input((None, 3), name="x")
    y, z = L.LSTM(4, return_sequences=True)(L.Masking()(x)), L.GRU(4, return_sequences=True)(x)
    return keras.Model(
        x,
        [
            L.AdditiveAttention()([y, z]),
            L.Attention(use_scale=True, score_mode="concat")([z, y]),
            *L.Attention(use_scale=True)([y, z, y], use_causal_mask=True, return_attention_scores=True),
            L.MultiHeadAttention(2, 3, dropout=0.1, output_shape=5)(z, y, use_causal_mask=True),
            L.GRU(2)(L.AdditiveAttention(use_scale=False)([y, z])),
        ],
    )


SEQUENCES = (((2, 5, 3),), ((1, 9, 3),))
TWO_LENGTHS = (((2, 5), (2, 7)), ((3, 4), (3, 1)))
ALL = (".keras", ".h5", ".json")

GRAPHS = (
    Graph(name="residual", build=_residual, kinds=("floats",), examples=SEQUENCES, forms=ALL),
    Graph(
        name="two-inputs",
        build=_two_inputs,
        kinds=("floats", "floats"),
        examples=(((2, 5, 3), (2, 5, 2)), ((1, 9, 3), (1, 9, 2))),
        specs=("a: float32[batch, time, 3]", "b: float32[batch, time, 2]"),
        exported=True,
    ),
    Graph(
        name="autoencoder", build=_autoencoder, kinds=("floats",), examples=(((2, 5, 3),), ((4, 5, 3),)), exported=True
    ),
    Graph(
        name="encoder-decoder",
        build=_encoder_decoder,
        kinds=("floats", "floats"),
        examples=(((2, 5, 3), (2, 7, 2)), ((1, 3, 3), (1, 1, 2))),
        specs=("source: float32[batch, time, 3]", "target: float32[batch, target_time, 2]"),
    ),
    Graph(
        name="attention-decoder",
        build=_attention_decoder,
        kinds=("masked-ids", "masked-ids"),
        examples=TWO_LENGTHS,
        exported=True,
    ),
    Graph(name="masked-decoder", build=_masked_decoder, kinds=("masked-ids", "masked-ids"), examples=TWO_LENGTHS),
    Graph(
        name="step",
        build=_step,
        kinds=("floats",) * 3,
        examples=(((2, 5, 2), (2, 4), (2, 4)), ((1, 1, 2), (1, 4), (1, 4))),
        specs=("x: float32[batch, time, 2]", "h: float32[batch, 4]", "c: float32[batch, 4]"),
    ),
    Graph(
        name="shared",
        build=_shared,
        kinds=("floats", "floats"),
        examples=(((2, 5, 3), (2, 7, 3)), ((3, 1, 3), (3, 4, 3))),
    ),
    Graph(name="nested", build=_nested, kinds=("masked-ids",), examples=(((2, 5),), ((3, 4),)), exported=True),
    Graph(
        name="images",
        build=_images,
        kinds=("floats",),
        examples=(((2, 6, 8, 8, 1),), ((1, 6, 8, 8, 1),)),
        specs=("x: float32[batch, time, 8, 8, 1]",),
        exported=True,
    ),
    Graph(
        name="documents",
        build=_documents,
        kinds=("floats",),
        examples=(((2, 4, 5, 3),), ((1, 4, 2, 3),)),
        specs=("x: float32[batch, time, x_2, 3]",),
        exported=True,
    ),
    Graph(
        name="text-image",
        build=_text_image,
        kinds=("floats",),
        examples=(((2, 16, 24, 1),), ((1, 16, 24, 1),)),
        specs=("x: float32[batch, 16, 24, 1]",),
        exported=True,
    ),
    Graph(
        name="long-windows",
        build=_long_windows,
        kinds=("floats",),
        examples=(((2, 64, 3),), ((1, 64, 3),)),
        specs=("x: float32[batch, 64, 3]",),
    ),
    Graph(
        name="transformer", build=_transformer, kinds=("masked-ids",), examples=(((2, 6),), ((3, 4),)), exported=True
    ),
    Graph(
        name="merges",
        build=_merges,
        kinds=("masked-ids", "masked"),
        examples=(((2, 6), (2, 6, 4)), ((3, 4), (3, 4, 4))),
        exported=True,
    ),
    Graph(name="preprocessing", build=_preprocessing, kinds=("floats",), examples=SEQUENCES),
    Graph(
        name="flattened",
        build=_flattened,
        kinds=("floats", "ids"),
        examples=(((2, 5, 3), (2, 2)), ((1, 4, 3), (1, 2))),
        specs=("x: float32[batch, time, 3]", "kind: int64[batch, 2]"),
    ),
    Graph(
        name="operations", build=_operations, kinds=("floats",), examples=(((2, 5, 4),), ((1, 9, 4),)), exported=True
    ),
    Graph(name="mask-input", build=_mask_input, kinds=("floats", "mask"), examples=(((2, 5, 3), (2, 5)),) * 2),
    Graph(name="scores", build=_scores, kinds=("masked",), examples=SEQUENCES),
)
