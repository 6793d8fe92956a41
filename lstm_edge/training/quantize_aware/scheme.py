"""Schemes of quantization-aware training: int8, and int4 in blocks, symmetric or with zero points."""

from typing import TYPE_CHECKING

from lstm_edge_runtime.errors import InputError, QuantizationError

if TYPE_CHECKING:
    from lstm_edge_exporters.quantize.rounding import Scheme

__all__ = ["parse_scheme"]


def parse_scheme(text: str) -> "Scheme":
    """Return the scheme of ``int8``, ``int4`` (``int4:128``), ``int4:32``, ``int4:32:zero`` or ``int4:128:zero``.

    Raises:
        InputError: the text is not a scheme, or its products are computed in float32.
    """
    from lstm_edge_exporters.quantize.rounding import Scheme

    expected = "expected int8, int4:32, int4:128 (or int4), int4:32:zero or int4:128:zero"
    try:
        scheme = Scheme.parse(text)
    except QuantizationError as error:
        raise InputError(f"training: quantize_aware is {text!r}, {expected}") from error
    if scheme.kind not in ("int8", "int4"):
        raise InputError(f"training: quantize_aware is {text!r}, whose products are float32, {expected}")
    return scheme
