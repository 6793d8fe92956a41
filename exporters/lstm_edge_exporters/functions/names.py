"""The operators' names: which cells there are, and what their inputs are called, in order.

``docs/operators.md`` is normative; a name ends in its version and never changes its meaning.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Literal

from lstm_edge_exporters.functions.storages import MATRIX_SUFFIXES, Storage, storage_name, storage_pairs, storages_of

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
_NAME = re.compile(r"Lstm(Diagonal|Full)?(Projected)?(Ragged)?(\w*)V1")
_GRU_NAME = re.compile(r"Gru(ResetAfter)?(Ragged)?(\w+)V1")
_RNN_NAME = re.compile(r"Rnn(Relu)?(Ragged)?(\w+)V1")


@dataclass(frozen=True, kw_only=True)
class _Stored:
    """The storage of an operator's matrices.

    ``storage``: of R and, where it is None in ``w_storage``, of W. An LSTM's further matrices are stored as R, or as
    int8 where R is sparse.
    """

    storage: Storage
    w_storage: Storage | None = None

    def __post_init__(self) -> None:
        if self.w_storage == self.storage:
            object.__setattr__(self, "w_storage", None)
        if self.w_storage is not None and "float32" in (self.storage, self.w_storage):
            raise ValueError("no operator has a float32 matrix beside one in another storage")

    def storage_of(self, weight: str) -> Storage:
        """Return the storage of a matrix by its name: ``w``, ``r``, and of an LSTM ``p``, ``po`` and ``v``."""
        if weight == "w":
            return self.w_storage or self.storage
        return "int8" if self.storage == "sparse_int8" and weight != "r" else self.storage

    def is_quantized(self, weight: str) -> bool:
        """Say whether a weight is a matrix that quantized operators store with scales; biases stay float32."""
        return weight in ("w", "r")

    def _stored(self, weights: list[str]) -> tuple[str, ...]:
        """Return the weights with what follows each of them: scales, zero points, indices."""
        suffixes = {
            name: MATRIX_SUFFIXES[self.storage_of(name)] if self.is_quantized(name) else ("",) for name in weights
        }
        return tuple(f"{name}{suffix}" for name in weights for suffix in suffixes[name])

    @property
    def _ending(self) -> str:
        return f"{storage_name(self.storage_of('w'), self.storage)}V1"


@dataclass(frozen=True, kw_only=True)
class CellVariant(_Stored):
    """One LSTM operator: the parts its name is built from, and the inputs that follow from them.

    ``peephole``: which entries of W_c· exist; ``projected``: h is projected to P features; ``ragged``: rows
    have lengths; ``storage`` and ``w_storage``: how the matrices are stored. Where that is not float32, activations are
    rounded to int8 by row and step.
    """

    storage: Storage = "float32"
    peephole: Peephole = "none"
    projected: bool = False
    ragged: bool = False

    @property
    def name(self) -> str:
        """The operator's name, for example ``LstmFullProjectedRaggedInt8V1``."""
        return f"Lstm{_PART[self.peephole]}{'Projected' * self.projected}{'Ragged' * self.ragged}{self._ending}"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the operator's inputs, in order."""
        return ("x", "h", "c", *(("lengths",) if self.ragged else ()), *self.weights)

    @property
    def weights(self) -> tuple[str, ...]:
        """The names of the constant inputs, in order; a matrix is followed by its scale and what else belongs to it."""
        peepholes = {"none": [], "diagonal": ["p"], "full": ["p", "po"]}[self.peephole]
        return self._stored(["w", "r", "b", *peepholes, *(["v"] if self.projected else [])])

    def is_quantized(self, weight: str) -> bool:
        """Say whether a weight is a matrix that quantized operators store with scales; biases and diagonals are not."""
        return weight in ("w", "r", "po", "v") or (weight == "p" and self.peephole == "full")


def parse_cell_name(name: str) -> CellVariant | None:
    """Return the variant that an operator's name stands for, or None when it is not an LSTM cell of this version."""
    match = _NAME.fullmatch(name)
    stored = None if match is None else storages_of(match[4], "float32")
    if match is None or stored is None:
        return None
    kinds: dict[str, Peephole] = {text: kind for kind, text in _PART.items()}
    return CellVariant(
        peephole=kinds[match[1] or ""],
        projected=bool(match[2]),
        ragged=bool(match[3]),
        storage=stored[1],
        w_storage=stored[0],
    )


def all_cells() -> tuple[CellVariant, ...]:
    """Return every LSTM operator of this version."""
    peepholes: tuple[Peephole, ...] = ("none", "diagonal", "full")
    flags = (False, True)
    pairs: tuple[tuple[Storage, Storage], ...] = (("float32", "float32"), *storage_pairs())
    return tuple(
        CellVariant(peephole=peephole, projected=projected, ragged=ragged, storage=r, w_storage=w)
        for peephole, projected, ragged in product(peepholes, flags, flags)
        for w, r in pairs
    )


@dataclass(frozen=True, kw_only=True)
class GruVariant(_Stored):
    """One GRU operator: the parts its name is built from, and the inputs that follow from them.

    ``reset_after``: the reset gate acts on the product of h (ONNX's linear_before_reset = 1, PyTorch's nn.GRU, Keras's
    reset_after), else on h before the product; ``ragged``: rows have lengths. There is no float32 operator: ONNX's own
    ``GRU`` says all of these.
    """

    storage: Storage = "int8"
    reset_after: bool = False
    ragged: bool = False

    @property
    def name(self) -> str:
        """The operator's name, for example ``GruResetAfterRaggedInt8V1``."""
        return f"Gru{'ResetAfter' * self.reset_after}{'Ragged' * self.ragged}{self._ending}"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the operator's inputs, in order."""
        return ("x", "h", *(("lengths",) if self.ragged else ()), *self.weights)

    @property
    def weights(self) -> tuple[str, ...]:
        """The names of the constant inputs, in order; a matrix is followed by its scale and what else belongs to it."""
        return self._stored(["w", "r", "b", *(["rb"] if self.reset_after else [])])


def parse_gru_name(name: str) -> GruVariant | None:
    """Return the variant that an operator's name stands for, or None when it is not a GRU of this version."""
    match = _GRU_NAME.fullmatch(name)
    stored = None if match is None else storages_of(match[3])
    if match is None or stored is None:
        return None
    return GruVariant(reset_after=bool(match[1]), ragged=bool(match[2]), storage=stored[1], w_storage=stored[0])


def _flagged() -> Iterator[tuple[bool, bool, Storage, Storage]]:
    return ((a, b, w, r) for a, b in product((False, True), repeat=2) for w, r in storage_pairs())


def all_grus() -> tuple[GruVariant, ...]:
    """Return every GRU operator of this version."""
    return tuple(GruVariant(reset_after=a, ragged=b, storage=r, w_storage=w) for a, b, w, r in _flagged())


@dataclass(frozen=True, kw_only=True)
class RnnVariant(_Stored):
    """One RNN operator: the parts its name is built from, and the inputs that follow from them.

    ``relu``: the activation is relu, else tanh; ``ragged``: rows have lengths. In float32, ONNX's ``RNN`` computes all
    of these.
    """

    storage: Storage = "int8"
    relu: bool = False
    ragged: bool = False

    @property
    def name(self) -> str:
        """The operator's name, for example ``RnnReluRaggedInt8V1``."""
        return f"Rnn{'Relu' * self.relu}{'Ragged' * self.ragged}{self._ending}"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the operator's inputs, in order."""
        return ("x", "h", *(("lengths",) if self.ragged else ()), *self.weights)

    @property
    def weights(self) -> tuple[str, ...]:
        """The names of the constant inputs, in order; a matrix is followed by its scale and what else belongs to it."""
        return self._stored(["w", "r", "b"])


Variant = CellVariant | GruVariant | RnnVariant


def parse_rnn_name(name: str) -> RnnVariant | None:
    """Return the variant of an operator's name, or None if it is not an RNN of this version."""
    match = _RNN_NAME.fullmatch(name)
    stored = None if match is None else storages_of(match[3])
    if match is None or stored is None:
        return None
    return RnnVariant(relu=bool(match[1]), ragged=bool(match[2]), storage=stored[1], w_storage=stored[0])


def all_rnns() -> tuple[RnnVariant, ...]:
    """Return every RNN operator of this version."""
    return tuple(RnnVariant(relu=a, ragged=b, storage=r, w_storage=w) for a, b, w, r in _flagged())
