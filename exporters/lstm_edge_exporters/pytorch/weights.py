"""The weights that a recurrent layer computes with: what its attributes hold when it has been called.

Weight norm, spectral norm, pruning and weight drop make them in a hook or in a wrapper's forward, from other
parameters. After ``load_state_dict`` the attributes are those of the old parameters until forward runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import numpy as np
from torch import nn

from lstm_edge_exporters.pytorch.recurrent import Direction, Recurrence, describe
from lstm_edge_runtime.errors import CaptureError

__all__ = ["UsedWeights"]


@dataclass
class UsedWeights:
    """The recurrent layers by name as they were when forward called them; they must be the same in each call."""

    found: dict[str, Recurrence] = field(default_factory=dict)

    def read(self, name: str, module: nn.Module) -> None:
        """Read a layer that forward has just called.

        Raises:
            CaptureError: its weights are not those of an earlier call, or one is missing.
        """
        recurrence = describe(module)
        if recurrence is not None:
            self._check(name, self.found.setdefault(name, recurrence), recurrence)

    def check_same(self, others: "UsedWeights") -> None:
        """Refuse weights that depend on the data.

        Raises:
            CaptureError: a layer's weights differ from those of another run of forward.
        """
        for name, recurrence in self.found.items():
            self._check(name, recurrence, others.found.get(name, recurrence))

    def in_layers(self, layers: Mapping[str, tuple[nn.Module, Recurrence]]) -> dict[str, tuple[nn.Module, Recurrence]]:
        """Return the layers by name, each as it was when forward called it."""
        return {name: (module, self.found.get(name, before)) for name, (module, before) in layers.items()}

    def _check(self, name: str, one: Recurrence, other: Recurrence) -> None:
        for layer, same in zip(one.layers, other.layers, strict=True):
            for side, its in zip(layer.directions, same.directions, strict=True):
                for item in fields(Direction):
                    if not np.array_equal(getattr(side, item.name), getattr(its, item.name)):
                        raise CaptureError(
                            f"{name}: the weights are not the same in every call of the layer, so they are not "
                            "constants of the file: compute them from parameters only, in evaluation mode"
                        )
