"""What a Keras model may not be: refused by the layer's name and class, in one sentence."""

from pathlib import Path
from typing import Any

import pytest
from support.keras_files import called_on, entry, functional, keras_file, layer, lstm, refusal, sequential

from lstm_edge_exporters.keras import load_keras
from lstm_edge_runtime.errors import CaptureError

LAMBDA = layer("Lambda", "shout", function={"class_name": "__lambda__", "config": {"code": "4wEAAAAAAAA="}})


@pytest.mark.parametrize(
    ("layers", "sentence"),
    [
        ([LAMBDA], "layer 'shout' (Lambda): layers of this class are not exported; these are: "),
        ([layer("Mine", "own")], "A Lambda or a custom class contains code, which is never run"),
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
            [layer("Bidirectional", "b", merge_mode="concat", layer=layer("SimpleRNN", "r", units=4))],
            "layer 'b' (Bidirectional): it wraps a layer of class SimpleRNN, expected LSTM or GRU",
        ),
        (
            [layer("TimeDistributed", "t", layer=layer("Conv1D", "c", filters=4))],
            "layer 't' (TimeDistributed): it wraps a layer of class Conv1D, expected one of Dense",
        ),
        (
            [layer("Sequential", "inner", layers=[])],
            "layer 'inner' (Sequential): layers of this class are not exported",
        ),
        ([layer("Masking", "m"), layer("Softmax", "s")], "layer 's' (Softmax): it gets a mask of time steps"),
        ([layer("Flatten", "f")], "layer 'f' (Flatten): it flattens the time axis, so the model's input must fix"),
        ([layer("Activation", "a", activation="tanh")], "the model has no recurrent layer (LSTM, GRU)"),
    ],
)
def test_layers_are_refused_by_name(tmp_path: Path, layers: list[Any], sentence: str) -> None:
    assert sentence in refusal(keras_file(tmp_path, sequential(*layers)), CaptureError)


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (
            functional((entry(), []), (lstm(), [called_on("x", initial_state=[1])])),
            "layer 'lstm' (LSTM): it is called with 'initial_state', which is not exported",
        ),
        (
            functional((entry(), []), (lstm(), [called_on("x", mask=called_on("x")["args"][0])])),
            "layer 'lstm' (LSTM): it is called with its own mask, which is not exported",
        ),
        (
            functional((entry(), []), (lstm(), [called_on("x"), called_on("x")])),
            "layer 'lstm' (LSTM): it is called 2 times, but a layer is exported only once",
        ),
        (
            functional((entry(), []), (layer("Add", "sum"), [called_on("x", "x")]), output="sum"),
            "layer 'sum' (Add): it takes 2 tensors, but only layers that take one are exported",
        ),
        (
            {"class_name": "MyModel", "config": {}},
            "the model is a 'MyModel', expected a Sequential or functional model",
        ),
    ],
)
def test_models_are_refused_by_what_they_do(tmp_path: Path, model: Any, sentence: str) -> None:
    assert sentence in refusal(keras_file(tmp_path, model), CaptureError)


def test_a_mask_of_another_tensor_is_refused(tmp_path: Path) -> None:
    """The operations that Keras writes for a mask are only taken for the mask that travels with the tensor."""

    def masked(number: float) -> dict[str, Any]:
        compare = layer("NotEqual", "ne"), [{"args": [called_on("x")["args"][0], number], "kwargs": {}}]
        reduce = layer("Any", "any", axis=-1, keepdims=False), [called_on("ne")]
        masking = layer("Masking", "masking", mask_value=0.0), [called_on("x")]
        rnn = lstm(), [called_on("masking", mask=called_on("any")["args"][0])]
        return functional((entry(), []), masking, compare, reduce, rnn)

    assert load_keras(keras_file(tmp_path, masked(0.0))).masks
    message = refusal(keras_file(tmp_path, masked(1.0)), CaptureError)
    assert message == "layer 'lstm' (LSTM): it is called with its own mask, not with the one of the tensor it takes"
