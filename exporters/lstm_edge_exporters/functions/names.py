"""The operators' names: which cells there are, and what their inputs are called, in order.

``docs/operators.md`` is normative; a name ends in its version and never changes its meaning.
"""

import re
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "DOMAIN",
    "LINEAR_INT4",
    "LINEAR_INT8",
    "CellVariant",
    "GruVariant",
    "RnnVariant",
    "Variant",
    "all_cells",
    "all_grus",
    "all_rnns",
    "parse_cell_name",
    "parse_gru_name",
    "parse_rnn_name",
]

DOMAIN = "lstm_edge"
LINEAR_INT8 = "LinearInt8V1"
LINEAR_INT4 = "LinearInt4V1"

Peephole = Literal["none", "diagonal", "full"]
_PART: dict[Peephole, str] = {"none": "", "diagonal": "Diagonal", "full": "Full"}
_NAME = re.compile(r"Lstm(Diagonal|Full)?(Projected)?(Ragged)?(Int8|Int4)?V1")
_GRU_NAME = re.compile(r"Gru(ResetAfter)?(Ragged)?(Int8|Int4)V1")
_RNN_NAME = re.compile(r"Rnn(Relu)?(Ragged)?(Int8|Int4)V1")


@dataclass(frozen=True, kw_only=True)
class CellVariant:
    """One LSTM operator: the parts its name is built from, and the inputs that follow from them.

    ``peephole``: which entries of W_c· exist; ``projected``: h is projected to P features; ``ragged``: rows
    have lengths; ``int8``: weights are int8 with one scale per output row, activations int8 per row and step;
    ``int4``: weights are four bits with one scale a block of inputs, activations as for int8. Not both.
    """

    peephole: Peephole = "none"
    projected: bool = False
    ragged: bool = False
    int8: bool = False
    int4: bool = False

    @property
    def name(self) -> str:
        """The operator's name, for example ``LstmFullProjectedRaggedInt8V1``."""
        cell = f"Lstm{_PART[self.peephole]}{'Projected' * self.projected}{'Ragged' * self.ragged}"
        return f"{cell}{'Int8' * self.int8}{'Int4' * self.int4}V1"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the operator's inputs, in order."""
        return ("x", "h", "c", *(("lengths",) if self.ragged else ()), *self.weights)

    @property
    def weights(self) -> tuple[str, ...]:
        """The names of the constant inputs, in order; a quantized matrix is followed by its scale (and zero point)."""
        matrices = ["w", "r", "b"]
        if self.peephole == "diagonal":
            matrices += ["p"]
        elif self.peephole == "full":
            matrices += ["p", "po"]
        if self.projected:
            matrices += ["v"]
        names: list[str] = []
        for matrix in matrices:
            names.append(matrix)
            if self.is_quantized(matrix) and (self.int8 or self.int4):
                names += [f"{matrix}_scale"] + [f"{matrix}_zero"] * self.int4
        return tuple(names)

    def is_quantized(self, weight: str) -> bool:
        """Say whether a weight is a matrix that int8 and int4 store with scales; biases and diagonals stay float32."""
        return weight != "b" and not (weight == "p" and self.peephole == "diagonal")


def parse_cell_name(name: str) -> CellVariant | None:
    """Return the variant that an operator's name stands for, or None when it is not an LSTM cell of this version."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    part, projected, ragged, precision = match.groups(default="")
    kinds: dict[str, Peephole] = {text: kind for kind, text in _PART.items()}
    return CellVariant(
        peephole=kinds[part],
        projected=bool(projected),
        ragged=bool(ragged),
        int8=precision == "Int8",
        int4=precision == "Int4",
    )


def all_cells() -> tuple[CellVariant, ...]:
    """Return every LSTM operator of this version."""
    peepholes: tuple[Peephole, ...] = ("none", "diagonal", "full")
    return tuple(
        CellVariant(peephole=peephole, projected=projected, ragged=ragged, int8=int8, int4=int4)
        for peephole in peepholes
        for projected in (False, True)
        for ragged in (False, True)
        for int8, int4 in ((False, False), (True, False), (False, True))
    )


@dataclass(frozen=True, kw_only=True)
class GruVariant:
    """One GRU operator: the parts its name is built from, and the inputs that follow from them.

    ``reset_after``: the reset gate acts on the product of h (ONNX's linear_before_reset = 1, PyTorch's nn.GRU, Keras's
    reset_after), else on h before the product; ``ragged``: rows have lengths; ``int4``: weights are four bits, else
    int8. There is no float32 operator: ONNX's own ``GRU`` says all of these.
    """

    reset_after: bool = False
    ragged: bool = False
    int4: bool = False

    @property
    def int8(self) -> bool:
        """Whether weights are int8 with one scale a column."""
        return not self.int4

    @property
    def name(self) -> str:
        """The operator's name, for example ``GruResetAfterRaggedInt8V1``."""
        parts = f"{'ResetAfter' * self.reset_after}{'Ragged' * self.ragged}"
        return f"Gru{parts}{'Int4' if self.int4 else 'Int8'}V1"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the operator's inputs, in order."""
        return ("x", "h", *(("lengths",) if self.ragged else ()), *self.weights)

    @property
    def weights(self) -> tuple[str, ...]:
        """The names of the constant inputs, in order; a matrix is followed by its scale (and zero point)."""
        zero = "{0}_zero" if self.int4 else ""
        matrices = [text.format(name) for name in "wr" for text in ("{0}", "{0}_scale", zero) if text]
        return (*matrices, "b", *(("rb",) if self.reset_after else ()))

    def is_quantized(self, weight: str) -> bool:
        """Say whether a weight is a matrix that is stored with scales; biases stay float32."""
        return weight in ("w", "r")


def parse_gru_name(name: str) -> GruVariant | None:
    """Return the variant that an operator's name stands for, or None when it is not a GRU of this version."""
    match = _GRU_NAME.fullmatch(name)
    if match is None:
        return None
    after, ragged, precision = match.groups(default="")
    return GruVariant(reset_after=bool(after), ragged=bool(ragged), int4=precision == "Int4")


def all_grus() -> tuple[GruVariant, ...]:
    """Return every GRU operator of this version."""
    return tuple(
        GruVariant(reset_after=reset_after, ragged=ragged, int4=int4)
        for reset_after in (False, True)
        for ragged in (False, True)
        for int4 in (False, True)
    )


@dataclass(frozen=True, kw_only=True)
class RnnVariant:
    """One RNN operator: the parts its name is built from, and the inputs that follow from them.

    ``relu``: the activation is relu, else tanh; ``ragged``: rows have lengths; ``int4``: weights are four bits, else
    int8. In float32, ONNX's ``RNN`` computes all of these.
    """

    relu: bool = False
    ragged: bool = False
    int4: bool = False

    @property
    def int8(self) -> bool:
        """Whether weights are int8 with one scale a column."""
        return not self.int4

    @property
    def name(self) -> str:
        """The operator's name, for example ``RnnReluRaggedInt8V1``."""
        return f"Rnn{'Relu' * self.relu}{'Ragged' * self.ragged}{'Int4' if self.int4 else 'Int8'}V1"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the operator's inputs, in order."""
        return ("x", "h", *(("lengths",) if self.ragged else ()), *self.weights)

    @property
    def weights(self) -> tuple[str, ...]:
        """The names of the constant inputs, in order; a matrix is followed by its scale (and zero point)."""
        suffixes = ("", "_scale", "_zero") if self.int4 else ("", "_scale")
        return (*(f"{name}{suffix}" for name in "wr" for suffix in suffixes), "b")

    def is_quantized(self, weight: str) -> bool:
        """Say whether a weight is a matrix that is stored with scales; the bias stays float32."""
        return weight in ("w", "r")


Variant = CellVariant | GruVariant | RnnVariant


def parse_rnn_name(name: str) -> RnnVariant | None:
    """Return the variant of an operator's name, or None if it is not an RNN of this version."""
    match = _RNN_NAME.fullmatch(name)
    if match is None:
        return None
    relu, ragged, precision = match.groups(default="")
    return RnnVariant(relu=bool(relu), ragged=bool(ragged), int4=precision == "Int4")


def all_rnns() -> tuple[RnnVariant, ...]:
    """Return every RNN operator of this version."""
    return tuple(
        RnnVariant(relu=relu, ragged=ragged, int4=int4)
        for relu in (False, True)
        for ragged in (False, True)
        for int4 in (False, True)
    )
