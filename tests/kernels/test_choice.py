"""``kernels="auto" | "required" | "off"``: what runs, what the session says about it, and why it may not be had."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from kernel_cases import one_node

from lstm_edge_runtime import library as library_module
from lstm_edge_runtime import providers
from lstm_edge_runtime.bench import bench
from lstm_edge_runtime.errors import InputError, ProviderError
from lstm_edge_runtime.function_check import called_operators
from lstm_edge_runtime.library import choose_library, find_library
from lstm_edge_runtime.providers import measure_placement
from lstm_edge_runtime.selftest import self_test
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.session_notes import FOLDED

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "tests" / "device" / "models"
INT8, PLAIN = MODELS / "exported_int8.onnx", MODELS / "exported_float32.onnx"


def bytes_of(outputs):
    return {name: array.tobytes() for name, array in outputs.items()}


def sequence(session, batch=2, time=6):
    shape = [{"batch": batch, "time": time}.get(axis, axis) for axis in session.inputs[0].axes]
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("kernels", ["auto", "required"])
def test_kernels_are_used_and_said(library, kernels):
    session = Session(INT8, kernels=kernels)
    assert session.kernels == library.instruction_set
    assert session.operators == len(called_operators(INT8.read_bytes())) >= 2
    assert FOLDED not in session.notes
    assert session.notes == ()
    report = self_test(session)
    assert (report.kind, report.passed, report.tolerance) == ("kernels", True, session.golden().tolerance_kernels)


def test_what_is_said_is_what_runs(library):
    data = INT8.read_bytes()
    feeds = Session(data)._example_feeds()  # private: those that it measures placement with
    operators = [node.operator for node in measure_placement(data, feeds, library=library)]
    assert [name for name in operators if name in set(called_operators(data))] == list(called_operators(data))
    assert not set(called_operators(data)) & {node.operator for node in measure_placement(data, feeds)}


def test_off_runs_the_function_bodies():
    session = Session(INT8, kernels="off")
    assert session.kernels is None
    assert session.notes == (FOLDED,)
    assert self_test(session).kind == "bodies"
    x = sequence(session)
    bodies, kernels = session.run(x)[0], Session(INT8).run(x)[0]
    for name, expected in bodies.items():
        # A rounding flip moves a logit by less than this; most elements differ in the last bits only.
        np.testing.assert_allclose(kernels[name], expected, rtol=0, atol=2e-2)
        assert np.median(np.abs(kernels[name] - expected)) < 1e-6


def test_a_stream_runs_on_kernels_and_gives_the_sequences_bits():
    session = Session(INT8, kernels="required")
    x = sequence(session, batch=1, time=9)
    whole = next(iter(session.run(x)[0].values()))
    stream = session.stream()
    steps = [stream.push(x[0, t]) for t in range(9)]
    assert np.stack(steps).tobytes() == whole[0].tobytes()


def test_a_session_does_not_keep_the_files_bytes():
    data = INT8.read_bytes()
    session = Session(data)
    # One reference here, one of the call itself.
    assert sys.getrefcount(data) == 2
    assert self_test(session).passed


@pytest.mark.parametrize("kernels", ["auto", "off"])
def test_a_file_without_our_operators_uses_none(kernels, monkeypatch):
    monkeypatch.setattr(library_module, "_load", lambda path: pytest.fail("the library was loaded"))
    session = Session(PLAIN, kernels=kernels)
    assert (session.kernels, session.operators, session.notes) == (None, 0, ())


def test_required_on_a_file_without_our_operators_asks_for_the_library_only():
    assert Session(PLAIN, kernels="required").kernels is None


def test_an_unknown_choice_is_refused():
    with pytest.raises(InputError, match="kernels must be one of 'auto', 'required', 'off', got 'always'"):
        Session(INT8, kernels="always")


def test_without_the_library_required_is_an_error_and_auto_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("LSTM_EDGE_LIBRARY", str(tmp_path / "none.so"))
    with pytest.raises(
        ProviderError, match=r'kernels="required": the kernels were not built: no file .*none\.so; inst'
    ):
        Session(INT8, kernels="required")
    session = Session(INT8)
    assert session.kernels is None
    assert session.notes[0].startswith("function bodies run in place of kernels: the kernels were not built")
    assert session.notes[1:] == (FOLDED,)
    assert self_test(session).kind == "bodies"


def test_a_library_that_does_not_load_is_named(monkeypatch, tmp_path):
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"\x7fELF, but no more than that")
    monkeypatch.setenv("LSTM_EDGE_LIBRARY", str(broken))
    with pytest.raises(ProviderError, match=r'kernels="required": the kernels\' library does not load \(.*broken\.so'):
        Session(INT8, kernels="required")
    assert "does not load" in Session(INT8).notes[0]


def test_a_library_of_something_else_is_named(monkeypatch):
    import _ctypes

    monkeypatch.setenv("LSTM_EDGE_LIBRARY", _ctypes.__file__)
    with pytest.raises(ProviderError, match=r"library does not load .*LstmEdgeInstructionSet"):
        find_library()


def test_an_instruction_set_that_is_not_there_is_an_error(monkeypatch):
    monkeypatch.setenv("LSTM_EDGE_ISA", "avx1024")
    with pytest.raises(ProviderError, match="LSTM_EDGE_ISA asks for the instruction set 'avx1024', which"):
        Session(INT8, kernels="required")
    assert Session(INT8).kernels is None


def test_an_empty_variable_asks_for_no_instruction_set(monkeypatch, library):
    monkeypatch.setenv("LSTM_EDGE_ISA", "")
    assert Session(INT8, kernels="required").kernels == library.instruction_set


TOO_LITTLE_MEMORY = """
import resource, sys
from lstm_edge_runtime.library import find_library
from lstm_edge_runtime.providers import open_session
library = find_library()
data = open(sys.argv[1], "rb").read()
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (150 << 20),) * 2)
open_session(data, library=library)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/statm")
def test_too_little_memory_is_an_error_of_the_session(library, tmp_path):
    # One column is padded to 64: 4 MB of weights take 256 MB packed, more than the process may have.
    weights = {"w": np.zeros((1 << 22, 1), np.int8), "w_scale": np.ones(1, np.float32), "b": np.zeros(1, np.float32)}
    path = tmp_path / "wide.onnx"
    path.write_bytes(one_node("LinearInt8V1", ("x", *weights), ("y",), weights, body=False))
    result = subprocess.run(
        [sys.executable, "-c", TOO_LITTLE_MEMORY, str(path)],
        env=os.environ | {"PYTHONPATH": str(ROOT / "runtime")},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert result.returncode == 1  # an exception, no abort
    assert "ArtifactError: " in result.stderr
    assert "not enough memory for a kernel" in result.stderr


def test_onnxruntimes_refusal_of_the_library_is_a_sentence(monkeypatch, library):
    def refuse(self, path):
        raise RuntimeError("Failed to load library: no RegisterCustomOps\nmore")

    monkeypatch.setattr(onnxruntime.SessionOptions, "register_custom_ops_library", refuse)
    with pytest.raises(
        ProviderError, match=r"refuses the kernels' library \(Failed to load .*kernels=\"off\" runs the"
    ):
        Session(INT8)


def test_under_cuda_kernels_are_not_registered(monkeypatch, library):
    # Stands in for a GPU: the request says CUDA, onnxruntime opens on the CPU.
    opened = []
    real = providers.open_session

    def on_the_cpu(data, **options):
        opened.append(options["library"])
        return real(data, **options | {"provider": "cpu"})

    monkeypatch.setattr("lstm_edge_runtime.session.open_session", on_the_cpu)
    monkeypatch.setattr("lstm_edge_runtime.session.measure_placement", lambda *arguments, **options: ())
    session = Session(INT8, provider="cuda")
    assert (session.kernels, opened) == (None, [None])
    assert FOLDED in session.notes
    assert not any("in place of kernels" in note for note in session.notes)
    with pytest.raises(
        ProviderError, match="kernels=\"required\": the kernels run on the CPU, and the provider is 'cuda'"
    ):
        Session(INT8, provider="cuda", kernels="required")
    assert opened == [None]


def test_the_choice_by_itself(library):
    assert choose_library("auto", "cpu") == (library, "")
    assert choose_library("off", "cpu") == (None, "")
    chosen, why = choose_library("auto", "cuda")
    assert chosen is None
    assert why == "the kernels run on the CPU, and the provider is 'cuda'"


def run_command(*arguments):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "exporters", ROOT / "runtime")))}
    code = "from lstm_edge.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=environment, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip


@pytest.mark.slow
def test_the_commands_say_what_runs(library):
    shown = run_command("inspect", INT8).stdout
    assert f"run by kernels ({library.instruction_set})" in " ".join(shown.split())
    assert "(kernels)" in run_command("check", INT8, "--kernels", "required").stdout
    assert "(bodies)" in run_command("check", INT8, "--kernels", "off").stdout


@pytest.mark.slow
def test_bench_measures_kernels_and_bodies(library):
    options = {"time_steps": 7, "steps": 30, "repeats": 4, "batch_size": 2}
    report, bodies = bench(INT8, **options), bench(INT8, kernels="off", **options)
    assert (report.kernels, bodies.kernels) == (library.instruction_set, None)
    for found in (report, bodies):
        assert (found.step.calls, found.sequence.calls, found.size_bytes) == (30, 4, INT8.stat().st_size)
        for timing, steps in ((found.step, 2), (found.sequence, 14)):
            assert 0 < timing.p50_us <= timing.p95_us <= timing.p99_us
            assert timing.steps_per_s == pytest.approx(steps * 1e6 / timing.p50_us)
        # A session of onnxruntime takes some megabytes; the peak counts from the same start.
        assert 0.5e6 < found.opening.resident_bytes <= found.opening.peak_bytes < 500e6
        assert found.opening.load_ms > 0
    assert ("operators run by", "function bodies") in bodies.rows()
    assert bench(PLAIN, **options).rows()[2][1] == "onnxruntime (the file has no lstm_edge operator)"


def test_bench_of_a_model_that_cannot_be_streamed_has_no_step():
    report = bench(MODELS / "exported_bidirectional_int8.onnx", time_steps=5, repeats=3)
    assert report.step is None
    assert report.to_json()["step"] is None


def test_bench_refuses_what_is_no_number():
    with pytest.raises(InputError, match="repeats must be a positive integer, got 0"):
        bench(INT8, repeats=0)
