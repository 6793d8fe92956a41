"""The shapes and the result of a comparison: objects until the card is written, where they become text."""

import dataclasses
import re
from collections.abc import Iterable
from dataclasses import dataclass

from lstm_edge_exporters.verify.compare import Difference, worst
from lstm_edge_exporters.verify.inputs import InputMaker
from lstm_edge_runtime.card import BATCH, TIME, ModelCard, Parity

__all__ = ["GRID", "Case", "Comparison", "fewest_steps", "input_steps", "within"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One shape that was compared; ``str`` gives the form in a model card.

    Attributes:
        batch: rows; 0 where no input has a batch axis.
        time: steps; 0 where no input has a time axis.
        zero_state: the initial state is zero.
        values: names and numbers of the integer inputs that were given a fixed number, such as a sample rate.
        chunks: the steps of each piece where the sequence was cut.
        calls: how many calls were made in a row, each with the states of the one before.
    """

    batch: int
    time: int
    zero_state: bool = False
    values: tuple[tuple[str, str], ...] = ()
    chunks: tuple[int, ...] = ()
    calls: int = 1

    def __str__(self) -> str:
        sizes = [f"{axis} {size}" for axis, size in ((BATCH, self.batch), (TIME, self.time)) if size]
        values = "".join(f", {name} {number}" for name, number in self.values)
        chunks = f" in chunks of {' and '.join(map(str, self.chunks))}" if self.chunks else ""
        calls = f", {self.calls} calls in a row" if self.calls > 1 else ""
        return ", ".join(sizes or ["fixed shapes"]) + ", zero state" * self.zero_state + values + chunks + calls


# Batch 1, one step, lengths on both sides of the traced one, and both kinds of initial state.
GRID = (
    Case(batch=3, time=7, zero_state=True),
    Case(batch=2, time=5),
    Case(batch=1, time=11),
    Case(batch=4, time=1),
    Case(batch=1, time=1),
    Case(batch=5, time=23),
)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The result of a comparison: what was compared, and the largest difference.

    Attributes:
        against: what the answers were compared with.
        max_abs_difference: the worst difference, in the outputs' unit.
        tolerance: the largest one that is allowed, or None where the difference is only noted.
        ran: the cases that were compared.
        refused: the cases that the original refused, each with the reason.
        scale: the greatest absolute value that was expected of the output with the worst difference, in its unit; None:
            not measured.
    """

    against: str
    max_abs_difference: float
    tolerance: float | None
    ran: tuple[Case, ...]
    refused: tuple[tuple[Case, str], ...] = ()
    scale: float | None = None

    @property
    def fewest_steps(self) -> int:
        """The fewest time steps that the model may be run with: where cases were refused, the fewest that ran.

        What the original refuses may have no meaning in the file: a convolution or pooling that leaves no step gives
        onnxruntime (1.32) a layer over zero steps, for which its LSTM invents an answer and its GRU ends the process.
        """
        return min((case.time for case in self.ran if case.time), default=1) if self.refused else 1

    def with_case(self, case: Case, differences: Iterable[Difference]) -> "Comparison":
        """Return the comparison with the differences of a further case."""
        furthest = worst(differences)
        more = dataclasses.replace(self, ran=(*self.ran, case))
        if furthest.max_abs <= self.max_abs_difference:
            return more
        return dataclasses.replace(more, max_abs_difference=furthest.max_abs, scale=furthest.scale)

    def for_card(self) -> Parity:
        """Return the comparison in the form of a model card."""
        return Parity(
            against=self.against,
            max_abs_difference=self.max_abs_difference,
            tolerance=self.tolerance,
            shapes=tuple(map(str, self.ran)),
            refused=tuple(f"{case}: {reason}" for case, reason in self.refused),
        )


def fewest_steps(parity: Parity | None) -> int:
    """Return ``Comparison.fewest_steps`` of the comparison that a file's card notes: the file has its text alone."""
    if parity is None or not parity.refused:
        return 1
    ran = [int(steps) for shape in parity.shapes for steps in re.findall(rf"\b{TIME} (\d+)", shape)]
    return min(ran, default=1)


def input_steps(card: ModelCard, steps: int) -> int:
    """Return the input steps that give so many steps of the model: a front end makes one of many samples."""
    front_end = card.front_end
    return steps if front_end is None or steps < 1 else front_end.first + front_end.every * (steps - 1)


def within(shape: Case, maker: InputMaker) -> Case:
    """Return the shape without the axes that the inputs do not have, and with the numbers that they are given."""
    axes = {axis for spec in maker.specs for axis in spec.axes}
    return dataclasses.replace(
        shape,
        batch=shape.batch if BATCH in axes else 0,
        time=shape.time if TIME in axes else 0,
        values=maker.numbers,
    )
