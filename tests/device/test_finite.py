"""The check for NaN and infinity before and after each small step: by the library and by NumPy, the same answer."""

import gc
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streamed import MODELS, AllocationNoise

from lstm_edge_runtime import finite
from lstm_edge_runtime.errors import InputError, ProviderError
from lstm_edge_runtime.finite import finite_check
from lstm_edge_runtime.library import find_library
from lstm_edge_runtime.session import Session

LARGEST = float(np.finfo(np.float32).max)
VALUES = (0.0, -0.0, 1.0, -1e-45, 1e-38, 3e38, LARGEST, -LARGEST)
WRONG = (np.nan, np.inf, -np.inf, np.uint32(0x7F800001).view(np.float32), np.uint32(0xFFFFFFFF).view(np.float32))


def no_library():
    raise ProviderError("no library")


def has_library():
    try:
        find_library()
    except ProviderError:
        return False
    return True


@pytest.fixture(params=["library", "numpy"])
def way(request, monkeypatch):
    if request.param == "numpy":
        monkeypatch.setattr(finite, "find_library", no_library)
    elif not has_library():
        pytest.skip("the kernels were not built")
    return request.param


def test_each_way_is_taken(way):
    ask, _what = finite_check([np.zeros(3, np.float32)])
    assert hasattr(ask, "argtypes") == (way == "library")


@pytest.mark.parametrize("wrong", WRONG)
def test_one_wrong_value_anywhere_is_found(way, wrong):
    arrays = [np.zeros(size, np.float32) for size in (0, 1, 5, 16, 67)]
    ask, what = finite_check(arrays)
    assert ask(what)
    for array in arrays:
        for index in range(array.size):
            array[index] = wrong
            assert not ask(what)
            array[index] = 0
    assert ask(what)


@given(
    numbers=st.lists(st.lists(st.sampled_from(VALUES), max_size=70), max_size=4),
    places=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 69), st.sampled_from(WRONG)), max_size=2),
    offset=st.integers(0, 17),
)
@settings(deadline=None, max_examples=200)
def test_both_ways_agree_with_numpy(numbers, places, offset):
    arrays = []
    for row in numbers:
        whole = np.full(offset + len(row) + 1, np.nan, np.float32)  # what lies beside an array does not count
        whole[offset:-1] = row
        arrays.append(whole[offset:-1])
    for which, index, value in places:
        if which < len(arrays) and index < arrays[which].size:
            arrays[which][index] = value
    expected = all(bool(np.isfinite(array).all()) for array in arrays)
    with pytest.MonkeyPatch.context() as patch:
        if has_library():
            ask, what = finite_check(arrays)
            assert bool(ask(what)) == expected
        patch.setattr(finite, "find_library", no_library)
        ask, what = finite_check(arrays)
        assert bool(ask(what)) == expected


def test_what_is_asked_about_lives_as_long_as_the_question(way):
    array = np.zeros(100, np.float32)
    alive = weakref.ref(array)
    ask, what = finite_check([array])
    del array
    noise = AllocationNoise()
    noise.make()
    assert alive() is not None
    assert ask(what)
    del ask, what
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize("name", ["exported_int8", "tagger"])
def test_a_stream_and_a_session_refuse_the_same_in_each_way(way, name):
    session = Session(MODELS / f"{name}.onnx")
    stream = session.stream()
    size = session.inputs[0].axes[-1]
    frames = np.random.default_rng(0).normal(size=(4, size)).astype(np.float32)
    for frame in frames:
        stream.push(frame)
        session.run(frame[None, None])
    before = stream.state
    for index in range(size):
        for wrong in WRONG:
            frame = frames[0].copy()
            frame[index] = wrong
            with pytest.raises(InputError, match=r"step 4: input '\w+' holds .*; the state is unchanged"):
                stream.push(frame)
            with pytest.raises(InputError, match=r"input '\w+' holds"):
                session.run(frame[None, None])
    assert stream.state == before
    assert stream.steps == 4
