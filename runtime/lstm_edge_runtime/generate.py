"""Generate text with a language model on the device, and compute the probability of a text.

Both keep the state in a ``Stream``, so that the memory does not depend on the length of the prompt or the result.
B: rows; V: tokens in the vocabulary.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_edge_runtime.card import BATCH, TIME, ModelCard
from lstm_edge_runtime.drawing import check_drawing
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.metrics import cross_entropy
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.stepping import is_one_to_one
from lstm_edge_runtime.stream import Stream

__all__ = [
    "LanguageStream",
    "check_language_model",
    "generate",
    "sample",
    "score",
    "score_in_chunks",
]

Ids = NDArray[np.int64]
Float64 = NDArray[np.float64]

TASK = "language-model"
# Logits of one chunk: 4 MB as float32. Longer chunks are not faster, because each LSTM step waits for the one before.
_ELEMENTS = 1_000_000
_MOST_STEPS = 512


class LanguageStream:
    """A stream of a language model: takes ids and returns logits ``[B, T, V]``, for any order of axes in the file."""

    def __init__(self, session: Session, batch_size: int = 1) -> None:
        """Start ``batch_size`` rows at the initial state.

        Raises:
            InputError: the file is not a language model (see ``check_language_model``).
            StreamingError: the model cannot be streamed.
        """
        self.width = check_language_model(session)
        self._stream: Stream = session.stream(batch_size)
        self._spec, self._batch_size = session.inputs[0], batch_size
        self._ids_time_first = self._spec.axes[0] == TIME
        self._logits_time_first = session.outputs[0].axes[0] == TIME
        self.chunk = max(1, min(_MOST_STEPS, _ELEMENTS // (self.width * batch_size)))

    def push(self, ids: Ids) -> NDArray[np.float32]:
        """Feed ids, int64 ``[B, T]``, and return the logits of the token after each, float32 ``[B, T, V]``.

        Raises:
            InputError: an id is outside the vocabulary, or the logits or the new state hold NaN or infinity.
        """
        if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < self.width:
            raise InputError(
                f"the ids go from {ids.min()} to {ids.max()}, but the model has {self.width} tokens: "
                f"expected 0 to {self.width - 1}"
            )
        piece = np.ascontiguousarray(ids.T if self._ids_time_first else ids, dtype=self._spec.dtype)
        answer: NDArray[np.float32] = self._stream.push(piece)
        if not np.isfinite(answer).all():
            raise InputError(f"the model's logits hold NaN or infinity before token {self._stream.steps}")
        return answer.transpose(1, 0, 2) if self._logits_time_first else answer


def check_language_model(session: Session) -> int:
    """Refuse a file that is not a language model; return V, the number of its logits.

    Raises:
        InputError: the card has another task, its stream does not give one output step for each input step, or the
            file does not have exactly one input of ids and one output of logits per step; the message says what the
            file has instead.
    """
    card = session.card
    if card is None or card.task != TASK:
        got = "it has no model card" if card is None else f"card.task is {card.task!r}"
        raise InputError(f"the model is not a language model: {got}, expected task {TASK!r}")
    if not is_one_to_one(card.streaming):
        raise InputError(
            "the model is not a language model: it does not give one output step for each input step "
            f"(card.streaming has first {card.streaming.first}, every {card.streaming.every}), and the next token is "
            "drawn from the last one"
        )
    inputs, outputs = session.inputs, session.outputs
    if len(inputs) != 1 or np.dtype(inputs[0].dtype).kind != "i" or set(inputs[0].axes) != {BATCH, TIME}:
        raise InputError(
            f"the model is not a language model: expected one input of ids [batch, time], got {_show(inputs)}"
        )
    if len(outputs) != 1 or set(outputs[0].axes[:-1]) != {BATCH, TIME} or not isinstance(outputs[0].axes[-1], int):
        raise InputError(
            "the model is not a language model: expected one output of logits [batch, time, tokens], "
            f"got {_show(outputs)}"
        )
    return outputs[0].axes[-1]


def generate(
    session: Session,
    prompt_ids: Sequence[int] | Ids,
    tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
) -> Iterator[int]:
    """Continue a prompt; each id is yielded as soon as it is drawn.

    The same file, prompt, options and seed give the same ids on every device whose logits are bit-equal. Logits of the
    same kernel are bit-equal; those of another instruction set may differ in the last bit and rarely change a token.

    Args:
        session: a language model, float32 or quantized.
        prompt_ids: the ids at the start of the text, at least one; they are not yielded.
        tokens: maximum number of ids to yield.
        temperature: divisor of the logits: values below 1 make probable tokens more likely, values above 1 less likely;
            0 always takes the most probable token.
        top_k: draw from the k most probable tokens only.
        top_p: draw from the smallest set of most probable tokens whose probabilities add up to this share.
        seed: random seed.

    Yields:
        The ids before the card's end token, which ends the generation. The card's unknown token is never drawn, because
        it represents unseen text and has no text to print.

    Raises:
        InputError: an argument is out of its range, or the file is not a language model; raised before the first id.
        StreamingError: the model cannot be streamed.
    """
    check_drawing(tokens, temperature, top_k, top_p, seed)
    prompt = _one_row(prompt_ids, "the prompt", least=1)
    stream = LanguageStream(session)
    text = None if session.card is None else session.card.text
    end = None if text is None else _id(session.card, text.end)
    avoid = None if text is None else _id(session.card, text.unknown)
    return _generate(stream, prompt, tokens, (temperature, top_k, top_p), seed=seed, end=end, avoid=avoid)


def _generate(
    stream: LanguageStream,
    prompt: Ids,
    tokens: int,
    options: tuple[float, int | None, float | None],
    *,
    seed: int,
    end: int | None,
    avoid: int | None,
) -> Iterator[int]:
    generator = np.random.default_rng(seed)
    logits = np.zeros(0, np.float32)
    for start in range(0, len(prompt), stream.chunk):
        logits = stream.push(prompt[np.newaxis, start : start + stream.chunk])[0, -1]
    for written in range(tokens):
        token = sample(logits, generator, *options, avoid=avoid)
        if token == end:
            return
        yield token
        if written < tokens - 1:
            logits = stream.push(np.array([[token]], np.int64))[0, -1]


def sample(
    logits: NDArray[Any],
    generator: np.random.Generator,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    *,
    avoid: int | None = None,
) -> int:
    """Draw one token from the softmax of ``logits / temperature`` in float64 with one uniform random number.

    Args:
        logits: ``[V]``, finite.
        generator: draws one number from 0 to 1, or none at temperature 0.
        temperature: 0 takes the largest logit; among equal logits, the first.
        top_k: keep the k most probable tokens; among equal ones, those with the lower ids.
        top_p: of these, keep the smallest set of most probable tokens that has this share of their total probability.
        avoid: a token that is only drawn if there is no other.
    """
    order = np.argsort(-logits.astype(np.float64), kind="stable")
    if avoid is not None and len(order) > 1:
        order = order[order != avoid]
    if temperature == 0.0:
        return int(order[0])
    order = order[:top_k]
    with np.errstate(over="ignore"):  # a tiny temperature overflows to minus infinity, which has probability 0
        weights = np.exp((logits[order].astype(np.float64) - float(logits[order[0]])) / temperature)
    heights = np.cumsum(weights)
    if top_p is not None:
        heights = heights[: int(np.searchsorted(heights, top_p * heights[-1])) + 1]
    place = int(np.searchsorted(heights, generator.random() * heights[-1], side="right"))
    return int(order[min(place, len(heights) - 1)])


def score(session: Session, ids: Sequence[int] | Ids) -> Float64:
    """Return the log probability of each token of a text, given the tokens before it.

    The text runs in chunks that pass the state on, so the memory holds the logits of one chunk (4 MB) and 8 bytes per
    token. The first token has no token before it and gets no score.

    Args:
        session: a language model, float32 or quantized.
        ids: N ids, at least 2.

    Returns:
        float64 ``[N - 1]``: natural logarithms of probabilities (nats, 0 or less), for ``ids[1]`` first.

    Raises:
        InputError: fewer than 2 ids, one outside the vocabulary, or the file is not a language model.
        StreamingError: the model cannot be streamed.
    """
    return np.concatenate(list(score_in_chunks(session, ids)))


def score_in_chunks(session: Session, ids: Sequence[int] | Ids) -> Iterator[Float64]:
    """Yield the result of ``score`` in parts, each as soon as it is known.

    Raises:
        InputError, StreamingError: as ``score``; raised before the first part.
    """
    row = _one_row(ids, "the text", least=2)
    return _score(LanguageStream(session), row)


def _score(stream: LanguageStream, ids: Ids) -> Iterator[Float64]:
    for start in range(0, len(ids) - 1, stream.chunk):
        window = ids[start : start + stream.chunk + 1]
        logits = stream.push(window[np.newaxis, :-1])[0]
        # The subtraction turns the minus zero of a certain token into zero.
        yield 0.0 - cross_entropy(logits, window[1:])


def _id(card: ModelCard | None, token: str | None) -> int | None:
    """Return the id of a token in the card's vocabulary, or None."""
    if card is None or token is None or card.vocabulary is None:
        return None
    return card.vocabulary.index(token) if token in card.vocabulary else None


def _one_row(ids: Sequence[int] | Ids, what: str, *, least: int) -> Ids:
    row = np.asarray(ids)
    if row.ndim != 1 or (row.size and row.dtype.kind not in "iu"):
        raise InputError(f"{what} is {row.dtype} {list(row.shape)}, expected integers [tokens]")
    if len(row) < least:
        raise InputError(f"{what} has {len(row)} tokens, expected at least {least}")
    return row.astype(np.int64)


def _show(specs: Sequence[Any]) -> str:
    shown = (f"{spec.name}: {spec.dtype}[{', '.join(map(str, spec.axes))}]" for spec in specs)
    return ", ".join(shown) or "none"
