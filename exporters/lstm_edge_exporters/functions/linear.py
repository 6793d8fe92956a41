"""The function body of ``LinearInt8V1``: docs/operators.md in standard ONNX operators."""

from lstm_edge_exporters.functions.lstm import OPSET, quantize_constants, quantize_text
from lstm_edge_exporters.functions.names import DOMAIN, LINEAR_INT8

__all__ = ["LINEAR_INPUTS", "linear_text"]

LINEAR_INPUTS = ("x", "w", "w_scale", "b")


def linear_text() -> str:
    """Return the function of the int8 linear layer as ONNX text: y = (q_x · W) · s_x · s_w + b over the last axis."""
    lines = [
        *quantize_constants(),
        "w_float = Cast <to = 1> (w)",
        *quantize_text("x", "x"),
        "sum = MatMul (x_q, w_float)",
        "row = Mul (sum, x_s)",
        "scaled = Mul (row, w_scale)",
        "y = Add (scaled, b)",
    ]
    body = "\n".join(f"  {line}" for line in lines)
    return (
        f'<domain: "{DOMAIN}", opset_import: ["" : {OPSET}]>\n'
        f"{LINEAR_INT8} ({', '.join(LINEAR_INPUTS)}) => (y)\n{{\n{body}\n}}\n"
    )
