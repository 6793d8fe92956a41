"""Comparison of two language models on one text, by perplexity, bits per character or agreement.

The text is split into at most 16 rows that run in parallel, each from a zero state that is carried to the row's end
(``text_batches``). Both models run window by window. Memory holds 24 bytes per token, the logits of one window, and the
reference's logits of the whole text if these fit in 256 MiB. Then windows of the text are read again from fresh states,
to find stuck streams (``lstm_edge.validation.stuck_streams``). Called by ``lstm_edge.validation.judge.Judge``. Imports
only NumPy and the runtime package, so it also runs on the device.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_edge.data.text import TextData, text_batches
from lstm_edge.validation.predictions import OpenModel, Source, name_of
from lstm_edge.validation.report import Budget, ValidationReport, weigh
from lstm_edge.validation.stuck_streams import find_stuck_streams
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.generate import LanguageStream
from lstm_edge_runtime.metrics import MeanMetric, Means, Metric, cross_entropy
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.text import Vocabulary

__all__ = ["TextJudge"]

Float64 = NDArray[np.float64]
Logits = NDArray[np.float32]
Ids = NDArray[np.int64]
Progress = Callable[[int, int], None]

# A row starts without context, which raises the loss of its first few hundred tokens, so no row is shorter than 2,048.
MOST_ROWS = 16
LEAST_ROW = 2048
# Tokens of one block of the bootstrap. Losses of neighbouring tokens are correlated through the state. Blocks are
# longer than this correlation, and the King James test part has 413 of them.
BLOCK_TOKENS = 500
# Largest size of the kept logits of the reference; the King James test part with 64 characters takes 53 MB.
KEPT_BYTES = 256 * 2**20


@dataclass(kw_only=True)
class _Tally:
    """Sums over the windows of two models: scores of each token ``[B, T]``, and differences of logits.

    ``nats``: the candidate's losses; with ``decisions`` they differ from its scores.
    """

    old: list[Float64] = field(default_factory=list)
    new: list[Float64] = field(default_factory=list)
    nats: list[Float64] = field(default_factory=list)
    logits: int = 0
    agreed: int = 0
    worst: float = 0.0
    scale: float = 0.0
    absolute: float = 0.0
    signal: float = 0.0
    noise: float = 0.0

    def add(self, old: Logits, new: Logits, targets: Ids, *, decisions: bool) -> None:
        """Add a window: logits of both models, float32 ``[B, T, V]``, and the target tokens, int64 ``[B, T]``.

        The scores are nats, or with ``decisions`` 1 where a model decides as the reference does, else 0.
        """
        same = old.argmax(axis=-1) == new.argmax(axis=-1)
        self.nats.append(_nats(new, targets))
        if decisions:
            self.old.append(np.ones(same.shape))
            self.new.append(same.astype(np.float64))
        else:
            self.old.append(_nats(old, targets))
            self.new.append(self.nats[-1])
        difference = new.astype(np.float64) - old
        self.logits += difference.size
        self.agreed += int(same.sum())
        self.worst = max(self.worst, float(np.abs(difference).max()))
        self.scale = max(self.scale, float(np.abs(old).max()))
        self.absolute += float(np.abs(difference).sum())
        self.signal += float(np.square(old.astype(np.float64)).sum())
        self.noise += float(np.square(difference).sum())

    @property
    def snr_db(self) -> float:
        """Signal-to-noise ratio in dB, as ``lstm_edge_runtime.metrics.snr_db``."""
        if self.noise == 0.0:
            return math.inf
        return 10.0 * math.log10(self.signal / self.noise) if self.signal > 0.0 else -math.inf


class TextJudge:
    """Evaluates candidates on a text; the reference's logits are kept if they fit."""

    def __init__(self, source: Source, data: TextData, *, metric: Metric, seed: int, open_model: OpenModel) -> None:
        self._source, self._data, self._seed, self._open = source, data, seed, open_model
        self._metric = metric
        self._reference: Session | None = None
        self._kept: list[Logits] | None = None

    def judge(
        self, candidate: Source, *, budget: Budget, confidence: float | None, on_progress: Progress | None
    ) -> ValidationReport:
        """Run the candidate and the reference; see ``lstm_edge.validation.judge.Judge.judge``.

        The bootstrap draws blocks of 500 neighbouring tokens. ``bits-per-character`` counts the characters of the text,
        for any kind of token.

        Raises:
            InputError: a model is not a language model, its logits are NaN, or the two have different vocabularies.
            CardError: a model's card has no vocabulary, or contradicts itself.
            DataError: the text is too short.
        """
        reference = self._reference or self._open(self._source)
        session = self._open(candidate)
        vocabulary = _common_vocabulary(candidate, reference, session)
        ids = vocabulary.encode(self._data.text)
        tally = self._run(reference, session, ids, on_progress)
        self._reference = reference
        old, new = self._measure(tally.old, len(ids)), self._measure(tally.new, len(ids))
        fields = weigh(self._metric, old, new, budget, confidence=confidence, seed=self._seed)
        tokens = int(old.counts.sum())
        # Only the candidate is checked: it is the file that will be streamed, and its drop is small if the reference is
        # stuck as well.
        streams = find_stuck_streams(session, ids, np.concatenate(tally.nats, axis=1))
        return ValidationReport(
            **fields,
            data=self._data.name,
            samples=tokens,
            samples_are="tokens",
            agreement=tally.agreed / tokens,
            max_abs_difference=tally.worst,
            mean_abs_difference=tally.absolute / tally.logits,
            snr_db=tally.snr_db,
            reference_bytes=reference.size_bytes,
            candidate_bytes=session.size_bytes,
            streams=streams,
            output_scale=tally.scale,
        )

    def _run(self, reference: Session, candidate: Session, ids: Ids, on_progress: Progress | None) -> _Tally:
        """Run both models over the text, window by window, or the candidate only, with the kept logits."""
        rows = max(1, min(MOST_ROWS, (len(ids) - 1) // LEAST_ROW))
        models = 2 if self._kept is None else 1
        stream, tally = LanguageStream(candidate, rows), _Tally()
        kept: list[Logits] = []
        steps = (len(ids) - 1) // rows
        keep = rows * steps * stream.width * 4 <= KEPT_BYTES
        total, done = models * steps * rows, 0
        windows = text_batches(ids, rows, stream.chunk)
        for window, old in zip(windows, self._old(reference, ids, rows, stream.chunk), strict=True):
            tally.add(old, stream.push(window[:, :-1]), window[:, 1:], decisions=self._metric.target == "reference")
            if keep and self._kept is None:
                kept.append(old.copy())
            done += models * window[:, 1:].size
            if on_progress:
                on_progress(done, total)
        if keep and self._kept is None:
            self._kept = kept
        return tally

    def _old(self, reference: Session, ids: Ids, rows: int, chunk: int) -> Iterator[Logits]:
        """Yield the reference's logits of each window, float32 ``[B, T, V]``."""
        if self._kept is not None:
            yield from self._kept
            return
        stream = LanguageStream(reference, rows)
        for window in text_batches(ids, rows, chunk):
            yield stream.push(window[:, :-1])

    def _measure(self, scores: list[Float64], tokens: int) -> Means:
        """Return the metric from scores ``[B, T]``, by blocks of tokens."""
        table = np.concatenate(scores, axis=1)
        cuts = np.arange(0, table.shape[1], BLOCK_TOKENS)
        sizes = np.diff([*cuts, table.shape[1]])
        return Means(
            sums=np.add.reduceat(table, cuts, axis=1).reshape(-1),
            counts=np.tile(sizes, len(table)).astype(np.float64),
            finish=self._finish(tokens),
        )

    def _finish(self, tokens: int) -> Callable[[Any], Any] | None:
        """Return the function from a mean over tokens, in nats or as a share, to the metric."""
        if self._metric.name.partition(":")[0] == "bits-per-character":
            # A token may be several characters or a part of one.
            scale = tokens / len(self._data) / math.log(2.0)
            return lambda nats: nats * scale
        return self._metric.finish if isinstance(self._metric, MeanMetric) else None


def _nats(logits: Logits, targets: Ids) -> Float64:
    """Return the cross-entropy of each token, float64 ``[B, T]``, of logits ``[B, T, V]``."""
    return cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1)).reshape(targets.shape)


def _common_vocabulary(candidate: Source, reference: Session, session: Session) -> Vocabulary:
    first, second = Vocabulary.from_card(reference.card), Vocabulary.from_card(session.card)
    if first != second:
        raise InputError(
            f"{name_of(candidate)}: its vocabulary ({len(second)} tokens, {second.text.kind}) is not "
            f"that of the reference ({len(first)} tokens, {first.text.kind}); expected the same"
        )
    return first
