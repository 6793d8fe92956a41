"""Fuzzes the kernels: hand-made nodes of every operator are refused with a sentence, or answer with the right bits.

A model has no function bodies, so that only a kernel can run it. Where docs/operators.md allows the node it must open;
where it does not, it must be refused. An answer must have the bits of the NumPy model (float32 operators: be near it)
in every row that is finite, and the same bits when it is asked for again; a float32 one also on several threads, of
some rows alone, and in two chunks. Memory errors are faults where the library
was built with sanitizers (``nodes_sanitized.sh``). A case is made again by ``node_cases.draw(seed, number)``.
"""

import itertools
from collections.abc import Mapping

import numpy as np
import onnx
from node_cases import Call, Node, draw
from node_replay import FLOAT_TOLERANCE, OPERATORS, Array, call, digest, far_off, opened
from sandbox import Tally, run_cases

from lstm_edge_runtime.library import find_library

__all__ = ["check", "fuzz"]


def fuzz(seed: int, until: float, least: int) -> Tally:
    """Draw nodes until the time is over; the kernels must be there."""
    find_library()
    tally = Tally()
    numbers = ((f"seed {seed}, number {number}", (seed, number)) for number in itertools.count())
    run_cases(lambda case: check(draw(*case)), numbers, until=until, tally=tally, least=least)
    return tally


def check(node: Node) -> str:
    """Open a node's model and make its calls; returns a verdict."""
    session, said = opened(node.model, find_library())
    about = f"{node.name}{node.why and f' with {node.why}'}"
    if session is None:
        if node.must == "open":
            return f"fault: {about} was refused: {said}"
        return "refused by a kernel" if any(f": {name}" in said for name in OPERATORS) else "refused by onnxruntime"
    if node.must == "refuse":
        return f"fault: {about} was opened"
    for made in node.calls:
        if wrong := _wrong_answer(node, session, made):
            shapes = {name: array.shape for name, array in made.feeds.items()}
            return f"fault: {about} on {shapes}{' (misaligned)' * made.misaligned}: {wrong}"
    return "ran"


def _wrong_answer(node: Node, session: object, made: Call) -> str:
    """Make one call twice; returns what is wrong about it, "" when nothing is."""
    given = {name: array.tobytes() for name, array in made.feeds.items()}
    got, said = call(session, made.feeds, misaligned=made.misaligned)
    if got is None:
        return "" if made.wrong or node.must == "either" else f"was refused: {said}"
    if made.wrong:
        # A node that takes another input in this one's place never sees what is wrong with it.
        return "" if made.wrong.partition(" ")[0] in _unread(node, made) else f"was answered, though {made.wrong}"
    if any(array.tobytes() != given[name] for name, array in made.feeds.items()):
        return "an input was written to"
    again, _ = call(session, made.feeds, misaligned=False)
    if again is None or digest(again) != digest(got):
        return "another answer when it was asked for again"
    if node.must == "either":
        return ""
    if not node.exact and (unlike := _unlike_in_pieces(node, session, made.feeds, got)):
        return unlike
    expected = node.expected(made)
    if [array.shape for array in got] != [array.shape for array in expected]:
        return f"shapes {[array.shape for array in got]}, expected {[array.shape for array in expected]}"
    rows = _finite_rows(node, made, expected)
    got, expected = (tuple(_of_rows(node, array, rows) for array in arrays) for arrays in (got, expected))
    if node.exact:
        unlike = [np.count_nonzero(a != b) for a, b in zip(got, expected, strict=True)]
        return f"other numbers than the NumPy model's: {unlike}" if digest(got) != digest(expected) else ""
    distance = far_off(got, expected) if node.ordinary else 0.0
    return f"{distance:.3g} from the NumPy model" if distance > FLOAT_TOLERANCE else ""


def _unlike_in_pieces(node: Node, session: object, feeds: Mapping[str, Array], whole: list[Array]) -> str:
    """Return which pieces of a call give other bits than the whole; "" when none does.

    An answer that has the NumPy model's bits needs no such check: float32 sums of a kernel have an order of their own.
    """
    on_threads, _ = opened(node.model, find_library(), threads=3)
    answers = {"three threads": (call(on_threads, feeds, misaligned=False)[0], whole)}
    batch, half = feeds["x"].shape[1], len(feeds["x"]) // 2
    for rows in (slice(0, 1), slice(batch // 2, batch)):
        part = {name: array[rows] if name == "lengths" else array[:, rows] for name, array in feeds.items()}
        expected = [array[..., rows, :] for array in whole]
        answers[f"rows {rows.start} to {rows.stop}"] = call(session, part, misaligned=False)[0], expected
    if node.in_chunks and half > 0:
        y, *states = call(session, {**feeds, "x": feeds["x"][:half]}, misaligned=False)[0] or (None,)
        given = dict(zip([name for name in feeds if name != "x"], states, strict=True))
        answers["the first steps"] = [y], [whole[0][:half]]
        expected = [whole[0][half:], *whole[1:]]
        answers["the last steps"] = call(session, {"x": feeds["x"][half:], **given}, misaligned=False)[0], expected
    unlike = [name for name, (got, wanted) in answers.items() if got is None or digest(got) != digest(wanted)]
    return f"other bits by {unlike}" if unlike else ""


def _unread(node: Node, made: Call) -> set[str]:
    """The inputs of a call that the model's one node does not take."""
    graph = onnx.ModelProto.FromString(node.model).graph
    taken = [set(found.input) for found in graph.node if found.op_type == node.name]
    return set(made.feeds) - taken[0] if len(taken) == 1 else set()


def _finite_rows(node: Node, made: Call, expected: tuple[Array, ...]) -> Array:
    """Which rows have finite inputs and, by the NumPy model, answers: others are outside of the operators' domain."""
    arrays = [array for name, array in made.feeds.items() if name != "lengths"]
    if node.name.startswith("Linear"):
        return np.asarray(np.isfinite(arrays[0]).all(axis=-1) & np.isfinite(expected[0]).all(axis=-1))
    finite = [np.isfinite(array).all(axis=-1) for array in (*arrays, *expected)]
    return np.all([found.reshape(-1, found.shape[-1]).all(axis=0) for found in finite], axis=0)


def _of_rows(node: Node, array: Array, rows: Array) -> Array:
    return array[rows] if node.name.startswith("Linear") else array[..., rows, :]
