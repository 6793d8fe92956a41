"""Compares what Python and the C library make of a file: opened or refused, described, run, streamed, tested.

Every function returns the differences as sentences, none where both agree. This needs NumPy and lstm_edge_runtime only.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from lstm_edge_runtime.card import BATCH, TIME, TensorSpec, serialize_card
from lstm_edge_runtime.errors import LstmEdgeError
from lstm_edge_runtime.selftest import self_test
from lstm_edge_runtime.session import Session
from support.c_library import ERRORS, CSession, Library

__all__ = ["compare_file", "differing_bits", "drawn_inputs", "outcome", "refusal", "whole_state"]

# The sentences of C are those of Python, word for word, with these exceptions: what Python says, what C says.
_EXCEPTIONS = (
    # A caller of C has no NumPy.
    (re.compile(r": convert it with \.astype\(numpy\.(\w+)\)$"), r": convert it to \1"),
)
# No run takes more: a damaged graph may ask for an axis of 2**62.
_MOST_ELEMENTS = 200_000


def outcome(call: Callable[[], Any]) -> tuple[str, Any]:
    """Return the class and the sentence of an error of ours, or "" and the result; the class is one with a status."""
    try:
        return "", call()
    except (LstmEdgeError, MemoryError) as error:
        return refusal(error)


def refusal(error: BaseException) -> tuple[str, str]:
    """Return the class of an error that has a status, and its sentence as C has it."""
    sentence = str(error)
    for pattern, replacement in _EXCEPTIONS:
        sentence = pattern.sub(replacement, sentence)
    return next(kind.__name__ for kind in type(error).__mro__ if kind in ERRORS.values()), sentence


def compare_file(library: Library, data: bytes, *, kernels: str = "auto") -> Iterator[str]:
    """Yield what differs between Python and C over everything that a file is for."""
    error, session = outcome(lambda: Session(data, kernels=kernels))
    c_error, c_session = outcome(lambda: library.open(data, kernels=kernels))
    if error or c_error:
        if (error, error and session) != (c_error, c_error and c_session):
            yield f"open: Python {_shown(error, session)}, C {_shown(c_error, c_session)}"
        return
    with_states = [*_described(session, c_session)]
    yield from with_states
    if with_states:
        return
    yield from _self_tested(session, c_session)
    for batch, steps in ((1, 1), (2, 5)):
        yield from _run(session, c_session, batch, steps)
    yield from _streamed(session, c_session)


def _shown(error: str, result: Any) -> str:
    return f"{error}: {result}" if error else "opens it"


def _described(session: Session, c: CSession) -> Iterator[str]:
    card = None if session.card is None else serialize_card(session.card)
    if (card is None) != (c.card is None) or (card and c.card and json.loads(card) != json.loads(c.card)):
        yield f"card: Python {card}, C {c.card}"
    for name in ("notes", "kernels", "size_bytes", "operators", "verified"):
        if getattr(session, name) != getattr(c, name):
            yield f"{name}: Python {getattr(session, name)!r}, C {getattr(c, name)!r}"
    for role in ("inputs", "outputs", "states"):
        want = [
            (spec.name if isinstance(spec, TensorSpec) else spec.input, spec.dtype, spec.axes)
            for spec in getattr(session, role)
        ]
        got = [(spec.name, spec.dtype, spec.axes) for spec in getattr(c, role)]
        if want != got:
            yield f"{role}: Python {want}, C {got}"


def _self_tested(session: Session, c: CSession) -> Iterator[str]:
    error, report = outcome(lambda: self_test(session))
    c_error, check = outcome(c.check)
    if error or c_error:
        if (error, error and report) != (c_error, c_error and check):
            yield f"self-test: Python {_shown(error, report)}, C {_shown(c_error, check)}"
        return
    want = (report.passed, report.worst, report.tolerance, report.vectors)
    got = (check.passed, check.worst, check.tolerance, check.vectors)
    if want != got:
        yield f"self-test (passed, worst, tolerance, vectors): Python {want}, C {got}"
    golden = session.golden()
    for number, vector in enumerate([] if golden is None else golden.vectors):
        inputs = dict(vector.inputs)
        end = inputs.pop(session.end, None) if session.end is not None else None
        if end is not None and not end.all():
            continue  # a part of a sequence, cut anywhere: the self-test alone runs it
        lengths = inputs.pop(session.lengths, None) if session.lengths is not None else None
        if not {spec.name for spec in session.inputs} <= inputs.keys():
            continue
        yield from _both_run(session, c, inputs, lengths, f"golden vector {number}")


def drawn_inputs(
    specs: tuple[TensorSpec, ...], *, batch: int, steps: int, seed: int = 0
) -> dict[str, np.ndarray] | None:
    """Return normal inputs and small numbers with all axes; None where the model wants too large ones."""
    rng = np.random.default_rng(seed)
    found = {}
    for spec in specs:
        shape = [{BATCH: batch, TIME: steps}.get(axis, 2) if isinstance(axis, str) else axis for axis in spec.axes]
        if any(axis < 0 for axis in shape) or np.prod(shape, dtype=np.float64) > _MOST_ELEMENTS:
            return None
        if spec.dtype.startswith("float"):
            found[spec.name] = rng.normal(size=shape).astype(spec.dtype)
        else:
            found[spec.name] = rng.integers(0, 3, shape).astype(spec.dtype)
    return found


def whole_state(session: Session, batch: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Return a drawn state of ``batch`` rows by the names of its inputs."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.uniform(-0.5, 0.5, array.shape).astype(array.dtype)
        for name, array in session.initial_state(batch).items()
    }


def _run(session: Session, c: CSession, batch: int, steps: int) -> Iterator[str]:
    front_end = None if session.card is None else session.card.front_end
    if front_end is not None:
        steps = front_end.first + (steps - 1) * front_end.every
    inputs = drawn_inputs(session.inputs, batch=batch, steps=steps, seed=batch)
    if inputs is None:
        return
    where = f"run of [{batch}, {steps}]"
    yield from _both_run(session, c, inputs, None, where)
    if session.lengths is not None:
        for lengths in ([steps, 0][:batch], [1] * batch, [steps + 1] * batch, [-1] * batch):
            yield from _both_run(session, c, inputs, lengths, f"{where}, lengths {lengths}")
    if session.states:
        yield from _both_run(session, c, {**inputs, **whole_state(session, batch)}, None, f"{where} from a state")
    name = next(iter(inputs))
    for title, changed in _wrong_inputs(name, inputs):
        yield from _both_run(session, c, changed, None, f"{where}, {title}")


def _wrong_inputs(name: str, inputs: Mapping[str, np.ndarray]) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    array = inputs[name]
    yield "another dtype", {**inputs, name: array.astype(np.float64 if array.dtype != np.float64 else np.int8)}
    yield "an axis less", {**inputs, name: array.reshape(array.shape[1:] if array.shape[:1] == (1,) else -1)}
    yield "no rows", {**inputs, name: array[:0]}
    yield "another name", {**{key: value for key, value in inputs.items() if key != name}, "it's \n": array}
    yield "one missing", {key: value for key, value in inputs.items() if key != name}
    if array.dtype.kind == "f" and array.size:
        for value in (np.nan, np.inf, -np.inf):
            bad = array.copy()
            bad.reshape(-1)[array.size // 2] = value
            yield f"{value}", {**inputs, name: bad}
    if array.shape[-1:] and array.shape[-1] > 1:
        yield "a narrow one", {**inputs, name: array[..., 1:]}


def _both_run(session: Session, c: CSession, inputs: Any, lengths: Any, where: str) -> Iterator[str]:
    error, answer = outcome(lambda: session.run(inputs, lengths=lengths))
    c_error, c_answer = outcome(lambda: c.run(inputs, lengths))
    if error or c_error:
        if (error, error and answer) != (c_error, c_error and c_answer):
            yield f"{where}: Python {_shown(error, answer)}, C {_shown(c_error, c_answer)}"
        return
    for want, got in zip(answer, c_answer, strict=True):
        yield from differing_bits(want, got, where)


def differing_bits(want: Any, got: Any, where: str) -> Iterator[str]:
    """Compare arrays, or mappings of arrays, byte for byte."""
    if not isinstance(want, Mapping) or not isinstance(got, Mapping):
        want, got = {"": want}, {"": got}
    if list(want) != list(got):
        yield f"{where}: Python has {list(want)}, C {list(got)}"
        return
    for name, array in want.items():
        other = got[name]
        if (array.shape, array.dtype) != (other.shape, other.dtype):
            yield f"{where}: {name!r} is {array.dtype}{array.shape}, C has {other.dtype}{other.shape}"
        elif array.tobytes() != np.ascontiguousarray(other).tobytes():
            worst = np.abs(array.astype(np.float64) - other).max()
            yield f"{where}: {name!r} differs by up to {worst:.3g}"


def _streamed(session: Session, c: CSession) -> Iterator[str]:
    error, stream = outcome(session.stream)
    c_error, c_stream = outcome(c.stream)
    if error or c_error:
        if (error, error and stream) != (c_error, c_error and c_stream):
            yield f"stream: Python {_shown(error, stream)}, C {_shown(c_error, c_stream)}"
        return
    for number, steps in enumerate((3, 1, 2, 1)):
        inputs = drawn_inputs(session.inputs, batch=1, steps=steps, seed=10 + number)
        if inputs is None:
            return
        piece = inputs if len(inputs) != 1 else next(iter(inputs.values()))
        yield from _both_step(lambda s, piece=piece: s.push(piece), stream, c_stream, f"push {number} of {steps}")
    yield from _both_step(lambda s: s.flush(), stream, c_stream, "flush")
    yield from _both_step(lambda s: s.push(piece), stream, c_stream, "a push behind flush")
    if stream.steps != c_stream.steps:
        yield f"steps: Python {stream.steps}, C {c_stream.steps}"


def _both_step(step: Callable[[Any], Any], stream: Any, c_stream: Any, where: str) -> Iterator[str]:
    error, answer = outcome(lambda: step(stream))
    c_error, c_answer = outcome(lambda: step(c_stream))
    if error or c_error:
        if (error, error and answer) != (c_error, c_error and c_answer):
            yield f"{where}: Python {_shown(error, answer)}, C {_shown(c_error, c_answer)}"
        return
    yield from differing_bits(answer, c_answer, where)
