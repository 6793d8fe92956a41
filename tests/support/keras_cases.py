"""The models that the Keras tests compare: one for every layer and option; ``keras_run`` runs them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

FEATURES = 3
WORDS = 11
# Batch and time other than the 3 and 7 that a graph is traced with.
SHAPES = ((2, 9), (5, 4), (1, 1))


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model: ``layers`` gets keras.layers and returns a list of layers for a Sequential model, or a model.

    ``ids``: the input is ids, else [batch, time, 3]. ``masked``: some steps of the input are masked. ``states``: which
    outputs are states, and what the exported file calls them. ``time``: the number of steps where the model fixes it.
    ``legacy``: saved as .h5 too. ``own_graph``: False where another case exports to the same graph with other weights.
    """

    name: str
    layers: Callable[[Any], Any]
    ids: bool = False
    masked: bool = False
    states: tuple[tuple[int, str], ...] = ()
    time: int | None = None
    batch: int | None = None
    legacy: bool = False
    own_graph: bool = True


def _functional(layers: Any, build: Callable[[Any, Any], Any], *, ids: bool = False) -> Any:
    import keras

    entry = layers.Input((None,) if ids else (None, FEATURES), name="x")
    return keras.Model(entry, build(layers, entry))


def _functional_masks(L: Any, x: Any) -> list[Any]:
    """Every layer that looks at a mask: in a functional model Keras 3 writes the mask as a tensor of its own."""
    words = L.Dropout(0.1)(L.Embedding(WORDS, 3, mask_zero=True)(x))
    both = L.BatchNormalization()(L.Bidirectional(L.LSTM(4, return_sequences=True))(words))
    steps = L.TimeDistributed(L.Dense(3))(both)
    again = L.Masking(mask_value=0.5)(steps)
    return [L.GRU(3)(steps), L.GlobalAveragePooling1D()(L.LSTM(2, return_sequences=True)(again))]


def _masked(*rest: Callable[[Any], Any]) -> Callable[[Any], list[Any]]:
    return lambda L: [L.Masking(), *(layer(L) for layer in rest)]


ACTIVATIONS = (
    "linear",
    "relu",
    "relu6",
    "sigmoid",
    "log_sigmoid",
    "hard_sigmoid",
    "tanh",
    "hard_tanh",
    "softmax",
    "log_softmax",
    "softplus",
    "softsign",
    "silu",
    "swish",
    "hard_silu",
    "hard_swish",
    "elu",
    "celu",
    "selu",
    "gelu",
    "leaky_relu",
    "exponential",
    "mish",
)

CASES = (
    # The first case: the classic classifier.
    Case(name="classifier", layers=lambda L: [L.LSTM(128), L.Dense(4, activation="softmax")], legacy=True),
    Case(name="lstm-sequences", layers=lambda L: [L.LSTM(4, return_sequences=True)]),
    Case(
        name="lstm-two-layers",
        layers=lambda L: [L.LSTM(4, return_sequences=True, dropout=0.3, recurrent_dropout=0.2), L.LSTM(5), L.Dense(2)],
        legacy=True,
    ),
    Case(name="lstm-no-bias", layers=lambda L: [L.LSTM(4, use_bias=False)], own_graph=False),
    Case(
        name="lstm-no-forget-bias", layers=lambda L: [L.LSTM(4, unit_forget_bias=False, unroll=False)], own_graph=False
    ),
    Case(
        name="lstm-state",
        layers=lambda L: _functional(L, lambda L, x: L.LSTM(4, return_sequences=True, return_state=True, name="r")(x)),
        states=((1, "r.0.h_out"), (2, "r.0.c_out")),
        legacy=True,
    ),
    Case(
        name="lstm-encoder",
        layers=lambda L: _functional(L, lambda L, x: L.LSTM(4, return_state=True, name="r")(x)[1:]),
    ),
    Case(
        name="lstm-stateful",
        layers=lambda L: [L.LSTM(4, stateful=True, return_sequences=True), L.Dense(2)],
        batch=2,
        legacy=True,
    ),
    Case(name="lstm-backwards", layers=lambda L: [L.LSTM(4, go_backwards=True, return_sequences=True)]),
    Case(name="lstm-backwards-last", layers=lambda L: [L.LSTM(4, go_backwards=True)]),
    Case(name="gru", layers=lambda L: [L.GRU(4), L.Dense(2)], legacy=True),
    Case(name="gru-reset-before", layers=lambda L: [L.GRU(4, reset_after=False, return_sequences=True)], legacy=True),
    Case(name="gru-no-bias", layers=lambda L: [L.GRU(4, use_bias=False)], own_graph=False),
    Case(
        name="gru-reset-before-no-bias", layers=lambda L: [L.GRU(4, use_bias=False, reset_after=False)], own_graph=False
    ),
    Case(
        name="gru-state",
        layers=lambda L: _functional(L, lambda L, x: L.GRU(4, return_sequences=True, return_state=True, name="r")(x)),
        states=((1, "r.0.h_out"),),
    ),
    Case(name="rnn", layers=lambda L: [L.SimpleRNN(4), L.Dense(2)], legacy=True),
    Case(name="rnn-relu", layers=lambda L: [L.SimpleRNN(4, activation="relu", return_sequences=True)], legacy=True),
    Case(name="rnn-no-bias-backwards", layers=lambda L: [L.SimpleRNN(4, use_bias=False, go_backwards=True)]),
    Case(
        name="rnn-state",
        layers=lambda L: _functional(
            L, lambda L, x: L.SimpleRNN(4, return_sequences=True, return_state=True, name="r")(x)
        ),
        states=((1, "r.0.h_out"),),
    ),
    Case(name="rnn-bidirectional", layers=lambda L: [L.Bidirectional(L.SimpleRNN(4, return_sequences=True))]),
    Case(
        name="rnn-masked",
        layers=_masked(lambda L: L.SimpleRNN(4, return_sequences=True), lambda L: L.SimpleRNN(3, activation="relu")),
        masked=True,
    ),
    Case(name="gru-backwards", layers=lambda L: [L.GRU(4, go_backwards=True, return_sequences=True)]),
    *(
        Case(
            name=f"bidirectional-{merge}",
            layers=lambda L, merge=merge: [L.Bidirectional(L.LSTM(4, return_sequences=True), merge_mode=merge)],
            legacy=merge == "concat",
        )
        for merge in ("concat", "sum", "mul", "ave")
    ),
    Case(
        name="bidirectional-none",
        layers=lambda L: _functional(
            L, lambda L, x: L.Bidirectional(L.LSTM(4, return_sequences=True), merge_mode=None, name="b")(x)
        ),
    ),
    Case(name="bidirectional-last", layers=lambda L: [L.Bidirectional(L.LSTM(4))]),
    Case(name="bidirectional-gru", layers=lambda L: [L.Bidirectional(L.GRU(4, reset_after=False))]),
    Case(
        name="bidirectional-own-backward",
        layers=lambda L: [L.Bidirectional(L.LSTM(4), backward_layer=L.LSTM(4, go_backwards=True, use_bias=False))],
        own_graph=False,
    ),
    Case(
        name="bidirectional-state",
        layers=lambda L: _functional(L, lambda L, x: L.Bidirectional(L.LSTM(4, return_state=True), name="b")(x)),
    ),
    Case(name="embedding", layers=lambda L: [L.Embedding(WORDS, 3), L.LSTM(4)], ids=True),
    Case(
        name="embedding-mask-zero",
        layers=lambda L: [L.Embedding(WORDS, 3, mask_zero=True), L.LSTM(4), L.Dense(2)],
        ids=True,
        masked=True,
        legacy=True,
    ),
    Case(name="masked-lstm", layers=_masked(lambda L: L.LSTM(4, return_sequences=True)), masked=True),
    Case(name="masked-last", layers=_masked(lambda L: L.LSTM(4)), masked=True),
    Case(
        name="masked-value",
        layers=lambda L: [L.Masking(mask_value=-2.0), L.LSTM(4, return_sequences=True)],
        masked=True,
    ),
    Case(
        name="masked-zero-output",
        layers=_masked(lambda L: L.LSTM(4, return_sequences=True, zero_output_for_mask=True)),
        masked=True,
    ),
    Case(
        name="masked-zero-output-last",
        layers=_masked(lambda L: L.LSTM(4, zero_output_for_mask=True)),
        masked=True,
    ),
    Case(
        name="masked-backwards",
        layers=_masked(lambda L: L.LSTM(4, go_backwards=True, return_sequences=True)),
        masked=True,
    ),
    Case(name="masked-gru", layers=_masked(lambda L: L.GRU(4, return_sequences=True)), masked=True),
    Case(
        name="masked-gru-reset-before",
        layers=_masked(lambda L: L.GRU(4, return_sequences=True, reset_after=False), lambda L: L.GRU(3)),
        masked=True,
    ),
    Case(
        name="masked-bidirectional",
        layers=_masked(lambda L: L.Bidirectional(L.LSTM(4, return_sequences=True)), lambda L: L.LSTM(3)),
        masked=True,
    ),
    Case(name="masked-bidirectional-last", layers=_masked(lambda L: L.Bidirectional(L.LSTM(4))), masked=True),
    Case(
        name="masked-state",
        layers=lambda L: _functional(
            L, lambda L, x: L.LSTM(4, return_sequences=True, return_state=True, name="r")(L.Masking()(x))
        ),
        masked=True,
        legacy=True,
        states=((1, "r.0.h_out"), (2, "r.0.c_out")),
    ),
    Case(
        name="masked-functional-gru",
        layers=lambda L: _functional(L, _functional_masks, ids=True),
        ids=True,
        masked=True,
        legacy=True,
    ),
    Case(
        name="mask-travels",
        layers=_masked(
            lambda L: L.Dropout(0.4),
            lambda L: L.TimeDistributed(L.Dense(5, activation="tanh")),
            lambda L: L.BatchNormalization(),
            lambda L: L.LayerNormalization(),
            lambda L: L.GaussianNoise(0.3),
            lambda L: L.SpatialDropout1D(0.2),
            lambda L: L.Dense(4),
            lambda L: L.LeakyReLU(),
            lambda L: L.Activation("tanh"),
            lambda L: L.LSTM(4, return_sequences=True),
            lambda L: L.LSTM(3),
        ),
        masked=True,
        legacy=True,
    ),
    Case(
        name="mask-stops-at-convolution",
        layers=_masked(lambda L: L.Conv1D(4, 3, padding="causal"), lambda L: L.LSTM(4)),
        masked=True,
    ),
    Case(
        name="mask-stops-at-pooling",
        layers=_masked(lambda L: L.MaxPooling1D(2, strides=1, padding="same"), lambda L: L.LSTM(4)),
        masked=True,
    ),
    Case(
        name="masked-average-over-time",
        layers=_masked(lambda L: L.LSTM(4, return_sequences=True), lambda L: L.GlobalAveragePooling1D()),
        masked=True,
    ),
    Case(
        name="masked-max-over-time",
        layers=_masked(lambda L: L.LSTM(4, return_sequences=True), lambda L: L.GlobalMaxPooling1D()),
        masked=True,
    ),
    Case(
        name="time-distributed",
        layers=lambda L: [
            L.LSTM(4, return_sequences=True),
            L.TimeDistributed(L.Dense(5, use_bias=False)),
            L.TimeDistributed(L.LayerNormalization()),
            L.TimeDistributed(L.BatchNormalization()),
            L.TimeDistributed(L.Dropout(0.2)),
            L.TimeDistributed(L.ELU(alpha=0.7)),
            L.TimeDistributed(L.Activation("softmax")),
        ],
        legacy=True,
    ),
    Case(
        name="activations",
        layers=lambda L: _functional(
            L,
            lambda L, x: [
                L.Dense(4, activation=name)(hidden)
                for hidden in [L.LSTM(4, return_sequences=True)(x)]
                for name in ACTIVATIONS
            ],
        ),
    ),
    Case(
        name="activation-layers",
        layers=lambda L: _functional(
            L,
            lambda L, x: [
                layer(L.Dense(6)(L.LSTM(4, return_sequences=True)(x)))
                for layer in (
                    L.Activation("softplus"),
                    L.ReLU(max_value=0.8, negative_slope=0.1, threshold=0.2),
                    L.ReLU(),
                    L.LeakyReLU(negative_slope=0.25),
                    L.ELU(alpha=0.6),
                    L.Softmax(),
                    L.Dense(3, activation=L.LeakyReLU(negative_slope=0.4)),
                )
            ],
        ),
    ),
    Case(
        name="dropouts",
        layers=lambda L: [
            L.Dropout(0.5),
            L.GaussianNoise(0.3),
            L.GaussianDropout(0.3),
            L.AlphaDropout(0.3),
            L.SpatialDropout1D(0.5),
            L.ActivityRegularization(l2=0.1),
            L.Identity(),
            L.LSTM(4),
            L.Dropout(0.5),
            L.Dense(2),
        ],
        legacy=True,
    ),
    Case(
        name="normalization",
        layers=lambda L: [
            L.BatchNormalization(epsilon=0.02),
            L.LSTM(4, return_sequences=True),
            L.LayerNormalization(epsilon=0.03),
            L.BatchNormalization(center=False),
            L.LayerNormalization(scale=False),
            L.BatchNormalization(scale=False, axis=2),
            L.LayerNormalization(center=False, axis=[2]),
            L.LSTM(5),
            L.BatchNormalization(axis=1),
            L.LayerNormalization(),
        ],
        legacy=True,
    ),
    Case(
        name="convolution",
        layers=lambda L: [
            L.Conv1D(6, 3, padding="same", activation="relu"),
            L.Conv1D(4, 4, padding="same", dilation_rate=2, use_bias=False),
            L.Conv1D(4, 2, padding="causal", dilation_rate=3, groups=2),
            L.Conv1D(5, 4, padding="same", strides=3),
            L.Conv1D(4, 2, padding="causal", strides=2),
            L.LSTM(3, return_sequences=True),
        ],
        legacy=True,
    ),
    Case(
        name="convolution-narrower-than-its-stride",
        layers=lambda L: [L.Conv1D(4, 2, padding="same", strides=3), L.LSTM(3, return_sequences=True)],
    ),
    Case(name="convolution-valid", layers=lambda L: [L.Conv1D(4, 2, strides=2), L.LSTM(3)], time=8),
    Case(
        name="pooling",
        layers=lambda L: [
            L.MaxPooling1D(3, strides=1, padding="same"),
            L.AveragePooling1D(3, strides=1, padding="same"),
            L.MaxPooling1D(4, strides=2, padding="same"),
            L.AveragePooling1D(2, strides=2, padding="same"),
            L.LSTM(3, return_sequences=True),
        ],
    ),
    Case(
        name="pooling-valid",
        layers=lambda L: [L.MaxPooling1D(2), L.AveragePooling1D(2, strides=1), L.LSTM(3)],
        time=9,
    ),
    Case(
        name="average-over-time",
        layers=lambda L: [L.LSTM(4, return_sequences=True), L.GlobalAveragePooling1D(keepdims=True)],
    ),
    Case(name="max-over-time", layers=lambda L: [L.LSTM(4, return_sequences=True), L.GlobalMaxPooling1D(), L.Dense(2)]),
    Case(
        name="flatten",
        layers=lambda L: [L.LSTM(4, return_sequences=True), L.Flatten(), L.Dense(2)],
        time=6,
        legacy=True,
    ),
    Case(
        name="branches",
        layers=lambda L: _functional(
            L,
            lambda L, x: [
                L.Dense(2, name="head")(L.LSTM(4, name="top of it")(x)),
                L.LSTM(3, name="other")(x),
            ],
        ),
    ),
)
