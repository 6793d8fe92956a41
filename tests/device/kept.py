"""Streams of models that keep steps, for their tests: made input, and pushes of any cut."""

import itertools

import numpy as np

__all__ = ["KEPT", "cut", "drawn", "joined_answers", "pushed", "time_axis"]

# By name: the first length of a sequence that the whole model takes.
KEPT = {
    "kept_condition": 1,
    "kept_ids": 4,
    "kept_image": 4,
    "kept_last": 2,
    "kept_look_ahead": 1,
    "kept_padded": 1,
    "kept_ragged": 1,
    "kept_strided": 1,
    "kept_up": 1,
}


def time_axis(spec):
    """The position of the time axis, or None."""
    return spec.axes.index("time") if "time" in spec.axes else None


def drawn(session, batch, steps, seed=0):
    """Normal inputs, or small ids, by name, with all axes."""
    rng = np.random.default_rng(seed)
    sizes = {"batch": batch, "time": steps}
    shapes = [(spec, [sizes.get(axis, axis) for axis in spec.axes]) for spec in session.inputs]
    return {
        spec.name: rng.integers(0, 9, shape) if spec.dtype == "int64" else rng.normal(size=shape).astype(np.float32)
        for spec, shape in shapes
    }


def cut(session, inputs, start, stop):
    """The steps from ``start`` to ``stop`` of inputs by name; an input without time stays as it is."""
    return {
        spec.name: inputs[spec.name]
        if time_axis(spec) is None
        else inputs[spec.name][(slice(None),) * time_axis(spec) + (slice(start, stop),)]
        for spec in session.inputs
    }


def pushed(stream, session, inputs, cuts):
    """Push the cuts one after the other; the answers by output name, then that of ``flush``."""
    names = [spec.name for spec in session.outputs]
    ends = list(itertools.accumulate(cuts))
    answers = [stream.push(cut(session, inputs, end - size, end)) for size, end in zip(cuts, ends, strict=True)]
    answers.append(stream.flush())
    return [answer if isinstance(answer, dict) else {names[0]: answer} for answer in answers]


def joined_answers(session, answers):
    """The answers as those of a whole sequence: joined along time, or the last that has rows."""
    whole = {}
    for spec in session.outputs:
        parts = [answer[spec.name] for answer in answers]
        axis = time_axis(spec)
        whole[spec.name] = (
            np.concatenate(parts, axis=axis) if axis is not None else [part for part in parts if len(part)][-1]
        )
    return whole
