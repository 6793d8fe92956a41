"""Random sizes, numbers and damages that the cases of every operator are drawn from."""

import numpy as np
from kernel_cases import Array

__all__ = ["BATCHES", "HUGE", "SIZES", "TIMES", "TINY", "activations", "change_constant", "changed_input", "floats"]

# Around the vectors of 16, the tiles of 64, the blocks of 32 and 128, and the groups of 16 rows.
SIZES = (1, 2, 3, 5, 8, 15, 16, 17, 31, 32, 33, 47, 64, 65, 127, 128, 130)
BATCHES, TIMES = (1, 1, 2, 3, 6, 7, 15, 16, 17, 33), (1, 1, 2, 3, 8, 25)
TINY, HUGE = np.float32(2.0**-149), np.finfo(np.float32).max


def floats(rng: np.random.Generator, shape: tuple[int, ...], deviation: float, ordinary: bool) -> Array:
    """Draw normal numbers of a deviation; unless ``ordinary``, some are at the edges of float32 and past it."""
    values = (rng.standard_normal(shape) * deviation).astype(np.float32)
    if not ordinary:
        edges = np.array([0, -0.0, TINY, -TINY, 1e-40, 88, -200, 1e20, -HUGE, np.nan, np.inf], np.float32)
        values = np.where(rng.random(shape) < 0.02, rng.choice(edges, shape), values)
    return values


def change_constant(rng: np.random.Generator, weights: dict[str, Array]) -> str:
    """Change a constant's shape, type or content; returns what was changed."""
    changes = ("longer", "shorter", "axis", "flat", "scalar", "empty", "type", "turned", "value", "column")
    change = changes[rng.integers(len(changes))]
    # w may have any number of rows: with a column of it at the bound the node can still be sound.
    key = "w" if change == "column" else list(weights)[rng.integers(len(weights))]
    array = weights[key]
    axis = int(rng.integers(max(1, array.ndim)))
    if array.size == 0 or array.ndim == 0 or (change in {"value", "column"} and array.dtype == np.uint8):
        change = "type"
    elif change == "longer":
        array = np.concatenate([array, np.take(array, [0], axis)], axis)
    elif change == "shorter":
        array = np.delete(array, -1, axis)
    elif change in {"axis", "flat", "scalar", "empty", "turned"}:
        changed = {"axis": array[None], "flat": array.reshape(-1), "scalar": array.reshape(-1)[0].reshape(())}
        array = (changed | {"empty": np.take(array, [], axis), "turned": array.T})[change]
    elif change == "value":
        array = array.copy()
        edges: tuple[float, ...] = (0.0, -1.0, np.nan, np.inf, -np.inf, TINY)
        if array.dtype.kind == "i":
            least = int(np.iinfo(array.dtype).min)
            edges = (least, -1 - least, *(() if array.dtype == np.int8 else (-1, 0, 1, 2**18, 2**18 + 1)))
        array.reshape(-1)[rng.integers(array.size)] = edges[rng.integers(len(edges))]
    elif change == "column" and array.dtype == np.int8 and array.ndim == 2:
        # At the bound on a column's sum, or just past it.
        array = np.resize(np.sign(array) * 127, (1041, array.shape[1])).astype(np.int8)
        array[-1] = rng.choice((24, 25, -24, -25))
    if change == "type":
        array = array.astype(rng.choice([np.float32, np.float64, np.int8, np.uint8, np.int32, np.float16]))
    weights[key] = array
    return f"{key}: {change}"


def changed_input(rng: np.random.Generator, array: Array) -> Array:
    """Return an input with another size, type or order in memory; or as it is, where it has no element to repeat."""
    axis = int(rng.integers(array.ndim))
    change = rng.choice(["longer", "shorter", "empty", "type", "strided"])
    if change == "type":
        return array.astype(rng.choice([np.float64, np.float16, np.int32, np.int64]))
    if change == "strided":
        return np.asfortranarray(array)
    if change == "empty":
        return np.take(array, [], axis)
    if array.shape[axis] == 0:
        return array
    return (
        np.delete(array, -1, axis) if change == "shorter" else np.concatenate([array, np.take(array, [0], axis)], axis)
    )


def activations(rng: np.random.Generator, shape: tuple[int, ...], ordinary: bool) -> Array:
    """Draw numbers of order one; or, for some rows, ones at the edges of float32 and past it."""
    values = rng.standard_normal(shape).astype(np.float32)
    if ordinary or rng.random() < 0.5:
        return values
    payload = np.array([0x7FC000FF, 0xFFFFFFFF, 0x7F800001], np.uint32).view(np.float32)
    edges = np.array([0, -0.0, TINY, -TINY, 1e-40, 2.0**-100, 1e30, HUGE, -HUGE, np.nan, np.inf, -np.inf], np.float32)
    some = rng.random((*shape[:-1], 1)) < 0.3
    drawn = rng.choice(np.concatenate([edges, payload]), shape)
    return np.where(some & (rng.random(shape) < rng.choice((0.05, 1.0))), drawn, values)
