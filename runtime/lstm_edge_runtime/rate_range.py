"""The rates at which ``bench`` can start calls; imports nothing heavy."""

from lstm_edge_runtime.errors import InputError

__all__ = ["check_rate"]


def check_rate(rate_hz: float) -> None:
    """Refuse a rate that nothing can keep, or at which the first call would start after a quarter of an hour.

    Raises:
        InputError: it is not a number from 0.001 to 1,000,000.
    """
    if isinstance(rate_hz, bool) or not isinstance(rate_hz, int | float) or not 0.001 <= rate_hz <= 1e6:
        raise InputError(f"rate_hz is {rate_hz!r}, expected calls per second, from 0.001 to 1,000,000")
