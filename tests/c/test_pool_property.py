"""A pool of C gives each stream what Python's pool and a single stream give: joins, leaves, subsets, NaN, ends."""

import functools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.c_models import stored_models
from support.c_pools import PoolTwins

# One of each kind; as POOLED of tests/device/pooled.py, and a state and an output whose batch axis is not the first.
POOLED = (
    "accumulator", "each_call", "each_call_whole", "exported_float32", "exported_full_lengths_int8", "exported_int8",
    "exported_last_step_int8", "kept_condition", "kept_ids", "kept_image", "kept_last", "kept_look_ahead",
    "kept_padded", "kept_ragged", "kept_strided", "kept_up", "language_model_time_first", "lengths", "two_inputs",
)  # fmt: skip
ROUNDS = 10_000
# So long are the chunks of which a few give every thread the work that it gets, see share_of_threads.
LONG_CHUNKS = {"exported_int8": 600, "exported_float32": 700, "two_inputs": 900}


@functools.cache
def data_of(name: str) -> bytes:
    return stored_models((name,))[name]


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(POOLED),
    kernels=st.sampled_from(["auto", "off"]),
    seed=st.integers(0, 2**32 - 1),
    rounds=st.integers(1, 10),
)
def test_any_history_gives_each_stream_its_own_answers(library, name, kernels, seed, rounds):
    twins = PoolTwins(library, data_of(name), seed, kernels=kernels)
    for _ in range(rounds):
        twins.round()
    twins.finish()


@pytest.mark.parametrize("name", LONG_CHUNKS)
def test_threads_give_the_same(library, name):
    twins = PoolTwins(library, data_of(name), 5, threads=3, longest=LONG_CHUNKS[name])
    for _ in range(12):
        twins.round()
    twins.finish()
    assert twins.pushed > 20


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("kernels", ["auto", "off"])
@pytest.mark.parametrize("name", POOLED)
def test_ten_thousand_rounds(library, name, kernels):
    refused = pushed = 0
    for seed in range(4):
        twins = PoolTwins(library, data_of(name), seed, kernels=kernels, capacity=(3, 40)[seed % 2])
        for _ in range(-(-ROUNDS // (len(POOLED) * 2 * 4))):
            twins.round()
        twins.finish()
        refused, pushed = refused + twins.refused, pushed + twins.pushed
    assert pushed > 500 or name == "accumulator"
    assert refused > 20
