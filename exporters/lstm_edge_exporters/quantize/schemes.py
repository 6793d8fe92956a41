"""How a layer's weights are stored, and the compact text that says so in options, reports and model cards."""

from dataclasses import dataclass
from typing import Literal, get_args

from lstm_edge_runtime.errors import QuantizationError

__all__ = ["EVERY_SCHEME", "NO_BLOCKS", "SPARSE_INT8", "STATIC_INT8", "Kind", "Scheme"]

Kind = Literal["float32", "float16", "int8", "int4"]
Block = Literal[32, 128]

_ZERO, _SPARSE, _STATIC = "zero", "sparse", "static"


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """How matrices are stored; biases and a peephole's diagonals are float32 in each.

    ``float32``: as they are. ``float16``: stored so, computed in float32. ``int8``: one scale a column. ``int4``: a
    scale for each ``block`` inputs of a column, symmetric or with zero points. Blocks of 128 are the default: they are
    smaller than those of 32, and lose no more once errors are compensated (docs/quantization.md). ``sparse``: int8
    without the blocks of 4 inputs by 16 cells that are all zero (docs/sparse.md), for W and R of a recurrent layer.
    ``static`` int8 is for convolutions: their activations are int8 too, with fixed scales from calibration data.

    Raises:
        QuantizationError: an unknown kind, or a block or zero points that do not go with it.
    """

    kind: Kind = "int8"
    block: Block = 128
    symmetric: bool = True
    sparse: bool = False
    static: bool = False

    def __post_init__(self) -> None:
        """Refuse what no operator stores, so that every scheme has one text."""
        if self.kind not in get_args(Kind):
            raise QuantizationError(f"unknown scheme {self.kind!r}; known ones are {', '.join(get_args(Kind))}")
        if self.kind != "int4" and (self.block != 128 or not self.symmetric):
            raise QuantizationError(f"blocks and zero points are for int4: {NO_BLOCKS[self.kind]}")
        if self.sparse and self.kind != "int8":
            raise QuantizationError(f"sparse weights are int8, not {self.kind}")
        if self.static and (self.kind != "int8" or self.sparse):
            raise QuantizationError(f"fixed activation scales are for int8, not for {self}")
        if self.block not in get_args(Block):
            raise QuantizationError(f"the block is {self.block}: int4 has blocks of 32 or 128 inputs")

    def __str__(self) -> str:
        """Return the scheme as coverage tables and cards name it."""
        if self.static and self.kind == "int8" and not self.sparse:
            return "int8, fixed activation scales"
        if self.kind != "int4":
            return f"{'sparse ' * self.sparse}{self.kind}"
        return f"int4, block {self.block}{', zero points' * (not self.symmetric)}"

    @property
    def text(self) -> str:
        """The compact text, such as ``float32``, ``int8``, ``int8:sparse``, ``int8:static``, ``int4:32:zero``.

        It always has the block, because ``int4`` alone meant blocks of 32 in earlier cards and means 128 in a request.
        """
        if self.kind != "int4":
            return f"{self.kind}{f':{_SPARSE}' * self.sparse}{f':{_STATIC}' * self.static}"
        return f"{self.kind}:{self.block}{f':{_ZERO}' * (not self.symmetric)}"

    @classmethod
    def parse(cls, text: str) -> "Scheme":
        """Return the scheme of a compact text in a request; ``int4`` is ``int4:128``.

        A text that an earlier version stored goes through ``lstm_edge_runtime.card.stored_scheme`` first.

        Raises:
            QuantizationError: the text is not one of them.
        """
        schemes = (*EVERY_SCHEME, SPARSE_INT8, STATIC_INT8)
        found = {scheme.text: scheme for scheme in schemes} | {"int4": cls(kind="int4")}
        if text not in found:
            known = ", ".join(scheme.text for scheme in schemes) + "; int4 is int4:128"
            raise QuantizationError(f"unknown scheme {text!r}; known ones are {known}")
        return found[text]


NO_BLOCKS = {
    "float32": "float32 has no scales",
    "float16": "float16 has no scales",
    "int8": "int8 has one scale a column",
}

EVERY_SCHEME = (
    Scheme(kind="int8"),
    Scheme(kind="int4", block=32),
    Scheme(kind="int4", block=128),
    Scheme(kind="int4", block=32, symmetric=False),
    Scheme(kind="int4", block=128, symmetric=False),
    Scheme(kind="float16"),
    Scheme(kind="float32"),
)

# For the W and R of a recurrent layer with zero blocks; nothing else can have it.
SPARSE_INT8 = Scheme(kind="int8", sparse=True)
# For convolutions, with scales of their activations from calibration data; nothing else can have it.
STATIC_INT8 = Scheme(kind="int8", static=True)
