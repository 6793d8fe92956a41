"""The function bodies of the quantized linear layers: docs/operators.md in standard ONNX operators."""

from lstm_edge_exporters.functions.names import DOMAIN, LINEAR_INT4, LINEAR_INT8
from lstm_edge_exporters.functions.rounding import (
    OPSET,
    int4_constants,
    product_text,
    quantize_constants,
    quantize_text,
    unpack_text,
)

__all__ = ["LINEAR_INPUTS", "linear_text"]

LINEAR_INPUTS = {LINEAR_INT8: ("x", "w", "w_scale", "b"), LINEAR_INT4: ("x", "w", "w_scale", "w_zero", "b")}


def linear_text(name: str) -> str:
    """Return the function of a linear layer as ONNX text: y = x × w + b over the last axis, rows rounded to int8."""
    if name == LINEAR_INT8:
        product = [
            "w_float = Cast <to = 1> (w)",
            "sum = MatMul (x_q, w_float)",
            "row = Mul (sum, x_s)",
            "z = Mul (row, w_scale)",
        ]
    else:
        product = [*int4_constants(), *unpack_text("w"), *product_text("z", "x", "w")]
    lines = [*quantize_constants(), *quantize_text("x", "x"), *product, "y = Add (z, b)"]
    body = "\n".join(f"  {line}" for line in lines)
    return (
        f'<domain: "{DOMAIN}", opset_import: ["" : {OPSET}]>\n'
        f"{name} ({', '.join(LINEAR_INPUTS[name])}) => (y)\n{{\n{body}\n}}\n"
    )
