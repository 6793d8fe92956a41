"""States in the user's own form: found by values, fed back by the runtime, equal to the module fed by hand."""

import numpy as np
import pytest
import torch
from support.carried_modules import FORMS, REFUSED

import lstm_edge
from lstm_edge_exporters.verify.inputs import parse_input
from lstm_edge_runtime import Session
from lstm_edge_runtime.errors import CaptureError

pytestmark = pytest.mark.slow

# float32 sums in another order, over a few calls.
CLOSE = 1e-5
# Steps of each call, for the inputs that have a time axis.
CALLS = (3, 1, 6)


def drawn(text: str, rng: np.random.Generator, time: int) -> np.ndarray:
    spec = parse_input(text)
    shape = [{"batch": 2, "time": time}.get(axis, axis) for axis in spec.axes]
    if spec.dtype == "bool" or spec.name == "start":
        return (rng.random(shape) < 0.5).astype(spec.dtype)
    return rng.normal(size=shape).astype(spec.dtype)


@pytest.mark.parametrize("name", list(FORMS))
def test_a_state_in_a_form_of_its_own_is_a_state(name, tmp_path):
    form = FORMS[name]
    torch.manual_seed(0)
    module = form.module().eval()
    lstm_edge.export(module, None, tmp_path / "m.onnx", inputs=form.inputs)
    session = Session(tmp_path / "m.onnx")
    assert {spec.input: spec.output for spec in session.states} == dict(form.states)
    assert not {spec.name for spec in session.inputs} & set(form.states)

    rng, state = np.random.default_rng(0), None
    by_hand = {
        s: np.zeros(drawn(t, rng, 1).shape, np.float32)
        for t in form.inputs
        for s in form.states
        if t.startswith(f"{s}:")
    }
    for time in CALLS:
        given = {parse_input(text).name: drawn(text, rng, time) for text in form.inputs} | by_hand
        with torch.no_grad():
            results = module(*(torch.from_numpy(array) for array in given.values()))
        expected = {f"output_{place}": tensor.numpy() for place, tensor in enumerate(results)}
        outputs, state = session.run({n: a for n, a in given.items() if n not in form.states}, state)
        by_hand = {source: expected[end] for source, end in form.states.items()}
        for end, array in outputs.items():
            np.testing.assert_allclose(array, expected[end], atol=CLOSE)
        for source, end in form.states.items():
            np.testing.assert_allclose(state[source], expected[end], atol=CLOSE)


@pytest.mark.parametrize("name", ["stacked", "last axis", "sliced", "projected"])
def test_chunks_are_the_whole(name, tmp_path):
    form = FORMS[name]
    lstm_edge.export(form.module().eval(), None, tmp_path / "m.onnx", inputs=form.inputs)
    session = Session(tmp_path / "m.onnx")
    assert session.card.streaming.verdict == "every-step"
    x = np.random.default_rng(1).normal(size=(1, 10, 6)).astype(np.float32)
    whole, _ = session.run(x)
    stream = session.stream()
    pieces = [stream.push(x[:, start:stop]) for start, stop in ((0, 3), (3, 4), (4, 10))]
    np.testing.assert_allclose(np.concatenate(pieces, 1), next(iter(whole.values())), atol=CLOSE)


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_is_no_state_is_refused_with_its_sentence(name, tmp_path):
    form, sentence = REFUSED[name]
    with pytest.raises(CaptureError, match=sentence):
        lstm_edge.export(form.module().eval(), None, tmp_path / "m.onnx", inputs=form.inputs)
    assert not (tmp_path / "m.onnx").exists()
