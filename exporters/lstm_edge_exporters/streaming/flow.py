"""How many steps a value inside a graph has, as a function of the input steps that have come so far."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from lstm_edge_exporters.streaming.errors import NotStreamable

__all__ = ["HORIZON", "Counts", "Flow", "Table", "counts_of", "input_flow", "period_of", "windows"]

Table = np.ndarray[Any, np.dtype[np.int64]]

# Input steps that are followed: a frame of 65 ms at 16 kHz is 1,040 samples; what needs more than a quarter of this
# before it repeats is refused.
HORIZON = 2**14


@dataclass(frozen=True, kw_only=True, eq=False)
class Flow:
    """The steps of one value along its axis of time.

    Attributes:
        axis: the position of the axis.
        given: int64 [HORIZON + 1]: how many elements along the axis are final after n input steps. None were handed
            on before the first call, so ``given[0]`` is 0.
        total: int64 [HORIZON + 1]: how many there are if the sequence ends after n input steps.
        rate: input steps for each element.
        constant: every element is the same; it has as many as there are input steps.
        rows: the axis holds the steps of all rows of the batch.
    """

    axis: int
    given: Table
    total: Table
    rate: Fraction = Fraction(1)
    constant: bool = False
    rows: bool = False

    @property
    def plain(self) -> bool:
        """One element for each input step, at once."""
        return bool(np.array_equal(self.given, _STEPS) and np.array_equal(self.total, _STEPS))

    def at(self, axis: int) -> "Flow":
        """Return the same steps along another axis."""
        return self if axis == self.axis else replace(self, axis=axis)

    def same_steps(self, other: "Flow") -> bool:
        """Say whether two values get their elements at the same time."""
        return self.given is other.given or np.array_equal(self.given, other.given)


_STEPS = np.arange(HORIZON + 1, dtype=np.int64)


def input_flow(axis: int, *, constant: bool = False) -> Flow:
    """Return the flow of an input of the graph."""
    return Flow(axis=axis, given=_STEPS, total=_STEPS, constant=constant)


def windows(steps: Table, size: int, stride: int, padding: int) -> Table:
    """Return how many windows of ``size`` elements fit into ``padding`` and the given steps; none before the first."""
    count = np.maximum((steps + padding - size) // stride + 1, 0)
    count[0] = 0
    return np.asarray(count, np.int64)


@dataclass(frozen=True, kw_only=True)
class Counts:
    """The steps of a stream: see ``Streaming`` in the model card for the five numbers.

    ``settled`` is the number of input steps from which on all that a stream holds repeats every ``every`` steps.
    """

    first: int
    first_gives: int
    every: int
    gives: int
    latency_steps: int
    settled: int

    @property
    def plain(self) -> bool:
        """One output step for each input step."""
        return (self.first, self.first_gives, self.every, self.gives) == (1, 1, 1, 1)


def period_of(flows: Sequence[Flow], tables: Sequence[Table]) -> tuple[int, int]:
    """Return the period of all steps and tables, and from which input step on they keep it.

    Raises:
        NotStreamable: they do not, within ``HORIZON``.
    """
    period = int(np.lcm.reduce([flow.rate.numerator for flow in flows] or [1]))
    if period > HORIZON // 8:
        raise NotStreamable(f"an output step takes {period} input steps, at most {HORIZON // 8} are followed")
    settled = 0
    grows = [np.diff(flow.given) for flow in flows]
    for table in [*grows, *tables]:
        differs = np.flatnonzero(table[period:] != table[:-period])
        if differs.size:
            settled = max(settled, int(differs[-1]) + 1)
    if settled > HORIZON // 4:
        raise NotStreamable(f"the steps do not repeat within {HORIZON // 4} input steps")
    return period, settled


def counts_of(flows: Sequence[Flow], outputs: Sequence[Flow], tables: Sequence[Table]) -> Counts:
    """Return how a stream counts its steps: every call gives each node at least one element.

    Args:
        flows: those of all values; a layer over no step has no meaning in onnxruntime (1.32): its LSTM invents an
            answer, its GRU ends the process.
        outputs: those of the outputs, or of what they are made from where they have no steps; the first one's steps
            are counted.
        tables: what else must repeat.

    Raises:
        NotStreamable: the steps have no such pattern.
    """
    every, settled = period_of(flows, tables)
    first = 1 + max((_last(flow.given < 1) for flow in flows), default=0)
    if first + 4 * every > HORIZON:
        raise NotStreamable(f"an output step needs {first} input steps, at most {HORIZON - 4 * every} are followed")
    if any(flow.given[first + every] <= flow.given[first] for flow in flows):
        raise NotStreamable(f"{every} input steps complete no step of a value inside the graph")
    pattern = outputs[0].given[first::every]
    gives = int(pattern[1] - pattern[0])
    if not np.array_equal(np.diff(pattern), np.full(pattern.size - 1, gives)):
        raise NotStreamable("the number of output steps does not grow evenly with the input steps")
    return Counts(
        first=first,
        first_gives=int(pattern[0]),
        every=every,
        gives=gives,
        latency_steps=max(_latency(flow) for flow in outputs),
        settled=settled,
    )


def _latency(flow: Flow) -> int:
    """Return how many more input steps it takes until all is given that a sequence which ended here would have."""
    asked = flow.total[: HORIZON // 2]
    reached = np.searchsorted(flow.given, asked)
    return max(int((reached - _STEPS[: asked.size])[1:].max()), 0)


def _last(holds: np.ndarray[Any, np.dtype[np.bool_]]) -> int:
    """Return the last index at which a condition holds, or -1."""
    found = np.flatnonzero(holds)
    return int(found[-1]) if found.size else -1
