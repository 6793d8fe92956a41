"""Made models for the search for a budget: every mix has a cost and a drop that are computed in no time."""

import itertools
import math

import numpy as np

from lstm_edge.precision_search.search import Axis, Option, Search, Trial

__all__ = ["World"]


class World:
    """A made model: costs and drops of every mix, with interactions that the additive model does not know."""

    def __init__(self, seed, parts, schemes, *, interaction=0.2, overhead=0.0):
        random = np.random.default_rng(seed)
        self.bytes = random.integers(2_000, 50_000, parts)
        self.ratios = np.array([1, 0.5, 0.26, 0.15, 0.14, 0.13])[:schemes]
        # Coarser loses more, by about a factor of four; parts differ in how much they mind.
        self.losses = np.concatenate([[0], 0.0625 * 4.0 ** np.arange(schemes - 1)])
        self.minds = random.lognormal(0, 1, parts)
        self.mixed = interaction * random.uniform(0, 1, (parts, parts))
        self.overhead = random.uniform(-overhead, overhead, (schemes,) * parts) if overhead else None
        self.calls = []

    def cost(self, mix):
        whole = sum(size * self.ratios[number] for size, number in zip(self.bytes, mix, strict=True))
        return float(whole) + (0.0 if self.overhead is None else float(self.overhead[mix]))

    def high(self, mix):
        alone = np.array([mind * self.losses[number] for mind, number in zip(self.minds, mix, strict=True)])
        return float(alone.sum() + np.sqrt(alone) @ self.mixed @ np.sqrt(alone))

    def axes(self):
        parts, schemes = len(self.bytes), len(self.ratios)
        zero = (0,) * parts
        return [
            Axis(
                part=f"part{place}",
                layer=f"part{place}",
                options=tuple(
                    Option(
                        scheme=f"s{number}",
                        cost=float(self.bytes[place]) * (self.ratios[number] - 1),
                        loss=self.high((*zero[:place], number, *zero[place + 1 :])),
                    )
                    for number in range(schemes)
                ),
            )
            for place in range(parts)
        ]

    def measure(self, mix, below):
        assert all(isinstance(number, int) for number in mix)
        self.calls.append(mix)
        cost = self.cost(mix)
        return Trial(mix=mix, cost=cost, high=self.high(mix) if cost < below else None)

    def search(self, allowed, most, **keywords):
        base = float(self.bytes.sum())
        return Search(self.axes(), self.measure, base_cost=base, allowed=allowed, most=most, **keywords)

    def cheapest(self, allowed, share=1.0, without=()):
        """Brute force: the cost of the cheapest mix that passes."""
        mixes = itertools.product(range(len(self.ratios)), repeat=len(self.bytes))
        costs = [self.cost(mix) for mix in mixes if self.high(mix) <= allowed * share and mix not in without]
        return min(costs, default=math.inf)
