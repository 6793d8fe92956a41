"""Numbers as text: lists of sizes and limits with a suffix in options, and a difference beside its scale."""

import math
import re

from lstm_edge_runtime.errors import InputError

__all__ = ["beside_scale", "check_confidence", "parse_amount", "parse_drop", "parse_shares", "parse_sizes"]

_AMOUNT = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<suffix>[kM]?)", re.ASCII)
_DROP = re.compile(r"(?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d{1,3})?)\s*(?P<unit>pt|%|dB)?", re.ASCII)
_FACTORS = {"": 1.0, "k": 1e3, "M": 1e6}


def parse_sizes(name: str, text: str) -> tuple[int, ...]:
    """Read ``16,32,64``.

    Raises:
        InputError: a part is not an integer.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() and len(part) < 10 for part in parts):
        raise InputError(f"{name} is {text!r}, expected integers separated by commas, such as 16,32,64")
    return tuple(int(part) for part in parts)


def parse_shares(name: str, text: str) -> tuple[float, ...]:
    """Read ``1,0.5,0.33``.

    Raises:
        InputError: a part is not a number above 0 and at most 1.
    """
    try:
        shares = tuple(float(part) for part in text.split(","))
    except ValueError:
        shares = ()
    if not shares or not all(0 < share <= 1 for share in shares):
        raise InputError(f"{name} is {text!r}, expected numbers above 0 and at most 1, such as 1,0.5,0.33")
    return shares


def parse_amount(name: str, text: str) -> float:
    """Read ``100k`` (100,000), ``1.5M`` (1,500,000) or ``50``.

    Raises:
        InputError: the text is none of these, or not above 0.
    """
    match = _AMOUNT.fullmatch(text.strip())
    value = float(match["number"]) * _FACTORS[match["suffix"]] if match else 0.0
    if not 0 < value < float("inf"):
        raise InputError(f"{name} is {text!r}, expected a number above 0, such as 50, 100k (100,000) or 1.5M")
    return value


def parse_drop(text: str) -> tuple[float, str]:
    """Read a budget: ``0.5pt``, ``0.5%``, ``0.5dB`` or ``0.5``.

    Returns:
        The number, and ``"pt"``, ``"%"``, ``"dB"`` or ``""``.

    Raises:
        InputError: the text is none of them.
    """
    match = _DROP.fullmatch(text.strip())
    amount = float(match["number"]) if match else math.nan
    if match is None or not math.isfinite(amount):
        raise InputError(
            f"max_drop is {text!r}, expected a number, 0 or more, and a unit: 0.5pt (points of the metric), 0.5% (of "
            "the reference's value) or 0.5dB; or no unit, for that of the metric"
        )
    return amount, match["unit"] or ""


def check_confidence(confidence: float | None) -> None:
    """Refuse a confidence level that is not above 0 and below 1; None is allowed.

    Raises:
        InputError: it is out of its range.
    """
    if confidence is not None and not 0 < confidence < 1:
        raise InputError(f"confidence is {confidence}, expected a share above 0 and below 1, such as 0.95")


def beside_scale(worst: float, scale: float | None) -> str:
    """Return a difference as a person can judge it: ``0.0099 of up to 2.4 (48 dB below)``.

    Args:
        worst: the greatest absolute difference.
        scale: the greatest absolute value of the output that has it, in its unit; None: not measured.
    """
    if scale is None:
        return f"{worst:.2g}"
    # A candidate may answer infinity, which has no distance in dB; and the quotient may be rounded to 0.
    known = worst > 0 and scale > 0 and math.isfinite(worst) and math.isfinite(scale)
    below = f" ({20 * (math.log10(scale) - math.log10(worst)):.0f} dB below)" if known else ""
    return f"{worst:.2g} of up to {scale:.2g}{below}"
