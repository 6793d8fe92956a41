"""docs/operators.md as a check of a node's constants and inputs, written apart from the kernels."""

from collections.abc import Mapping

import numpy as np
from kernel_cases import Array

from lstm_edge_exporters.functions.names import Variant, parse_cell_name, parse_gru_name, parse_rnn_name

__all__ = ["constants_of", "inputs_of", "sizes_of", "storage_of", "wrong_constants", "wrong_feeds"]

# An axis of a constant has fewer elements than this; so do a call's rows. A call has fewer steps than the second.
MOST_ELEMENTS, MOST_STEPS = 2**24, 2**30
LARGEST_COLUMN_SUM = 132_104
MOST_SPARSE_ROWS = 2**18
# Gates of a recurrent operator, by the first letter of its name.
GATES = {"L": 4, "G": 3, "R": 1}


def _variant(name: str) -> Variant | None:
    return parse_cell_name(name) or parse_gru_name(name) or parse_rnn_name(name)


def constants_of(name: str) -> tuple[str, ...]:
    """Return the names of an operator's constant inputs, in order."""
    variant = _variant(name)
    if variant is not None:
        return variant.weights
    return ("w", "w_scale", *(("w_zero",) if "Int4" in name else ()), "b")


def inputs_of(name: str) -> tuple[str, ...]:
    """Return the names of all of an operator's inputs, in order."""
    variant = _variant(name)
    return ("x", *constants_of(name)) if variant is None else variant.inputs


def storage_of(name: str, key: str) -> str:
    """Return how an operator stores a constant; ``""`` for one that only belongs to a matrix."""
    variant = _variant(name)
    if "_" in key:
        return ""
    if variant is None:
        return ("int4" if "Int4" in name else "int8") if key == "w" else "float32"
    return variant.storage_of(key) if variant.is_quantized(key) else "float32"


def rows_of(name: str, key: str, weights: Mapping[str, Array]) -> int:
    """Return the rows of a matrix, which a sparse one says by a constant of its own."""
    return int(weights[f"{key}_rows"][0] if storage_of(name, key) == "sparse_int8" else weights[key].shape[0])


def sizes_of(name: str, weights: Mapping[str, Array]) -> tuple[int, int, int]:
    """Return I, H and P (K, N, N of a linear operator) of constants that are right."""
    inputs, columns = rows_of(name, "w", weights), weights["b"].shape[0]
    if name.startswith("Linear"):
        return inputs, columns, columns
    hidden = columns // GATES[name[0]]
    return inputs, hidden, rows_of(name, "r", weights)


def wrong_constants(name: str, weights: Mapping[str, Array]) -> str:
    """Return the first thing about an operator's constants that docs/operators.md does not allow, or ""."""
    kinds = {"int8": np.int8, "int4": np.uint8, "float32": np.float32, "sparse_int8": np.int8}
    behind = {"scale": np.float32, "zero": np.uint8, "index": np.int32, "rows": np.int64}
    for key in constants_of(name):
        array, storage = weights[key], storage_of(name, key)
        if array.dtype != (kinds[storage] if storage else behind[key.split("_")[1]]):
            return f"{key} is {array.dtype}"
        if array.ndim == 0 or min(array.shape) < 1 or max(array.shape) >= MOST_ELEMENTS:
            return f"{key} has shape {array.shape}"
        if key.endswith("_scale") and not (np.isfinite(array) & (array > 0)).all():
            return f"{key} is not positive"
        if storage in {"int8", "sparse_int8"} and (array == -128).any():
            return f"{key} holds -128"
        magnitudes = np.abs(array.astype(np.int64)) if storage == "int8" and array.ndim == 2 else np.zeros((1, 1))
        if magnitudes.sum(axis=0).max() > LARGEST_COLUMN_SUM:
            return f"{key} has a column that is too large"
        if key.endswith("_rows") and (array.shape != (1,) or not 1 <= array[0] <= MOST_SPARSE_ROWS):
            return f"{key} is {array}"
    return _wrong_shapes(name, weights)


def _wrong_shapes(name: str, weights: Mapping[str, Array]) -> str:
    """Compare each shape with the sizes that ``w``, ``b`` and ``r`` give."""
    matrices = ("w",) if name.startswith("Linear") else ("w", "r")
    axes = {key: 3 if storage_of(name, key) == "sparse_int8" else 2 for key in matrices} | {"b": 1}
    if any(weights[key].ndim != count for key, count in axes.items()):
        return "w, r or b has other axes"
    inputs, columns = rows_of(name, "w", weights), weights["b"].shape[0]
    if name.startswith("Linear"):
        return _wrong_matrix("w", weights, (inputs, columns), storage_of(name, "w"), 1)
    gates = GATES[name[0]]
    _, hidden, outputs = sizes_of(name, weights)
    if columns % gates:
        return "the columns are no gates"
    if "Projected" not in name and outputs != hidden:
        return "r has other rows"
    wanted = {"w": (inputs, columns), "r": (outputs, columns), "b": (columns,), "rb": (hidden,)}
    wanted |= {"p": (3, hidden) if "Diagonal" in name else (hidden, 3 * hidden), "po": (hidden, hidden)}
    wanted |= {"v": (hidden, outputs)}
    for key in (key for key in constants_of(name) if key in wanted):
        if wrong := _wrong_matrix(key, weights, wanted[key], storage_of(name, key), gates):
            return wrong
    return ""


def _wrong_matrix(key: str, weights: Mapping[str, Array], shape: tuple[int, ...], storage: str, gates: int) -> str:
    if storage == "float32":
        return "" if weights[key].shape == shape else f"{key} has shape {weights[key].shape}"
    rows, columns = shape
    scale = weights[f"{key}_scale"]
    if storage == "sparse_int8":
        if scale.shape != (columns,):
            return f"{key}_scale has shape {scale.shape}"
        return _wrong_blocks(key, weights, rows, gates, columns // gates)
    stored = (rows, (columns + 1) // 2) if storage == "int4" else shape
    if weights[key].shape != stored:
        return f"{key} has shape {weights[key].shape}"
    if storage == "int8":
        return "" if scale.shape == (columns,) else f"{key}_scale has shape {scale.shape}"
    if scale.shape not in {(-(-rows // block), columns) for block in (32, 128)}:
        return f"{key}_scale has shape {scale.shape}"
    zero = weights[f"{key}_zero"].shape
    return "" if zero in {(1, 1), scale.shape} else f"{key}_zero has shape {zero}"


def _wrong_blocks(key: str, weights: Mapping[str, Array], rows: int, gates: int, cells: int) -> str:
    """Check the numbers of blocks one by one, and each weight's place, by the plainest loop."""
    blocks, index = weights[key], weights[f"{key}_index"]
    if blocks.shape[1:] != (4, 16) or index.shape != blocks.shape[:1]:
        return f"{key} has shape {blocks.shape} and its index {index.shape}"
    height, width = -(-rows // 4), -(-cells // 16)
    sums: dict[tuple[int, int], int] = {}
    for place, number in enumerate(index.tolist()):
        if not 0 <= number < gates * width * height or (place and number <= index[place - 1]):
            return f"{key}_index has {number} at {place}"
        for row, lane in np.argwhere(blocks[place]).tolist():
            at = number // height % width * 16 + lane
            if number % height * 4 + row >= rows or at >= cells:
                return f"{key} has a weight outside"
            column = number // height // width, at
            sums[column] = sums.get(column, 0) + abs(int(blocks[place, row, lane]))
    return f"{key} has a column that is too large" if max(sums.values(), default=0) > LARGEST_COLUMN_SUM else ""


def wrong_feeds(name: str, sizes: tuple[int, int, int], feeds: Mapping[str, Array]) -> str:
    """Return what is wrong about the shapes and types of a call's inputs; "" when all is well.

    Lengths outside of 0..T are no error of the kernel's: it reads them as the nearest (Session refuses them).
    """
    inputs, hidden, outputs = sizes
    x = feeds["x"]
    if any(array.dtype != (np.int64 if key == "lengths" else np.float32) for key, array in feeds.items()):
        return "an input is of another type"
    if name.startswith("Linear"):
        return "" if 1 <= x.ndim <= 8 and x.shape[-1] == inputs else f"x has shape {x.shape}"
    if x.ndim != 3 or x.shape[2] != inputs or 0 in x.shape:
        return f"x has shape {x.shape}"
    batch = x.shape[1]
    if x.shape[0] >= MOST_STEPS or batch >= MOST_ELEMENTS:
        return "x has too many steps or rows"
    wanted = {"h": (1, batch, outputs), "c": (1, batch, hidden), "lengths": (batch,)}
    return next(
        (f"{key} has another shape" for key, array in feeds.items() if key != "x" and array.shape != wanted[key]), ""
    )
