"""The part of the model card that describes the data which a device's inputs are compared with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["FeatureHistogram", "ReferenceData"]

Extra = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class FeatureHistogram:
    """How often the reference data had one feature in each bin.

    ``edges`` ascend; bin i holds the values above ``edges[i - 1]`` up to and including ``edges[i]``, the first and the
    last bin are open. ``counts`` has one number more than ``edges``.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    extra: Extra = field(default_factory=dict, compare=False)


@dataclass(frozen=True, kw_only=True)
class ReferenceData:
    """The distribution of the inputs on the data that ``quantize`` got, against which a device measures drift.

    ``data`` names the data set. ``inputs`` has the histograms of each float input: one for each feature (the fixed axes
    of the input, flattened), or one of all values.
    """

    data: str
    inputs: Mapping[str, tuple[FeatureHistogram, ...]]
    extra: Extra = field(default_factory=dict, compare=False)
