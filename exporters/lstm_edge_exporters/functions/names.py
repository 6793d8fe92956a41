"""The operators' names: which cells there are, and what their inputs are called, in order.

``docs/operators.md`` is normative; a name ends in its version and never changes its meaning.
"""

import re
from dataclasses import dataclass
from typing import Literal

__all__ = ["DOMAIN", "LINEAR_INT8", "CellVariant", "parse_cell_name"]

DOMAIN = "lstm_edge"
LINEAR_INT8 = "LinearInt8V1"

Peephole = Literal["none", "diagonal", "full"]
_PART: dict[Peephole, str] = {"none": "", "diagonal": "Diagonal", "full": "Full"}
_NAME = re.compile(r"Lstm(Diagonal|Full)?(Projected)?(Ragged)?(Int8)?V1")


@dataclass(frozen=True, kw_only=True)
class CellVariant:
    """One LSTM operator: the parts its name is built from, and the inputs that follow from them.

    ``peephole``: which entries of W_c· exist; ``projected``: h is projected to P features; ``ragged``: rows
    have lengths; ``int8``: weights are int8 with one scale per output row, activations int8 per row and step.
    """

    peephole: Peephole = "none"
    projected: bool = False
    ragged: bool = False
    int8: bool = False

    @property
    def name(self) -> str:
        """The operator's name, for example ``LstmFullProjectedRaggedInt8V1``."""
        return f"Lstm{_PART[self.peephole]}{'Projected' * self.projected}{'Ragged' * self.ragged}{'Int8' * self.int8}V1"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the operator's inputs, in order."""
        return ("x", "h", "c", *(("lengths",) if self.ragged else ()), *self.weights)

    @property
    def weights(self) -> tuple[str, ...]:
        """The names of the constant inputs, in order; with int8 each matrix is followed by its scale."""
        matrices = ["w", "r", "b"]
        if self.peephole == "diagonal":
            matrices += ["p"]
        elif self.peephole == "full":
            matrices += ["p", "po"]
        if self.projected:
            matrices += ["v"]
        names: list[str] = []
        for matrix in matrices:
            names += [matrix, f"{matrix}_scale"] if self.int8 and self.is_quantized(matrix) else [matrix]
        return tuple(names)

    def is_quantized(self, weight: str) -> bool:
        """Say whether a weight is a matrix that int8 stores with scales; biases and diagonals stay float32."""
        return weight != "b" and not (weight == "p" and self.peephole == "diagonal")


def parse_cell_name(name: str) -> CellVariant | None:
    """Return the variant that an operator's name stands for, or None when it is not an LSTM cell of this version."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    part, projected, ragged, int8 = match.groups(default="")
    peephole = next(kind for kind, text in _PART.items() if text == part)
    return CellVariant(peephole=peephole, projected=bool(projected), ragged=bool(ragged), int8=bool(int8))
