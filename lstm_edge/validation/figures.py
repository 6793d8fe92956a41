"""Values of a metric as reports print them: a share in percent, a difference of two shares in percentage points."""

__all__ = ["difference_text", "value_text"]


def value_text(value: float, unit: str) -> str:
    """Return a value of a metric: a share as ``94.32%``, other values with their unit.

    Args:
        value: in the metric's unit; a share is 0 to 1.
        unit: the metric's; ``"share"`` for a share.
    """
    return f"{value:.2%}" if unit == "share" else f"{value:.4g} {unit}".rstrip()


def difference_text(value: float, unit: str) -> str:
    """Return a difference of two values, such as a drop: of shares in points as ``0.33 pt``, others with their unit.

    A percentage would be taken for one of the reference's value, as ``--max-drop 1%`` is.
    """
    return f"{100 * value:.3g} pt" if unit == "share" else value_text(value, unit)
