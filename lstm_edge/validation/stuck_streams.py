"""Finds where a carried state has become worse than none: a stream that got stuck. NumPy and the runtime package only.

A language model's stream can be led, by unusual input, into a state from which it answers nonsense although the input
is as usual again. The loss under the carried state is compared with that of the same tokens from a fresh state, which
has read ``WARM_UP`` tokens first. A healthy state knows more than these tokens and loses less; a stuck one loses more,
window after window. Two looks keep this cheap: one window in each ``STRETCH`` of every row (a quarter of the tokens
that the model reads anyway, many rows side by side), and all windows around one that looks worse.

B rows, T tokens predicted in each, N windows.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lstm_edge_runtime.generate import LanguageStream, check_language_model
from lstm_edge_runtime.metrics import cross_entropy
from lstm_edge_runtime.session import Session

__all__ = ["StreamCheck", "StuckStream", "find_stuck_streams"]

Float64 = NDArray[np.float64]
Ids = NDArray[np.int64]

# Tokens of a window, and tokens that a fresh state reads before it. On the King James test part a model of 512 cells
# loses as much from such a state as from the carried one: 1.254 nats a character, 0.0001 apart.
WINDOW = 64
WARM_UP = 64
# One window in so many tokens is read first: a stream that is stuck for longer is seen.
STRETCH = 512
# A stream is stuck when it is worse by MARGIN of the fresh loss, and by LEAST_NATS a token, in every window of so many
# tokens on end. (The same model: at most by 5 % in one of 3,200 windows, and by 2.7 % in 256 tokens on end.)
SUSTAINED = 256
MARGIN = 0.1
LEAST_NATS = 0.05
# Windows that are read side by side, and logits of one step of them: 4 MB as float32.
TOGETHER = 64
ELEMENTS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class StuckStream:
    """A stretch of the text in which the carried state is clearly worse than a fresh one.

    Attributes:
        since: place in the text, from 0, of the last token before which a stream has to start to be stuck.
        until: place behind the last token that was compared.
        row_start: place of the token that the stream started at.
        tokens: how many tokens were compared.
        carried_nats, fresh_nats: mean loss of these tokens under the carried state and from fresh states.
        lost_nats: the difference over all of these tokens together.
        to_the_end: whether the stream was stuck in the last window of its row.
    """

    since: int
    until: int
    row_start: int
    tokens: int
    carried_nats: float
    fresh_nats: float
    lost_nats: float
    to_the_end: bool


@dataclass(frozen=True, kw_only=True)
class StreamCheck:
    """What the comparison found.

    ``windows``: how many windows were compared at first, 0 where the text is too short; ``stuck``: in the order of the
    text.
    """

    windows: int
    stuck: tuple[StuckStream, ...]


def find_stuck_streams(session: Session, ids: Ids, carried: Float64) -> StreamCheck:
    """Compare the losses of a carried state with those of fresh ones.

    Args:
        session: the language model.
        ids: the text, int64 ``[N]``, N above ``B * T``; row b of the carried streams starts at token ``b * T``.
        carried: nats of each token that was predicted, float64 ``[B, T]``: of token ``b * T + t + 1``.

    Raises:
        InputError: the logits from a fresh state hold NaN or infinity.
    """
    rows, steps = carried.shape
    # Windows lie side by side, counted from the row's end, so that the last one ends with it.
    count = max(0, (steps - WARM_UP) // WINDOW)
    if not count:
        return StreamCheck(windows=0, stuck=())
    comparison = _Comparison(session, ids, carried, count)
    every = STRETCH // WINDOW
    first = list(range((count - 1) % every, count, every))
    comparison.read([(row, window) for row in range(rows) for window in first])
    comparison.read(
        [
            (row, window)
            for row in range(rows)
            for suspect in first
            if comparison.is_worse(row, suspect)
            for window in range(max(0, suspect - every + 1), min(count, suspect + every))
        ]
    )
    stuck = [found for row in range(rows) for found in comparison.stuck(row)]
    return StreamCheck(windows=rows * len(first), stuck=tuple(stuck))


class _Comparison:
    """Losses of windows from fresh states beside those of the carried state, for the windows that were read so far."""

    def __init__(self, session: Session, ids: Ids, carried: Float64, count: int) -> None:
        self._session, self._ids, self._carried = session, ids, carried
        self._count, self._steps = count, int(carried.shape[1])
        # By row and window: mean nats under the carried state, and from a fresh one.
        self._nats: dict[tuple[int, int], tuple[float, float]] = {}

    def read(self, windows: Iterable[tuple[int, int]]) -> None:
        """Read windows, each by its row and its number there, that were not read before."""
        new = [window for window in dict.fromkeys(windows) if window not in self._nats]
        together = max(1, min(TOGETHER, ELEMENTS // check_language_model(self._session)))
        for at in range(0, len(new), together):
            part = new[at : at + together]
            losses = self._fresh([self._place(row, self._start(window) - WARM_UP) for row, window in part], WARM_UP)
            for (row, window), loss in zip(part, losses, strict=True):
                self._nats[row, window] = self._mean_carried(row, window), loss

    def is_worse(self, row: int, window: int) -> bool:
        """Say whether a window was read, and loses clearly more under the carried state."""
        carried, fresh = self._nats.get((row, window), (0.0, 0.0))
        return carried - fresh > max(LEAST_NATS, MARGIN * fresh)

    def stuck(self, row: int) -> Iterator[StuckStream]:
        """Yield the stretches of a row that are worse for long enough."""
        worse = [window for window in range(self._count) if self.is_worse(row, window)]
        for _, run in itertools.groupby(enumerate(worse), key=lambda pair: pair[1] - pair[0]):
            windows = [window for _, window in run]
            if len(windows) * WINDOW >= SUSTAINED:
                yield self._describe(row, windows)

    def _describe(self, row: int, windows: list[int]) -> StuckStream:
        pairs = np.array([self._nats[row, window] for window in windows])
        carried, fresh = pairs.mean(axis=0)
        tokens = len(windows) * WINDOW
        return StuckStream(
            since=self._since(row, windows[0]),
            # The token behind an input is what its step predicts.
            until=self._place(row, self._start(windows[-1]) + WINDOW + 1),
            row_start=self._place(row, 0),
            tokens=tokens,
            carried_nats=float(carried),
            fresh_nats=float(fresh),
            lost_nats=float(carried - fresh) * tokens,
            to_the_end=windows[-1] == self._count - 1,
        )

    def _since(self, row: int, window: int) -> int:
        """Return the place of the latest token at which a stream may start and be stuck in this window.

        A stream that starts with the row is stuck, one that starts ``WARM_UP`` before the window is not: from the
        latter by steps that double, then by halving.
        """
        start = self._start(window)
        well, stuck, step = start - WARM_UP, max(0, start - 2 * WARM_UP), WARM_UP
        while stuck > 0 and not self._is_stuck_from(row, stuck, window):
            step *= 2
            well, stuck = stuck, max(0, stuck - step)
        while well - stuck > 1:
            middle = (stuck + well) // 2
            well, stuck = (well, middle) if self._is_stuck_from(row, middle, window) else (middle, stuck)
        return self._place(row, stuck)

    def _is_stuck_from(self, row: int, step: int, window: int) -> bool:
        """Say whether a stream that starts at a step loses in a window what the carried state does, or nearly."""
        carried, fresh = self._nats[row, window]
        loss = self._fresh([self._place(row, step)], self._start(window) - step)[0]
        return loss > (carried + fresh) / 2

    def _fresh(self, places: list[int], skipped: int) -> list[float]:
        """Return the mean nats of a window for each place that a fresh state starts at ``skipped`` tokens before it."""
        inputs = np.stack([self._ids[place : place + skipped + WINDOW] for place in places])
        targets = np.stack([self._ids[place + 1 : place + 1 + skipped + WINDOW] for place in places])
        stream = LanguageStream(self._session, len(places))
        total = np.zeros(len(places))
        for start in range(0, inputs.shape[1], stream.chunk):
            logits = stream.push(inputs[:, start : start + stream.chunk])
            judged = max(0, skipped - start)
            logits, wanted = logits[:, judged:], targets[:, start + judged : start + stream.chunk]
            if wanted.size:
                nats = cross_entropy(logits.reshape(-1, logits.shape[-1]), wanted.reshape(-1))
                total += nats.reshape(wanted.shape).sum(axis=1)
        return [float(value) for value in total / WINDOW]

    def _mean_carried(self, row: int, window: int) -> float:
        start = self._start(window)
        return float(self._carried[row, start : start + WINDOW].mean())

    def _start(self, window: int) -> int:
        """Return a window's first step in its row."""
        return self._steps - (self._count - window) * WINDOW

    def _place(self, row: int, step: int) -> int:
        """Return the place in the text of the token that a step of a row reads."""
        return row * self._steps + step
