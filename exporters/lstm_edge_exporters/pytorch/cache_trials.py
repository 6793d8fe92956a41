"""Runs of a module, and of a graph of it with more outputs, to learn which inputs are caches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lstm_edge_exporters.pytorch.original import Original
from lstm_edge_exporters.verify.inputs import InputMaker, random_state
from lstm_edge_exporters.verify.open_model import OpenModel
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import BATCH, TIME, StateSpec, TensorSpec
from lstm_edge_runtime.errors import LstmEdgeError
from lstm_edge_runtime.providers import RUNTIME_ERRORS

__all__ = ["GraphTrial", "ModuleTrial", "Sizes"]


@dataclass(frozen=True, kw_only=True)
class ModuleTrial:
    """The module as what ``adopt`` runs to learn about a model."""

    original: Original
    maker: InputMaker

    def ask(self, feeds: Mapping[str, Array], steps: int) -> dict[str, Array] | None:
        """Return the answers to inputs and states; None where the module raises."""
        rows = next((feeds[s.name].shape[s.axes.index(BATCH)] for s in self.maker.specs if BATCH in s.axes), 1)
        full = np.full(rows, steps, np.int64) if self.original.plan.takes_lengths else None
        try:
            return self.original.run(feeds, feeds, full)
        except LstmEdgeError:
            raise
        except Exception:  # the user's own module: it does not take these values
            return None

    def run(
        self,
        specs: Sequence[TensorSpec],  # noqa: ARG002  the maker has them
        sizes: Mapping[str, int],
        *,
        seed: int = 0,
        given: Mapping[str, Array] | None = None,
    ) -> dict[str, Array] | None:
        """Return the answers to inputs drawn from a seed."""
        feeds = self.maker.make_sized(np.random.default_rng(seed), sizes) | dict(given or {})
        return self.ask(feeds, sizes[TIME])


@dataclass(frozen=True, kw_only=True)
class GraphTrial:
    """A graph of the module with more outputs, at the sizes that the module is known to take."""

    model: OpenModel
    maker: InputMaker
    states: Sequence[StateSpec]
    lengths: str | None

    def run(
        self,
        specs: Sequence[TensorSpec],  # noqa: ARG002  the maker has them
        sizes: Mapping[str, int],
        *,
        seed: int = 0,
        given: Mapping[str, Array] | None = None,
    ) -> dict[str, Array] | None:
        """Return the answers to inputs and states drawn from a seed."""
        rng = np.random.default_rng(seed)
        feeds = self.maker.make_sized(rng, sizes) | random_state(self.states, rng, sizes[BATCH], zero=False)
        if self.lengths is not None:
            feeds[self.lengths] = np.full(sizes[BATCH], sizes[TIME], np.int64)
        # The first step is often another one: a mean of one value keeps nothing of the mean before.
        later = {spec.input: feeds[spec.input] + 1 for spec in self.states if spec.counts}
        for counts in (later, {}) if later else ({},):
            try:
                return self.model.answers(feeds | counts | dict(given or {}))
            except RUNTIME_ERRORS:
                continue
        return None


class Sizes(dict[str, int]):
    """Sizes of the named axes; 3 where an axis has another name, as the maker draws it."""

    def __missing__(self, _axis: str) -> int:
        return 3
