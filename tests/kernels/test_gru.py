"""The kernels of GRU and RNN: the model's bits in every batch, in chunks and on threads; edges; malformed nodes."""

import threading

import numpy as np
import pytest
from kernel_cases import (
    FILLS,
    GRUS,
    INT4,
    INT8,
    RNNS,
    answers,
    assert_bits,
    feeds_of,
    gru,
    one_node,
    one_state,
    resized,
    with_scheme,
)
from support.networks import snr_db
from support.onnx_files import gru_model

from lstm_edge_exporters.functions.names import GruVariant, RnnVariant
from lstm_edge_exporters.quantize import quantize_bytes
from lstm_edge_exporters.quantize.rounding import Scheme
from lstm_edge_runtime.errors import ArtifactError
from lstm_edge_runtime.providers import RUNTIME_ERRORS, open_session
from lstm_edge_runtime.selftest import self_test
from lstm_edge_runtime.session import Session

CELLS = (*GRUS, *RNNS)
# I, H and T, B: one input or cell, sizes that fill no vector, exact multiples, more than a tile of n, a long sequence.
SIZES = (
    ((5, 17), (4, 7)),
    ((1, 1), (3, 2)),
    ((5, 3), (1, 1)),
    ((33, 100), (2, 19)),
    ((16, 64), (9, 3)),
    ((7, 32), (100, 2)),
)
# A rounding that turns by one step where the body's own sigmoid differs in its last bits; see test_answers.
FLIP = 5e-2
TIME, ROWS = 24, 37  # two whole groups of 16 rows and a part of one


def names(variant):
    return variant.name


def made(variant, inputs=40, hidden=50, seed=2):
    return one_state(variant, inputs, hidden, with_scheme(variant)[-1], seed=seed)


def run(session, feeds):
    return session.run(["y", "h_out"], feeds)


def rows_of(feeds, rows):
    return {name: array[rows] if name == "lengths" else array[:, rows] for name, array in feeds.items()}


@pytest.mark.parametrize("variant", CELLS, ids=names)
def test_kernels_give_the_models_bits(kernel, variant):
    for number, (sizes, (time, batch)) in enumerate(SIZES):
        schemes = with_scheme(variant)
        operator = one_state(variant, *sizes, schemes[number % len(schemes)], seed=number)
        feeds = feeds_of(operator, time, batch, seed=number)
        assert_bits(answers(kernel(operator.model), operator, feeds), operator.expected(feeds), f"{operator} T={time}")


@pytest.mark.parametrize(
    "variant",
    [GruVariant(storage="int4"), GruVariant(storage="int4", reset_after=True), RnnVariant(storage="int4", relu=True)],
    ids=names,
)
@pytest.mark.parametrize("blocks", [(32, 128), (128, 32)])
def test_each_matrix_has_blocks_of_its_own(kernel, blocks, variant):
    operator = one_state(variant, 40, 200, INT4[0])
    weights = dict(operator.weights)
    for name, block in zip("wr", blocks, strict=True):
        other = one_state(variant, 40, 200, Scheme(kind="int4", block=block)).weights
        weights |= {key: other[key] for key in (name, f"{name}_scale", f"{name}_zero")}
    feeds = feeds_of(operator, 6, 3)
    session = kernel(one_node(variant.name, variant.inputs, ("y", "h_out"), weights))
    mixed = type(operator)(
        name=variant.name, sizes=operator.sizes, weights=weights, variant=variant, model=operator.model
    )
    assert_bits(answers(session, mixed, feeds), mixed.expected(feeds), str(blocks))


@pytest.mark.parametrize("variant", CELLS, ids=names)
def test_kernels_and_bodies_agree_but_for_flips(kernel, variant):
    differences = []
    for scheme in with_scheme(variant)[:2]:
        operator = one_state(variant, 12, 17, scheme, seed=3)
        feeds = feeds_of(operator, 5, 6, seed=3)
        bodies = answers(open_session(operator.model), operator, feeds)
        for name, got in answers(kernel(operator.model), operator, feeds).items():
            assert got.shape == bodies[name].shape
            differences.append(np.abs(got - bodies[name]).ravel())
    found = np.concatenate(differences)
    assert np.median(found) < 1e-6
    assert found.max() < FLIP


@pytest.mark.parametrize("reset_after", [False, True])
def test_int8_beyond_1040_inputs(kernel, reset_after):
    # Every activation at its largest: without the bound on a column's sum, 1,100 · 127 · 127 > 2**24.
    operator = gru(GruVariant(reset_after=reset_after), 1100, 24, INT8, seed=9)
    feeds = feeds_of(operator, 3, 2, seed=9)
    feeds["x"] = np.sign(feeds["x"]) * np.float32(3.5)
    assert_bits(answers(kernel(operator.model), operator, feeds), operator.expected(feeds), str(operator))


@pytest.mark.parametrize("variant", CELLS, ids=names)
def test_a_row_does_not_see_its_batch(kernel, variant):
    operator = made(variant)
    session, feeds = kernel(operator.model), feeds_of(operator, TIME, ROWS)
    # Rows of very different sizes: a scale shared between rows would show.
    feeds["x"] *= np.exp2(np.arange(ROWS) % 9)[None, :, None].astype(np.float32)
    together = run(session, feeds)
    for rows in (slice(0, 1), slice(5, 7), slice(15, 18), slice(36, 37), slice(16, 32)):
        for whole, part in zip(together, run(session, rows_of(feeds, rows)), strict=True):
            assert part.tobytes() == whole[:, rows].tobytes(), f"rows {rows}"


@pytest.mark.parametrize("variant", [v for v in CELLS if not v.ragged], ids=names)
@pytest.mark.parametrize("batch", [1, 5])
def test_chunks_give_the_whole_sequence(kernel, variant, batch):
    operator = made(variant)
    session, feeds = kernel(operator.model), feeds_of(operator, TIME, batch)
    y, h = run(session, feeds)
    for cut in ((1,) * TIME, (2, TIME - 3, 1), (TIME - 1, 1), (12, 12), (7, 17)):
        state, parts, start = feeds["h"], [], 0
        for steps in cut:
            part, state = run(session, {"x": feeds["x"][start : start + steps], "h": state})
            parts.append(part)
            start += steps
        assert np.concatenate(parts).tobytes() == y.tobytes(), cut
        assert state.tobytes() == h.tobytes(), cut


@pytest.mark.parametrize("variant", CELLS, ids=names)
def test_threads_change_nothing(kernel, variant):
    # 64 rows of 40 + 50 inputs and 150 columns over 24 steps: enough work that groups go to several threads.
    operator = made(variant)
    feeds = feeds_of(operator, TIME, 64)
    one = run(kernel(operator.model), feeds)
    for threads in (2, 4):
        for answer, expected in zip(run(kernel(operator.model, threads=threads), feeds), one, strict=True):
            assert answer.tobytes() == expected.tobytes(), threads


@pytest.mark.parametrize(
    "variant", [GruVariant(), GruVariant(storage="int4", reset_after=True), RnnVariant()], ids=names
)
def test_four_threads_on_one_session(kernel, variant):
    session, operator = kernel(made(variant).model), made(variant)
    # Shapes differ, so that a buffer shared between calls would be too small, or seen by the other.
    given = [feeds_of(operator, 3 + 4 * number, 1 + 9 * number, seed=number) for number in range(4)]
    serial = [[array.tobytes() for array in run(session, feeds)] for feeds in given]
    wrong: list[int] = []
    start = threading.Barrier(4)

    def work(number):
        start.wait()
        for _ in range(25):
            if [array.tobytes() for array in run(session, given[number])] != serial[number]:
                wrong.append(number)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("variant", [v for v in CELLS if not v.ragged], ids=names)
@np.errstate(over="ignore", invalid="ignore")
def test_extreme_values_give_the_models_bits(kernel, variant, fill):
    operator = made(variant, 19, 21)
    session = kernel(operator.model)
    for which in (("x",), ("h",), ("x", "h")):
        relu = isinstance(variant, RnnVariant) and variant.relu
        if fill == "the largest float" and (len(which) == 2 or relu):
            continue  # products overflow, and infinity (less infinity, or as a state) is outside of the domain
        feeds = feeds_of(operator, 6, 3)
        for name in which:
            feeds[name][:, 1:] = FILLS[fill](feeds[name][:, 1:])  # one row stays: it must not notice
        assert_bits(answers(session, operator, feeds), operator.expected(feeds), f"{fill} in {which}")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("variant", [v for v in CELLS if not v.ragged], ids=names)
def test_what_is_not_finite_stays_in_its_row(kernel, variant, value):
    operator = made(variant, 70, 67)
    session, feeds = kernel(operator.model), feeds_of(operator, 4, 3)
    expected = answers(session, operator, feeds)
    for name in ("x", "h"):
        bad = {key: array.copy() for key, array in feeds.items()}
        bad[name][0, 1, 2:] = value
        for key, array in answers(session, operator, bad).items():
            assert array[:, [0, 2]].tobytes() == expected[key][:, [0, 2]].tobytes()
            if np.isnan(value):
                assert np.isnan(array[-1, 1]).all(), (name, key)


@pytest.mark.parametrize("variant", [v for v in CELLS if v.ragged], ids=names)
def test_lengths_of_every_kind(kernel, variant):
    operator = made(variant, 6, 11)
    session, feeds = kernel(operator.model), feeds_of(operator, 5, 20)
    feeds["lengths"] = np.arange(20, dtype=np.int64) % 6
    got = answers(session, operator, feeds)
    assert_bits(got, operator.expected(feeds), str(operator))
    assert got["h_out"][:, ::6].tobytes() == feeds["h"][:, ::6].tobytes()
    past = np.arange(5)[:, None] >= feeds["lengths"][None]
    assert not got["y"][past].any()
    # Session refuses lengths out of range; a bare session must not read or write past a buffer.
    for length, same_as in ((-1, 0), (-(2**63), 0), (6, 5), (2**63 - 1, 5)):
        few = rows_of(feeds, slice(0, 3))
        wild, tame = (answers(session, operator, few | {"lengths": np.array([3, n, 5])}) for n in (length, same_as))
        assert_bits(wild, tame, str(length))


@pytest.mark.slow
@pytest.mark.parametrize("variant", [v for v in CELLS if not v.ragged], ids=names)
def test_a_constant_of_any_other_shape_is_refused(kernel, variant):
    operator = made(variant, 66, 20)

    def remade(weights):
        return one_node(variant.name, variant.inputs, operator.outputs, weights, body=False)

    kernel(remade(operator.weights))  # as it is, it opens
    refused = 0
    for name, array in operator.weights.items():
        for axis in range(array.ndim):
            for by in (-1, 1):
                if name == "w" and axis == 0:
                    continue  # the number of inputs is whatever w says
                with pytest.raises(ArtifactError, match=rf"{variant.name}: (input \w+ has shape|[a-z ]+)"):
                    kernel(remade(dict(operator.weights) | {name: resized(array, axis, by)}))
                refused += 1
        with pytest.raises(ArtifactError, match=rf"{variant.name}: input {name} has shape"):
            kernel(remade(dict(operator.weights) | {name: array[None]}))
    assert refused >= 12
    for name in ("w_scale", "r_scale"):
        scale = operator.weights[name].copy()
        scale.flat[-1] = 0.0
        with pytest.raises(ArtifactError, match=f"{variant.name}: input {name} holds a scale that is not positive"):
            kernel(remade(dict(operator.weights) | {name: scale}))


def test_weights_of_minus_128_and_columns_that_are_no_gates_are_refused(kernel):
    variant = GruVariant()
    operator = gru(variant, 5, 8, INT8)
    broken = operator.weights["r"].copy()
    broken[-1, -1] = -128
    cut = {"w": operator.weights["w"][:, :22], "w_scale": operator.weights["w_scale"][:22]}
    for change, sentence in (
        ({"r": broken}, "a weight is -128, which the operator does not allow"),
        (cut, "the columns do not divide into gates"),
    ):
        weights = dict(operator.weights) | change
        with pytest.raises(ArtifactError, match=f"GruInt8V1: {sentence}"):
            kernel(one_node(variant.name, variant.inputs, operator.outputs, weights, body=False))


@pytest.mark.parametrize("variant", CELLS, ids=names)
def test_inputs_of_other_shapes_are_refused_at_each_run(kernel, variant):
    operator = made(variant, 6, 11)
    session, feeds = kernel(operator.model), feeds_of(operator, 4, 3)
    good = session.run(None, feeds)
    for name, array in feeds.items():
        for axis in range(array.ndim):
            for by in (-1, 1):
                if name == "x" and axis == 0:
                    continue  # any number of steps
                with pytest.raises(RUNTIME_ERRORS, match=f"{variant.name}: "):
                    session.run(None, feeds | {name: resized(array, axis, by)})
    none = {name: array[:0] if name == "lengths" else array[:, :0] for name, array in feeds.items()}
    for empty in (feeds | {"x": feeds["x"][:0]}, none):
        with pytest.raises(RUNTIME_ERRORS, match=f"{variant.name}: x has shape"):
            session.run(None, empty)
    for before, after in zip(good, session.run(None, feeds), strict=True):
        assert before.tobytes() == after.tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["int8", "int4"])
@pytest.mark.parametrize(
    "node",
    [
        {"linear_before_reset": 0},
        {"linear_before_reset": 1},
        {"operator": "RNN"},
        {"operator": "RNN", "activations": ["Relu"]},
    ],
    ids=["gru-before", "gru-after", "rnn-tanh", "rnn-relu"],
)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_a_quantized_file_runs_whole_on_kernels(library, direction, node, scheme):
    sides = 2 if direction == "bidirectional" else 1
    if "activations" in node:
        node = node | {"activations": node["activations"] * sides}
    data = gru_model(direction, lengths=True, state=True, inputs=13, hidden=37, **node)
    data = quantize_bytes(data, scheme=scheme).data
    session, bodies = Session(data, kernels="required"), Session(data, kernels="off")
    assert session.kernels == library.instruction_set
    assert self_test(session).passed
    rng = np.random.default_rng(0)
    inputs = {"x": rng.standard_normal((8, 3, 13)).astype(np.float32), "rows": np.array([8, 2, 5], np.int32)}
    inputs["h0"] = rng.uniform(-0.9, 0.9, (sides, 3, 37)).astype(np.float32)
    got, expected = session.run(inputs)[0], bodies.run(inputs)[0]
    for name, want in expected.items():
        assert snr_db(want, got[name]) > 30  # the same arithmetic except for flips
