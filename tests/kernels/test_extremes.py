"""Values and lengths at the edges of the operators' domain, and past it: the model's bits, never a crash."""

import numpy as np
import pytest
from kernel_cases import FILLS, INT8, answers, assert_bits, cell, feeds_of, linear, with_scheme

from lstm_edge_exporters.functions.names import CellVariant

VARIANTS = (
    CellVariant(storage="int8"),
    CellVariant(storage="int4"),
    CellVariant(storage="int8", peephole="diagonal"),
    CellVariant(storage="int8", peephole="full", projected=True),
    CellVariant(storage="int4", peephole="full", projected=True),
)


def names(variant):
    return variant.name


@pytest.mark.slow
@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("variant", VARIANTS, ids=names)
@np.errstate(over="ignore", invalid="ignore")
def test_extreme_values_give_the_models_bits(kernel, variant, fill):
    operator = cell(variant, 19, 21, 6, with_scheme(variant)[-1], seed=5)
    session = kernel(operator.model)
    for which in (("x",), ("h",), ("c",), ("x", "h", "c")):
        if fill == "the largest float" and "c" in which:
            continue  # c + i·g may overflow to infinity, which is outside of the operators' domain
        feeds = feeds_of(operator, 6, 3)
        for name in which:
            # One row stays as it was: it must not notice.
            feeds[name][:, 1:] = FILLS[fill](feeds[name][:, 1:])
        assert_bits(answers(session, operator, feeds), operator.expected(feeds), f"{fill} in {which}")


@pytest.mark.parametrize("fill", FILLS)
@np.errstate(over="ignore", invalid="ignore")
def test_linear_with_extreme_values(kernel, fill):
    operator = linear("LinearInt8V1", 43, 9, INT8)
    feeds = feeds_of(operator, 2, 5)
    feeds["x"] = FILLS[fill](feeds["x"])
    assert_bits(answers(kernel(operator.model), operator, feeds), operator.expected(feeds), fill)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("variant", [*VARIANTS, CellVariant(peephole="full")], ids=names)
def test_what_is_not_finite_stays_in_its_row(kernel, variant, value):
    # Outside of the operators' domain: no crash, the other rows keep their answers, and NaN stays NaN.
    # Most of a row wide enough for every loop: nothing may overflow either.
    operator = cell(variant, 70, 67, 66, with_scheme(variant)[0])
    session, feeds = kernel(operator.model), feeds_of(operator, 4, 3)
    expected = answers(session, operator, feeds)
    for name in ("x", "h", "c"):
        bad = {key: array.copy() for key, array in feeds.items()}
        bad[name][0, 1, 2:] = value
        for key, array in answers(session, operator, bad).items():
            assert array[:, [0, 2]].tobytes() == expected[key][:, [0, 2]].tobytes()
            if np.isnan(value):
                assert np.isnan(array[-1, 1]).all(), (name, key)


@pytest.mark.parametrize("precision", ["int8", "int4", "float32", "sparse_int8"])
def test_lengths_of_every_kind(kernel, precision):
    variant = CellVariant(ragged=True, projected=True, storage=precision)
    operator = cell(variant, 6, 11, 4, with_scheme(variant)[0])
    session, feeds = kernel(operator.model), feeds_of(operator, 5, 20)
    feeds["lengths"] = np.arange(20, dtype=np.int64) % 6
    got, expected = answers(session, operator, feeds), operator.expected(feeds)
    for name, want in expected.items():
        np.testing.assert_allclose(got[name], want, rtol=0, atol=0 if operator.exact else 2e-6)
    # Rows of length 0 keep their state to the bit; outputs past the length are zero.
    assert got["h_out"][:, ::6].tobytes() == feeds["h"][:, ::6].tobytes()
    assert got["c_out"][:, ::6].tobytes() == feeds["c"][:, ::6].tobytes()
    past = np.arange(5)[:, None] >= feeds["lengths"][None]
    assert np.array_equal(got["y"][past], np.zeros_like(got["y"][past]))


@pytest.mark.parametrize(("length", "same_as"), [(-1, 0), (-(2**63), 0), (6, 5), (2**40, 5), (2**63 - 1, 5)])
def test_lengths_out_of_range_are_read_as_the_nearest(kernel, length, same_as):
    # Session refuses them; a bare session must not read or write past a buffer.
    variant = CellVariant(ragged=True, storage="int8")
    operator = cell(variant, 6, 11, 4, INT8)
    session, feeds = kernel(operator.model), feeds_of(operator, 5, 3)
    wild = feeds | {"lengths": np.array([3, length, 5])}
    tame = feeds | {"lengths": np.array([3, same_as, 5])}
    assert_bits(answers(session, operator, wild), answers(session, operator, tame), str(length))


def misaligned(array):
    """The same values one byte past any multiple of their size."""
    moved = np.frombuffer(bytearray(array.nbytes + 1), array.dtype, array.size, 1).reshape(array.shape)
    moved[...] = array
    assert not moved.flags.aligned
    return moved


@pytest.mark.parametrize("variant", [*VARIANTS, CellVariant(peephole="full", ragged=True)], ids=names)
def test_inputs_at_any_address_give_the_same_bits(kernel, variant):
    # onnxruntime passes a NumPy array on where it lies. (Reading it as aligned is seen under the sanitizers only.)
    operator = cell(variant, 19, 21, 6, with_scheme(variant)[-1], seed=5)
    session, feeds = kernel(operator.model), feeds_of(operator, 6, 3)
    moved = {name: misaligned(array) for name, array in feeds.items()}
    assert_bits(answers(session, operator, moved), answers(session, operator, feeds), operator.name)
