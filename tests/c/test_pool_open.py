"""What is refused when a pool of C is opened, with Python's sentences; misuse; constants that both sides have."""

import ctypes
import functools
import os
import re
import subprocess

import numpy as np
import pytest
from support.c_agreement import outcome
from support.c_build import ROOT
from support.c_library import CSession
from support.c_models import stored_models
from support.c_pool import CPool
from support.c_pool_models import UNPOOLED, mixed_rows, unpooled

from lstm_edge_runtime import pool_calls, pool_plans, pool_rows, providers
from lstm_edge_runtime.errors import InputError, StreamingError
from lstm_edge_runtime.session import Session

SOURCES = ROOT / "runtime" / "c" / "src"


@functools.cache
def data_of(name: str) -> bytes:
    return stored_models((name,))[name]


@pytest.fixture
def session(library) -> CSession:
    return library.open(data_of("exported_int8"))


@pytest.mark.parametrize(("capacity", "threads"), [(0, 1), (-3, 1), (2**62, 1), (2, 0), (2, 1025), (2, -1)])
def test_wrong_options_are_refused_as_by_python(session, capacity, threads):
    with pytest.raises(InputError) as refused:
        CPool(session, capacity, threads)
    sentence = outcome(lambda: Session(data_of("exported_int8")).pool(capacity, threads))[1]
    if capacity < 2**60:  # NumPy has other words for more bytes than an address has
        assert str(refused.value) == sentence
    assert re.match(r"(threads|capacity) must be a positive integer|the states of \d+ streams cannot", sentence)


@pytest.mark.parametrize("name", ["bidirectional", "no_card"])
def test_what_cannot_be_streamed_cannot_be_pooled(library, name):
    with pytest.raises(StreamingError) as refused:
        CPool(library.open(data_of(name)))
    assert outcome(Session(data_of(name)).pool) == ("StreamingError", str(refused.value))


@pytest.mark.parametrize("sentence", UNPOOLED)
def test_streams_that_cannot_share_calls_are_refused(library, sentence):
    data = unpooled(sentence)
    with pytest.raises(StreamingError, match=f"^the model cannot be pooled: {re.escape(sentence)}; use one") as refused:
        CPool(library.open(data))
    assert outcome(Session(data).pool) == ("StreamingError", str(refused.value))


@pytest.mark.parametrize("kernels", ["auto", "off"])
@pytest.mark.parametrize(
    ("name", "by", "exact"),
    [
        *(("exported_int8", by, exact) for by, exact in ((1e-3, False), (1e-3, True), (1e-7, True), (1e-8, False))),
        *(("two_inputs", by, False) for by in (1e-3, 3e-5, 1e-8)),
    ],
)
def test_rows_that_depend_on_each_other_are_refused_with_pythons_figures(library, kernels, by, exact, name):
    """Both try a model with the same drawn numbers, so the difference that the sentence says is the same."""
    data = mixed_rows(by, exact=exact, name=name)
    error, sentence = outcome(lambda: CPool(library.open(data, kernels=kernels)))
    wanted = outcome(lambda: Session(data, kernels=kernels).pool())
    assert (error, sentence if error else "") == (wanted[0], wanted[1] if wanted[0] else "")
    assert error == ("" if by == 1e-8 else "StreamingError")


DRAWS = """#include <cstdio>
#include "drawn_numbers.h"
int main() {
  lstm_edge::device::DrawnNumbers numbers;
  for (int i = 0; i < 5; ++i) std::printf("%.17g\\n", numbers.uniform(-2.5, 7));
  const long ranges[][2] = {{0, 1}, {3, 3}, {-5, 90}, {0, 4294967294}, {0, 4294967295}, {-7, 1L << 40},
                            {0, 6148914691236517204}, {0, 3000000000}};
  for (const auto& range : ranges) {
    for (int i = 0; i < 7; ++i) std::printf("%ld\\n", long(numbers.integer(range[0], range[1])));
  }
  std::printf("%.17g\\n", numbers.uniform(0, 1));
}
"""


def test_drawn_numbers_are_those_of_numpy(tmp_path):
    (tmp_path / "draws.cpp").write_text(DRAWS)
    command = [os.environ.get("CXX", "c++"), "-std=c++17", f"-I{SOURCES}", "draws.cpp", "-o", "draws"]
    subprocess.run(command, cwd=tmp_path, check=True)
    said = subprocess.run([tmp_path / "draws"], capture_output=True, text=True, check=True).stdout.split()
    rng = np.random.default_rng(0)
    wanted = [f"{value:.17g}" for value in rng.uniform(-2.5, 7, 5)]
    for low, high in (
        (0, 1), (3, 3), (-5, 90), (0, 2**32 - 2), (0, 2**32 - 1), (-7, 2**40), (0, 6148914691236517204), (0, 3 * 10**9),
    ):  # fmt: skip
        wanted += [str(value) for value in rng.integers(low, high + 1, 7)]
    wanted.append(f"{rng.uniform():.17g}")
    assert said == wanted


def test_misuse_is_refused(library, session):
    c, null, number = library.c, ctypes.c_void_p(), ctypes.c_int64()
    pool = CPool(session, options=False)
    for call in (
        lambda: c.lstm_edge_pool_open(None, None, ctypes.byref(null)),
        lambda: c.lstm_edge_pool_open(session.handle, None, None),
        lambda: c.lstm_edge_pool_attach(pool._handle, None, 3, ctypes.byref(number)),
        lambda: c.lstm_edge_pool_attach(pool._handle, None, 0, None),
        lambda: c.lstm_edge_pool_detach(None, 1),
        lambda: c.lstm_edge_pool_stream(pool._handle, 1, None),
        lambda: c.lstm_edge_pool_push(pool._handle, None, 1),
        lambda: c.lstm_edge_pool_push(None, None, 0),
    ):
        with pytest.raises(TypeError, match=r"is NULL$"):
            library.expect(call())
    with pytest.raises(TypeError, match=r"^lstm_edge_pool_options\.size is 3, expected 24 to"):
        CPool(session, size=3)
    c.lstm_edge_pool_close(None)
    assert pool.attach() == 1


def test_constants_are_pythons():
    def found(file: str, pattern: str) -> float:
        return float(re.search(pattern, (SOURCES / file).read_text())[1])

    assert found("pool_streams.h", r"kLeastWork = (\d+);") == pool_calls.LEAST_WORK
    assert found("pool_calls.cpp", r"kSeen = (\d+);") == pool_calls._SEEN  # private, and the same on both sides
    assert found("pool_plans.cpp", r"kMostPlans = (\d+);") == pool_plans.MOST_PLANS
    assert found("pool_plans.cpp", r"kExact = (\d+),") == pool_plans._EXACT  # private
    assert found("pool_plans.cpp", r"kRound = (\d+);") == pool_plans._ROUND  # private
    assert found("pool_rows.cpp", r"kClose = ([\d.e-]+);") == pool_rows.CLOSE
    assert found("pool.cpp", r"kMostThreads = (\d+);") == providers.MOST_THREADS
