"""Input specifications as people write them, axes guessed from examples, and made-up inputs."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.networks import NETWORKS, LanguageModel
from torch import nn

from lstm_edge_exporters.pytorch.calls import recurrent_modules
from lstm_edge_exporters.pytorch.inputs import infer_specs, moments_of, smallest_embedding
from lstm_edge_exporters.verify.inputs import DTYPES, InputMaker, parse_input
from lstm_edge_runtime.card import TensorSpec
from lstm_edge_runtime.errors import CaptureError, InputError

NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,9}", fullmatch=True)
AXES = st.lists(st.one_of(NAMES, st.integers(1, 10**9)), max_size=5).filter(
    lambda axes: len([a for a in axes if isinstance(a, str)]) == len({a for a in axes if isinstance(a, str)})
)


@given(NAMES, st.sampled_from(DTYPES), AXES, st.sampled_from(["", " ", "  \t"]))
def test_what_is_written_is_what_is_read(name: str, dtype: str, axes: list, space: str) -> None:
    text = f"{space}{name}{space}:{space}{dtype}{space}[{f'{space},{space}'.join(map(str, axes))}{space}]{space}"
    assert parse_input(text) == TensorSpec(name=name, dtype=dtype, axes=tuple(axes))


@given(
    st.one_of(
        st.text(),
        st.text(alphabet="x:float32[]batch, 0123456789-٣²"),
        st.builds("{}: float32[{}]".format, NAMES, st.text(max_size=20)),
    )
)
def test_any_other_text_is_an_input_error(text: str) -> None:
    try:
        spec = parse_input(text)
    except InputError:
        return
    # What was accepted is what the text says: written out, it reads back the same.
    assert parse_input(f"{spec.name}: {spec.dtype}[{', '.join(map(str, spec.axes))}]") == spec
    assert all(axis != "" and axis != 0 for axis in spec.axes)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x", "input 'x' must look like \"x: float32[batch, time, 40]\""),
        ("x: float32", "input 'x: float32' must look like \"x: float32[batch, time, 40]\""),
        ("x: float16[batch]", "input x: dtype must be one of float32, int64, int32, bool, got float16"),
        ("x: float32[batch, -1]", "input x: axis '-1' must be a name or a positive number"),
        ("x: float32[batch, 0]", "input x: axis '0' must be a name or a positive number"),
        ("x: float32[batch,, 3]", "input x: axis '' must be a name or a positive number"),
        ("x: float32[time, time]", "input x: an axis name is given twice in 'x: float32[time, time]'"),
    ],
)
def test_sentences(text: str, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_input(text)
    assert str(caught.value) == sentence


def test_axes_follow_the_recurrent_layer() -> None:
    example = {"x": torch.zeros(2, 5, 3)}
    assert infer_specs(recurrent_modules(nn.LSTM(3, 5)), example)[0].axes == ("time", "batch", 3)
    assert infer_specs(recurrent_modules(nn.LSTM(3, 5, batch_first=True)), example)[0].axes == ("batch", "time", 3)
    ids = infer_specs(recurrent_modules(NETWORKS["language-model"]()), {"ids": torch.zeros(2, 5, dtype=torch.int64)})
    assert ids == (TensorSpec(name="ids", dtype="int64", axes=("batch", "time")),)


def test_a_cell_says_nothing_about_the_order_of_the_axes() -> None:
    example = {"x": torch.zeros(2, 5, 3)}
    for cell in (nn.LSTMCell(3, 5), nn.GRUCell(3, 5)):
        with pytest.raises(CaptureError) as caught:
            infer_specs(recurrent_modules(cell), example)
        assert str(caught.value) == (
            "the module has cells only (nn.LSTMCell, nn.GRUCell, nn.RNNCell), which do not say where batch and time "
            "are: give inputs=[...] to say which axis is which"
        )
    disagree = nn.ModuleList([nn.GRU(3, 3, batch_first=True), nn.LSTM(3, 5)])
    with pytest.raises(CaptureError, match=r"^some recurrent layers are batch_first and some are not: give inputs="):
        infer_specs(recurrent_modules(disagree), example)
    both = nn.ModuleList([nn.GRU(3, 3, batch_first=True), nn.LSTMCell(3, 5)])
    assert infer_specs(recurrent_modules(both), example)[0].axes == ("batch", "time", 3)


def test_made_up_inputs_are_of_the_kind_that_was_asked_for() -> None:
    specs = [parse_input(f"{name}: {dtype}[time, 4, batch, other]") for name, dtype in zip("fijb", DTYPES, strict=True)]
    example = torch.linspace(40, 60, 240).reshape(5, 4, 3, 4)
    maker = InputMaker(specs, ids_below=7, moments=moments_of({"f": example}))
    made = maker.make(np.random.default_rng(0), batch=50, time=20)
    for name, dtype in zip("fijb", DTYPES, strict=True):
        assert (made[name].dtype, made[name].shape) == (np.dtype(dtype), (20, 4, 50, 3))
    assert set(np.unique(made["i"])) == set(range(7)) == set(np.unique(made["j"]))
    assert abs(made["f"].mean() - 50) < 1
    assert abs(made["f"].std() - float(example.std())) < 0.5
    again = maker.make(np.random.default_rng(0), batch=50, time=20)
    assert all(np.array_equal(made[name], again[name]) for name in made)


def test_ids_stay_below_the_smallest_table() -> None:
    assert smallest_embedding(nn.ModuleList([nn.Embedding(9, 2), nn.Embedding(5, 2)])) == 5
    assert smallest_embedding(LanguageModel()) == 17
    assert smallest_embedding(nn.LSTM(3, 5)) == 2


def test_drawn_inputs_are_what_their_dtype_can_be() -> None:
    specs = [parse_input("flags: bool[64]"), parse_input("ids: int64[64]"), parse_input("x: float32[64]")]
    drawn = InputMaker(specs, ids_below=7).make_sized(np.random.default_rng(0), {})
    assert set(drawn["flags"].tolist()) == {False, True}
    assert set(drawn["ids"].tolist()) == set(range(7))
    # Multiples of 1/64 keep golden inputs small in a compressed file.
    np.testing.assert_array_equal(drawn["x"] * 64, np.round(drawn["x"] * 64))
    assert len(np.unique(drawn["x"] * 64 % 2)) == 2
