"""An export goes forward: what is known is not found out again, and no file is opened or parsed twice."""

import dataclasses
from collections import Counter

import pytest
import torch
from support.networks import NETWORKS, input_spec, seeded
from torch import nn

from lstm_edge import exporting
from lstm_edge_exporters.pytorch import calls, recurrent, weights
from lstm_edge_exporters.pytorch.calls import recurrent_modules
from lstm_edge_exporters.pytorch.export import build
from lstm_edge_exporters.pytorch.options import ExportOptions
from lstm_edge_exporters.pytorch.original import Original
from lstm_edge_exporters.pytorch.plan import Plan, watch
from lstm_edge_exporters.quantize import Parent, quantize_bytes
from lstm_edge_exporters.verify.inputs import InputMaker, parse_input
from lstm_edge_runtime import providers
from lstm_edge_runtime.errors import CaptureError, InputError

SPEC = "x: float32[batch, time, 3]"


# Outside of the module: what a module holds is put back after each call.
SHAPES = []


class Counted(nn.Module):
    """Counts the calls of its forward; ``dtype`` is that of its answer."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.lstm, self.dtype = nn.LSTM(3, 5, batch_first=True), dtype

    def forward(self, x):
        SHAPES.append(tuple(x.shape[:2]))
        return self.lstm(x)[0].to(self.dtype)

    def describe_model(self):
        return {"inputs": [SPEC]}


def plan_of(module: nn.Module) -> Plan:
    specs = (parse_input(SPEC),)
    return watch(module, recurrent_modules(module), specs, InputMaker(specs), explicit_state=True)


@pytest.fixture
def sessions(monkeypatch):
    """The names of the outputs of every session that is opened."""
    opened, real = [], providers.onnxruntime.InferenceSession

    def open_session(*arguments, **options):
        session = real(*arguments, **options)
        opened.append([value.name for value in session.get_outputs()])
        return session

    monkeypatch.setattr(providers.onnxruntime, "InferenceSession", open_session)
    return opened


def test_forward_runs_at_three_shapes_to_be_watched_and_again_to_be_compared():
    SHAPES.clear()
    plan = plan_of(Counted().eval())
    assert sorted(set(SHAPES)) == [(3, 7), (3, 11), (5, 7)]
    # At the first shape: alone, then a call and two continuations of it (repeats.py).
    assert [SHAPES.count(shape) for shape in ((3, 7), (3, 11), (5, 7))] == [5, 1, 1]
    assert plan.outputs[0].axes == ("batch", "time", 5)


def test_what_was_found_is_not_changed_afterwards():
    plan = plan_of(Counted().eval())
    for value, field in ((plan, "states"), (Original(nn.Identity(), plan), "plan")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field, ())


def test_a_type_that_numpy_lacks_is_refused():
    with pytest.raises(CaptureError, match=r"^output output is bfloat16, which NumPy does not have: return float32$"):
        plan_of(Counted(torch.bfloat16).eval())


def test_other_results_at_another_shape_are_refused():
    class Shapely(Counted):
        def forward(self, x):
            y = self.lstm(x)[0]
            return {"y": y, "more": y} if len(x) > 3 else {"y": y}

    with pytest.raises(CaptureError) as caught:
        plan_of(Shapely().eval())
    assert str(caught.value) == (
        "forward returns different tensors for 5 rows or 11 steps and for 3 rows and 7 steps (y of 3 axes; "
        "y of 3 axes, "
        "more of 3 axes; y of 3 axes): return the same ones for every shape"
    )


@pytest.mark.slow
def test_a_layer_is_described_before_forward_and_in_the_watched_calls(monkeypatch):
    read, real = Counter(), recurrent.describe

    def describe(module, *, called=True):
        found = real(module, called=called)
        read[called] += found is not None
        return found

    monkeypatch.setattr(calls, "describe", describe)
    monkeypatch.setattr(weights, "describe", describe)
    build(NETWORKS["tagger"](), torch.randn(2, 5, 6))
    assert read == {False: 1, True: 3}


@pytest.mark.slow
def test_an_export_opens_its_model_once_and_its_file_once(sessions):
    """onnxruntime runs LSTM by an operator of its own: there are no kernels to test."""
    build(seeded(nn.LSTM(3, 5, batch_first=True)), None, ExportOptions(inputs=[SPEC]))
    assert len(sessions) == 2


@pytest.mark.slow
def test_export_to_int8_neither_parses_nor_opens_again_what_it_built(sessions, monkeypatch, tmp_path):
    parsed = []
    for name in ("parse_model", "parse_proto"):
        monkeypatch.setattr(f"lstm_edge_exporters.onnx_graph.reading.{name}", parsed.append)
    monkeypatch.setattr("lstm_edge_exporters.quantize.parse_model", parsed.append)
    monkeypatch.setattr(exporting, "load_source", lambda *_source, **_weights: Counted().eval())
    output = tmp_path / "int8.onnx"
    request = exporting.ExportRequest(source="json:loads", output=output, scheme="int8")
    exporting.run_export(request, lambda _line: None)
    # Two of float32, then the int8 graph, its file by the bodies, and its file by the kernels where they were built.
    assert len(sessions) == 2 + 3
    assert parsed == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [("tagger", {"lengths": True}), ("full", {"plain": True}), ("full", {}), ("language-model", {"state": "hidden"})],
    ids=lambda value: value if isinstance(value, str) else "-".join(value) or "as it is",
)
def test_what_was_built_is_quantized_as_its_file_is(name, options):
    built = build(NETWORKS[name](), None, ExportOptions(inputs=[input_spec(name)], **options))
    expected = quantize_bytes(built.artifact.data, allow_unquantized=True).data
    assert quantize_bytes(Parent.built(built.artifact, built.proto), allow_unquantized=True).data == expected


def test_an_unknown_state_is_refused_where_it_is_said():
    with pytest.raises(InputError, match=r"^state must be 'explicit' or 'hidden', got 'both'$"):
        ExportOptions(state="both")  # type: ignore[arg-type]  # on purpose
