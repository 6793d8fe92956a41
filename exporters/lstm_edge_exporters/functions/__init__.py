"""The ``lstm_edge::`` operators as model-local functions; ``docs/operators.md`` is normative."""

import functools
import hashlib
from itertools import product

import onnx
import onnx.parser

from lstm_edge_exporters.functions.linear import linear_text
from lstm_edge_exporters.functions.lstm import cell_text
from lstm_edge_exporters.functions.names import DOMAIN, LINEAR_INT8, CellVariant, parse_cell_name

__all__ = ["DOMAIN", "LINEAR_INT8", "CellVariant", "function_digests", "function_for", "parse_cell_name"]


@functools.cache
def _serialized(name: str) -> bytes:
    variant = parse_cell_name(name)
    if variant is None and name != LINEAR_INT8:
        raise KeyError(f"{DOMAIN}::{name} is no operator of this version")
    text = linear_text() if variant is None else cell_text(variant)
    return onnx.parser.parse_function(text).SerializeToString(deterministic=True)


def function_for(name: str) -> onnx.FunctionProto:
    """Return the function of one operator.

    Raises:
        KeyError: the name is no operator of this version.
    """
    function = onnx.FunctionProto()
    function.ParseFromString(_serialized(name))
    return function


def function_digests() -> dict[str, str]:
    """Return the SHA-256 of each operator's function as it stands in a file: the device refuses any other body."""
    variants = (
        CellVariant(peephole=peephole, projected=projected, ragged=ragged, int8=int8)
        for peephole, projected, ragged, int8 in product(("none", "diagonal", "full"), *[(False, True)] * 3)
    )
    names = [variant.name for variant in variants] + [LINEAR_INT8]
    return {name: hashlib.sha256(_serialized(name)).hexdigest() for name in sorted(names)}
