"""Time at any place of inputs and outputs, from the module to the stream; what has no time axis is held, and replaced.

What is expected comes from the module itself, asked for the whole sequence.
"""

import numpy as np
import pytest
import torch
from support.time_anywhere import LAYOUTS

from lstm_edge_exporters.pytorch.export import build
from lstm_edge_exporters.pytorch.options import ExportOptions
from lstm_edge_runtime import Session
from lstm_edge_runtime.card import BATCH, TIME

pytestmark = pytest.mark.slow

# float32 sums in another order, over a few calls.
CLOSE = 1e-5
STEPS = 9


def drawn(spec, rows, rng):
    shape = [{BATCH: rows, TIME: STEPS}.get(axis, axis) for axis in spec.axes]
    numbers = rng.integers(0, 4, shape) if spec.dtype == "int64" else rng.normal(size=shape)
    return np.asarray(numbers, spec.dtype)


def part(specs, arrays, start, stop):
    """Return some steps of the inputs that have a time axis."""
    return {
        spec.name: np.take(arrays[spec.name], range(start, stop), axis=spec.axes.index(TIME))
        for spec in specs
        if TIME in spec.axes
    }


def pushed(stream, outputs, given):
    answer = stream.push(given if len(given) > 1 else next(iter(given.values())))
    return answer if isinstance(answer, dict) else {outputs[0].name: answer}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_stream_gives_what_the_module_gives_for_the_whole(name):
    make, inputs = LAYOUTS[name]
    torch.manual_seed(0)
    module = make().eval()
    session = Session(build(module, None, ExportOptions(inputs=inputs)).artifact.data)
    assert session.card.streaming.verdict == "every-step"
    assert session.lengths is None
    specs, outputs = session.inputs, session.outputs
    for rows in (1, 3):
        whole = {spec.name: drawn(spec, rows, np.random.default_rng(rows)) for spec in specs}
        held = {spec.name: whole[spec.name] for spec in specs if TIME not in spec.axes}
        with torch.no_grad():
            found = module(*(torch.from_numpy(array) for array in whole.values()))
        expected = {k: v.numpy() for k, v in found.items()} if isinstance(found, dict) else {"output": found.numpy()}
        for cut in ((1,) * STEPS, (2,) * 4 + (1,), (7, 2), (8, 1), (STEPS,), (3, 1, 5)):
            stream, start, pieces = session.stream(rows), 0, []
            for steps in cut:
                more = {} if start else held
                pieces.append(pushed(stream, outputs, part(specs, whole, start, start + steps) | more))
                start += steps
            for spec in outputs:
                joined = np.concatenate([piece[spec.name] for piece in pieces], spec.axes.index(TIME))
                np.testing.assert_allclose(joined, expected[spec.name], atol=CLOSE)
        check_replaced(session, whole, held, rows)


def check_replaced(session, whole, held, rows):
    """Another condition in the middle holds from there on."""
    other = {spec.name: drawn(spec, rows, np.random.default_rng(5)) for spec in session.inputs if spec.name in held}
    stream, state = session.stream(rows), None
    now = held
    for (start, stop), given in {(0, 4): held, (4, 6): other, (6, 9): {}}.items():
        now = now | given
        steps = part(session.inputs, whole, start, stop)
        answer = pushed(stream, session.outputs, steps | given)
        expected, state = session.run(steps | now, state)
        for key, array in answer.items():
            np.testing.assert_allclose(array, expected[key], atol=CLOSE)
