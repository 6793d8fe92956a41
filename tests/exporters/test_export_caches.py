"""Arguments of forward that come back as results are states, whatever they hold; proved by value, streamed as by hand.

What is expected comes from the module itself, each call with what the call before returned.
"""

import functools

import numpy as np
import pytest
import torch
from support.returned_caches import FORMS, NO_STATES, Caching, PreviousFrame, TwoRegisters

import lstm_edge
from lstm_edge_exporters.pytorch.export import build
from lstm_edge_exporters.pytorch.options import ExportOptions
from lstm_edge_exporters.verify.inputs import parse_input
from lstm_edge_runtime import Session, State
from lstm_edge_runtime.errors import InputError

pytestmark = pytest.mark.slow

# float32 sums in another order, over a few calls.
CLOSE = 1e-5
ROWS = 2
# Steps of each call, for the inputs that have a time axis; more calls than any cache has frames.
CALLS = (1, 1, 2, 7, 1, 3, 1, 1)


def exported(module, inputs, pairs=None):
    """Return the file in memory, and what the export said."""
    said = []
    torch.manual_seed(0)
    options = ExportOptions(inputs=inputs, pairs=pairs or {})
    return build(module.eval(), None, options, said.append).artifact.data, said


@functools.cache
def session_of(name: str) -> tuple[torch.nn.Module, Session]:
    torch.manual_seed(0)
    module = FORMS[name].module().eval()
    return module, Session(exported(module, FORMS[name].inputs)[0])


def drawn(text: str, rng: np.random.Generator, time: int) -> np.ndarray:
    spec = parse_input(text)
    shape = [{"batch": ROWS, "time": time}.get(axis, axis) for axis in spec.axes]
    if spec.name == "start":
        return (rng.random(shape) < 0.3).astype(spec.dtype)
    return rng.normal(size=shape).astype(spec.dtype)


def nested(arrays):
    """Return forward's arguments: names with dots are places in dicts and tuples."""
    tree: dict = {}
    for name, array in arrays.items():
        *above, last = name.split(".")
        branch = tree
        for key in above:
            branch = branch.setdefault(key, {})
        branch[last] = torch.from_numpy(np.array(array))

    def built(branch):
        if not isinstance(branch, dict):
            return branch
        parts = {key: built(child) for key, child in branch.items()}
        return tuple(parts.values()) if all(key.isdecimal() for key in parts) else parts

    return [built(branch) for branch in tree.values()]


def named(path, value):
    if isinstance(value, torch.Tensor):
        return {path: value.numpy()}
    children = value.items() if isinstance(value, dict) else enumerate(value)
    return {name: array for key, child in children for name, array in named(f"{path}_{key}", child).items()}


def by_hand(form: Caching, module, given, state):
    """One call of the module: its results by name."""
    arrays = {parse_input(text).name: None for text in form.inputs} | given | state
    with torch.no_grad():
        return named("output", module(*nested(arrays)))


@pytest.mark.parametrize("name", FORMS)
def test_a_cache_is_a_state_and_calls_in_a_row_are_the_modules(name):
    form, (module, session) = FORMS[name], session_of(name)
    own = {spec.input: spec for spec in session.states if spec.input in form.states}
    assert {spec.input: spec.output for spec in own.values()} == dict(form.states)
    assert [spec.name for spec in session.inputs] == list(form.others)
    assert {name: spec.dtype for name, spec in own.items() if spec.counts} == dict(form.counts)
    rng, state = np.random.default_rng(0), None
    zeros = session.initial_state(ROWS)
    expected_state = {source: zeros[source] for source in form.states}
    hidden = len(own) == len(session.states)  # otherwise the module starts its layer from zeros in each call
    for time in CALLS if hidden else CALLS[:1]:
        given = {parse_input(t).name: drawn(t, rng, time) for t in form.inputs if t.split(":")[0] in form.others}
        expected = by_hand(form, module, given, expected_state)
        outputs, state = session.run(given, state)
        expected_state = {source: expected[end] for source, end in form.states.items()}
        for end, array in outputs.items():
            np.testing.assert_allclose(array, expected[end], atol=CLOSE)
        for source, array in expected_state.items():
            np.testing.assert_allclose(state[source], array, atol=CLOSE)
            assert state[source].dtype == array.dtype


@pytest.mark.parametrize("name", [name for name, form in FORMS.items() if form.verdict == "every-step"])
def test_pieces_are_the_whole_that_the_module_gives(name):
    form, (module, session) = FORMS[name], session_of(name)
    assert session.card.streaming.verdict == "every-step"
    x = drawn(form.inputs[0], np.random.default_rng(1), 17)
    axis = 2 if x.ndim == 4 else 1
    zeros = session.initial_state(ROWS)
    expected = by_hand(form, module, {"x": x}, {source: zeros[source] for source in form.states})["output_0"]
    for cut in ((1,) * 17, (2,) * 8 + (1,), (7, 10), (16, 1), (17,), (3, 1, 5, 8)):
        stream, ends = session.stream(ROWS), np.cumsum(cut)[:-1]
        pieces = [stream.push(piece) for piece in np.split(x, ends, axis)]
        np.testing.assert_allclose(np.concatenate(pieces, 1), expected, atol=CLOSE)


@pytest.mark.parametrize("name", [name for name, form in FORMS.items() if form.verdict == "each-call"])
def test_a_stream_of_steps_is_the_module_called_in_a_row(name):
    form, (module, session) = FORMS[name], session_of(name)
    assert session.card.streaming.verdict == "each-call"
    stream, rng, initial = session.stream(ROWS), np.random.default_rng(2), session.initial_state(ROWS)
    state = {source: initial[source] for source in form.states}
    for _ in range(12):
        given = {parse_input(t).name: drawn(t, rng, 1) for t in form.inputs if t.split(":")[0] in form.others}
        expected = by_hand(form, module, given, state)
        state = {source: expected[end] for source, end in form.states.items()}
        np.testing.assert_allclose(stream.push(given), expected["output_0"], atol=CLOSE)
    stream.reset()
    assert all(not array.any() for array in stream.state.values())


def test_a_state_that_starts_otherwise_is_given_with_the_call():
    _, session = session_of("integer count")
    x = np.random.default_rng(3).normal(size=(1, 8, 6)).astype(np.float32)
    whole, _ = session.run(x)
    _, first = session.run(x[:, :5])
    assert first["count"].tolist() == [5]
    again = State.from_arrays(session.states, first.to_arrays())
    np.testing.assert_allclose(session.run(x[:, 5:], again)[0]["output_0"], whole["output_0"][:, 5:], atol=CLOSE)
    wrong = {**first.to_arrays(), "count": np.ones(1, np.float32)}
    with pytest.raises(InputError, match="state 'count' must be an int64 array, got float32"):
        session.run(x, State.from_arrays(session.states, wrong))


@pytest.mark.parametrize("name", NO_STATES)
def test_what_only_has_the_shape_of_a_result_is_not_a_state(name):
    make, inputs, ordinary, verdict, sentence = NO_STATES[name]
    data, said = exported(make(), inputs)
    session = Session(data)
    assert {spec.name for spec in session.inputs} == ordinary
    assert session.card.streaming.verdict == verdict
    about = [line for line in said if line.startswith("input ")]
    assert about == [sentence] * bool(sentence)


def test_the_option_decides_what_the_values_leave_open(tmp_path):
    module = PreviousFrame().eval()
    _, inputs, *_ = NO_STATES["previous frame"]
    lstm_edge.export(module, None, tmp_path / "m.onnx", inputs=inputs, state={"last": "output_1"})
    session = Session(tmp_path / "m.onnx")
    assert [spec.input for spec in session.states] == ["last", "h"]
    x = torch.randn(4, 1, 6)
    stream, last, h = session.stream(), torch.zeros(1, 6), torch.zeros(1, 8)
    for frame in x:
        with torch.no_grad():
            y, last, h = module(frame, last, h)
        np.testing.assert_allclose(stream.push(frame.numpy()), y.numpy(), atol=CLOSE)


TWO = FORMS["two registers crossed"].inputs
WRONG = {
    "no input": ({"r": "output_1"}, "there is no input 'r'; the inputs are x, p, q"),
    "no result": ({"p": "out"}, "forward returns no 'out'; its results are output_0, output_1, output_2"),
    "another shape": (
        {"p": "output_0"},
        r"the input is float32 \[batch, 6, 2\], the result float32 \[batch, time, 8\]; expected an input of numbers",
    ),
    "crossed": (
        {"p": "output_1"},
        "pieces of a sequence, each with the states of the one before, do not give the answers of the whole sequence "
        "so; they do where 'p' is the state that 'output_2' returns",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_option_that_is_not_true_is_an_error(name):
    pairs, sentence = WRONG[name]
    (source, end), *_ = pairs.items()
    with pytest.raises(InputError, match=f"--state {source}={end}: {sentence}"):
        exported(TwoRegisters(), TWO, pairs)


def test_an_option_for_what_changes_nothing_is_an_error(tmp_path):
    make, inputs, *_ = NO_STATES["idle count"]
    with pytest.raises(InputError, match=r"--state count=output_1: input 'count', which .* changes no other result"):
        exported(make(), inputs, {"count": "output_1"})
    make, inputs, *_ = NO_STATES["previous frame"]
    sentence = "forward returns no 'out'; its results are output_0, output_1, output_2"
    with pytest.raises(InputError, match=f"--state last=out: {sentence}"):
        exported(make(), inputs, {"last": "out"})
    with pytest.raises(InputError, match="--states hidden asks for none"):
        ExportOptions(state="hidden", pairs={"cache": "output_1"})
    with pytest.raises(InputError, match=r"state='cache=output_1': expected pairs"):
        lstm_edge.export(make(), None, tmp_path / "m.onnx", inputs=inputs, state="cache=output_1")
