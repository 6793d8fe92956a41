"""The oracle against PyTorch, a hand-written step, and the mutation table."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.cases import CASES, LstmCase, build_layer, case_inputs, case_weights, layer_answer, reference_answer
from support.mutations import MUTATIONS, Mutation
from torch import nn

from lstm_edge import reference
from lstm_edge_exporters.verify.compare import CLOSE, EXACT, FLOAT64, assert_close
from lstm_edge_runtime.errors import InputError, ParityError

TORCH_CASES = [case for case in CASES if case.peephole == "none"]


def torch_answer(case: LstmCase) -> dict[str, np.ndarray]:
    """nn.LSTM in float64, one row at a time, so that neither packing nor our layer takes part."""
    lstm = nn.LSTM(
        case.input,
        case.hidden,
        case.layers,
        bias=case.bias,
        bidirectional=case.bidirectional,
        proj_size=case.projection,
    ).double()
    lstm.load_state_dict(build_layer(case).state_dict())
    given = {name: torch.from_numpy(value) for name, value in case_inputs(case).items()}
    x, h, c = given["x"].double(), given["h"].double(), given["c"].double()
    lengths = case.lengths or (case.time,) * case.batch
    y = torch.zeros(case.time, case.batch, h.shape[2] * (2 if case.bidirectional else 1), dtype=torch.float64)
    final_h, final_c = h.clone(), c.clone()
    for b, length in enumerate(lengths):
        if length > 0:
            rows = slice(b, b + 1)
            state = (h[:, rows].contiguous(), c[:, rows].contiguous())
            with torch.no_grad():
                y[:length, rows], (final_h[:, rows], final_c[:, rows]) = lstm(x[:length, rows].contiguous(), state)
    return {"y": y.numpy(), "h": final_h.numpy(), "c": final_c.numpy()}


@pytest.mark.parametrize("case", TORCH_CASES, ids=str)
def test_reference_equals_torch_in_float64(case: LstmCase) -> None:
    expected, got = torch_answer(case), reference_answer(case)
    for part in ("y", "h", "c"):
        assert_close(part, got[part], expected[part], FLOAT64)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_reference_equals_our_layer_in_float64(case: LstmCase) -> None:
    expected, got = layer_answer(case, dtype=torch.float64), reference_answer(case)
    for part in ("y", "h", "c"):
        assert_close(part, got[part], expected[part], FLOAT64)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_our_layer_in_float32_is_close_to_the_reference(case: LstmCase) -> None:
    expected, got = reference_answer(case), layer_answer(case)
    for part in ("y", "h", "c"):
        assert_close(part, got[part], expected[part].astype(np.float32), CLOSE)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_comparator_catches_the_wrong_equation(mutation: Mutation) -> None:
    right, wrong = reference_answer(mutation.case), mutation.answer(mutation.case)
    expected, got = right[mutation.seen_in].astype(np.float32), wrong[mutation.seen_in].astype(np.float32)
    with pytest.raises(ParityError, match=rf"^{mutation.seen_in}: differs by .* tolerance CLOSE is 2e-06$"):
        assert_close(mutation.seen_in, got, expected, CLOSE)


def test_mutations_have_names_of_their_own() -> None:
    names = [mutation.name for mutation in MUTATIONS]
    assert len(set(names)) == len(names) >= 10


def test_one_full_peephole_step_by_hand() -> None:
    """H = 2, I = 1, B = 1: every gate spelled out in scalars."""
    x, h1, h2, c1, c2 = 0.7, 0.2, -0.4, 0.9, -1.1
    w_x = [0.1, -0.2, 0.3, -0.4, 0.5, -0.6, 0.7, -0.8]
    w_h = [
        [0.11, 0.12],
        [0.21, 0.22],
        [-0.31, 0.32],
        [0.41, -0.42],
        [0.51, 0.52],
        [0.61, 0.62],
        [0.71, 0.72],
        [-0.8, 0.9],
    ]
    w_c = [[0.15, -0.25], [0.35, 0.45], [0.55, -0.65], [0.75, 0.85], [-0.95, 0.05], [0.3, 0.6], [0.4, -0.7], [0.2, 0.1]]
    b_x = [0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08]
    b_h = [-0.3, 0.3, 0.2, -0.2, 0.1, -0.1, 0.4, -0.4]

    def logistic(a: float) -> float:
        return 1.0 / (1.0 + math.exp(-a))

    def total(row: int, seen1: float, seen2: float) -> float:
        recurrent = w_h[row][0] * h1 + w_h[row][1] * h2
        return w_x[row] * x + recurrent + w_c[row][0] * seen1 + w_c[row][1] * seen2 + b_x[row] + b_h[row]

    i1, i2 = logistic(total(0, c1, c2)), logistic(total(1, c1, c2))
    f1, f2 = logistic(total(2, c1, c2)), logistic(total(3, c1, c2))
    g1, g2 = math.tanh(total(4, c1, c2)), math.tanh(total(5, c1, c2))
    new1, new2 = f1 * c1 + i1 * g1, f2 * c2 + i2 * g2
    o1, o2 = logistic(total(6, new1, new2)), logistic(total(7, new1, new2))

    y, (h, c) = reference.lstm(
        np.array([[[x]]]),
        {
            "weight_ih_l0": np.array(w_x)[:, None],
            "weight_hh_l0": np.array(w_h),
            "weight_ch_l0": np.array(w_c),
            "bias_ih_l0": np.array(b_x),
            "bias_hh_l0": np.array(b_h),
        },
        hidden_size=2,
        peephole="full",
        state=(np.array([[[h1, h2]]]), np.array([[[c1, c2]]])),
    )
    assert_close("c", c, np.array([[[new1, new2]]]), FLOAT64)
    assert_close("h", h, np.array([[[o1 * math.tanh(new1), o2 * math.tanh(new2)]]]), FLOAT64)
    assert_close("y", y, h, EXACT)


def test_sigmoid_neither_overflows_nor_loses_small_values() -> None:
    got = reference.sigmoid(np.array([-745.0, -40.0, 0.0, 40.0, 1e300]))
    np.testing.assert_allclose(got, [5e-324, math.exp(-40.0), 0.5, 1.0, 1.0], rtol=1e-15)


def test_a_missing_state_is_zeros_and_missing_biases_are_zeros() -> None:
    case = CASES[0]
    inputs = case_inputs(case)
    weights = case_weights(case)
    zeros = {name: np.zeros_like(value) if name.startswith("bias") else value for name, value in weights.items()}
    expected = reference_answer(case, weights=zeros, inputs={**inputs, "h": 0 * inputs["h"], "c": 0 * inputs["c"]})
    without = {name: value for name, value in weights.items() if not name.startswith("bias")}
    y, (h, c) = reference.lstm(inputs["x"], without, hidden_size=case.hidden)
    for part, got in {"y": y, "h": h, "c": c}.items():
        assert_close(part, got, expected[part], EXACT)


@st.composite
def random_cases(draw: st.DrawFn) -> LstmCase:
    hidden = draw(st.integers(2, 6))
    batch, time = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    ragged = draw(st.booleans())
    return LstmCase(
        name=f"random-{draw(st.integers(0, 10**6))}",
        input=draw(st.integers(1, 6)),
        hidden=hidden,
        layers=draw(st.integers(1, 3)),
        bidirectional=draw(st.booleans()),
        peephole=draw(st.sampled_from(["none", "diagonal", "full"])),
        projection=draw(st.integers(0, hidden - 1)),
        bias=draw(st.booleans()),
        batch=batch,
        time=time,
        lengths=tuple(draw(st.lists(st.integers(0, time), min_size=batch, max_size=batch))) if ragged else None,
        state=draw(st.booleans()),
    )


@settings(max_examples=60, deadline=None)
@given(case=random_cases())
def test_reference_layer_and_torch_agree_on_any_shape(case: LstmCase) -> None:
    expected = reference_answer(case)
    answers = [layer_answer(case, dtype=torch.float64)]
    if case.peephole == "none":
        answers.append(torch_answer(case))
    for got in answers:
        for part in ("y", "h", "c"):
            assert_close(part, got[part], expected[part], FLOAT64)


@settings(max_examples=20, deadline=None)
@given(case=random_cases(), cut=st.integers(0, 6))
def test_two_chunks_give_the_whole_sequence(case: LstmCase, cut: int) -> None:
    """Only forward layers without lengths can be cut; the state carries everything across."""
    inputs = case_inputs(case)
    run = {
        "weights": case_weights(case),
        "hidden_size": case.hidden,
        "num_layers": case.layers,
        "peephole": case.peephole,
        "proj_size": case.projection,
    }
    if case.bidirectional:
        run["weights"] = case_weights(LstmCase(**{**case.__dict__, "bidirectional": False}))
    h, c = inputs["h"][: case.layers], inputs["c"][: case.layers]
    whole, state = reference.lstm(inputs["x"], state=(h, c), **run)
    first, between = reference.lstm(inputs["x"][:cut], state=(h, c), **run)
    second, final = reference.lstm(inputs["x"][cut:], state=between, **run)
    assert_close("y", np.concatenate([first, second]), whole, FLOAT64)
    for part, got, expected in zip("hc", final, state, strict=True):
        assert_close(part, got, expected, FLOAT64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros((7, 2))}, r"x: got shape \(7, 2\), expected \(None, None, None\)"),
        ({"h": np.zeros((1, 3, 5))}, r"h: got shape \(1, 3, 5\), expected \(1, 2, 5\)"),
        ({"lengths": np.array([8, 1])}, r"lengths: got \[8, 1\], expected values from 0 to 7"),
        ({"lengths": np.array([-1, 1])}, r"lengths: got \[-1, 1\], expected values from 0 to 7"),
        ({"lengths": np.array([1.0, 2.0])}, r"lengths: got float64 \(2,\), expected integers \(2,\)"),
    ],
)
def test_wrong_inputs_are_refused_with_a_sentence(change: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}$"):
        reference_answer(CASES[0], inputs={**case_inputs(CASES[0]), **change})


def test_wrong_weights_are_refused_with_a_sentence() -> None:
    weights = case_weights(CASES[0])
    with pytest.raises(InputError, match=r"^weight_ih_l0: got shape \(20, 2\), expected \(20, 3\)$"):
        reference_answer(CASES[0], weights={**weights, "weight_ih_l0": np.zeros((20, 2))})
    del weights["bias_hh_l0"]
    with pytest.raises(InputError, match=r"^weights: bias_hh_l0 is missing, expected an array of shape \(20,\)$"):
        reference_answer(CASES[0], weights=weights)
    with pytest.raises(InputError, match=r"^peephole: got 'half', expected none, diagonal or full$"):
        reference.lstm(case_inputs(CASES[0])["x"], case_weights(CASES[0]), hidden_size=5, peephole="half")
