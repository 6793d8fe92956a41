"""The ``lstm_edge::`` operators as model-local functions; ``docs/operators.md`` is normative.

May import onnx and NumPy; nothing else of the exporters.
"""

import functools
import hashlib

import onnx
import onnx.parser

from lstm_edge_exporters.functions.float32 import (
    Float32Variant,
    all_float32,
    float32_text,
    parse_float32_name,
)
from lstm_edge_exporters.functions.gru import gru_text
from lstm_edge_exporters.functions.linear import LINEAR_INPUTS, linear_text
from lstm_edge_exporters.functions.lstm import cell_text
from lstm_edge_exporters.functions.names import (
    DOMAIN,
    LINEAR_INT4,
    LINEAR_INT8,
    CellVariant,
    GruVariant,
    RnnVariant,
    Variant,
    all_cells,
    all_grus,
    all_rnns,
    parse_cell_name,
    parse_gru_name,
    parse_rnn_name,
)
from lstm_edge_exporters.functions.rnn import rnn_text
from lstm_edge_exporters.functions.rounding import OPSET
from lstm_edge_exporters.functions.storages import Places, Storage, gather_blocks, scatter_blocks, storage_pairs

__all__ = [
    "DOMAIN",
    "LINEAR_INT4",
    "LINEAR_INT8",
    "CellVariant",
    "Float32Variant",
    "GruVariant",
    "Places",
    "RnnVariant",
    "Storage",
    "Variant",
    "all_cells",
    "all_float32",
    "all_grus",
    "all_rnns",
    "function_digests",
    "function_for",
    "gather_blocks",
    "parse_cell_name",
    "parse_float32_name",
    "parse_gru_name",
    "parse_rnn_name",
    "recurrent_node",
    "scatter_blocks",
    "storage_pairs",
]


@functools.cache
def _serialized(name: str) -> bytes:
    cell, gru, rnn = parse_cell_name(name), parse_gru_name(name), parse_rnn_name(name)
    plain = parse_float32_name(name)
    if cell is not None:
        text = cell_text(cell)
    elif gru is not None:
        text = gru_text(gru)
    elif rnn is not None:
        text = rnn_text(rnn)
    elif plain is not None:
        text = float32_text(plain)
    elif name in LINEAR_INPUTS:
        text = linear_text(name)
    else:
        raise KeyError(f"{DOMAIN}::{name} is not an operator of this version")
    data: bytes = onnx.parser.parse_function(text).SerializeToString(deterministic=True)
    return data


def function_for(name: str, opset: int = OPSET) -> onnx.FunctionProto:
    """Return the function of one operator.

    Args:
        name: the operator's name, without the domain.
        opset: the version of ONNX's own operators that the file imports, from 18 on: the function must import it too.
            The bodies mean the same in each of them.

    Raises:
        KeyError: the name is not an operator of this version.
    """
    function = onnx.FunctionProto()
    function.ParseFromString(_serialized(name))
    for entry in function.opset_import:
        entry.version = opset
    return function


def recurrent_node(name: str) -> str:
    """Return the ONNX operator that the function of a recurrent operator runs its steps by: LSTM, GRU or Scan.

    Raises:
        KeyError: the name is not a recurrent operator of this version.
    """
    found = [node.op_type for node in function_for(name).node if node.op_type in ("LSTM", "GRU", "Scan")]
    if len(found) != 1:
        raise KeyError(name)
    return found[0]


def function_digests() -> dict[str, str]:
    """Return the SHA-256 of each operator's function as a file of opset 18 has it: the device refuses another body."""
    variants: tuple[Variant, ...] = (*all_cells(), *all_grus(), *all_rnns())
    names = [*(variant.name for variant in (*variants, *all_float32())), *LINEAR_INPUTS]
    return {name: hashlib.sha256(_serialized(name)).hexdigest() for name in sorted(names)}
