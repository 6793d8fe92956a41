"""Calibration: the Gram matrices are those of what each matrix multiplies, counted apart in NumPy; refusals."""

import hashlib

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from support.networks import NETWORKS, exported, random_inputs, random_network_state, session_of
from support.onnx_files import FLOAT, B, H, I, T, gru_model, lstm_model, model, weights

from lstm_edge_exporters.functions.simulation import quantize_rows
from lstm_edge_exporters.quantize.calibration import collect
from lstm_edge_runtime.errors import DataError, InputError, QuantizationError

pytestmark = pytest.mark.slow

# Gram matrices of float64 sums over rows that float32 gave: onnxruntime's LSTM against PyTorch's, 1e-6 a value, and
# now and then a value that is rounded to the next of 127 levels.
RTOL = 2e-2


def gram(rows: np.ndarray) -> np.ndarray:
    q, s = quantize_rows(np.ascontiguousarray(rows, np.float32).reshape(-1, rows.shape[-1]))
    seen = q * s.astype(np.float64)
    return seen.T @ seen


def assert_gram(got: np.ndarray, rows: np.ndarray) -> None:
    expected = gram(rows)
    np.testing.assert_allclose(got, expected, atol=RTOL * np.abs(expected).max())


def onnx_lstm(x, h, c, w, *, lengths=None, reverse=False):
    """One direction of ONNX's LSTM, step by step, row by row: the states before each valid step."""
    before = []
    for row in range(x.shape[1]):
        steps = range(len(x) if lengths is None else lengths[row])
        state, cell = h[row], c[row]
        for t in reversed(steps) if reverse else steps:
            before.append(state)
            z = w["W"] @ x[t, row] + w["R"] @ state + w["B"][: 4 * H] + w["B"][4 * H :]
            i, o, f, g = np.split(z, 4)
            i, o, f = (1 / (1 + np.exp(-a)) for a in (i, o, f))
            cell = f * cell + i * np.tanh(g)
            state = o * np.tanh(cell)
    return np.stack(before)


@pytest.mark.parametrize("ragged", [False, True], ids=["full-rows", "ragged"])
@pytest.mark.parametrize("state", [False, True], ids=["zero-state", "state"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_an_lstm_sees_its_own_states_and_no_padding(direction: str, state: bool, ragged: bool) -> None:
    data = lstm_model(direction, state=state, lengths=ragged, outputs=("Y_h",))
    sides = 2 if direction == "bidirectional" else 1
    rng = np.random.default_rng(3)
    lengths = np.array([T, 0, 2, 5], np.int32) if ragged else None
    assert B == 4
    feeds, used, before = [], [], [[] for _ in range(sides)]
    for _ in range(3):
        feed = {"x": rng.standard_normal((T, B, I)).astype(np.float32)}
        initial = np.zeros((2, sides, B, H), np.float32)
        if state:
            initial = rng.uniform(-0.9, 0.9, initial.shape).astype(np.float32)
            feed |= {"h0": initial[0], "c0": initial[1]}
        if lengths is not None:
            feed["rows"] = lengths
        feeds.append(feed)
        valid = np.arange(T)[:, None] < (np.full(B, T) if lengths is None else lengths)
        used.append(feed["x"][valid])
        for side in range(sides):
            arrays = {name: array[side] for name, array in weights(sides).items()}
            before[side].append(
                onnx_lstm(
                    feed["x"],
                    *initial[:, side],
                    arrays,
                    lengths=lengths,
                    reverse=direction == "reverse" or side == 1,
                )
            )
    calibration = collect(data, feeds)
    names = ["rnn.w", "rnn.r", "rnn_reverse.w", "rnn_reverse.r"][: 2 * sides]
    assert list(calibration.grams) == names
    for side, name in enumerate(("rnn", "rnn_reverse")[:sides]):
        assert_gram(calibration.grams[f"{name}.w"], np.concatenate(used))
        assert_gram(calibration.grams[f"{name}.r"], np.concatenate(before[side]))
    assert calibration.rows == 3 * (T * B if lengths is None else 13)
    assert calibration.missing == {}


@pytest.mark.parametrize("lengths", [False, True], ids=["full-rows", "ragged"])
def test_a_cell_of_ours_sees_its_cell_states_and_what_is_projected(lengths: bool) -> None:
    data = exported("full-projected-bidirectional", lengths=lengths)
    module = NETWORKS["full-projected-bidirectional"]()
    rng = np.random.default_rng(5)
    batch, time = 4, 9
    x = rng.standard_normal((batch, time, 3)).astype(np.float32)
    rows = np.array([9, 4, 7, 1]) if lengths else np.full(batch, time)
    session = session_of(data)
    state = dict(random_network_state(session, batch))
    feed = {"x": x} | state | ({"lengths": rows} if lengths else {})
    calibration = collect(data, [feed])
    parameters = {name: p.detach().numpy().astype(np.float64) for name, p in module.named_parameters()}
    checked = []
    for side, suffix in enumerate(("", "_reverse")):
        h0, c0 = state["lstm.0.h"][side], state["lstm.0.c"][side]
        for name, expected in full_cell(x, h0, c0, rows, parameters, suffix, reverse=side == 1).items():
            checked.append(f"lstm.0{suffix}.{name}")
            assert_gram(calibration.grams[checked[-1]], expected)
    assert checked == list(calibration.grams)


def full_cell(x, h0, c0, lengths, parameters, suffix, *, reverse):
    """The equations of the full peephole with projection, row by row; what each matrix multiplies."""
    seen = {name: [] for name in ("w", "r", "p", "po", "v")}
    p = {name.removesuffix(suffix): value for name, value in parameters.items() if name.endswith("_l0" + suffix)}
    sigmoid = lambda a: 1 / (1 + np.exp(-a))  # noqa: E731
    for row in range(len(x)):
        h, c = h0[row], c0[row]
        steps = range(lengths[row])
        for t in reversed(steps) if reverse else steps:
            seen["w"].append(x[row, t])
            seen["r"].append(h)
            seen["p"].append(c)
            z = p["weight_ih_l0"] @ x[row, t] + p["bias_ih_l0"] + p["weight_hh_l0"] @ h + p["bias_hh_l0"]
            i, f, g, o = np.split(z, 4)
            c_i, c_f, c_g, c_o = np.split(p["weight_ch_l0"], 4)
            i, f = sigmoid(i + c_i @ c), sigmoid(f + c_f @ c)
            c = f * c + i * np.tanh(g + c_g @ c)
            o = sigmoid(o + c_o @ c)
            seen["po"].append(c)
            seen["v"].append(o * np.tanh(c))
            h = p["weight_hr_l0"] @ (o * np.tanh(c))
    return {name: np.stack(rows) for name, rows in seen.items()}


def test_a_language_models_head_sees_the_last_layer() -> None:
    data = exported("language-model")
    session = session_of(data)
    feeds = [random_inputs(session, 3, 11, seed=seed) for seed in range(2)]
    calibration = collect(data, feeds)
    assert list(calibration.grams) == ["lstm.0.w", "lstm.0.r", "lstm.1.w", "lstm.1.r", "head.weight"]
    network = NETWORKS["language-model"]()
    with torch.no_grad():
        embedded = [network.embedding(torch.from_numpy(feed["ids"])) for feed in feeds]
        outputs = [network.lstm(e)[0].numpy() for e in embedded]
    assert_gram(calibration.grams["lstm.0.w"], np.concatenate([e.numpy() for e in embedded]))
    assert_gram(calibration.grams["head.weight"], np.concatenate(outputs))
    before = [np.concatenate([np.zeros_like(y[:, :1]), y[:, :-1]], axis=1) for y in outputs]
    assert_gram(calibration.grams["lstm.1.r"], np.concatenate(before))
    assert calibration.rows == 66


def test_rows_count_as_the_kernels_see_them_and_zeros_not_at_all() -> None:
    """Rounded to int8 by row, which moves the sums by more than float64 does."""
    nodes = [helper.make_node("MatMul", ["x", "M"], ["y"], name="head/MatMul")]
    data = model(nodes, {"x": (FLOAT, ["b", "t", 5])}, {"y": ["b", "t", 3]}, {"M": np.ones((5, 3), np.float32)})
    x = np.random.default_rng(0).standard_normal((4, 6, 5)).astype(np.float32)
    x[1, 2:] = 0.0
    calibration = collect(data, [{"x": x}])
    assert calibration.rows == 20
    got, rows = calibration.grams["head.weight"], x.reshape(-1, 5).astype(np.float64)
    np.testing.assert_allclose(got, gram(x), rtol=1e-12)
    assert np.abs(got - rows.T @ rows).max() > 1e-3


def test_one_run_of_many_rows_is_many_runs_of_one() -> None:
    data = exported("language-model")
    ids = random_inputs(session_of(data), 4, 9)["ids"]
    whole, parts = collect(data, [{"ids": ids}]), collect(data, ({"ids": ids[i : i + 1]} for i in range(4)))
    for name, expected in whole.grams.items():
        np.testing.assert_allclose(parts.grams[name], expected, atol=RTOL * np.abs(expected).max())
    assert whole.rows == parts.rows
    assert whole.sha256 != parts.sha256


def test_the_hash_is_of_the_data() -> None:
    data = exported("language-model")
    ids = random_inputs(session_of(data), 4, 9)["ids"]
    other = ids.copy()
    other[2, 3] = (other[2, 3] + 1) % 17
    digests = [collect(data, [{"ids": array}]).sha256 for array in (ids, ids.copy(), other)]
    assert digests[0] == digests[1] != digests[2]
    assert digests[0] == hashlib.sha256(b"ids <i8 (4, 9)\n" + ids.tobytes()).hexdigest()


@pytest.mark.parametrize("after", [0, 1])
def test_a_gru_whose_candidate_sees_other_rows_says_so(after: int) -> None:
    feeds = [{"x": np.random.default_rng(0).standard_normal((T, B, I)).astype(np.float32)}]
    calibration = collect(gru_model(linear_before_reset=after), feeds)
    if after:
        assert list(calibration.grams) == ["rnn.w", "rnn.r"]
        assert calibration.missing == {}
    else:
        assert list(calibration.grams) == ["rnn.w"]
        assert calibration.missing == {
            "rnn.r": "its reset gate acts on h before the product, so that the candidate sees r · h, "
            "which is not collected"
        }


def nested_model(*, linear: bool) -> bytes:
    """An LSTM in each branch of an If, and a linear layer outside of it."""
    inner = weights(1)
    names = {name: f"{name}_in" for name in ("W", "R", "B")}
    node = helper.make_node("LSTM", ["x", *names.values()], ["Y", "", ""], name="inner", hidden_size=H)
    initializers = [onnx.numpy_helper.from_array(inner[name], names[name]) for name in names]
    then = helper.make_graph(
        [node], "then", [], [helper.make_tensor_value_info("Y", FLOAT, ["time", 1, "batch", H])], initializers
    )
    zeros = helper.make_node("LSTM", ["x", "W_out", "R_out"], ["Z", "", ""], name="other", hidden_size=H)
    more = [onnx.numpy_helper.from_array(inner[name], f"{name}_out") for name in ("W", "R")]
    otherwise = helper.make_graph(
        [zeros], "else", [], [helper.make_tensor_value_info("Z", FLOAT, ["time", 1, "batch", H])], more
    )
    nodes = [
        helper.make_node("If", ["flag"], ["chosen"], name="if", then_branch=then, else_branch=otherwise),
        helper.make_node("MatMul", ["x", "M"], ["y"], name="head/MatMul"),
    ]
    matrix = np.random.default_rng(1).standard_normal((I, 4)).astype(np.float32)
    inputs = {"x": (FLOAT, ["time", "batch", I]), "flag": (TensorProto.BOOL, [])}
    outputs = {"chosen": ["time", 1, "batch", H], "y": ["time", "batch", 4]}
    if not linear:
        del nodes[1], outputs["y"]
    return model(nodes, inputs, outputs, {"M": matrix} if linear else {})


@pytest.mark.parametrize("linear", [True, False])
def test_a_layer_inside_a_branch_is_named_with_the_reason(linear: bool) -> None:
    x = np.random.default_rng(0).standard_normal((T, B, I)).astype(np.float32)
    calibration = collect(nested_model(linear=linear), [{"x": x, "flag": np.asarray(True)}])
    assert list(calibration.grams) == ["head.weight"][:linear]
    assert calibration.rows == linear * T * B
    assert set(calibration.missing) == {"inner.w", "inner.r", "other.w", "other.r"}
    assert set(calibration.missing.values()) == {
        "it stands inside the body of an If, Loop or Scan, whose values cannot be read from outside"
    }


def test_layers_of_one_name_are_told_apart_by_their_weights() -> None:
    rng = np.random.default_rng(0)
    matrices = {f"M{i}": rng.standard_normal((4, 4)).astype(np.float32) for i in range(2)}
    x = rng.standard_normal((9, 4)).astype(np.float32)
    for second in ("M0", "M1"):
        nodes = [
            helper.make_node("MatMul", ["x", "M0"], ["h"], name="twice/MatMul"),
            helper.make_node("MatMul", ["h", second], ["y"], name="twice/MatMul_1"),
        ]
        used = {name: matrices[name] for name in {"M0", second}}
        data = model(nodes, {"x": (FLOAT, ["batch", 4])}, {"y": ["batch", 4]}, used)
        if second == "M0":
            rows = np.concatenate([x, x @ matrices["M0"]])
            assert_gram(collect(data, [{"x": x}]).grams["twice.weight"], rows)
        else:
            with pytest.raises(DataError, match=r"twice\.weight: another layer with other weights has the same name"):
                collect(data, [{"x": x}])


def test_too_few_rows_are_no_calibration() -> None:
    data = exported("language-model")
    ids = random_inputs(session_of(data), 1, 8)["ids"]
    calibration = collect(data, [{"ids": ids}])
    # 8 rows are enough for the 8 columns of the embedding, not for the 9 cells.
    assert list(calibration.grams) == ["lstm.0.w"]
    assert calibration.missing["lstm.0.r"] == "8 rows of activations, expected 9 or more: give more samples"
    with pytest.raises(DataError, match=r"no layer can be calibrated \(lstm\.0\.w: 7 rows of activations"):
        collect(data, [{"ids": ids[:, :7]}])
    with pytest.raises(DataError, match="there is no data: expected at least one feed"):
        collect(data, [])


def test_feeds_that_do_not_fit_are_refused_by_number() -> None:
    data = exported("tagger", lengths=True)
    good = random_inputs(session_of(data), 2, 9)
    bad = good["x"].copy()
    bad[1, 2, 3] = np.nan
    cases = {
        r"feed 2: unknown input 'y'; the model's inputs are 'x'": {"y": good["x"]},
        r"feed 2: input 'x' has dtype float64, expected float32": {"x": good["x"].astype(np.float64)},
        r"feed 2: input 'x' has shape \[2, 9, 5\], expected \[batch, time, 6\]": {"x": good["x"][:, :, :5]},
        r"feed 2: input 'x' holds nan at index \[1, 2, 3\]": {"x": bad},
        r"feed 2: lengths\[1\] is 10, expected 0 to 9": good | {"lengths": np.array([9, 10])},
        r"feed 2: state 'lstm.0.h' has shape \[1, 5\]": good | {"lstm.0.h": np.zeros((1, 5), np.float32)},
        r"feed 2: the states have 3 rows, the inputs 2": good
        | {f"lstm.{i}.{k}": np.zeros((1, 3, 5), np.float32) for i in (0, 1) for k in "hc"},
    }
    for sentence, feed in cases.items():
        with pytest.raises(InputError, match=sentence):
            collect(data, [good, feed])


def test_what_onnxruntime_refuses_is_a_sentence() -> None:
    with pytest.raises(InputError, match="calibration feed 1: onnxruntime refused it"):
        collect(exported("language-model"), [{"ids": np.full((2, 9), 99)}])


def test_activations_that_are_infinite_are_refused() -> None:
    nodes = [
        helper.make_node("Exp", ["x"], ["e"], name="exp"),
        helper.make_node("MatMul", ["e", "M"], ["y"], name="head/MatMul"),
    ]
    data = model(nodes, {"x": (FLOAT, ["b", 2])}, {"y": ["b", 3]}, {"M": np.ones((2, 3), np.float32)})
    with pytest.raises(DataError, match=r"the activations that head\.weight multiplies hold NaN or infinity"):
        collect(data, [{"x": np.full((4, 2), 100.0, np.float32)}])


def test_a_model_without_matrices_has_nothing_to_calibrate() -> None:
    nodes = [helper.make_node("Exp", ["x"], ["y"], name="exp")]
    data = model(nodes, {"x": (FLOAT, ["b", 2])}, {"y": ["b", 2]}, {})
    with pytest.raises(QuantizationError, match="no float32 recurrent or linear layer"):
        collect(data, [{"x": np.ones((4, 2), np.float32)}])


def test_progress_counts_runs_and_rows() -> None:
    lines: list[str] = []
    data = exported("language-model")
    ids = random_inputs(session_of(data), 4, 9)["ids"]
    collect(data, [{"ids": ids}, {"ids": ids}], progress=lines.append)
    assert lines == ["calibrating: 1 runs, 36 rows of activations", "calibrating: 2 runs, 72 rows of activations"]
