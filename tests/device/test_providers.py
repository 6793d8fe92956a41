"""Providers: what was asked for is what is given, or a sentence says what to install."""

import json

import numpy as np
import onnxruntime
import pytest

from lstm_edge_runtime import providers
from lstm_edge_runtime.errors import InputError, ProviderError
from lstm_edge_runtime.providers import NodePlacement, measure_placement, open_session, read_placement, session_options
from lstm_edge_runtime.session import Session

NO_CUDA = "CUDAExecutionProvider" not in onnxruntime.get_available_providers()


@pytest.mark.parametrize("name", ["CPU", "gpu", "CUDAExecutionProvider", ""])
def test_an_unknown_provider_is_refused(models, name):
    with pytest.raises(ProviderError, match=f"unknown provider {name!r}; known ones are 'cpu', 'cuda'"):
        Session(models / "tagger.onnx", provider=name)


@pytest.mark.skipif(not NO_CUDA, reason="this onnxruntime has the CUDA provider")
def test_cuda_on_a_cpu_build_says_what_to_install(models):
    with pytest.raises(
        ProviderError,
        match=r"needs CUDAExecutionProvider, and .* has only .*CPUEx.*pip install 'lstm-edge-runtime\[cuda\]'",
    ):
        Session(models / "tagger.onnx", provider="cuda")


def test_another_provider_than_asked_for_is_an_error(models, monkeypatch):
    # A CUDA build whose libraries do not load: onnxruntime lists CUDA, and gives a CPU session.
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [*providers.PROVIDERS.values()])
    real = onnxruntime.InferenceSession
    asked = []

    def cpu_session(model, options, providers):
        asked.append((providers, options))
        return real(model, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", cpu_session)
    with pytest.raises(ProviderError, match=r"asked for 'cuda' \(CUDAExecutionProvider\), onnxruntime gave CPUEx"):
        Session(models / "tagger.onnx", provider="cuda")
    with pytest.raises(ProviderError, match="strict: nodes of the model would run on the CPU under cuda"):
        Session(models / "tagger.onnx", provider="cuda", strict=True)
    cuda = ("CUDAExecutionProvider", {"use_tf32": "0"})
    assert [request for request, _ in asked] == [[cuda, "CPUExecutionProvider"], [cuda]]
    fallback = [o.get_session_config_entry("session.disable_cpu_ep_fallback") for _, o in asked if o is asked[1][1]]
    assert fallback == ["1"]


def test_strict_on_the_cpu_changes_nothing(models):
    x = np.ones((1, 2, 3), np.float32)
    strict = Session(models / "tagger.onnx", strict=True).run(x)[0]["logits"]
    np.testing.assert_array_equal(strict, Session(models / "tagger.onnx").run(x)[0]["logits"])


def test_options_suit_a_small_device():
    options = session_options(threads=3)
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 1)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert not options.enable_cpu_mem_arena
    assert session_options().intra_op_num_threads == 1


@pytest.mark.parametrize("threads", [0, -1, 1.0, True, "2", 1025, 10**8])
def test_threads_are_a_positive_integer(threads):
    with pytest.raises(InputError, match="threads must be a positive integer"):
        session_options(threads=threads)


def test_placement_is_read_from_a_profile():
    profile = json.loads("""[
        {"cat": "Session", "name": "model_run", "args": {}},
        {"cat": "Node", "name": "lstm_kernel_time", "args": {"op_name": "LSTM", "provider": "CPUExecutionProvider"}},
        {"cat": "Node", "name": "head_kernel_time", "args": {"op_name": "MatMul", "provider": "CUDAExecutionProvider"}},
        {"cat": "Node", "name": "lstm_fence_before", "args": {"op_name": "LSTM"}},
        {"cat": "Node", "name": "lstm_kernel_time", "args": {"op_name": "LSTM", "provider": "CPUExecutionProvider"}}
    ]""")
    assert read_placement(profile) == (
        NodePlacement(node="lstm", operator="LSTM", provider="CPUExecutionProvider"),
        NodePlacement(node="head", operator="MatMul", provider="CUDAExecutionProvider"),
    )


def test_placement_of_a_real_model_names_its_nodes(models):
    data = (models / "tagger.onnx").read_bytes()
    session = open_session(data)
    feeds = {
        node.name: np.zeros([axis if isinstance(axis, int) else 1 for axis in node.shape], np.float32)
        for node in session.get_inputs()
    }
    placed = measure_placement(data, feeds)
    assert {node.provider for node in placed} == {"CPUExecutionProvider"}
    assert [node.operator for node in placed].count("LSTM") == 2


def test_nodes_left_on_the_cpu_are_noted(models, monkeypatch):
    # Stands in for a GPU: the session is opened on the CPU, the measurement says what a CUDA one would.
    real = providers.open_session
    placed = (
        NodePlacement(node="lstm.0.y", operator="LSTM", provider="CPUExecutionProvider"),
        NodePlacement(node="head", operator="MatMul", provider="CUDAExecutionProvider"),
    )
    monkeypatch.setattr(
        "lstm_edge_runtime.session.open_session", lambda data, **options: real(data, **options | {"provider": "cpu"})
    )
    monkeypatch.setattr("lstm_edge_runtime.session.measure_placement", lambda *arguments, **options: placed)
    session = Session(models / "tagger.onnx", provider="cuda")
    assert session.placement == placed
    assert session.notes == ("onnxruntime put 1 nodes on the CPU under cuda: lstm.0.y (LSTM)",)
