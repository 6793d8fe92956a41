"""How an operator stores a matrix: the names of the storages, and the constants of each.

``docs/operators.md`` is normative. May import NumPy; nothing else of the exporters.
"""

import re
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BLOCK_COLUMNS",
    "BLOCK_ROWS",
    "MATRIX_SUFFIXES",
    "Places",
    "Storage",
    "gather_blocks",
    "scatter_blocks",
    "storage_name",
    "storage_pairs",
    "storages_of",
]

Storage = Literal["float32", "int8", "int4", "sparse_int8"]

# What the constants of a matrix are called behind its name, in order.
MATRIX_SUFFIXES: dict[Storage, tuple[str, ...]] = {
    "float32": ("",),
    "int8": ("", "_scale"),
    "int4": ("", "_scale", "_zero"),
    "sparse_int8": ("", "_scale", "_index", "_rows"),
}
_NAMES: dict[Storage, str] = {"float32": "", "int8": "Int8", "int4": "Int4", "sparse_int8": "SparseInt8"}
_QUANTIZED: tuple[Storage, ...] = ("int8", "int4", "sparse_int8")
_ONE = "|".join(_NAMES[storage] for storage in _QUANTIZED)
_PATTERN = re.compile(rf"(?P<both>{_ONE})|W(?P<w>{_ONE})R(?P<r>{_ONE})")

# A block of a sparse matrix: 16 columns of one gate by 4 rows (inputs), which is one 64-byte vector of the kernels.
BLOCK_ROWS = 4
BLOCK_COLUMNS = 16


def storage_name(w: Storage, r: Storage) -> str:
    """Return what an operator's name says of its storages: ``Int8``, or ``WInt8RInt4`` where W and R differ."""
    return _NAMES[r] if w == r else f"W{_NAMES[w]}R{_NAMES[r]}"


def storages_of(text: str, *absent: Storage) -> tuple[Storage, Storage] | None:
    """Return the storages of W and R that a part of an operator's name says, or None where it says no storages.

    ``absent``: the storage that an empty text stands for, if there is one.
    """
    if not text and absent:
        return absent[0], absent[0]
    match = _PATTERN.fullmatch(text)
    if match is None:
        return None
    kinds: dict[str, Storage] = {name: storage for storage, name in _NAMES.items()}
    both, w, r = match["both"], match["w"], match["r"]
    if both is not None:
        return kinds[both], kinds[both]
    return None if w == r else (kinds[w], kinds[r])


def storage_pairs() -> tuple[tuple[Storage, Storage], ...]:
    """Return the storages of W and R that quantized operators have."""
    return tuple((w, r) for w in _QUANTIZED for r in _QUANTIZED)


class Places(NamedTuple):
    """The places for blocks in a matrix [rows, gates · cells]: block number = block column · height + block row.

    Block columns count the gates' cells 16 by 16, each gate from its first cell; block rows count the rows 4 by 4.
    """

    rows: int
    gates: int
    cells: int

    @property
    def height(self) -> int:
        """Block rows."""
        return -(-self.rows // BLOCK_ROWS)

    @property
    def per_gate(self) -> int:
        """Block columns of one gate."""
        return -(-self.cells // BLOCK_COLUMNS)

    @property
    def total(self) -> int:
        """How many places there are."""
        return self.gates * self.per_gate * self.height

    def split(self, matrix: NDArray[np.int8]) -> NDArray[np.int8]:
        """Return a matrix [rows, gates · cells] as blocks [total, 4, 16], zeros where a block leaves the matrix."""
        whole = np.zeros((self.height * BLOCK_ROWS, self.gates, self.per_gate * BLOCK_COLUMNS), matrix.dtype)
        whole[: self.rows, :, : self.cells] = matrix.reshape(self.rows, self.gates, self.cells)
        blocks = whole.reshape(self.height, BLOCK_ROWS, self.gates, self.per_gate, BLOCK_COLUMNS)
        return np.ascontiguousarray(blocks.transpose(2, 3, 0, 1, 4)).reshape(self.total, BLOCK_ROWS, BLOCK_COLUMNS)

    def join(self, blocks: NDArray[np.int8]) -> NDArray[np.int8]:
        """Return the matrix [rows, gates · cells] of its blocks [total, 4, 16]."""
        shaped = blocks.reshape(self.gates, self.per_gate, self.height, BLOCK_ROWS, BLOCK_COLUMNS)
        whole = shaped.transpose(2, 3, 0, 1, 4).reshape(self.height * BLOCK_ROWS, self.gates, -1)
        return np.ascontiguousarray(whole[: self.rows, :, : self.cells]).reshape(self.rows, self.gates * self.cells)


def gather_blocks(matrix: NDArray[np.int8], places: Places) -> tuple[NDArray[np.int8], NDArray[np.int32]]:
    """Return the blocks [n, 4, 16] of a matrix int8 [rows, gates · cells] that are not zero, and their numbers [n].

    A matrix of zeros keeps its first block: an operator has at least one.
    """
    blocks = places.split(matrix)
    index = np.flatnonzero(blocks.any(axis=(1, 2))).astype(np.int32)
    if not index.size:
        index = np.zeros(1, np.int32)
    return blocks[index], index


def scatter_blocks(blocks: NDArray[np.int8], index: NDArray[np.int32], places: Places) -> NDArray[np.int8]:
    """Return the dense matrix int8 [rows, gates · cells] of a sparse one: blocks [n, 4, 16] and their numbers [n]."""
    whole = np.zeros((places.total, BLOCK_ROWS, BLOCK_COLUMNS), np.int8)
    whole[index] = blocks
    return places.join(whole)
