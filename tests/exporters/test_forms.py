"""The table of forms: PyTorch as people write it, exported, gives PyTorch's outputs and states, or is refused.

Every row runs at shapes other than those that the exporter tries, from random states, and in chunks where the card
says that it can. What is expected comes from ``forms``, which asks the module itself.
"""

import functools
import inspect
import itertools
import re
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from support.fingerprint import fingerprint
from support.forms import Form
from support.forms_cells import CELL_FORMS
from support.forms_layers import LAYER_FORMS
from support.forms_networks import NETWORK_FORMS
from support.forms_packed import PACKED_FORMS
from support.forms_refused import REFUSALS, Refusal
from support.forms_rnn import RNN_FORMS
from support.networks import build

from lstm_edge_exporters.verify.compare import Tolerance, assert_close
from lstm_edge_runtime.card import BATCH, TIME
from lstm_edge_runtime.errors import CaptureError, ParityError
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.state import State

pytestmark = pytest.mark.slow

FORMS = (*LAYER_FORMS, *PACKED_FORMS, *CELL_FORMS, *NETWORK_FORMS, *RNN_FORMS)
FORM = {form.name: form for form in FORMS}

# (batch, time): none of them is traced or tried by the exporter, except for (1, 1). The last has lengths of 1.
SHAPES = ((1, 1), (2, 9), (5, 4), (3, 17))
CHUNKS = (1, 6, 2, 8)

FORM_PARITY = Tolerance(
    name="FORM_PARITY",
    absolute=1e-5,
    reason="PyTorch against onnxruntime in float32 on answers of order one, as of the export's own check; wrong states "
    "or gates are off by 1e-2 and more",
)

Arrays = dict[str, np.ndarray]


@functools.cache
def session_of(name: str) -> Session:
    """Return the file of a form, made once a process; the export leaves the module as it was."""
    form = FORM[name]
    module = form.make()
    before = fingerprint(module)
    artifact = build(module, None, inputs=list(form.inputs), lengths=form.ask_lengths, state=form.state)
    assert fingerprint(module) == before
    return Session(artifact.data, kernels="off")


def draw(session: Session, batch: int, time: int) -> tuple[Arrays, Arrays]:
    """Return random inputs (ids below 11) and states, uniform in -0.9 to 0.9; other axes than batch and time have 6."""
    rng = np.random.default_rng(1000 * batch + time)
    sizes = {BATCH: batch, TIME: time}
    inputs: Arrays = {}
    for spec in session.inputs:
        shape = [sizes.get(axis, 6) if isinstance(axis, str) else axis for axis in spec.axes]
        drawn = rng.standard_normal(shape) if spec.dtype == "float32" else rng.integers(0, 11, shape)
        inputs[spec.name] = np.asarray(drawn, spec.dtype)
    states = {
        spec.input: rng.uniform(-0.9, 0.9, [batch if axis == BATCH else axis for axis in spec.axes]).astype(np.float32)
        for spec in session.states
    }
    return inputs, states


def asked(form: Form, module: torch.nn.Module, inputs: Arrays, states: Arrays) -> tuple[Arrays, Arrays]:
    """Return what PyTorch says: outputs and new states by their names in the file."""
    with torch.no_grad():
        outputs, left = form.answer(
            module,
            {name: torch.from_numpy(array) for name, array in inputs.items()},
            {name: torch.from_numpy(array) for name, array in states.items()},
        )
    named = dict(zip(form.outputs, outputs, strict=True))
    return {name: t.numpy() for name, t in named.items()}, {name: t.numpy() for name, t in left.items()}


def check(what: str, got: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    assert set(got) == set(expected), what
    for name, array in got.items():
        assert_close(f"{what}: {name}", array, expected[name], FORM_PARITY)


def part(session: Session, inputs: Arrays, start: int, stop: int) -> Arrays:
    axes = {spec.name: spec.axes for spec in session.inputs}
    return {
        name: array[(slice(None),) * axes[name].index(TIME) + (slice(start, stop),)] if TIME in axes[name] else array
        for name, array in inputs.items()
    }


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_form_gives_pytorchs_answers(form: Form) -> None:
    """One test a row: with several, each worker would make the file again."""
    check_shapes(form)
    check_chunks(form)
    if form.streaming == "each-call":
        check_steps(form)
    if form.lengths:
        check_rows(form, (9, 1, 4, 9, 2))
        check_rows(form, (3, 5, 1, 1, 7))


def check_shapes(form: Form) -> None:
    """Outputs and states at every shape, from random states."""
    session, module = session_of(form.name), form.make()
    assert tuple(spec.name for spec in session.outputs) == form.outputs
    assert tuple(spec.input for spec in session.states) == form.states
    assert (session.lengths or "") == form.lengths
    for batch, time in SHAPES:
        inputs, states = draw(session, batch, time)
        outputs, left = session.run(inputs, State.from_arrays(session.states, states))
        if form.lengths and takes(module, form.lengths):
            inputs[form.lengths] = np.full(batch, time)
        expected, expected_left = asked(form, module, inputs, states)
        check(f"{form} [{batch}, {time}]", outputs, expected)
        check(f"{form} [{batch}, {time}]", left, expected_left)
        assert all(np.abs(left[name] - states[name]).max() > 1e-3 for name in left), "a state that nothing changed"


def check_chunks(form: Form) -> None:
    """The card's verdict, and chunks against the whole where it says that they are the same."""
    session = session_of(form.name)
    assert session.card is not None
    assert session.card.streaming.verdict == form.streaming, session.card.streaming.reason
    if form.streaming in ("none", "each-call"):
        return
    inputs, states = draw(session, 3, sum(CHUNKS))
    state = State.from_arrays(session.states, states)
    whole, last = session.run(inputs, state)
    pieces, start = [], 0
    for steps in CHUNKS:
        outputs, state = session.run(part(session, inputs, start, start + steps), state)
        pieces.append(outputs)
        start += steps
    for spec in session.outputs:
        found = [piece[spec.name] for piece in pieces]
        joined = np.concatenate(found, axis=spec.axes.index(TIME)) if TIME in spec.axes else found[-1]
        assert_close(f"{form}: {spec.name}", joined, whole[spec.name], FORM_PARITY)
    check(str(form), state, last)


def check_rows(form: Form, lengths: tuple[int, ...]) -> None:
    """Each row is that row alone: in any order, also where the module wants it falling; with and without a full row."""
    session, module = session_of(form.name), form.make()
    inputs, states = draw(session, len(lengths), 9)
    outputs, left = session.run(inputs, State.from_arrays(session.states, states), lengths)
    axes = {spec.name: spec.axes for spec in (*session.inputs, *session.outputs)}
    axes |= {spec.input: spec.axes for spec in session.states}
    for row, length in enumerate(lengths):
        alone = {name: cut(array, axes[name], row, length) for name, array in inputs.items()}
        entering = {name: cut(array, axes[name], row, length) for name, array in states.items()}
        if takes(module, form.lengths):
            alone[form.lengths] = np.array([length])
        expected, expected_left = asked(form, module, alone, entering)
        what = f"{form} row {row} of length {length}"
        check(what, {name: cut(array, axes[name], row, length) for name, array in outputs.items()}, expected)
        check(what, {name: cut(array, axes[name], row, length) for name, array in left.items()}, expected_left)
        for name, array in outputs.items():
            if TIME in axes[name]:
                assert np.all(past(array, axes[name], row, length) == 0.0), f"{what}: {name} past the end"


def check_steps(form: Form) -> None:
    """A stream of single steps, each from where the one before ended."""
    session, module = session_of(form.name), form.make()
    stream = session.stream(2)
    states = session.initial_state(2).to_arrays()
    for step in range(4):
        inputs, _ = draw(session, 2, 20 + step)
        got = stream.push(*inputs.values())
        expected, states = asked(form, module, inputs, states)
        check(f"{form} step {step}", {form.outputs[0]: got}, expected)
    check(str(form), stream.state, states)


def test_an_encoder_and_its_decoder_as_two_files() -> None:
    """The first file's states, stacked as PyTorch has them, are where the second starts from."""
    encoder, decoder = session_of("encoder"), session_of("decoder")
    x, _ = draw(encoder, 3, 9)
    ids, _ = draw(decoder, 3, 4)
    _, state = encoder.run(x)
    start = State.from_arrays(decoder.states, {"h": state.stacked("h"), "c": state.stacked("c")})
    outputs, left = decoder.run(ids, start)
    with torch.no_grad():
        _, given = FORM["encoder"].make()(torch.from_numpy(x["x"]))
        logits, h, c = FORM["decoder"].make()(torch.from_numpy(ids["ids"]), *given)
    check("decoder", outputs, {"output_0": logits.numpy()})
    check("decoder", left, {"h": h.numpy(), "c": c.numpy()})


def takes(module: torch.nn.Module, name: str) -> bool:
    return name in inspect.signature(module.forward).parameters


def cut(array: np.ndarray, axes: tuple[str | int, ...], row: int, length: int) -> np.ndarray:
    """Return one row, with its batch axis, up to its length."""
    return array[tuple({BATCH: slice(row, row + 1), TIME: slice(length)}.get(axis, slice(None)) for axis in axes)]


def past(array: np.ndarray, axes: tuple[str | int, ...], row: int, length: int) -> np.ndarray:
    return array[tuple({BATCH: row, TIME: slice(length, None)}.get(axis, slice(None)) for axis in axes)]


@pytest.mark.parametrize("refusal", REFUSALS, ids=str)
def test_what_cannot_be_exported_is_refused_with_its_sentence(refusal: Refusal) -> None:
    module = refusal.make()
    before = fingerprint(module) if isinstance(module, torch.nn.Module) else None
    with pytest.raises(CaptureError) as caught:
        build(module, None, inputs=list(refusal.inputs), **dict(refusal.options))
    assert before is None or fingerprint(module) == before
    sentence = str(caught.value)
    assert "\n" not in sentence
    for expression in refusal.sentence:
        assert_matches(expression, sentence)


def assert_matches(expression: str, sentence: str) -> None:
    assert re.search(expression, sentence), f"{expression!r} is not in {sentence!r}"


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_an_interrupted_export_leaves_the_module_as_it_was(form: Form) -> None:
    """Ctrl-C in the second call, after all of forward but its return."""
    module = form.make()
    numbers = itertools.count(1)

    def interrupt(_module: torch.nn.Module, _args: object, _result: object) -> None:
        if next(numbers) == 2:
            raise KeyboardInterrupt

    module.register_forward_hook(interrupt)
    before = fingerprint(module)
    with pytest.raises(KeyboardInterrupt):
        build(module, None, inputs=list(form.inputs), lengths=form.ask_lengths, state=form.state)
    assert fingerprint(module) == before


def test_every_row_has_its_own_name() -> None:
    names = [row.name for row in (*FORMS, *REFUSALS)]
    assert len(names) == len(set(names))
    assert len(names) >= 40


SWAPS = {"h-and-c": ("lstm.0.h", "lstm.0.c"), "two-layers": ("lstm.0.c", "lstm.1.c")}


@pytest.mark.parametrize("swap", SWAPS.values(), ids=SWAPS.keys())
def test_swapped_states_are_noticed(swap: tuple[str, str]) -> None:
    """On the way in and on the way out; and so is an answer without any of its states."""
    form = FORM["lstm-2-layers"]
    session, module = session_of(form.name), form.make()
    inputs, states = draw(session, 2, 9)
    outputs, left = session.run(inputs, State.from_arrays(session.states, states))
    expected, expected_left = asked(form, module, inputs, states)
    check("as it is", outputs, expected)
    check("as it is", left, expected_left)
    exchanged = {**states, swap[0]: states[swap[1]], swap[1]: states[swap[0]]}
    wrong, _ = asked(form, module, inputs, exchanged)
    with pytest.raises(ParityError, match="FORM_PARITY"):
        check("in", outputs, wrong)
    with pytest.raises(ParityError, match="FORM_PARITY"):
        check("out", left, {**expected_left, swap[0]: expected_left[swap[1]], swap[1]: expected_left[swap[0]]})
    with pytest.raises(AssertionError):
        check("lost", left, {name: array for name, array in expected_left.items() if name != swap[0]})
