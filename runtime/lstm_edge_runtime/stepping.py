"""Count the output steps of a stream whose model does not give one output step for each input step.

A stream has ``first_gives`` output steps after ``first`` input steps, and ``gives`` more after every further ``every``
(docs/artifact.md). So each call of the graph has a number of steps that completes outputs: ``first + k * every`` in the
first call, ``k * every`` in later ones. ``begun`` says whether a call was made since the initial state.
"""

from lstm_edge_runtime.card import Streaming
from lstm_edge_runtime.errors import InputError

__all__ = ["blocked_after", "completes", "given_steps", "is_one_to_one", "ready_steps"]


_ENDED = (
    "no sequence can continue from this state, because its sequence ended with the call: start from the initial state, "
    "or pass end=False to Session.run where the sequence goes on"
)


def is_one_to_one(streaming: Streaming) -> bool:
    """Return whether every input step gives one output step at once, and the end of a sequence is like any step."""
    counts = (streaming.first, streaming.first_gives, streaming.every, streaming.gives)
    return counts == (1, 1, 1, 1) and streaming.end is None


def ready_steps(streaming: Streaming, available: int, *, begun: bool) -> int:
    """Return how many of the available input steps the next call takes; 0 if they complete no output."""
    if begun:
        return available - available % streaming.every
    if available < streaming.first:
        return 0
    return available - (available - streaming.first) % streaming.every


def given_steps(streaming: Streaming, steps: int, *, begun: bool) -> int:
    """Return the output steps of a call that has a number of input steps that ``ready_steps`` returned (above 0)."""
    if begun:
        return steps // streaming.every * streaming.gives
    return streaming.first_gives + (steps - streaming.first) // streaming.every * streaming.gives


def completes(streaming: Streaming, steps: int, *, begun: bool) -> bool:
    """Return whether a call with this number of input steps leaves none that completes no output."""
    return steps > 0 and ready_steps(streaming, steps, begun=begun) == steps


def blocked_after(streaming: Streaming, steps: int, *, begun: bool, end: bool) -> str:
    """Return why no sequence can continue after a call of ``Session.run``, or an empty string.

    Args:
        streaming: how the card counts steps.
        steps: input steps of the call.
        begun: whether steps came before it.
        end: whether the sequence ends with it.

    Raises:
        InputError: the sequence must go on, and cannot.
    """
    if is_one_to_one(streaming):
        return ""
    if completes(streaming, steps, begun=begun):
        return _ENDED if end and streaming.end is not None else ""
    if not end:
        rule = f"k * {streaming.every}" if begun else f"{streaming.first} + k * {streaming.every}"
        raise InputError(
            f"with end=False {'a later' if begun else 'the first'} call needs {rule} steps to complete its "
            f"outputs, got {steps}: cut the sequence there, or use stream(), which keeps the steps between"
        )
    return _ENDED
