"""Zero blocks of a matrix: what is stored of it, what that takes, and by which rule it is chosen."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.pruned import naive_blocks, prune

from lstm_edge_exporters.functions import Places, scatter_blocks
from lstm_edge_exporters.quantize.calibration import Calibration
from lstm_edge_exporters.quantize.compensate import calibrated_rounder
from lstm_edge_exporters.quantize.rounding import Scheme, round_columns
from lstm_edge_exporters.quantize.zero_blocks import (
    LEAST_CELLS,
    MOST_DENSITY,
    ZeroBlocks,
    clear_blocks,
    count_blocks,
    pack_blocks,
    parse_sparse,
)
from lstm_edge_runtime.errors import QuantizationError

INT8 = Scheme(kind="int8")


def blocks_of(cells: int, inputs: int, gates: int, density: float, *, seed: int = 0) -> np.ndarray:
    """Integers [K, gates * H] of that density by blocks."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(1, 128, (gates * cells, inputs)) * rng.choice([-1, 1], (gates * cells, inputs))
    return prune(drawn.astype(np.int8), density, gates=gates, seed=seed).T


@given(
    inputs=st.integers(1, 21),
    cells=st.integers(1, 37),
    gates=st.sampled_from([1, 3, 4]),
    density=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    seed=st.integers(0, 100),
)
@settings(max_examples=80, deadline=None)
def test_what_is_stored_is_what_each_weight_says(
    inputs: int, cells: int, gates: int, density: float, seed: int
) -> None:
    matrix = blocks_of(cells, inputs, gates, density, seed=seed)
    stored, expected = pack_blocks(matrix, gates=gates), naive_blocks(matrix, gates)
    numbers = sorted(expected) or [0]
    assert (stored[""].dtype, stored["_index"].dtype, stored["_rows"].dtype) == (np.int8, np.int32, np.int64)
    assert stored["_index"].tolist() == numbers
    assert stored["_rows"].tolist() == [inputs]
    np.testing.assert_array_equal(
        stored[""], np.array([expected.get(number, np.zeros((4, 16), np.int8)) for number in numbers])
    )
    np.testing.assert_array_equal(
        scatter_blocks(stored[""], stored["_index"], Places(int(stored["_rows"][0]), gates, cells)), matrix
    )
    counted = count_blocks([matrix], gates=gates)
    total = gates * -(-cells // 16) * -(-inputs // 4)
    assert (counted.kept, counted.total, counted.dense_bytes) == (len(expected), total, matrix.size)
    assert counted.density == len(expected) / total
    assert counted.sparse_bytes == sum(array.nbytes for array in stored.values())


def test_directions_count_together() -> None:
    one, other = blocks_of(20, 9, 3, 0.0), blocks_of(20, 9, 3, 1.0)
    both = count_blocks([one, other], gates=3)
    assert (both.kept, both.total, both.density) == (18, 36, 0.5)
    # A matrix of zeros stores one block.
    assert both.sparse_bytes == 19 * (64 + 4) + 2 * 8


def zero_blocks(**changes: float) -> ZeroBlocks:
    known = {"kept": 50, "total": 100, "cells": LEAST_CELLS, "inputs": 64, "dense_bytes": 6400, "sparse_bytes": 3408}
    return ZeroBlocks(**known | changes)


@pytest.mark.parametrize(
    ("changes", "smaller", "pays"),
    [
        ({}, True, True),
        ({"kept": 51}, True, False),
        ({"cells": LEAST_CELLS - 1}, True, False),
        ({"sparse_bytes": 6400}, False, False),
        ({"inputs": 4 * 2**16}, True, True),
        ({"inputs": 4 * 2**16 + 1}, False, False),
    ],
    ids=str,
)
def test_the_rule_is_of_shapes_and_density(changes: dict[str, float], smaller: bool, pays: bool) -> None:
    assert MOST_DENSITY == 0.5
    found = zero_blocks(**changes)
    assert (found.is_smaller, found.pays) == (smaller, pays)


@pytest.mark.parametrize("gates", [3, 4])
@pytest.mark.parametrize("cells", [128, 256, 512, 1024])
def test_a_third_of_the_blocks_takes_at_most_two_fifths_of_the_bytes(cells: int, gates: int) -> None:
    """Of W and R together as a dense int8 file stores them, scales and block numbers included."""
    scales = 2 * 4 * gates * cells
    found = [count_blocks([blocks_of(cells, k, gates, 1 / 3)], gates=gates) for k in (cells // 2, cells)]
    dense, sparse = (sum(getattr(f, name) for f in found) + scales for name in ("dense_bytes", "sparse_bytes"))
    assert sparse <= 0.40 * dense
    assert all(each.pays for each in found)


@pytest.mark.parametrize("parts", [{}, {"compensate": False}, {"search_scales": False, "clip": False}], ids=str)
def test_compensation_leaves_zeros_zero(parts: dict[str, bool]) -> None:
    """Correlated inputs, so that an error would be passed on to every pruned weight."""
    rng = np.random.default_rng(3)
    sources = rng.standard_normal((600, 5)) @ rng.standard_normal((5, 24)) + 0.1 * rng.standard_normal((600, 24))
    weight = prune(rng.standard_normal((40, 24)).astype(np.float32), 0.4, gates=1).T
    calibration = Calibration(grams={"w": sources.T @ sources}, rows=600, missing={}, sha256="0" * 64)
    rounded = calibrated_rounder(calibration, **parts)("w", weight, INT8)
    assert not rounded[""][weight == 0].any()
    assert (rounded[""][weight != 0] != 0).mean() > 0.95
    # Compensation still lowers the error of the products.
    plain, scale = round_columns("w", weight)
    if parts.get("compensate", True):
        errors = [np.square(sources @ (weight - q * s)).sum() for q, s in ((plain, scale), tuple(rounded.values()))]
        assert errors[1] < 0.7 * errors[0]


def test_blocks_that_round_to_zero_are_cleared_and_others_are_not() -> None:
    weight = np.random.default_rng(0).standard_normal((8, 40)).astype(np.float32)
    weight[:4, 20:36] *= 1e-4
    weight[4, 0] = 1e-6
    cleared = clear_blocks("w", weight, gates=2)
    expected = weight.copy()
    expected[:4, 20:36] = 0.0
    np.testing.assert_array_equal(cleared, expected)
    assert clear_blocks("w", expected, gates=2) is expected
    with pytest.raises(QuantizationError, match=r"^lstm\.r: the weight holds NaN or infinity$"):
        clear_blocks("lstm.r", np.full((4, 16), np.nan, np.float32), gates=1)


def test_the_scheme_has_a_text_and_needs_int8() -> None:
    sparse = Scheme.parse("int8:sparse")
    assert (sparse.text, str(sparse), sparse) == ("int8:sparse", "sparse int8", dataclasses.replace(INT8, sparse=True))
    with pytest.raises(QuantizationError, match=r"^sparse weights are int8, not int4$"):
        Scheme(kind="int4", sparse=True)
    with pytest.raises(QuantizationError, match=r"^unknown scheme 'int4:sparse'; known ones are .*int8:sparse"):
        Scheme.parse("int4:sparse")


def test_an_unknown_choice_is_refused() -> None:
    assert [parse_sparse(text) for text in ("auto", "off", "smaller", "required")] == [
        "auto",
        "off",
        "smaller",
        "required",
    ]
    with pytest.raises(QuantizationError, match=r"^sparse is 'on', expected one of auto, off, smaller, required$"):
        parse_sparse("on")
