"""The function bodies of the GRU cells: docs/operators.md in standard ONNX operators.

ONNX's own textual syntax, as in ``lstm.py``. The input projection of all steps is one MatMul outside of the Scan; the
Scan's body is one step of the cell. T steps, B rows, I inputs, H cells; gates r z n.
"""

from lstm_edge_exporters.functions.names import DOMAIN, GruVariant
from lstm_edge_exporters.functions.rounding import (
    OPSET,
    matrices_text,
    quantize_constants,
    rounded_product_text,
    step_numbers,
)

__all__ = ["gru_text"]


def gru_text(variant: GruVariant) -> str:
    """Return the function of one GRU operator as ONNX text."""
    lines = [
        *_constants(variant),
        *rounded_product_text("zx", "x", "w", storage=variant.storage_of("w")),
        "zb = Add (zx, b)",
        *(step_numbers() if variant.ragged else ()),
        _scan(variant),
        "y = Squeeze (ys, one)",
    ]
    body = "\n".join(f"  {line}" for line in lines)
    return (
        f'<domain: "{DOMAIN}", opset_import: ["" : {OPSET}]>\n'
        f"{variant.name} ({', '.join(variant.inputs)}) => (y, h_out)\n{{\n{body}\n}}\n"
    )


def _constants(variant: GruVariant) -> list[str]:
    lines = [
        "one = Constant <value_ints = [1]> ()",
        "unit = Constant <value_float = 1.0> ()",
        *quantize_constants(),
        *matrices_text({"w": variant.storage_of("w"), "r": variant.storage}, {"w": 3, "r": 3}),
    ]
    if not variant.reset_after:
        lines += _split_recurrent(variant)
    if variant.ragged:
        lines.append("zero = Constant <value_float = 0.0> ()")
    return lines


def _split_recurrent(variant: GruVariant) -> list[str]:
    """The columns of r in two parts, which see different rows: those of r and z see h, those of n see r ⊙ h."""
    rows = "Identity (r_rows)" if variant.storage == "sparse_int8" else "Shape <start = 0, end = 1> (r)"
    lines = [
        f"hidden = {rows}",
        "two_hidden = Add (hidden, hidden)",
        "parts = Concat <axis = 0> (two_hidden, hidden)",
    ]
    if variant.storage == "int4":
        return [
            *lines,
            "r_rz_blocks, r_n_blocks = Split <axis = -1> (r_blocks, parts)",
            "r_rz_scale_block, r_n_scale_block = Split <axis = -1> (r_scale_block, parts)",
        ]
    return [
        *lines,
        "r_rz_float, r_n_float = Split <axis = -1> (r_float, parts)",
        "r_rz_scale, r_n_scale = Split <axis = -1> (r_scale, parts)",
    ]


def _scan(variant: GruVariant) -> str:
    """One step: the carried h [1, B, H], and the step's input part z [B, 3H]."""
    scanned = ["float[B, G] z"] + (["int64 t"] if variant.ragged else [])
    steps = "\n".join(f"      {line}" for line in _step(variant))
    arguments = ["h", "zb"] + (["numbers"] if variant.ragged else [])
    return (
        f"h_out, ys = Scan <num_scan_inputs = {len(scanned)}, body = cell "
        f"(float[D, B, H] h_prev, {', '.join(scanned)}) => "
        f"(float[D, B, H] h_next, float[D, B, H] y_step) {{\n{steps}\n    }}> "
        f"({', '.join(arguments)})"
    )


def _step(variant: GruVariant) -> list[str]:
    lines = [
        "x_r, x_z, x_n = Split <axis = -1, num_outputs = 3> (z)",
        *(_products(variant)),
        "n = Tanh (a_n)",
        "share = Sub (unit, update)",
        "added = Mul (share, n)",
        "kept = Mul (update, h_prev)",
        "h_new = Add (added, kept)",
    ]
    if not variant.ragged:
        return [*lines, "h_next = Identity (h_new)", "y_step = Identity (h_new)"]
    return [
        *lines,
        "inside = Less (t, lengths)",
        "valid = Unsqueeze (inside, one)",
        "h_next = Where (valid, h_new, h_prev)",
        "y_step = Where (valid, h_new, zero)",
    ]


def _products(variant: GruVariant) -> list[str]:
    """The gates r and z, and the candidate's sum a_n, whose recurrent part the reset gate scales."""
    gates = [
        "a_r = Add (x_r, h_r)",
        "a_z = Add (x_z, h_z)",
        "reset = Sigmoid (a_r)",
        "update = Sigmoid (a_z)",
    ]
    if variant.reset_after:
        return [
            *rounded_product_text("zh", "h_prev", "r", storage=variant.storage),
            "h_r, h_z, h_n = Split <axis = -1, num_outputs = 3> (zh)",
            *gates,
            "biased = Add (h_n, rb)",
            "gated = Mul (reset, biased)",
            "a_n = Add (x_n, gated)",
        ]
    return [
        *rounded_product_text("zh", "h_prev", "r_rz", storage=variant.storage, whole="r"),
        "h_r, h_z = Split <axis = -1, num_outputs = 2> (zh)",
        *gates,
        "gated = Mul (reset, h_prev)",
        *rounded_product_text("h_n", "gated", "r_n", storage=variant.storage, whole="r"),
        "a_n = Add (x_n, h_n)",
    ]
