"""Streams a model in pushes and compares the answers with the original's for the whole sequence."""

import io
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from lstm_edge_exporters.verify.pushes import pushes_of
from lstm_edge_runtime.card import TIME
from lstm_edge_runtime.session import Session
from support.streamed_forms import Form

Sample = tuple[dict[str, np.ndarray], np.ndarray]


def made(form: Form) -> nn.Module:
    """Return the module of a form, with seeded weights and statistics, in evaluation mode."""
    torch.manual_seed(5)
    module = form.make()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -0.5, 0.5)
            nn.init.uniform_(part.running_var, 0.5, 2.0)
    return module.eval()


def samples_of(
    session: Session, ask: Callable[[dict[str, np.ndarray]], np.ndarray], lengths: Sequence[int]
) -> list[Sample]:
    """Return random sequences of some lengths, batch 2, and the answers to them."""
    rng = np.random.default_rng(3)
    samples = []
    for steps in lengths:
        shapes = {spec.name: [{"batch": 2, TIME: steps}.get(str(a), a) for a in spec.axes] for spec in session.inputs}
        inputs = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
        samples.append((inputs, ask(inputs)))
    return samples


def lengths_of(session: Session) -> list[int]:
    """Return the lengths that a form is streamed at: some that end in the middle of what an output step takes."""
    assert session.card is not None
    first, every = session.card.streaming.first, session.card.streaming.every
    return [first, first + 1, first + 5 * every, first + 9 * every + every // 2]


def largest_difference(session: Session, samples: Sequence[Sample]) -> float:
    """Push each sequence in chunks of 1, 2, 7, T - 1, T and ragged ones; return how far the answers are from the whole.

    Raises:
        AssertionError: the joined answers have another shape than the whole's.
    """
    worst = 0.0
    spec = session.outputs[0]
    for inputs, expected in samples:
        whole = session.run(inputs)[0][spec.name]
        assert whole.shape == expected.shape
        worst = max(worst, float(np.abs(whole - expected).max()))
        timed = {one.name: one.axes.index(TIME) for one in session.inputs if TIME in one.axes}
        steps = next(inputs[name].shape[axis] for name, axis in timed.items())
        for pushes in pushes_of(steps):
            joined = _streamed(session, inputs, timed, pushes)
            assert joined.shape == expected.shape, (pushes, joined.shape, expected.shape)
            worst = max(worst, float(np.abs(joined - expected).max()))
    return worst


def _streamed(
    session: Session, inputs: dict[str, np.ndarray], timed: dict[str, int], pushes: Sequence[int]
) -> np.ndarray:
    stream, spec = session.stream(2), session.outputs[0]
    answers, start = [], 0
    for steps in pushes:
        part = {
            name: array.take(range(start, start + steps), axis=timed[name]) if name in timed else array
            for name, array in inputs.items()
        }
        answers.append(stream.push(part if len(part) > 1 else next(iter(part.values()))))
        start += steps
    answers.append(stream.flush())
    if TIME in spec.axes:
        return np.concatenate(answers, axis=spec.axes.index(TIME))
    return next(answer for answer in reversed(answers) if answer.size)


def torch_answer(module: nn.Module) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
    """Return the module as a function of named arrays."""

    def ask(inputs: dict[str, np.ndarray]) -> np.ndarray:
        with torch.no_grad():
            answer = module(*(torch.from_numpy(array) for array in inputs.values()))
        return np.asarray(answer.numpy())

    return ask


def onnx_file(form: Form, module: nn.Module) -> bytes:
    """Return what torch.onnx's first exporter writes for a form of one input."""
    (text,) = form.inputs
    axes = [axis.strip() for axis in text[text.index("[") + 1 : -1].split(",")]
    shape = [{"batch": 2, "time": 24}.get(axis) or int(axis) for axis in axes]
    dynamic = {"x": {at: axis for at, axis in enumerate(axes) if not axis.isdecimal()}}
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (torch.zeros(shape),),
            buffer,
            dynamo=False,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes=dynamic,
        )
    return buffer.getvalue()
