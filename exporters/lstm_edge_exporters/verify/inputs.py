"""Inputs of a model: input specifications as users write them, and example arrays of any batch and length."""

import dataclasses
import math
import re
from collections.abc import Container, Mapping, Sequence

import numpy as np

from lstm_edge_exporters.verify.ragged import Ragged
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import BATCH, TIME, ModelCard, StateSpec, TensorSpec
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.state import state_shape

__all__ = [
    "DTYPES",
    "InputMaker",
    "named_roles",
    "parse_input",
    "parse_pairs",
    "random_feeds",
    "random_lengths",
    "random_state",
    "ranges_of",
    "renamed",
    "with_ranges",
]


DTYPES = ("float32", "int64", "int32", "bool")
_SPEC = re.compile(
    r"\s*(?P<name>[A-Za-z_][\w.]*)\s*:\s*(?P<dtype>\w+)\s*\[(?P<axes>[^\[\]]*)\]\s*"
    r"(?:in\s*\[(?P<range>[^\[\]]*)\]\s*)?"
)


def parse_input(text: str) -> TensorSpec:
    """Read an input as it is written on the command line: ``x: float32[batch, time, 40]``.

    Names are dynamic axes, numbers are fixed ones; ``batch`` and ``time`` have their meaning. ``in [0, 10]`` behind it
    says which values the model is made for.

    Raises:
        InputError: the text does not have this form, or the dtype is not one of float32, int64, int32, bool.
    """
    match = _SPEC.fullmatch(text)
    if match is None:
        raise InputError(f'input {text!r} must look like "x: float32[batch, time, 40]"')
    if match["dtype"] not in DTYPES:
        raise InputError(f"input {match['name']}: dtype must be one of {', '.join(DTYPES)}, got {match['dtype']}")
    axes = [axis.strip() for axis in match["axes"].split(",")] if match["axes"].strip() else []
    for axis in axes:
        if not (axis.isidentifier() or (axis.isdecimal() and int(axis) > 0)):
            raise InputError(f"input {match['name']}: axis {axis!r} must be a name or a positive number")
    named = [axis for axis in axes if axis.isidentifier()]
    if len(named) != len(set(named)):
        raise InputError(f"input {match['name']}: an axis name is given twice in {text!r}")
    parsed = tuple(int(axis) if axis.isdecimal() else axis for axis in axes)
    found = None if match["range"] is None else _parse_range(match["name"], match["range"])
    return TensorSpec(name=match["name"], dtype=match["dtype"], axes=parsed, range=found)


def parse_pairs(texts: Sequence[str]) -> dict[str, str]:
    """Read ``IN=OUT`` pairs of a state's input and output.

    Raises:
        InputError: a text is not of this form, or a name is given twice.
    """
    pairs: dict[str, str] = {}
    for text in texts:
        entering, sign, leaving = (part.strip() for part in text.partition("="))
        if not sign or not entering or not leaving:
            raise InputError(f'--state {text!r} must look like "h=hn": an input and the output that follows it')
        if entering in pairs or leaving in pairs.values():
            raise InputError(f"--state {text!r}: the input or the output is given twice")
        pairs[entering] = leaving
    return pairs


def _parse_range(name: str, text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(f"input {name}: the range [{text}] must be two numbers, the smaller one first, as in [0, 10]")
    return low, high


def named_roles(
    specs: Sequence[TensorSpec], *, batch_axis: str | None = None, time_axis: str | None = None
) -> tuple[TensorSpec, ...]:
    """Give the axes that the user named by an option the names ``batch`` and ``time``.

    Raises:
        InputError: no input has such an axis, both options name one axis, or another axis has the role's name.
    """
    roles: dict[str, str] = {}
    known = list(dict.fromkeys(axis for spec in specs for axis in spec.axes if isinstance(axis, str)))
    for role, name in ((BATCH, batch_axis), (TIME, time_axis)):
        if name is None or name == role:
            continue
        if name not in known:
            raise InputError(f"--{role}-axis {name}: no input has such an axis; the axes are {', '.join(known)}")
        if role in known:
            raise InputError(f"--{role}-axis {name}: another axis is called {role!r}; give it another name")
        if name in roles:
            raise InputError(f"--batch-axis and --time-axis both name {name!r}: they are two axes")
        roles[name] = role
    return renamed(specs, roles)


def renamed(specs: Sequence[TensorSpec], names: Mapping[str, str]) -> tuple[TensorSpec, ...]:
    """Return the specifications with other names for some axes."""

    def rename(axis: str | int) -> str | int:
        return names.get(axis, axis) if isinstance(axis, str) else axis

    return tuple(dataclasses.replace(spec, axes=tuple(map(rename, spec.axes))) for spec in specs)


def ranges_of(examples: Array | Mapping[str, Array]) -> dict[str, tuple[float, float]]:
    """Return the least and the largest value of each float example whose values have one sign.

    Magnitudes, energies and probabilities are not drawn below zero; values of both signs say nothing of a bound. An
    array alone has the empty name.
    """
    found = {}
    for name, example in (examples if isinstance(examples, Mapping) else {"": examples}).items():
        if example.dtype.kind == "f" and example.size > 1 and np.isfinite(example).all():
            low, high = float(example.min()), float(example.max())
            if low < high and (low >= 0 or high <= 0):
                found[name] = (low, high)
    return found


def with_ranges(specs: Sequence[TensorSpec], ranges: Mapping[str, tuple[float, ...]]) -> tuple[TensorSpec, ...]:
    """Give inputs without a range the one of their name; the empty name is that of the only input.

    Raises:
        InputError: a range names no input.
    """
    known = [spec.name for spec in specs]
    for name in ranges:
        if name not in known and (name or len(known) > 1):
            what = f"the array {name!r}" if name else "one array"
            raise InputError(f"the example has {what}; the inputs are {', '.join(known)}: give an .npz file with them")
    return tuple(
        dataclasses.replace(spec, range=spec.range or ranges.get(spec.name) or ranges.get("")) for spec in specs
    )


class InputMaker:
    """Makes random inputs that a model accepts, for any batch and length.

    Integer inputs are drawn below ``ids_below``, floats from the normal distribution with the mean and deviation that
    ``moments`` has for them (else 0 and 1). Inputs in ``values`` are always that array (a sample rate); those in
    ``lengths`` are integers from 1 to the number of steps, the first one full. A specification's
    ``range`` and the bounds ``below`` of single integer inputs come first. ``ragged`` says which of the others
    tells how long each row is.
    """

    def __init__(
        self,
        specs: Sequence[TensorSpec],
        *,
        ids_below: int = 2,
        moments: Mapping[str, tuple[float, float]] | None = None,
        values: Mapping[str, Array] | None = None,
        lengths: Sequence[str] = (),
        ragged: Ragged | None = None,
        below: Mapping[str, int] | None = None,
    ) -> None:
        self.specs = tuple(specs)
        self._ids_below = ids_below
        self.values, self.lengths = dict(values or {}), tuple(lengths)
        self._moments = dict(moments or {})
        self._ragged = ragged
        self._below = dict(below or {})

    @property
    def numbers(self) -> tuple[tuple[str, str], ...]:
        """The inputs in ``values`` and the first number of each, as text."""
        return tuple((name, str(array.reshape(-1)[0])) for name, array in self.values.items() if array.size)

    def over(self, specs: Sequence[TensorSpec]) -> "InputMaker":
        """Return a maker of the same inputs with other axes."""
        return InputMaker(
            specs, ids_below=self._ids_below, moments=self._moments, values=self.values, lengths=self.lengths
        )

    def without(self, names: Container[str | None], lengths: Sequence[str] = ()) -> "InputMaker":
        """Return a maker of the other inputs; of them, it takes ``lengths`` for lengths."""
        left = [spec for spec in self.specs if spec.name not in names]
        ragged = self._ragged if self._ragged is not None and self._ragged.name not in names else None
        return InputMaker(
            left,
            ids_below=self._ids_below,
            moments=self._moments,
            values=self.values,
            lengths=lengths,
            ragged=ragged,
            below=self._below,
        )

    def with_ragged(self, ragged: Ragged | None) -> "InputMaker":
        """Return a maker of the same inputs, one of which says how long each row is."""
        return InputMaker(
            self.specs,
            ids_below=self._ids_below,
            moments=self._moments,
            values=self.values,
            lengths=self.lengths,
            ragged=ragged,
            below=self._below,
        )

    def with_below(self, below: Mapping[str, int]) -> "InputMaker":
        """Return a maker of the same inputs with a bound for single integer inputs."""
        return InputMaker(
            self.specs,
            ids_below=self._ids_below,
            moments=self._moments,
            values=self.values,
            lengths=self.lengths,
            ragged=self._ragged,
            below=below,
        )

    def with_input(self, name: str, spec: TensorSpec) -> "InputMaker":
        """Return a maker of the same inputs, but ``spec`` in place of the input called ``name``."""
        return InputMaker(
            [spec if known.name == name else known for known in self.specs],
            ids_below=self._ids_below,
            moments={known: moments for known, moments in self._moments.items() if known != name},
            values=self.values,
            lengths=self.lengths,
            ragged=self._ragged,
            below=self._below,
        )

    def make(self, rng: np.random.Generator, batch: int, time: int, *, spread: float = 1.0) -> dict[str, Array]:
        """Return an array for each input; axes with other names than batch and time get 3 elements.

        ``spread`` is the share of the usual deviation that floats have.
        """
        return self.make_sized(rng, {BATCH: batch, TIME: time}, spread=spread)

    def make_sized(
        self, rng: np.random.Generator, sizes: Mapping[str, int], *, spread: float = 1.0
    ) -> dict[str, Array]:
        """Return an array for each input, of the sizes of the named axes; 3 elements where a name has none."""
        arrays = {spec.name: self._one(spec, rng, sizes, spread) for spec in self.specs}
        return arrays if self._ragged is None else self._ragged.draw(arrays, self.specs, rng, sizes)

    def _one(self, spec: TensorSpec, rng: np.random.Generator, sizes: Mapping[str, int], spread: float) -> Array:
        shape = [axis if isinstance(axis, int) else sizes.get(axis, 3) for axis in spec.axes]
        if spec.name in self.values:
            return self.values[spec.name]
        if spec.name in self.lengths:
            steps = sizes.get(TIME, 1)  # one step is there whatever the axes mean
            lengths = rng.integers(1, steps + 1, shape)
            lengths[:1] = steps
            return np.asarray(lengths, spec.dtype)
        if spec.dtype == "bool":
            return np.asarray(rng.random(shape) < 0.5)
        if spec.dtype.startswith("float"):
            if spec.range is not None:
                return _within_range(spec, rng, shape, spread)
            mean, deviation = self._moments.get(spec.name, (0.0, 1.0))
            # Multiples of 1/64 keep golden inputs small in a compressed file and cost the comparison nothing.
            noise = np.round(rng.standard_normal(shape) * 64) / 64
            return np.asarray(mean + deviation * spread * noise, spec.dtype)
        # asarray: without axes NumPy gives a scalar, which onnxruntime does not take.
        least, below = 0, self._below.get(spec.name, self._ids_below)
        if spec.range is not None:
            least, below = math.ceil(spec.range[0]), math.floor(spec.range[1]) + 1
        return np.asarray(rng.integers(least, max(below, least + 1), shape), spec.dtype)


def _within_range(spec: TensorSpec, rng: np.random.Generator, shape: Sequence[int], spread: float) -> Array:
    """Uniform values within a range, without its ends: a logarithm or a root may have its pole there."""
    assert spec.range is not None
    low, high = spec.range
    # One of 255 values: golden inputs stay small in a compressed file.
    share = rng.integers(1, 256, shape) / 256
    return np.asarray(low + (high - low) * (0.5 + (share - 0.5) * spread), spec.dtype)


def random_state(specs: Sequence[StateSpec], rng: np.random.Generator, batch: int, *, zero: bool) -> dict[str, Array]:
    """Return an array for each state: zeros, or normal values of deviation 0.5, [directions, batch, size].

    States that are ``nonnegative`` get the magnitudes of such values, those that count 0, 1 or 2.
    """
    state: dict[str, Array] = {}
    for spec in specs:
        shape = state_shape(spec, batch)
        if spec.kind == "cache":
            state[spec.input] = np.zeros(shape, spec.dtype)  # of a fresh stream: its zeros are the padding
            continue
        values: Array = np.zeros(shape) if zero else np.round(rng.standard_normal(shape) * 32) / 64
        if spec.counts and not zero:
            values = rng.integers(0, 3, shape)
        state[spec.input] = (np.abs(values) if spec.nonnegative else values).astype(spec.dtype)
    return state


def random_lengths(rng: np.random.Generator, batch: int, time: int) -> Array:
    """Return lengths int64 [batch] between 1 and ``time``; the first row is full, so that T is what it seems."""
    lengths = rng.integers(1, time + 1, batch)
    lengths[0] = time
    return lengths.astype(np.int64)


def random_feeds(
    maker: InputMaker,
    card: ModelCard,
    rng: np.random.Generator,
    batch: int,
    time: int,
    *,
    zero_state: bool = False,
    spread: float = 1.0,
) -> dict[str, Array]:
    """Return an array for each input of a file: the maker's, the states, and lengths where the card has them."""
    feeds = maker.make(rng, batch, time, spread=spread) | random_state(card.states, rng, batch, zero=zero_state)
    if card.lengths:
        feeds[card.lengths] = random_lengths(rng, batch, time)
    if card.streaming.end:
        feeds[card.streaming.end] = np.ones(1, np.int64)
    return feeds
