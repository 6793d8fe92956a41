"""A pool gives each stream what a stream alone gives: random joins, leaves, subsets, orders, chunks, resets, NaN."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pooled import POOLED, Twins, open_model

from lstm_edge_runtime import pool_calls

ROUNDS = 10_000


@settings(deadline=None, max_examples=60)
@given(
    name=st.sampled_from(POOLED),
    kernels=st.sampled_from(["auto", "off"]),
    seed=st.integers(0, 2**32 - 1),
    rounds=st.integers(1, 10),
)
def test_any_history_gives_each_stream_its_own_answers(name, kernels, seed, rounds):
    twins = Twins(open_model(name, kernels), seed)
    for _ in range(rounds):
        twins.round()
    twins.finish()


@pytest.fixture
def all_threads(monkeypatch):
    """Every push is cut among the threads, however small it is."""
    monkeypatch.setattr(pool_calls, "LEAST_WORK", 1)


@pytest.mark.usefixtures("all_threads")
@pytest.mark.parametrize("name", ["exported_int8", "exported_float32", "each_call", "kept_strided", "accumulator"])
def test_threads_give_the_same(name):
    twins = Twins(open_model(name), 5, threads=3)
    for _ in range(25):
        twins.round()
    twins.finish()
    assert twins.pushed > 30


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("kernels", ["auto", "off"])
@pytest.mark.parametrize("name", POOLED)
def test_ten_thousand_rounds(name, kernels):
    session = open_model(name, kernels)
    refused = pushed = 0
    for seed in range(4):
        twins = Twins(session, seed, capacity=(3, 40)[seed % 2])
        for _ in range(-(-ROUNDS // (len(POOLED) * 2 * 4))):
            twins.round()
        twins.finish()
        refused, pushed = refused + twins.refused, pushed + twins.pushed
    assert pushed > 500 or name == "accumulator"
    assert refused > 20
