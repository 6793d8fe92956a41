"""What a ``Metrics`` measures at every k-th push: latency, norm of the states, saturation of h, inputs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import TIME, ModelCard, StateSpec, TensorSpec
from lstm_edge_runtime.layout import StateLayout
from lstm_edge_runtime.watch.drift import check_reference
from lstm_edge_runtime.watch.inputs import InputCounts, InputReading, InputSums

__all__ = ["LATENCY_EDGES_S", "SATURATED", "Reading", "Sampled", "Samples", "WatchedModel"]

# Upper bounds of the latency's buckets, 1-2-5 from 2 us to 1 s. Fixed buckets, because counts of several devices can be
# added and a quantile of all of them follows; quantiles of each device cannot be combined.
LATENCY_EDGES_S = (
    2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1.0,
)  # fmt: skip
# |h| above this is called saturated: tanh is there at 2.6 or beyond, and its slope is below 0.02.
SATURATED = 0.99
# Samples that are digested together, in about 0.3 ms.
HELD = 64

# The duration of a push, and how many rows of each float input are held after it.
_Sample = tuple[float, list[int]]


class WatchedModel(Protocol):
    """What a ``Metrics`` needs to know of a model; ``Session`` provides it."""

    card: ModelCard | None
    inputs: tuple[TensorSpec, ...]
    states: tuple[StateSpec, ...]


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """Everything that was measured at sampled pushes.

    Attributes:
        count: number of sampled pushes.
        latency_sum_s: sum of their durations.
        latency_counts: how many took at most each of ``LATENCY_EDGES_S``.
        norms: for each float state but caches, by its input's name, the sum of its norms after the sampled pushes.
        saturated: for each layer, the sum of its shares of |h| above ``SATURATED``.
        inputs: the histogram of each float input.
    """

    count: int
    latency_sum_s: float
    latency_counts: tuple[int, ...]
    norms: Mapping[str, float]
    saturated: Mapping[str, float]
    inputs: Mapping[str, InputReading]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The metrics at one moment.

    Attributes:
        time_s: Unix time.
        pushes, steps: accepted pushes and the time steps in them, of all streams; exact.
        refusals: refused pushes, flushes and lines by reason, every one of ``errors.REASONS``; exact.
        streams: number of streams that exist.
        write_errors: how often the file could not be written.
        sampled: what was measured at sampled pushes; None before the first stream.
    """

    time_s: float
    pushes: int
    steps: int
    refusals: Mapping[str, int]
    streams: int
    write_errors: int
    sampled: Sampled | None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sums:
    """Sums over the digested samples; a new one replaces the old."""

    count: int
    latency_s: float
    latency_counts: Array
    norms: Array
    saturated: Array


class Samples:
    """Adds up samples; only one thread at a time may call it.

    A sample is a copy of a few arrays. ``HELD`` of them are digested together: NumPy's calls take most of the time of a
    small array, and most of all where the pushes between two samples have displaced their code from the caches.
    """

    def __init__(self, model: WatchedModel) -> None:
        """Start with nothing.

        Raises:
            CardError: the card's reference data contradict the model.
        """
        # The norm of a cache is that of earlier inputs, or of a position.
        self._states = tuple(s.input for s in model.states if s.dtype == "float32" and s.kind != "cache")
        self._layers = _bounded_layers(model)
        reference = None if model.card is None else model.card.reference
        known = {} if reference is None else check_reference(reference, model.inputs)
        # Ids are categories, whose histogram over edges means nothing; an input without time is a setting.
        timed = [spec for spec in model.inputs if TIME in spec.axes] or model.inputs
        floats = [spec for spec in timed if np.dtype(spec.dtype).kind == "f"]
        self._inputs = {spec.name: InputCounts(spec, known.get(spec.name), HELD) for spec in floats}
        nothing = _Sums(
            count=0,
            latency_s=0.0,
            latency_counts=np.zeros(len(LATENCY_EDGES_S) + 1, np.int64),
            norms=np.zeros(len(self._states)),
            saturated=np.zeros(len(self._layers)),
        )
        # One assignment replaces the sums and the samples that they lack, so that an interrupt counts none twice.
        self._now: tuple[_Sums, dict[str, InputSums], list[_Sample]]
        self._now = (nothing, {name: counts.nothing() for name, counts in self._inputs.items()}, [])
        self._rows = 0
        self._layout: StateLayout | None = None
        # The block of states after each held sample. One buffer: blocks that are allocated and freed together make
        # the allocator return the pages and fetch them again.
        self._blocks = np.empty((0, 0), np.float32)

    def add(self, latency_s: float, block: Array, layout: StateLayout, rows: int, piece: Any) -> None:
        """Add one push.

        Args:
            latency_s: how long it took.
            block: the states after it.
            layout: where they lie in it.
            rows: the stream's batch size.
            piece: what was pushed.
        """
        if layout is not self._layout or rows != self._rows:
            self._digest()
            self._rows, self._layout = rows, layout
            self._blocks = np.empty((HELD, *block.shape), block.dtype)
        held = self._now[2]
        self._blocks[len(held)] = block
        places = held[-1][1] if held else [0] * len(self._inputs)
        if piece.__class__ is np.ndarray:  # the usual case; the code of an abstract class is seldom in the caches
            places = [counts.take(piece, place) for counts, place in zip(self._inputs.values(), places, strict=True)]
        else:
            places = [
                counts.take(np.asarray(piece[name] if isinstance(piece, Mapping) else piece), place)
                for (name, counts), place in zip(self._inputs.items(), places, strict=True)
            ]
        held.append((latency_s, places))
        if len(held) >= HELD:
            self._digest()

    def _digest(self) -> None:
        """Add the held samples to the sums."""
        sums, inputs, held = self._now
        if not held or self._layout is None:
            return
        latencies = np.array([sample[0] for sample in held])
        bins = np.searchsorted(LATENCY_EDGES_S, latencies)
        blocks, norms, saturated = self._blocks[: len(held)], [], []
        for name in self._states:
            values = blocks[:, self._layout.place(name)]
            norms.append(np.sqrt(np.einsum("ij,ij->i", values, values) / self._rows).sum())
            if name in self._layers:
                saturated.append(np.count_nonzero(np.abs(values) > SATURATED) / values.shape[1])
        new = _Sums(
            count=sums.count + len(held),
            latency_s=sums.latency_s + float(latencies.sum()),
            latency_counts=sums.latency_counts + np.bincount(bins, minlength=len(LATENCY_EDGES_S) + 1),
            norms=sums.norms + norms,
            saturated=sums.saturated + saturated,
        )
        counted = {
            name: counts.counted(inputs[name], rows)
            for (name, counts), rows in zip(self._inputs.items(), held[-1][1], strict=True)
        }
        self._now = (new, counted, [])

    def read(self) -> Sampled:
        """Return the sums so far."""
        self._digest()
        sums, inputs, _ = self._now
        return Sampled(
            count=sums.count,
            latency_sum_s=sums.latency_s,
            latency_counts=tuple(map(int, np.cumsum(sums.latency_counts)[:-1])),
            norms=dict(zip(self._states, sums.norms.tolist(), strict=True)),
            saturated=dict(zip(self._layers.values(), sums.saturated.tolist(), strict=True)),
            inputs={name: counts.read(inputs[name]) for name, counts in self._inputs.items()},
        )


def _bounded_layers(model: WatchedModel) -> dict[str, str]:
    """Return the layers whose h lies within -1 and 1, by the name of the state's input.

    That of a projection or of an RNN with relu has no bound.
    """
    layers = {} if model.card is None else {layer.name: layer for layer in model.card.layers}
    found = {}
    for spec in model.states:
        layer = layers.get(spec.input.rpartition(".")[0])
        if spec.kind == "h" and layer is not None and not layer.projection_size and layer.activation != "relu":
            found[spec.input] = layer.name
    return found
