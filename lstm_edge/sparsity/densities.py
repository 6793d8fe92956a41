"""Densities of W and R, for all gates or for each, and their text form for the command line."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from lstm_edge.sparsity.matrices import Matrix
from lstm_edge.sparsity.schedule import check_density
from lstm_edge_runtime.errors import InputError

__all__ = ["Densities", "Density", "parse_densities"]

# One density for all gates, or one for each gate by its letter.
Density = float | Mapping[str, float]
LETTERS = "ifgorznh"


@dataclass(frozen=True, kw_only=True)
class Densities:
    """The final densities.

    Attributes:
        density: share of the blocks that is kept, above 0 and at most 1. A number is for all gates. A
            mapping has a number for each gate letter of the layers: ``i f g o`` (LSTM), ``r z n`` (GRU), ``h`` (RNN,
            which has one matrix without gates).
        input_density: replaces ``density`` for the matrices on the input, W; None: the same.
        recurrent_density: replaces ``density`` for the recurrent matrices, R; None: the same.

    Raises:
        InputError: a density is out of its range, or a letter is unknown.
    """

    density: Density
    input_density: Density | None = None
    recurrent_density: Density | None = None

    def __post_init__(self) -> None:
        for name in ("density", "input_density", "recurrent_density"):
            value = getattr(self, name)
            if isinstance(value, Mapping):
                if not value or any(not isinstance(key, str) or key not in tuple(LETTERS) for key in value):
                    raise InputError(
                        f"sparsity: {name} has the gates {sorted(map(str, value))}, expected letters of "
                        "i f g o (LSTM), r z n (GRU), h (RNN)"
                    )
                checked = {key: check_density(f"{name} of gate {key}", value[key]) for key in sorted(value)}
                object.__setattr__(self, name, checked)
            elif value is not None:
                object.__setattr__(self, name, check_density(name, value))

    def of(self, matrix: Matrix) -> tuple[float, ...]:
        """Return the densities of a matrix: one for all gates, or one for each in their order.

        Raises:
            InputError: a gate of the matrix has no density.
        """
        name = "input_density" if matrix.kind == "w" else "recurrent_density"
        chosen: Density | None = getattr(self, name)
        if chosen is None:
            name, chosen = "density", self.density
        if not isinstance(chosen, Mapping):
            return (chosen,)
        missing = [letter for letter in matrix.gates if letter not in chosen]
        if missing:
            raise InputError(
                f"sparsity: {name} has no density for gate {missing[0]} of {matrix.path}; expected one for each of "
                f"{' '.join(matrix.gates)}"
            )
        return tuple(chosen[letter] for letter in matrix.gates)

    def to_json(self) -> dict[str, float | dict[str, float] | None]:
        """Return the densities as JSON values."""
        names = ("density", "input_density", "recurrent_density")
        values = {name: getattr(self, name) for name in names}
        return {name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()}

    @property
    def text(self) -> str:
        """The densities in the form that ``parse_densities`` reads."""
        parts = [("", self.density), ("w", self.input_density), ("r", self.recurrent_density)]
        words = []
        for key, value in parts:
            if isinstance(value, Mapping):
                words += [f"{key}.{letter}={value[letter]:.12g}" for letter in value]
            elif value is not None:
                words.append(f"{key}={value:.12g}".lstrip("="))
        return ",".join(words)


def parse_densities(text: str | float) -> Densities:
    """Read the densities from a number or a text.

    ``0.33``: of every matrix; ``w=0.5,r=0.25``: of W and R apart; ``i=0.5,f=0.25,g=0.25,o=0.5``: for each gate;
    ``w=1,r.i=0.5,r.f=0.25,r.g=0.25,r.o=0.5``: for the gates of R only; ``0.33,w=1``: of every matrix but W.

    Raises:
        InputError: the text has another form, or a density is out of its range.
    """
    if not isinstance(text, str):
        return Densities(density=text)
    numbers: dict[str, float] = {}
    gates: dict[str, dict[str, float]] = {}
    for word in text.split(","):
        key, _, value = word.strip().rpartition("=")
        matrix, letter = _key(key, text)
        place = gates.setdefault(matrix, {}) if letter else numbers
        name = letter or matrix
        if name in place:
            raise InputError(f"sparsity: {text!r} gives {key or 'the density'} twice")
        place[name] = check_density(f"{key or 'density'} in {text!r}", _number(value))
    for matrix in gates.keys() & numbers.keys():
        raise InputError(
            f"sparsity: {text!r} gives {matrix or 'the matrices'} a density and its gates others; expected one of both"
        )
    chosen: dict[str, Density] = {**numbers, **gates}
    if "" not in chosen and not {"w", "r"} <= chosen.keys():
        raise InputError(f"sparsity: {text!r} has no density for {'r' if 'w' in chosen else 'w'}, expected w and r")
    whole = chosen.get("", chosen.get("r"))
    assert whole is not None
    return Densities(
        density=whole,
        input_density=chosen.get("w"),
        recurrent_density=chosen.get("r") if "" in chosen else None,
    )


def _key(key: str, text: str) -> tuple[str, str]:
    """Return matrix (w, r or nothing) and gate (a letter or nothing) of a key such as ``r.f``.

    The letter r alone is the matrix: the reset gate of both matrices is written ``.r``.
    """
    matrix, dot, letter = key.partition(".")
    if not dot and matrix in ("", "w", "r"):
        return matrix, ""
    if not dot:
        matrix, letter = "", matrix
    if matrix not in ("", "w", "r") or len(letter) != 1 or letter not in LETTERS:
        raise InputError(
            f"sparsity: {text!r} has the key {key!r}, expected w, r, a gate (i f g o, .r z n, h), or both, such as r.f"
        )
    return matrix, letter


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
