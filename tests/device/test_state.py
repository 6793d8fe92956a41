"""State: a value that stacks as PyTorch's does, and refuses arrays that are not a state of the model."""

import numpy as np
import pytest

from lstm_edge_runtime.card import StateSpec
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.state import State


@pytest.fixture(scope="module")
def tagger(models):
    return Session(models / "tagger.onnx")


def some_state(session, batch):
    random = np.random.default_rng(3)
    zeros = session.initial_state(batch).to_arrays()
    arrays = {name: random.uniform(-1, 1, array.shape).astype(np.float32) for name, array in zeros.items()}
    return State.from_arrays(session.states, arrays)


def test_state_stacks_as_pytorch_does(tagger, models):
    state = some_state(tagger, 2)
    np.testing.assert_array_equal(state.stacked("h"), np.concatenate([state["lstm.0.h"], state["lstm.1.h"]]))
    assert state.stacked("c", module="lstm").shape == (2, 2, 5)
    both = some_state(Session(models / "bidirectional.onnx"), 3)
    np.testing.assert_array_equal(both.stacked("h"), both["lstm.0.h"])
    with pytest.raises(InputError, match="no state of kind 'h' in module 'gru'; the model's modules are lstm"):
        state.stacked("h", module="gru")


def test_state_of_two_modules_or_two_sizes_does_not_stack_by_itself():
    def spec(module, layer, size):
        name = f"{module}.{layer}.h"
        return StateSpec(
            input=name, output=f"{name}_out", kind="h", module=module, layer=layer, axes=(1, "batch", size)
        )

    state = State.zeros([spec("a", 1, 2), spec("a", 0, 3), spec("b", 0, 4)], 2)
    with pytest.raises(InputError, match="several recurrent modules, give module=: one of a, b"):
        state.stacked("h")
    with pytest.raises(InputError, match=r"the layers of 'a' have the sizes \[3, 2\], which cannot be stacked"):
        state.stacked("h", module="a")
    assert state.stacked("h", module="b").shape == (1, 2, 4)


def test_state_is_a_value(tagger):
    state = some_state(tagger, 2)
    arrays = state.to_arrays()
    back = State.from_arrays(tagger.states, arrays)
    assert back == state
    arrays["lstm.0.h"][0, 0, 0] += 1
    assert back == state
    assert State.from_arrays(tagger.states, arrays) != state
    with pytest.raises(ValueError, match="read-only"):
        state["lstm.0.h"][0, 0, 0] = 1
    with pytest.raises(TypeError):
        state["lstm.0.h"] = arrays["lstm.0.h"]


@pytest.mark.parametrize(
    ("name", "array", "sentence"),
    [
        ("lstm.0.h", np.zeros((1, 2, 5)), "state 'lstm.0.h' must be a float32 array, got float64"),
        ("lstm.0.h", [[[0.0] * 5]], "state 'lstm.0.h' must be a float32 array, got list"),
        ("lstm.0.h", np.zeros((1, 2, 6), np.float32), r"has shape \[1, 2, 6\], expected \[1, batch, 5\]"),
        ("lstm.0.h", np.zeros((1, 0, 5), np.float32), r"has shape \[1, 0, 5\], expected \[1, batch, 5\]"),
        ("lstm.0.h", np.full((1, 2, 5), np.nan, np.float32), "state 'lstm.0.h' holds NaN or infinity"),
        ("lstm.0.h", np.zeros((1, 3, 5), np.float32), "different batch sizes: 3 in 'lstm.0.h', 2 in 'lstm.0.c'"),
        ("lstm.9.h", np.zeros((1, 2, 5), np.float32), "unknown state 'lstm.9.h'; the model has lstm.0.h"),
    ],
)
def test_wrong_state_arrays_get_a_sentence(tagger, name, array, sentence):
    with pytest.raises(InputError, match=sentence):
        State.from_arrays(tagger.states, tagger.initial_state(2).to_arrays() | {name: array})
