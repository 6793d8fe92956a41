"""A session registers the kernels of the operators that its file calls, and no others: each costs memory and time."""

import ctypes
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
import pytest
from streamed import MODELS, answer_bytes, pieces

from lstm_edge_runtime import heap
from lstm_edge_runtime.errors import ProviderError
from lstm_edge_runtime.library import find_library, select_operators
from lstm_edge_runtime.providers import open_session, session_options
from lstm_edge_runtime.session import Session

# Files with kernels: each calls another operator.
FILES = ("exported_int8", "exported_full_lengths_int8", "exported_bidirectional_int8", "exported_last_step_int8")


@pytest.fixture(autouse=True)
def library():
    try:
        return find_library()
    except ProviderError:
        pytest.skip("the kernels were not built")


def answers(session):
    state, given = None, []
    for piece in pieces(session, 2, 4, seed=0):
        outputs, state = session.run(piece, state)
        given.append(answer_bytes(outputs))
    return given


def without_selection(data, library):
    """A session of onnxruntime alone with every kernel of the library, as another program would open it."""
    options = session_options()
    options.register_custom_ops_library(library.path)
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def run_bare(session):
    rng = np.random.default_rng(1)
    feeds = {}
    for spec in session.get_inputs():
        shape = [{"batch": 2, "time": 3}.get(axis, axis) for axis in spec.shape]
        feeds[spec.name] = (
            np.full(shape, 2, np.int64) if "int64" in spec.type else rng.normal(size=shape).astype(np.float32)
        )
    return [array.tobytes() for array in session.run(None, feeds)]


@pytest.mark.parametrize("name", FILES)
def test_a_selection_changes_no_bit(name, library):
    data = (MODELS / f"{name}.onnx").read_bytes()
    session = Session(data, kernels="required")
    assert run_bare(session.onnxruntime_session) == run_bare(without_selection(data, library))
    bodies = Session(data, kernels="off")
    if session.kernels is not None:
        assert run_bare(bodies.onnxruntime_session) != run_bare(session.onnxruntime_session)  # other rounding in floats


def test_a_selection_is_for_one_registration(library):
    data = (MODELS / "exported_int8.onnx").read_bytes()
    expected = run_bare(without_selection(data, library))
    other = run_bare(open_session(data))
    assert other != expected
    # Registered without what the file calls, its function bodies run.
    assert run_bare(open_session(data, library=library, operators=["GruInt8V1"])) == other
    assert run_bare(open_session(data, library=library, operators=["LstmInt8"])) == other  # no part of a name
    assert run_bare(without_selection(data, library)) == expected
    assert run_bare(open_session(data, library=library)) == expected


def test_threads_open_files_of_different_operators(library):
    expected = {name: answers(Session(MODELS / f"{name}.onnx", kernels="required")) for name in FILES}

    def work(number):
        name = FILES[number % len(FILES)]
        return answers(Session(MODELS / f"{name}.onnx", kernels="required")) == expected[name]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(64)))


def test_a_library_of_before_registers_all(library, monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda path: object())
    select_operators(library, ["LstmInt8V1"])  # nothing is raised, nothing is selected


def test_a_session_takes_little_memory_besides_its_weights(library):
    def resident():
        with open("/proc/self/status", encoding="utf-8") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("RssAnon"))

    data = (MODELS / "exported_int8.onnx").read_bytes()
    held = [Session(data, kernels="required") for _ in range(4)]
    before = resident()
    held += [Session(data, kernels="required") for _ in range(20)]
    # 40 KB for each of some two hundred operators would be 6 MB.
    assert (resident() - before) / 20 < 1500


@pytest.mark.parametrize(("size", "expected"), [((1 << 20) - 1, []), (1 << 20, [0])])
def test_the_heap_is_given_back_after_large_files_only(monkeypatch, size, expected):
    asked = []
    monkeypatch.setattr(heap, "_trim", lambda: asked.append)
    heap.give_back_heap(size)
    assert asked == expected
    monkeypatch.setattr(heap, "_trim", lambda: None)
    heap.give_back_heap(size)
