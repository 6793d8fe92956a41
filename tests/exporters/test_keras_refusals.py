"""What a Keras model may not be: refused by the layer's name and class, in one sentence."""

from pathlib import Path
from typing import Any

import pytest
import torch
from support.keras_files import (
    FEATURES,
    called_on,
    entry,
    functional,
    keras_file,
    layer,
    lstm,
    refusal,
    sequential,
)

from lstm_edge_exporters.keras import load_keras
from lstm_edge_runtime.errors import CaptureError

pytestmark = pytest.mark.slow

LAMBDA = layer("Lambda", "shout", function={"class_name": "__lambda__", "config": {"code": "4wEAAAAAAAA="}})


@pytest.mark.parametrize(
    ("layers", "sentence"),
    [
        ([LAMBDA], "layer 'shout' (Lambda): layers of this class are not exported; these are: "),
        ([layer("Mine", "own")], "A Lambda or a custom class contains code, which is never run"),
        (
            [{**lstm(), "module": "mine.layers"}],
            "layer 1 is a 'LSTM' of 'mine.layers', expected one of Keras's own: a custom class contains code",
        ),
        (
            [{**lstm(), "registered_name": "mine>LSTM"}],
            "layer 1 is a 'LSTM' of 'mine>LSTM', expected one of Keras's own",
        ),
        (
            [lstm(recurrent_activation="hard_sigmoid")],
            "layer 'lstm' (LSTM): the option 'recurrent_activation' is 'hard_sigmoid', expected 'sigmoid', the only "
            "one that is exported",
        ),
        ([lstm(activation="relu")], "layer 'lstm' (LSTM): the option 'activation' is 'relu', expected 'tanh'"),
        ([lstm(time_major=True)], "layer 'lstm' (LSTM): the option 'time_major' is True, expected False"),
        ([lstm(units=0)], "layer 'lstm' (LSTM): the option 'units' is 0, expected an integer from 1 to 1048576"),
        ([lstm(units="4")], "layer 'lstm' (LSTM): the option 'units' is '4', expected an integer"),
        ([lstm(leaky=0.5)], "layer 'lstm' (LSTM): the option 'leaky' is 0.5, which this version does not know"),
        (
            [lstm(dtype={"class_name": "DTypePolicy", "config": {"name": "mixed_float16"}})],
            "layer 'lstm' (LSTM): it computes in 'mixed_float16', expected float32",
        ),
        ([layer("GRU", "gru", units=4)], "layer 'gru' (GRU): the option 'reset_after' is missing from the file"),
        ([lstm(), lstm("two")], "layer 'two' (LSTM): it takes [batch, features], expected [batch, time, features]"),
        ([layer("Dense", "d", units=2, activation="mine")], "layer 'd' (Dense): the activation 'mine' is not one"),
        (
            [layer("Bidirectional", "b", merge_mode="concat", layer=layer("ConvLSTM1D", "r", units=4))],
            "layer 'b' (Bidirectional): it wraps a layer of class ConvLSTM1D, expected LSTM, GRU or SimpleRNN",
        ),
        (
            [layer("TimeDistributed", "t", layer=layer("Conv1D", "c", filters=4))],
            "layer 'c' (TimeDistributed of Conv1D): it takes [batch, features], expected [batch, time, features]",
        ),
        ([layer("Masking", "m"), layer("Softmax", "s")], "layer 's' (Softmax): it gets a mask of time steps"),
        ([layer("Flatten", "f")], "layer 'f' (Flatten): it flattens the time axis, so the model's input must fix"),
        ([layer("Activation", "a", activation="tanh")], "the model has no recurrent layer (LSTM, GRU, SimpleRNN)"),
    ],
)
def test_layers_are_refused_by_name(tmp_path: Path, layers: list[Any], sentence: str) -> None:
    assert sentence in refusal(keras_file(tmp_path, sequential(*layers)), CaptureError)


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (
            functional((entry(), []), (lstm(), [called_on("x", initial_state=[1])])),
            "layer 'lstm' (LSTM): it is called with 1 initial states, expected 2",
        ),
        (
            functional((entry(), []), (lstm(), [called_on("x", mask=called_on("x")["args"][0])])),
            "layer 'lstm' (LSTM): its mask has 3 axes, expected [batch, time]",
        ),
        (
            functional((entry(), []), (lstm(), [called_on("x", training=True)])),
            "layer 'lstm' (LSTM): it is called with training=True: call it without, and save the model again",
        ),
        (
            functional((entry(), []), (lstm(), [called_on("x", colour=3)])),
            "layer 'lstm' (LSTM): it is called with 'colour', which is not exported",
        ),
        (
            functional((entry(), []), (layer("Add", "sum"), [called_on("x", "x")]), output="sum"),
            "layer 'sum' (Add): it is called with 2 arguments, expected at most 1",
        ),
        (
            {"class_name": "MyModel", "config": {}},
            "the model is a 'MyModel', expected a Sequential or functional model",
        ),
    ],
)
def test_models_are_refused_by_what_they_do(tmp_path: Path, model: Any, sentence: str) -> None:
    assert sentence in refusal(keras_file(tmp_path, model), CaptureError)


def test_a_mask_may_be_computed_from_another_tensor(tmp_path: Path) -> None:
    """The layer looks at the mask that the file names, not at the one that travels with the tensor."""

    def masked(number: float) -> dict[str, Any]:
        compare = (
            {**layer("NotEqual", "ne"), "module": "keras.src.ops.numpy"},
            [{"args": [called_on("x")["args"][0], number], "kwargs": {}}],
        )
        reduce = (
            {**layer("Any", "any", axis=-1, keepdims=False), "module": "keras.src.ops.numpy"},
            [called_on("ne")],
        )
        masking = layer("Masking", "masking", mask_value=0.0), [called_on("x")]
        rnn = lstm(), [called_on("masking", mask=called_on("any")["args"][0])]
        return functional((entry(), []), masking, compare, reduce, rnn)

    x = torch.tensor([[[2.0] * FEATURES, [1.0] * FEATURES], [[1.0] * FEATURES] * 2, [[2.0] * FEATURES] * 2])
    answers = {}
    for number in (0.0, 1.0):
        module = load_keras(keras_file(tmp_path, masked(number)))
        assert module.masks
        answers[number] = module(x)["lstm"]
    # Without the second step the first row ends after the step that the third one begins with.
    [alone] = load_keras(keras_file(tmp_path, masked(0.0)))(x[2:, :1]).values()
    assert torch.allclose(answers[1.0][0], alone[0])
    assert not answers[1.0][1].any()
    assert answers[0.0].abs().min() > 0
