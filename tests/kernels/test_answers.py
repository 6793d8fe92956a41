"""Kernels give the bits of the operators' NumPy model, and the answers of the function bodies except for rare flips."""

from dataclasses import replace

import numpy as np
import pytest
from kernel_cases import (
    CELLS,
    GRUS,
    INT4,
    INT8,
    LINEARS,
    RNNS,
    STATE,
    answers,
    assert_bits,
    cell,
    feeds_of,
    linear,
    one_node,
    one_state,
    with_scheme,
)

from lstm_edge_exporters.functions import parse_float32_name
from lstm_edge_exporters.functions.names import CellVariant, parse_cell_name, parse_gru_name, parse_rnn_name
from lstm_edge_exporters.quantize import Scheme
from lstm_edge_runtime._function_digests import DIGESTS
from lstm_edge_runtime.providers import measure_placement, open_session

EXACT = [variant for variant in CELLS if variant.storage != "float32"]
FLOATS = [variant for variant in CELLS if variant.storage == "float32"]
# I, H, P and T, B: one input or cell, sizes that fill no vector, exact multiples, and a long sequence.
SIZES = (
    ((5, 17, 3), (4, 7)),
    ((1, 1, 1), (3, 2)),
    ((5, 3, 2), (1, 1)),
    ((33, 100, 30), (2, 19)),
    ((16, 32, 16), (100, 2)),
)
# float32 sums in another order on outputs of order one: 1e-6 is seen.
FLOAT_CLOSE = 2e-6
# The bodies' own sigmoid and tanh differ in the last bits, which now and then turns a rounding by one step: of
# 1/127 of a row's largest value for activations, so over the few steps here a state moves by at most a few percent.
FLIP = 5e-2


@pytest.mark.parametrize("variant", EXACT, ids=lambda variant: variant.name)
def test_kernels_give_the_models_bits(kernel, variant):
    for number, (sizes, (time, batch)) in enumerate(SIZES):
        schemes = with_scheme(variant)
        operator = cell(variant, *sizes, schemes[number % len(schemes)], seed=number)
        feeds = feeds_of(operator, time, batch, seed=number)
        assert_bits(answers(kernel(operator.model), operator, feeds), operator.expected(feeds), f"{operator} T={time}")


@pytest.mark.parametrize("blocks", [(32, 32, 32, 128), (32, 32, 128, 32), (128, 32, 32, 128)])
def test_each_matrix_has_blocks_of_its_own(kernel, blocks):
    # c is rounded once and multiplied with p and with po, which need its sums by their own blocks.
    variant = CellVariant(storage="int4", peephole="full")
    operator = cell(variant, 40, 200, 200, INT4[0])
    weights = dict(operator.weights)
    for name, block in zip(("w", "r", "p", "po"), blocks, strict=True):
        other = cell(variant, 40, 200, 200, Scheme(kind="int4", block=block)).weights
        weights |= {key: other[key] for key in (name, f"{name}_scale", f"{name}_zero")}
    mixed = replace(operator, weights=weights, model=one_node(variant.name, variant.inputs, STATE, weights))
    feeds = feeds_of(mixed, 6, 3)
    assert_bits(answers(kernel(mixed.model), mixed, feeds), mixed.expected(feeds), str(blocks))


@pytest.mark.parametrize("variant", FLOATS, ids=lambda variant: variant.name)
def test_float_kernels_are_close_to_the_model(kernel, variant):
    for number, (sizes, (time, batch)) in enumerate(SIZES[:4]):
        operator = cell(variant, *sizes, None, seed=number)
        feeds = feeds_of(operator, time, batch, seed=number)
        got = answers(kernel(operator.model), operator, feeds)
        for name, want in operator.expected(feeds).items():
            np.testing.assert_allclose(got[name], want, rtol=0, atol=FLOAT_CLOSE, err_msg=f"{operator}: {name}")


@pytest.mark.slow
@pytest.mark.parametrize("variant", CELLS, ids=lambda variant: variant.name)
def test_kernels_and_bodies_agree_but_for_flips(kernel, variant):
    differences = []
    for scheme in with_scheme(variant)[:2]:
        operator = cell(variant, 12, 17, 5, scheme, seed=3)
        feeds = feeds_of(operator, 5, 6, seed=3)
        bodies = answers(open_session(operator.model), operator, feeds)
        for name, got in answers(kernel(operator.model), operator, feeds).items():
            assert got.shape == bodies[name].shape
            differences.append(np.abs(got - bodies[name]).ravel())
    found = np.concatenate(differences)
    assert np.median(found) < 1e-6
    assert found.max() < (FLIP if variant in EXACT else FLOAT_CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize("name", LINEARS)
@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 3), (1, 1, 7), (2, 1, 3, 2), (25,), (0,), (3, 0, 2)])
def test_linear_takes_any_rank(kernel, name, shape):
    for scheme in (INT8,) if name == "LinearInt8V1" else INT4:
        for k, n in ((37, 70), (1, 1), (130, 3)):
            operator = linear(name, k, n, scheme, rank=len(shape) + 1)
            x = np.random.default_rng(4).standard_normal((*shape, k)).astype(np.float32)
            (y,) = kernel(operator.model).run(None, {"x": x})
            want = operator.expected({"x": x})["y"] if x.size else np.zeros((*shape, n), np.float32)
            assert_bits({"y": y}, {"y": want}, f"{operator} {shape}")


def smallest(name):
    scheme = INT8 if "Int8" in name else INT4[0]
    if name in LINEARS:
        return linear(name, 5, 7, scheme)
    if (variant := parse_cell_name(name)) is not None:
        return cell(variant, 5, 7, 3, with_scheme(variant)[0])
    variant = parse_gru_name(name) or parse_rnn_name(name)
    return one_state(variant, 5, 7, with_scheme(variant)[0])


@pytest.mark.parametrize("name", sorted(name for name in DIGESTS if parse_float32_name(name) is None))
def test_every_operator_has_a_kernel(kernel, name):
    operator = smallest(name)
    inputs = ("x", *operator.weights) if operator.variant is None else operator.variant.inputs
    kernel(one_node(name, inputs, operator.outputs, operator.weights, body=False))  # no function: a kernel, or refused


@pytest.mark.slow
@pytest.mark.parametrize("name", [*(variant.name for variant in (*CELLS, *GRUS, *RNNS)), *LINEARS])
def test_every_operator_reaches_its_kernel(library, name):
    # The profile names what ran: the operator itself on kernels, ONNX operators of its body without.
    operator = smallest(name)
    feeds = feeds_of(operator, 2, 3)
    with_kernels = {node.operator for node in measure_placement(operator.model, feeds, library=library)}
    with_bodies = {node.operator for node in measure_placement(operator.model, feeds)}
    assert with_kernels == {name}
    assert name not in with_bodies
    assert with_bodies


def test_int8_beyond_1040_inputs(kernel):
    # Every weight and activation at its largest: without the bound on a column's sum, 1,100 · 127 · 127 > 2**24.
    operator = cell(CellVariant(storage="int8"), 1100, 24, 24, INT8, seed=9)
    feeds = feeds_of(operator, 3, 2, seed=9)
    feeds["x"] = np.sign(feeds["x"]) * np.float32(3.5)
    assert_bits(answers(kernel(operator.model), operator, feeds), operator.expected(feeds), str(operator))
