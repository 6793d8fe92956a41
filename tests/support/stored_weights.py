"""The operators that tests try, and their weights in each storage."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from lstm_edge_exporters.functions import CellVariant, GruVariant, Places, RnnVariant, Variant, gather_blocks
from lstm_edge_exporters.functions.storages import MATRIX_SUFFIXES
from lstm_edge_exporters.quantize.rounding import Scheme, round_matrix
from lstm_edge_runtime.arrays import Array

__all__ = ["GATES", "stored", "tried"]

V = TypeVar("V", CellVariant, GruVariant, RnnVariant)
GATES: dict[type[Variant], int] = {CellVariant: 4, GruVariant: 3, RnnVariant: 1}


def tried(variants: Sequence[V]) -> tuple[V, ...]:
    """Return every variant whose matrices are all stored alike, and every seventh of those whose W differs."""
    mixed = [variant for variant in variants if variant.w_storage is not None]
    return (*(variant for variant in variants if variant.w_storage is None), *mixed[::7])


def stored(
    variant: Variant, name: str, values: Array, scheme: Scheme | None, rng: np.random.Generator
) -> dict[str, Array]:
    """Return the constants of one weight; two thirds of a sparse matrix's blocks are left out.

    ``scheme`` says blocks and zero points where the matrix has four bits.
    """
    storage = variant.storage_of(name)
    if not variant.is_quantized(name) or storage == "float32":
        return {name: values}
    rounded = dict(round_matrix(name, values, scheme if storage == "int4" and scheme is not None else Scheme()))
    if storage == "sparse_int8":
        gates = GATES[type(variant)]
        places = Places(len(values), gates, values.shape[1] // gates)
        blocks = places.split(rounded[""]) * (rng.random((places.total, 1, 1)) < 1 / 3)
        kept, index = gather_blocks(places.join(blocks.astype(np.int8)), places)
        rounded |= {"": kept, "_index": index, "_rows": np.array([places.rows], np.int64)}
    return {name + suffix: rounded[suffix] for suffix in MATRIX_SUFFIXES[storage]}
