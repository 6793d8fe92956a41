"""Is a quantized language model good enough? Two models on one text, by perplexity or bits per character.

The text is cut into at most 16 stretches that run side by side, each from a zero state that is then carried to its end
(``text_batches``), both models in step: memory holds one window's logits and 16 bytes a token. ``validate`` in
``lstm_edge.validation`` is the way in. Imports NumPy and the runtime package only: it runs on the device.
"""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lstm_edge.data.text import TextData, text_batches
from lstm_edge.reports import Budget, ValidationReport
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.generate import LanguageStream
from lstm_edge_runtime.metrics import METRICS, Metric
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.text import Vocabulary

__all__ = ["validate_text"]

Float64 = NDArray[np.float64]
Source = str | os.PathLike[str] | bytes

# A row starts without a past, and pays for it in its first some hundred tokens: none is shorter than 2,048.
MOST_ROWS = 16
LEAST_ROW = 2048
# Tokens of one block of the bootstrap. Neighbouring tokens share a state and so their losses: blocks are long against
# that, and 413 of them are left of the King James test part.
BLOCK_TOKENS = 500
RESAMPLES = 10_000
# Elements of one block of resampled indices: 2 million int64 are 16 MB, small enough for a device.
ELEMENTS = 2_000_000
# A drop that equals the budget passes: see lstm_edge.validation.
ROUNDING = 1e-12


@dataclass(kw_only=True)
class _Tally:
    """What is added up over the windows of two models: nats of each token ``[B, T]``, and differences of the logits."""

    old: list[Float64] = field(default_factory=list)
    new: list[Float64] = field(default_factory=list)
    logits: int = 0
    agreed: int = 0
    worst: float = 0.0
    absolute: float = 0.0
    signal: float = 0.0
    noise: float = 0.0

    def add(self, old: NDArray[np.float32], new: NDArray[np.float32], targets: NDArray[np.int64]) -> None:
        """Add a window: logits of both models, float32 ``[B, T, V]``, and the tokens that came, int64 ``[B, T]``."""
        entropy = METRICS["cross-entropy"].per_sample
        width = old.shape[-1]
        self.old.append(entropy(old.reshape(-1, width), targets.reshape(-1)).reshape(targets.shape))
        self.new.append(entropy(new.reshape(-1, width), targets.reshape(-1)).reshape(targets.shape))
        difference = new.astype(np.float64) - old
        self.logits += difference.size
        self.agreed += int((old.argmax(axis=-1) == new.argmax(axis=-1)).sum())
        self.worst = max(self.worst, float(np.abs(difference).max()))
        self.absolute += float(np.abs(difference).sum())
        self.signal += float(np.square(old.astype(np.float64)).sum())
        self.noise += float(np.square(difference).sum())

    @property
    def snr_db(self) -> float:
        """Signal-to-noise ratio in dB, as ``lstm_edge_runtime.metrics.snr_db``."""
        if self.noise == 0.0:
            return math.inf
        return 10.0 * math.log10(self.signal / self.noise) if self.signal > 0.0 else -math.inf


def validate_text(
    candidate: Source,
    reference: Source,
    data: TextData,
    *,
    metric: Metric,
    budget: Budget,
    confidence: float | None,
    seed: int,
    threads: int = 1,
    on_progress: Callable[[int, int], None] | None = None,
) -> ValidationReport:
    """Compare two language models on a text; arguments as ``lstm_edge.validation.validate``.

    ``drop_bound`` is the upper bound of a percentile bootstrap over blocks of 500 neighbouring tokens, drawn in pairs.
    ``bits-per-character`` counts the characters of the text, whatever the tokens are.

    Raises:
        InputError: a model is no language model, its logits are NaN, or the two have different vocabularies.
        CardError: a model's card has no vocabulary, or contradicts itself.
        DataError: the text is too short.
    """
    sessions = [Session(source, threads=threads) for source in (reference, candidate)]
    vocabularies = [Vocabulary.from_card(session.card) for session in sessions]
    if vocabularies[0] != vocabularies[1]:
        raise InputError(
            f"{_name(candidate)}: its vocabulary ({len(vocabularies[1])} tokens, {vocabularies[1].text.kind}) is not "
            f"that of the reference ({len(vocabularies[0])} tokens, {vocabularies[0].text.kind}); expected the same"
        )
    ids = vocabularies[0].encode(data.text)
    tally = _run(sessions, ids, on_progress)
    # From a mean over tokens to the metric: bits for each character, of which a token may be several, or a part.
    tokens_per_character = len(ids) / len(data) if metric.name == "bits-per-character" else 1.0
    scale = tokens_per_character / (math.log(2.0) if metric.name == "bits-per-character" else 1.0)

    def value(nats: Float64) -> Float64:
        return np.asarray(metric.finish(nats * scale), np.float64)

    old, new = np.concatenate(tally.old, axis=1), np.concatenate(tally.new, axis=1)
    before, after = float(value(old.mean())), float(value(new.mean()))
    bound = None if confidence is None else _bound(old, new, value, confidence, seed)
    drop, allowed = after - before, budget.allowed(metric, before)
    return ValidationReport(
        metric=metric.name,
        unit=metric.unit,
        data=data.name,
        samples=old.size,
        samples_are="tokens",
        reference=before,
        candidate=after,
        drop=drop,
        budget=str(budget),
        max_drop=allowed,
        passed=(drop if bound is None else bound) <= allowed + ROUNDING * max(1.0, abs(before)),
        confidence=confidence,
        drop_bound=bound,
        seed=seed,
        agreement=tally.agreed / old.size,
        max_abs_difference=tally.worst,
        mean_abs_difference=tally.absolute / tally.logits,
        snr_db=tally.snr_db,
        reference_bytes=sessions[0].size_bytes,
        candidate_bytes=sessions[1].size_bytes,
    )


def _run(sessions: list[Session], ids: NDArray[np.int64], on_progress: Callable[[int, int], None] | None) -> _Tally:
    """Run both models over the text, window by window."""
    rows = max(1, min(MOST_ROWS, (len(ids) - 1) // LEAST_ROW))
    streams = [LanguageStream(session, rows) for session in sessions]
    tally, total, done = _Tally(), 2 * ((len(ids) - 1) // rows) * rows, 0
    for window in text_batches(ids, rows, min(stream.chunk for stream in streams)):
        old, new = (stream.push(window[:, :-1]) for stream in streams)
        tally.add(old, new, window[:, 1:])
        done += 2 * window[:, 1:].size
        if on_progress:
            on_progress(done, total)
    return tally


def _bound(old: Float64, new: Float64, value: Callable[[Float64], Float64], confidence: float, seed: int) -> float:
    """Return the upper bound of the drop by a percentile bootstrap over paired blocks; nats are ``[B, T]``.

    10,000 times, as many blocks are drawn with replacement as there are; both models' means over the drawn tokens
    give one drop. The bound is the smallest drop that the share ``confidence`` of them does not exceed (Efron and
    Tibshirani, An Introduction to the Bootstrap, 1993, sections 8.6 and 13.3).
    """
    cuts = np.arange(0, old.shape[1], BLOCK_TOKENS)
    old_sums, new_sums = (np.add.reduceat(nats, cuts, axis=1).reshape(-1) for nats in (old, new))
    sizes = np.tile(np.diff([*cuts, old.shape[1]]), len(old)).astype(np.float64)
    generator = np.random.default_rng(seed)
    drops = np.empty(RESAMPLES)
    step = max(1, ELEMENTS // len(sizes))
    for start in range(0, RESAMPLES, step):
        block = drops[start : start + step]
        drawn = generator.integers(len(sizes), size=(len(block), len(sizes)))
        tokens = sizes[drawn].sum(axis=1)
        block[:] = value(new_sums[drawn].sum(axis=1) / tokens) - value(old_sums[drawn].sum(axis=1) / tokens)
    return float(np.quantile(drops, confidence, method="inverted_cdf"))


def _name(source: Source) -> str:
    return "model" if isinstance(source, bytes) else f"model {os.fspath(source)}"
