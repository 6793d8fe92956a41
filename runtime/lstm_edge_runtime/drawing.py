"""How tokens are drawn from a language model's probabilities: the options and their ranges; imports nothing heavy."""

import math
from dataclasses import dataclass

from lstm_edge_runtime.errors import InputError

__all__ = ["Drawing", "check_drawing"]


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """Sampling options of a language model: at most ``tokens`` tokens; see ``lstm_edge_runtime.generate.generate``."""

    tokens: int = 200
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_drawing(self.tokens, self.temperature, self.top_k, self.top_p, self.seed)


def check_drawing(tokens: int, temperature: float, top_k: int | None, top_p: float | None, seed: int) -> None:
    """Refuse options of ``generate`` that are out of their range, before a model is opened.

    Raises:
        InputError: an option is out of its range; the message says which and what was expected.
    """
    if tokens < 1:
        raise InputError(f"tokens is {tokens}, expected 1 or more")
    if not (math.isfinite(temperature) and temperature >= 0):
        raise InputError(f"temperature is {temperature}, expected a number, 0 or more")
    if top_k is not None and top_k < 1:
        raise InputError(f"top_k is {top_k}, expected 1 or more")
    if top_p is not None and not 0 < top_p <= 1:
        raise InputError(f"top_p is {top_p}, expected a number above 0 and at most 1")
    if seed < 0:
        raise InputError(f"seed is {seed}, expected 0 or more")
