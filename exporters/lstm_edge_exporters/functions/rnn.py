"""The function bodies of the RNN cells: docs/operators.md in standard ONNX operators.

ONNX's own textual syntax, as in ``lstm.py``. The input projection of all steps is one MatMul outside of the Scan; the
Scan's body is one step of the cell. T steps, B rows, I inputs, H cells.
"""

from lstm_edge_exporters.functions.names import DOMAIN, RnnVariant
from lstm_edge_exporters.functions.rounding import (
    OPSET,
    matrices_text,
    quantize_constants,
    rounded_product_text,
    step_numbers,
)

__all__ = ["rnn_text"]


def rnn_text(variant: RnnVariant) -> str:
    """Return the function of one RNN operator as ONNX text."""
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


def _constants(variant: RnnVariant) -> list[str]:
    stored = matrices_text({"w": variant.storage_of("w"), "r": variant.storage}, {"w": 1, "r": 1})
    lines = ["one = Constant <value_ints = [1]> ()", *quantize_constants(), *stored]
    if variant.relu or variant.ragged:
        lines.append("zero = Constant <value_float = 0.0> ()")
    return lines


def _scan(variant: RnnVariant) -> str:
    """One step: the carried h [1, B, H], and the step's input part z [B, H]."""
    scanned = ["float[B, H] z"] + (["int64 t"] if variant.ragged else [])
    steps = "\n".join(f"      {line}" for line in _step(variant))
    arguments = ["h", "zb"] + (["numbers"] if variant.ragged else [])
    return (
        f"h_out, ys = Scan <num_scan_inputs = {len(scanned)}, body = cell "
        f"(float[D, B, H] h_prev, {', '.join(scanned)}) => "
        f"(float[D, B, H] h_next, float[D, B, H] y_step) {{\n{steps}\n    }}> "
        f"({', '.join(arguments)})"
    )


def _step(variant: RnnVariant) -> list[str]:
    lines = [*rounded_product_text("zh", "h_prev", "r", storage=variant.storage), "a = Add (z, zh)"]
    if variant.relu:
        # ONNX's Relu says nothing of NaN and of minus zero; the operator does.
        lines += ["below = LessOrEqual (a, zero)", "h_new = Where (below, zero, a)"]
    else:
        lines.append("h_new = Tanh (a)")
    if not variant.ragged:
        return [*lines, "h_next = Identity (h_new)", "y_step = Identity (h_new)"]
    return [
        *lines,
        "inside = Less (t, lengths)",
        "valid = Unsqueeze (inside, one)",
        "h_next = Where (valid, h_new, h_prev)",
        "y_step = Where (valid, h_new, zero)",
    ]
