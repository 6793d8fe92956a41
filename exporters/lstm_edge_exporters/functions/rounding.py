"""The building blocks of function bodies: rounding rows of activations, matrices in their storages, counting steps.

ONNX's own textual syntax, as in ``lstm.py``; docs/operators.md, "The arithmetic", is what these lines say.
"""

from collections.abc import Mapping

from lstm_edge_exporters.functions.storages import BLOCK_COLUMNS, BLOCK_ROWS, Storage

__all__ = [
    "OPSET",
    "int4_constants",
    "matrices_text",
    "product_text",
    "quantize_constants",
    "quantize_text",
    "rounded_product_text",
    "step_numbers",
    "unpack_text",
]

# The oldest opset whose ReduceMax takes its axes as an input and whose Split takes a number of outputs.
OPSET = 18

# Smallest magnitude that a row's scale is made from: 2**-100.
SMALLEST_AMAX = 2.0**-100


def quantize_text(prefix: str, source: str) -> list[str]:
    """Return lines that round the rows of ``source`` to int8 values ``{prefix}_q`` with ``{prefix}_s`` as their scale.

    q = round(x · (127 / m)), s = m / 127 with m = max(max|x|, 2**-100) over the last axis, half to even.
    """
    return [
        f"{prefix}_abs = Abs ({source})",
        f"{prefix}_amax = ReduceMax <keepdims = 1> ({prefix}_abs, last)",
        f"{prefix}_m = Max ({prefix}_amax, smallest)",
        f"{prefix}_inv = Div (levels, {prefix}_m)",
        f"{prefix}_scaled = Mul ({source}, {prefix}_inv)",
        f"{prefix}_q = Round ({prefix}_scaled)",
        f"{prefix}_s = Div ({prefix}_m, levels)",
    ]


def quantize_constants() -> list[str]:
    """Return the constants that ``quantize_text`` refers to."""
    return [
        "last = Constant <value_ints = [-1]> ()",
        "levels = Constant <value_float = 127.0> ()",
        f"smallest = Constant <value_float = {SMALLEST_AMAX!r}> ()",
    ]


def step_numbers() -> list[str]:
    """Return lines for ``numbers``: 0, 1, ... for the steps of ``x``, to compare with the lengths of rows."""
    return [
        "first = Constant <value_int = 0> ()",
        "next = Constant <value_int = 1> ()",
        "axis0 = Constant <value_ints = [0]> ()",
        "x_steps = Shape <start = 0, end = 1> (x)",
        "count = Squeeze (x_steps, axis0)",
        "numbers = Range (first, count, next)",
    ]


def matrices_text(matrices: Mapping[str, Storage], gates: Mapping[str, int]) -> list[str]:
    """Return lines that make matrices what ``rounded_product_text`` takes, all of them constant.

    Args:
        matrices: the storage of each matrix by its name.
        gates: of how many gates the columns of a sparse one are.
    """
    storages = set(matrices.values())
    lines = int4_constants() if "int4" in storages else []
    if "sparse_int8" in storages:
        lines += _sparse_constants()
    for name, storage in matrices.items():
        if storage == "int8":
            lines.append(f"{name}_float = Cast <to = 1> ({name})")
        elif storage == "int4":
            lines += unpack_text(name)
        elif storage == "sparse_int8":
            lines += _scatter_text(name, gates[name])
    return lines


def _sparse_constants() -> list[str]:
    """Return the constants that ``_scatter_text`` refers to."""
    return [
        "column_axis = Constant <value_ints = [1]> ()",
        "matrix_axes = Constant <value_ints = [0, 2]> ()",
        "from_start = Constant <value_ints = [0, 0]> ()",
        "remaining = Constant <value_ints = [-1]> ()",
        f"block_rows = Constant <value_ints = [{BLOCK_ROWS}]> ()",
        f"rows_up = Constant <value_ints = [{BLOCK_ROWS - 1}]> ()",
        f"block_columns = Constant <value_ints = [{BLOCK_COLUMNS}]> ()",
        f"columns_up = Constant <value_ints = [{BLOCK_COLUMNS - 1}]> ()",
        "no_weight_long = Constant <value_ints = [0]> ()",
        "no_weight = Cast <to = 3> (no_weight_long)",
    ]


def _scatter_text(weight: str, gates: int) -> list[str]:
    """Return lines that put the blocks of ``weight`` into ``{weight}_float`` [K, N]; the rest of it is zero.

    Blocks [n, 4, 16] go to [gates · columns of blocks a gate · rows of blocks, 4, 16] by their numbers; that is
    transposed to rows and columns, and what is past K and past the gates' cells is cut off.
    """
    w = weight
    return [
        f"{w}_gates = Constant <value_ints = [{gates}]> ()",
        f"{w}_columns = Shape <start = 0, end = 1> ({w}_scale)",
        f"{w}_cells = Div ({w}_columns, {w}_gates)",
        f"{w}_cells_up = Add ({w}_cells, columns_up)",
        f"{w}_per_gate = Div ({w}_cells_up, block_columns)",
        f"{w}_rows_up = Add ({w}_rows, rows_up)",
        f"{w}_height = Div ({w}_rows_up, block_rows)",
        f"{w}_by_gate = Mul ({w}_gates, {w}_per_gate)",
        f"{w}_places = Mul ({w}_by_gate, {w}_height)",
        f"{w}_blank_shape = Concat <axis = 0> ({w}_places, block_rows, block_columns)",
        f"{w}_blank = Expand (no_weight, {w}_blank_shape)",
        f"{w}_number = Cast <to = 7> ({w}_index)",
        f"{w}_numbers = Unsqueeze ({w}_number, column_axis)",
        f"{w}_all = ScatterND ({w}_blank, {w}_numbers, {w})",
        f"{w}_split = Concat <axis = 0> ({w}_gates, {w}_per_gate, {w}_height, block_rows, block_columns)",
        f"{w}_blocks = Reshape ({w}_all, {w}_split)",
        f"{w}_ordered = Transpose <perm = [2, 3, 0, 1, 4]> ({w}_blocks)",
        f"{w}_padded_rows = Mul ({w}_height, block_rows)",
        f"{w}_merged = Concat <axis = 0> ({w}_padded_rows, {w}_gates, remaining)",
        f"{w}_wide = Reshape ({w}_ordered, {w}_merged)",
        f"{w}_ends = Concat <axis = 0> ({w}_rows, {w}_cells)",
        f"{w}_cut = Slice ({w}_wide, from_start, {w}_ends, matrix_axes)",
        f"{w}_shape = Concat <axis = 0> ({w}_rows, {w}_columns)",
        f"{w}_dense = Reshape ({w}_cut, {w}_shape)",
        f"{w}_float = Cast <to = 1> ({w}_dense)",
    ]


def int4_constants() -> list[str]:
    """Return the constants that ``unpack_text`` and ``product_text`` refer to."""
    return [
        "axis_0 = Constant <value_ints = [0]> ()",
        "axis_1 = Constant <value_ints = [1]> ()",
        "axis_2 = Constant <value_ints = [2]> ()",
        "open = Constant <value_ints = [-1]> ()",
        "two_zeros = Constant <value_ints = [0, 0]> ()",
        "three_zeros = Constant <value_ints = [0, 0, 0]> ()",
        "copied_open = Constant <value_ints = [0, -1]> ()",
        "thirty_one = Constant <value_ints = [31]> ()",
        "block_32 = Constant <value_ints = [32]> ()",
        "block_128 = Constant <value_ints = [128]> ()",
        "fifteen_long = Constant <value_int = 15> ()",
        "fifteen = Cast <to = 2> (fifteen_long)",
        "four_long = Constant <value_int = 4> ()",
        "four = Cast <to = 2> (four_long)",
    ]


def unpack_text(weight: str) -> list[str]:
    """Return lines that turn the nibbles of ``weight`` into ``{weight}_blocks`` float32 [blocks, block, N].

    All of it is constant: onnxruntime does it once, when it opens the file. The weights stay bytes as long as they can,
    since every step of the way is a copy in memory.
    """
    w = weight
    return [
        f"{w}_low = BitwiseAnd ({w}, fifteen)",
        f'{w}_high = BitShift <direction = "RIGHT"> ({w}, four)',
        f"{w}_low_column = Unsqueeze ({w}_low, axis_2)",
        f"{w}_high_column = Unsqueeze ({w}_high, axis_2)",
        f"{w}_pairs = Concat <axis = 2> ({w}_low_column, {w}_high_column)",
        f"{w}_wide = Reshape ({w}_pairs, copied_open)",
        f"{w}_columns = Shape <start = 1, end = 2> ({w}_scale)",
        f"{w}_all = Slice ({w}_wide, axis_0, {w}_columns, axis_1)",
        f"{w}_k = Shape <start = 0, end = 1> ({w})",
        f"{w}_count = Shape <start = 0, end = 1> ({w}_scale)",
        f"{w}_rounded_up = Add ({w}_k, thirty_one)",
        f"{w}_if_32 = Div ({w}_rounded_up, block_32)",
        f"{w}_is_32 = Equal ({w}_count, {w}_if_32)",
        f"{w}_block = Where ({w}_is_32, block_32, block_128)",
        f"{w}_whole = Mul ({w}_count, {w}_block)",
        f"{w}_pad = Sub ({w}_whole, {w}_k)",
        f"{w}_pad_rows = Concat <axis = 0> (two_zeros, {w}_pad, axis_0)",
        f"{w}_padded = Pad ({w}_all, {w}_pad_rows)",
        f"{w}_shape = Concat <axis = 0> ({w}_count, {w}_block, open)",
        f"{w}_shaped = Reshape ({w}_padded, {w}_shape)",
        f"{w}_float = Cast <to = 1> ({w}_shaped)",
        f"{w}_zero_float = Cast <to = 1> ({w}_zero)",
        f"{w}_zero_block = Unsqueeze ({w}_zero_float, axis_1)",
        f"{w}_blocks = Sub ({w}_float, {w}_zero_block)",
        f"{w}_scale_block = Unsqueeze ({w}_scale, axis_1)",
        f"{w}_row_shape = Concat <axis = 0> (open, {w}_k)",
        f"{w}_pad_columns = Concat <axis = 0> (three_zeros, {w}_pad)",
        f"{w}_block_shape = Concat <axis = 0> (open, {w}_count, {w}_block)",
    ]


def rounded_product_text(
    result: str, source: str, weight: str, *, storage: Storage, whole: str | None = None
) -> list[str]:
    """Return lines for ``result`` = ``source`` × ``weight``: the rows are rounded, the product is summed and scaled.

    The weight is given as ``{weight}_float`` and ``{weight}_scale`` (int8, sparse int8), or as ``unpack_text`` leaves
    it (int4); ``whole`` is as in ``product_text``.
    """
    if storage == "int4":
        return [*quantize_text(source, source), *product_text(result, source, weight, whole)]
    return [
        *quantize_text(source, source),
        f"{result}_sum = MatMul ({source}_q, {weight}_float)",
        f"{result}_row = Mul ({result}_sum, {source}_s)",
        f"{result} = Mul ({result}_row, {weight}_scale)",
    ]


def product_text(result: str, source: str, weight: str, whole: str | None = None) -> list[str]:
    """Return lines for ``result`` [..., N]: rounded rows of ``source`` times the unpacked ``weight``, by blocks.

    ``whole`` is the matrix that ``weight`` holds some columns of, where it is not the unpacked one itself: it has the
    same rows, so its shapes are taken.
    """
    r, w, k = result, weight, whole or weight
    return [
        f"{r}_rows = Reshape ({source}_q, {k}_row_shape)",
        f"{r}_padded = Pad ({r}_rows, {k}_pad_columns)",
        f"{r}_parts = Reshape ({r}_padded, {k}_block_shape)",
        f"{r}_by_block = Transpose <perm = [1, 0, 2]> ({r}_parts)",
        f"{r}_sums = MatMul ({r}_by_block, {w}_blocks)",
        f"{r}_scaled = Mul ({r}_sums, {w}_scale_block)",
        f"{r}_total = ReduceSum <keepdims = 0> ({r}_scaled, axis_0)",
        f"{r}_lead = Shape <start = 0, end = -1> ({source})",
        f"{r}_shape = Concat <axis = 0> ({r}_lead, open)",
        f"{r}_back = Reshape ({r}_total, {r}_shape)",
        f"{r} = Mul ({r}_back, {source}_s)",
    ]
