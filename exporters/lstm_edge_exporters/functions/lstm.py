"""The function bodies of the LSTM cells: docs/operators.md in standard ONNX operators.

The text below is ONNX's own textual syntax. The input projection of all steps is one MatMul outside of the
Scan; the Scan's body is one step of the cell. T steps, B rows, I inputs, H cells, P outputs.
"""

from lstm_edge_exporters.functions.names import DOMAIN, CellVariant
from lstm_edge_exporters.functions.rounding import (
    OPSET,
    matrices_text,
    quantize_constants,
    rounded_product_text,
    step_numbers,
)
from lstm_edge_exporters.functions.storages import Storage

__all__ = ["cell_text"]


def cell_text(variant: CellVariant) -> str:
    """Return the function of one LSTM operator as ONNX text."""
    lines = [
        *_constants(variant),
        *_matmul("zx", "x", "w", variant),
        "zb = Add (zx, b)",
        *(step_numbers() if variant.ragged else ()),
        _scan(variant),
        "y = Squeeze (ys, one)",
    ]
    body = "\n".join(f"  {line}" for line in lines)
    return (
        f'<domain: "{DOMAIN}", opset_import: ["" : {OPSET}]>\n'
        f"{variant.name} ({', '.join(variant.inputs)}) => (y, h_out, c_out)\n{{\n{body}\n}}\n"
    )


def _constants(variant: CellVariant) -> list[str]:
    lines = ["one = Constant <value_ints = [1]> ()"]
    if variant.storage != "float32":
        stored: dict[str, Storage] = {name: variant.storage_of(name) for name in _quantized(variant)}
        lines += [*quantize_constants(), *matrices_text(stored, {"w": 4, "r": 4})]
    if variant.peephole == "diagonal":
        lines.append("p_i, p_f, p_o = Split <axis = 0, num_outputs = 3> (p)")
    if variant.ragged:
        lines.append("zero = Constant <value_float = 0.0> ()")
    return lines


def _quantized(variant: CellVariant) -> list[str]:
    return [name for name in variant.weights if f"{name}_scale" in variant.weights]


def _matmul(result: str, source: str, weight: str, variant: CellVariant) -> list[str]:
    """Lines for ``result = source @ weight``; but for float32, the rows of ``source`` are rounded."""
    if variant.storage != "float32":
        return rounded_product_text(result, source, weight, storage=variant.storage_of(weight))
    return [f"{result} = MatMul ({source}, {weight})"]


def _scan(variant: CellVariant) -> str:
    """One step: the carried h [1, B, P] and c [1, B, H], and the step's input part z [B, 4H]."""
    scanned = ["float[B, G] z"] + (["int64 t"] if variant.ragged else [])
    steps = "\n".join(f"      {line}" for line in _step(variant))
    arguments = ["h", "c", "zb"] + (["numbers"] if variant.ragged else [])
    return (
        f"h_out, c_out, ys = Scan <num_scan_inputs = {len(scanned)}, body = cell "
        f"(float[D, B, P] h_prev, float[D, B, H] c_prev, {', '.join(scanned)}) => "
        f"(float[D, B, P] h_next, float[D, B, H] c_next, float[D, B, P] y_step) {{\n{steps}\n    }}> "
        f"({', '.join(arguments)})"
    )


def _step(variant: CellVariant) -> list[str]:
    gates = [
        *_matmul("zh", "h_prev", "r", variant),
        "zs = Add (z, zh)",
        "z_i, z_f, z_g, z_o = Split <axis = -1, num_outputs = 4> (zs)",
        *_early_peephole(variant),
        "i = Sigmoid (a_i)",
        "f = Sigmoid (a_f)",
        "g = Tanh (a_g)",
        "kept = Mul (f, c_prev)",
        "added = Mul (i, g)",
        "c_new = Add (kept, added)",
        *_late_peephole(variant),
        "o = Sigmoid (a_o)",
        "squashed = Tanh (c_new)",
    ]
    if variant.projected:
        gates += ["m = Mul (o, squashed)", *_matmul("h_new", "m", "v", variant)]
    else:
        gates += ["h_new = Mul (o, squashed)"]
    return gates + (_masked() if variant.ragged else _copied())


def _early_peephole(variant: CellVariant) -> list[str]:
    """The terms of c[t-1] in the input gate, the forget gate and the candidate."""
    if variant.peephole == "none":
        return ["a_i = Identity (z_i)", "a_f = Identity (z_f)", "a_g = Identity (z_g)"]
    if variant.peephole == "diagonal":
        return [
            "c_i = Mul (p_i, c_prev)",
            "c_f = Mul (p_f, c_prev)",
            "a_i = Add (z_i, c_i)",
            "a_f = Add (z_f, c_f)",
            "a_g = Identity (z_g)",
        ]
    return [
        *_matmul("zc", "c_prev", "p", variant),
        "c_i, c_f, c_g = Split <axis = -1, num_outputs = 3> (zc)",
        "a_i = Add (z_i, c_i)",
        "a_f = Add (z_f, c_f)",
        "a_g = Add (z_g, c_g)",
    ]


def _late_peephole(variant: CellVariant) -> list[str]:
    """The term of c[t] in the output gate."""
    if variant.peephole == "none":
        return ["a_o = Identity (z_o)"]
    if variant.peephole == "diagonal":
        return ["c_o = Mul (p_o, c_new)", "a_o = Add (z_o, c_o)"]
    return [*_matmul("c_o", "c_new", "po", variant), "a_o = Add (z_o, c_o)"]


def _copied() -> list[str]:
    return ["h_next = Identity (h_new)", "c_next = Identity (c_new)", "y_step = Identity (h_new)"]


def _masked() -> list[str]:
    """Past a row's length the state stays as it was and the output is zero."""
    return [
        "inside = Less (t, lengths)",
        "valid = Unsqueeze (inside, one)",
        "h_next = Where (valid, h_new, h_prev)",
        "c_next = Where (valid, c_new, c_prev)",
        "y_step = Where (valid, h_new, zero)",
    ]
