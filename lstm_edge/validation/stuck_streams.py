"""Detection of stuck streams, whose carried state is worse than a fresh one. NumPy and the runtime package only.

Unusual input can lead a language model's stream into a state with wrong predictions, even after the input is usual
again. The loss with the carried state is compared with the loss of the same tokens from a fresh state that has read
``WARM_UP`` tokens first. A healthy state has more context and a lower loss. A stuck state has a higher loss, window
after window. Two stages keep the cost low: first one window in each ``STRETCH`` of every row (a quarter of the tokens
that the model reads anyway, in many parallel rows), then all windows around one that is worse.

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

# Tokens of a window, and tokens that a fresh state reads before it. On the King James test part the loss of a model of
# 512 cells is the same with such a state and with the carried one: 1.254 nats per character, 0.0001 apart.
WINDOW = 64
WARM_UP = 64
# The first stage reads one window in this number of tokens, and detects streams that are stuck for longer.
STRETCH = 512
# A stream is stuck if it is worse by MARGIN of the fresh loss, and by LEAST_NATS per token, in every window of this
# number of consecutive tokens. (The same model is worse by at most 5 % in one of 3,200 windows, and by 2.7 % in 256
# consecutive tokens.)
SUSTAINED = 256
MARGIN = 0.1
LEAST_NATS = 0.05
# Windows that are read in parallel, and logits of one step of them: 4 MB as float32.
TOGETHER = 64
ELEMENTS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class StuckStream:
    """A section of the text in which the carried state is clearly worse than a fresh one.

    Attributes:
        since: position in the text, from 0, of the latest token at which a stream that becomes stuck can start.
        until: position after the last compared token.
        row_start: position of the token at which the stream started.
        tokens: number of compared tokens.
        carried_nats, fresh_nats: mean loss of these tokens with the carried state and with fresh states.
        lost_nats: the total difference over all of these tokens.
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
    """The result of the comparison.

    ``windows``: number of windows of the first stage, 0 if the text is too short; ``stuck``: in the order of the text.
    """

    windows: int
    stuck: tuple[StuckStream, ...]


def find_stuck_streams(session: Session, ids: Ids, carried: Float64) -> StreamCheck:
    """Compare the losses with a carried state and with fresh states.

    Args:
        session: the language model.
        ids: the text, int64 ``[N]``, N above ``B * T``; row b of the carried streams starts at token ``b * T``.
        carried: loss in nats of each predicted token ``b * T + t + 1``, float64 ``[B, T]``.

    Raises:
        InputError: the logits from a fresh state hold NaN or infinity.
    """
    rows, steps = carried.shape
    # Windows are adjacent and counted from the row's end, so that the last one ends with the row.
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
    """Losses of the windows read so far, with fresh states and with the carried state."""

    def __init__(self, session: Session, ids: Ids, carried: Float64, count: int) -> None:
        self._session, self._ids, self._carried = session, ids, carried
        self._count, self._steps = count, int(carried.shape[1])
        # By row and window: mean nats with the carried state, and with a fresh one.
        self._nats: dict[tuple[int, int], tuple[float, float]] = {}

    def read(self, windows: Iterable[tuple[int, int]]) -> None:
        """Read windows, given by row and number in the row, that have not been read."""
        new = [window for window in dict.fromkeys(windows) if window not in self._nats]
        together = max(1, min(TOGETHER, ELEMENTS // check_language_model(self._session)))
        for at in range(0, len(new), together):
            part = new[at : at + together]
            losses = self._fresh([self._place(row, self._start(window) - WARM_UP) for row, window in part], WARM_UP)
            for (row, window), loss in zip(part, losses, strict=True):
                self._nats[row, window] = self._mean_carried(row, window), loss

    def is_worse(self, row: int, window: int) -> bool:
        """Return whether a window was read and has a clearly higher loss with the carried state."""
        carried, fresh = self._nats.get((row, window), (0.0, 0.0))
        return carried - fresh > max(LEAST_NATS, MARGIN * fresh)

    def stuck(self, row: int) -> Iterator[StuckStream]:
        """Yield the sections of a row that are worse for long enough."""
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
            # A step predicts the token after its input.
            until=self._place(row, self._start(windows[-1]) + WINDOW + 1),
            row_start=self._place(row, 0),
            tokens=tokens,
            carried_nats=float(carried),
            fresh_nats=float(fresh),
            lost_nats=float(carried - fresh) * tokens,
            to_the_end=windows[-1] == self._count - 1,
        )

    def _since(self, row: int, window: int) -> int:
        """Return the position of the latest token at which a stream can start and be stuck in this window.

        A stream that starts with the row is stuck, a stream that starts ``WARM_UP`` before the window is not. The
        search goes back from the latter in doubling steps, then bisects.
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
        """Return whether a stream that starts at a step has about the carried state's loss in a window."""
        carried, fresh = self._nats[row, window]
        loss = self._fresh([self._place(row, step)], self._start(window) - step)[0]
        return loss > (carried + fresh) / 2

    def _fresh(self, places: list[int], skipped: int) -> list[float]:
        """Return a window's mean nats for each position; a fresh state starts ``skipped`` tokens before it."""
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
        """Return the position in the text of the token that a step of a row reads."""
        return row * self._steps + step
