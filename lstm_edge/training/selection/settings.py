"""Settings of `lstm-edge select`."""

from dataclasses import dataclass, field
from typing import Any, Literal

from lstm_edge.sparsity.schedule import check_density
from lstm_edge.training import TrainingOptions
from lstm_edge_runtime.errors import InputError

__all__ = ["Architecture", "Limits", "SelectionSettings", "Split"]

Split = Literal["stratified", "grouped", "time", "plain"]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The sizes of one candidate; ``density`` below 1: training prunes its recurrent layers to that density."""

    hidden: int
    layers: int
    density: float = 1.0

    def __str__(self) -> str:
        sizes = f"{self.hidden} x {self.layers}"
        return sizes if self.density == 1.0 else f"{sizes} at {self.density:g}"

    @property
    def order(self) -> tuple[int, int, float]:
        """The sort key: small hidden sizes first, then few layers, then dense ones."""
        return self.hidden, self.layers, -self.density


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of the device: bytes of the int8 file, microseconds per step; None means no limit."""

    max_bytes: float | None = None
    max_step_us: float | None = None

    def __str__(self) -> str:
        parts = [] if self.max_bytes is None else [f"{self.max_bytes:,.0f} bytes"]
        parts += [] if self.max_step_us is None else [f"{self.max_step_us:g} µs a step"]
        return " and ".join(parts) or "none"


@dataclass(frozen=True, kw_only=True)
class SelectionSettings:
    """The candidates, the folds and the training options.

    Attributes:
        hidden: hidden sizes, each combined with each of ``layers``.
        layers: numbers of layers.
        densities: densities of the recurrent layers, each combined with each of the sizes.
        folds: number of folds, 2 or more.
        split: kind of split; None: see ``folds.choose_split``.
        metric: a name from ``lstm_edge_runtime.metrics``; None: ``accuracy`` for classes, ``mean-squared-error``.
        seed: random seed of the folds and of every training.
        model: further fields of the model's configuration, the same for all candidates.
        options: training options of each model.

    Raises:
        InputError: a value is out of its range, or a size is given twice.
    """

    hidden: tuple[int, ...]
    layers: tuple[int, ...] = (1,)
    densities: tuple[float, ...] = (1.0,)
    folds: int = 5
    split: Split | None = None
    metric: str | None = None
    seed: int = 0
    model: dict[str, Any] = field(default_factory=dict)
    options: TrainingOptions = field(default_factory=TrainingOptions)

    def __post_init__(self) -> None:
        for name in ("hidden", "layers"):
            sizes = getattr(self, name)
            if not sizes or min(sizes) < 1 or len(set(sizes)) != len(sizes):
                raise InputError(f"select: {name} is {sizes}, expected sizes of 1 or more, none twice")
        if not self.densities or len(set(self.densities)) != len(self.densities):
            raise InputError(f"select: densities is {self.densities}, expected one or more, none twice")
        for density in self.densities:
            check_density("a density of select", density)
        if self.folds < 2:
            raise InputError(f"select: folds is {self.folds}, expected 2 or more")
        # scikit-learn refuses larger seeds.
        if not 0 <= self.seed < 2**32:
            raise InputError(f"select: seed is {self.seed}, expected an integer from 0 to 2^32 - 1")

    @property
    def architectures(self) -> tuple[Architecture, ...]:
        """All candidates, small hidden sizes first."""
        found = [
            Architecture(hidden=hidden, layers=layers, density=density)
            for hidden in self.hidden
            for layers in self.layers
            for density in self.densities
        ]
        return tuple(sorted(found, key=lambda architecture: architecture.order))
