"""Seeded nodes of every operator, sound and damaged: a model of one node, its calls, and what must come of each.

A case is a function of a seed and a number. Its constants are sound, or one or two of them are changed in shape, type
or content; or the node around them is changed (``node_damage.py``). ``node_rules.py`` says which of them is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from kernel_cases import CELLS, GRUS, LINEARS, RNNS, STATE, Array, one_node
from node_damage import damage_node
from node_rules import constants_of, inputs_of, sizes_of, storage_of, wrong_constants, wrong_feeds

from lstm_edge_exporters.functions import Places
from lstm_edge_exporters.functions import simulation as numpy_model
from lstm_edge_exporters.functions.names import parse_cell_name, parse_gru_name, parse_rnn_name

__all__ = ["Call", "Node", "draw"]

NAMES = (*(cell.name for cell in CELLS), *(gru.name for gru in GRUS), *(rnn.name for rnn in RNNS), *LINEARS)
# Around the vectors of 16, the tiles of 64, the blocks of 32 and 128, and the groups of 16 rows.
SIZES = (1, 2, 3, 5, 8, 15, 16, 17, 31, 32, 33, 47, 64, 65, 127, 128, 130)
BATCHES, TIMES = (1, 1, 2, 3, 6, 7, 15, 16, 17, 33), (1, 1, 2, 3, 8, 25)
TINY, HUGE = np.float32(2.0**-149), np.finfo(np.float32).max


@dataclass(frozen=True, kw_only=True)
class Call:
    """The inputs of one call; ``wrong``: why it must be refused; ``misaligned``: passed at odd addresses."""

    feeds: Mapping[str, Array]
    wrong: str
    misaligned: bool


@dataclass(frozen=True, kw_only=True)
class Node:
    """A model of one node. ``must``: "open", "refuse" or "either"; ``why`` says what was changed.

    ``ordinary``: the constants are of the size that training leaves, so that float32 answers can be compared.
    """

    name: str
    model: bytes = field(repr=False)
    weights: Mapping[str, Array] = field(repr=False)
    must: str
    why: str
    ordinary: bool
    calls: tuple[Call, ...] = field(repr=False)

    @property
    def exact(self) -> bool:
        """Whether every kernel gives the NumPy model's bits: the order of float32 sums is free."""
        return "Int" in self.name

    def expected(self, call: Call) -> tuple[Array, ...]:
        """Return the NumPy model's answer to a call that is not wrong."""
        feeds, weights = dict(call.feeds), self.weights
        if "lengths" in feeds:
            feeds["lengths"] = feeds["lengths"].clip(0, len(feeds["x"]))
        with np.errstate(all="ignore"):
            if cell := parse_cell_name(self.name):
                lengths = feeds.get("lengths")
                return numpy_model.lstm(cell, feeds["x"], feeds["h"], feeds["c"], weights, lengths)
            if gru := parse_gru_name(self.name):
                return numpy_model.gru(gru, feeds["x"], feeds["h"], weights, feeds.get("lengths"))
            if rnn := parse_rnn_name(self.name):
                return numpy_model.rnn(rnn, feeds["x"], feeds["h"], weights, feeds.get("lengths"))
            return (numpy_model.linear(self.name, feeds["x"], weights),)


def draw(seed: int, number: int) -> Node:
    """Return the case of a number."""
    with np.errstate(all="ignore"):  # casts of NaN and infinity are drawn on purpose
        return _draw(np.random.default_rng([seed, number]))


def _draw(rng: np.random.Generator) -> Node:
    name = NAMES[rng.integers(len(NAMES))]
    ordinary = bool(rng.random() < 0.5)
    weights = _weights(rng, name, ordinary)
    why = ""
    if rng.random() < 0.4:
        why = " and ".join(_change_constant(rng, weights) for _ in range(rng.integers(1, 3)))
        ordinary = False
    wrong = wrong_constants(name, weights)
    why = f"{why} ({wrong})" if wrong else why
    must = "refuse" if wrong else "open"
    rank = 3 if not name.startswith("Linear") else int(rng.integers(1, 6))
    outputs = STATE if name.startswith("Lstm") else STATE[:2] if name.startswith(("Gru", "Rnn")) else ("y",)
    model = one_node(name, inputs_of(name), outputs, weights, rank=rank, body=False)
    if rng.random() < 0.3:
        model, after, how = damage_node(rng, model)
        must = after if must == "open" else "refuse" if after in {"open", "refuse"} else "either"
        why = f"{why}; {how}" if why else how
    calls: tuple[Call, ...] = ()
    if must != "refuse" and not wrong:
        calls = tuple(_call(rng, name, sizes_of(name, weights), rank, ordinary) for _ in range(rng.integers(1, 4)))
    return Node(name=name, model=model, weights=weights, must=must, why=why, ordinary=ordinary, calls=calls)


def _weights(rng: np.random.Generator, name: str, ordinary: bool) -> dict[str, Array]:
    """Draw sound constants: of the size that training leaves, or up to the edges of their domain."""
    inputs, hidden, outputs = (int(rng.choice(SIZES[:14] if name.startswith("Lstm") else SIZES)) for _ in range(3))
    if rng.random() < 0.05:
        inputs = int(rng.integers(1030, 1100))  # around the number of rows from which on int8 columns have a bound
    gates = 4 if name.startswith("Lstm") else 3 if name.startswith("Gru") else 1
    outputs = outputs if "Projected" in name else hidden
    shapes = {"w": (inputs, gates * hidden), "r": (outputs, gates * hidden), "b": (gates * hidden,), "rb": (hidden,)}
    shapes |= {"p": (3, hidden) if "Diagonal" in name else (hidden, 3 * hidden), "po": (hidden, hidden)}
    shapes |= {"v": (hidden, outputs)}
    weights: dict[str, Array] = {}
    for key in (key for key in constants_of(name) if "_" not in key):
        storage, (rows, columns) = storage_of(name, key), (shapes[key][0], shapes[key][-1])
        if storage == "float32":
            weights[key] = _floats(rng, shapes[key], 0.3 if len(shapes[key]) == 1 else rows**-0.5, ordinary)
        elif storage == "int4":
            weights |= _int4(rng, key, rows, columns, ordinary)
        else:
            weights[key] = _int8(rng, (rows, columns), ordinary)
            weights[f"{key}_scale"] = _scales(rng, (columns,), rows, ordinary)
        if storage == "sparse_int8":
            weights |= _sparse(rng, key, weights[key], gates)
    return weights


def _int4(rng: np.random.Generator, key: str, rows: int, columns: int, ordinary: bool) -> dict[str, Array]:
    blocks = -(-rows // int(rng.choice((32, 128))))
    shape = (1, 1) if rng.random() < 0.5 else (blocks, columns)
    zero = np.where(rng.random() < 0.5, 8, rng.integers(0, 256 if rng.random() < 0.2 else 16, shape))
    return {
        key: rng.integers(0, 256, (rows, (columns + 1) // 2)).astype(np.uint8),
        f"{key}_scale": _scales(rng, (blocks, columns), rows, ordinary),
        f"{key}_zero": zero.astype(np.uint8) * np.ones(shape, np.uint8),
    }


def _sparse(rng: np.random.Generator, key: str, dense: Array, gates: int) -> dict[str, Array]:
    """Leave blocks out of an int8 matrix: some, all but one, or none; a block may hold zeros only."""
    places = Places(len(dense), gates, dense.shape[1] // gates)
    kept = rng.random(places.total) < rng.choice((0.0, 0.2, 0.5, 1.0))
    kept[rng.integers(places.total)] = True
    index = np.flatnonzero(kept).astype(np.int32)
    rows = np.array([len(dense)], np.int64)
    return {key: places.split(dense)[index], f"{key}_index": index, f"{key}_rows": rows}


def _int8(rng: np.random.Generator, shape: tuple[int, int], ordinary: bool) -> Array:
    largest = 127 if ordinary else int(rng.choice((0, 1, 127)))
    values = rng.integers(-largest, largest + 1, shape)
    if not ordinary and rng.random() < 0.5:
        values = np.where(values < 0, -largest, largest)
        values[1040:] = 0  # up to there a column of 127 keeps the bound
    return np.asarray(values, np.int8)


def _scales(rng: np.random.Generator, shape: tuple[int, ...], rows: int, ordinary: bool) -> Array:
    usual = rng.uniform(0.5, 1.5, shape) * rows**-0.5 / 80
    if not ordinary:
        edge = rng.choice(np.array([TINY, 1e-40, 2.0**-126, 1e-20, 1e20, HUGE]), shape)
        usual = np.where(rng.random(shape) < 0.2, edge, usual)
    return np.maximum(usual.astype(np.float32), TINY)


def _floats(rng: np.random.Generator, shape: tuple[int, ...], deviation: float, ordinary: bool) -> Array:
    values = (rng.standard_normal(shape) * deviation).astype(np.float32)
    if not ordinary:
        edges = np.array([0, -0.0, TINY, -TINY, 1e-40, 88, -200, 1e20, -HUGE, np.nan, np.inf], np.float32)
        values = np.where(rng.random(shape) < 0.02, rng.choice(edges, shape), values)
    return values


def _change_constant(rng: np.random.Generator, weights: dict[str, Array]) -> str:
    """Change a constant's shape, type or content; returns what was changed."""
    changes = ("longer", "shorter", "axis", "flat", "scalar", "empty", "type", "turned", "value", "column")
    change = changes[rng.integers(len(changes))]
    # w may have any number of rows: with a column of it at the bound the node can still be sound.
    key = "w" if change == "column" else list(weights)[rng.integers(len(weights))]
    array = weights[key]
    axis = int(rng.integers(max(1, array.ndim)))
    if array.size == 0 or array.ndim == 0 or (change in {"value", "column"} and array.dtype == np.uint8):
        change = "type"
    elif change == "longer":
        array = np.concatenate([array, np.take(array, [0], axis)], axis)
    elif change == "shorter":
        array = np.delete(array, -1, axis)
    elif change in {"axis", "flat", "scalar", "empty", "turned"}:
        changed = {"axis": array[None], "flat": array.reshape(-1), "scalar": array.reshape(-1)[0].reshape(())}
        array = (changed | {"empty": np.take(array, [], axis), "turned": array.T})[change]
    elif change == "value":
        array = array.copy()
        edges: tuple[float, ...] = (0.0, -1.0, np.nan, np.inf, -np.inf, TINY)
        if array.dtype.kind == "i":
            least = int(np.iinfo(array.dtype).min)
            edges = (least, -1 - least, *(() if array.dtype == np.int8 else (-1, 0, 1, 2**18, 2**18 + 1)))
        array.reshape(-1)[rng.integers(array.size)] = edges[rng.integers(len(edges))]
    elif change == "column" and array.dtype == np.int8 and array.ndim == 2:
        # At the bound on a column's sum, or just past it.
        array = np.resize(np.sign(array) * 127, (1041, array.shape[1])).astype(np.int8)
        array[-1] = rng.choice((24, 25, -24, -25))
    if change == "type":
        array = array.astype(rng.choice([np.float32, np.float64, np.int8, np.uint8, np.int32, np.float16]))
    weights[key] = array
    return f"{key}: {change}"


def _call(rng: np.random.Generator, name: str, sizes: tuple[int, int, int], rank: int, ordinary: bool) -> Call:
    inputs, hidden, outputs = sizes
    if name.startswith("Linear"):
        shape = tuple(int(rng.choice((0, 1, 1, 2, 3, 5))) for _ in range(rank - 1))
        feeds = {"x": _activations(rng, (*shape, inputs), ordinary)}
    else:
        time, batch = int(rng.choice(TIMES)), int(rng.choice(BATCHES))
        feeds = {"x": _activations(rng, (time, batch, inputs), ordinary)}
        feeds["h"] = _activations(rng, (1, batch, outputs), ordinary) * np.float32(0.3)
        if name.startswith("Lstm"):
            feeds["c"] = _activations(rng, (1, batch, hidden), ordinary)
        if "Ragged" in name:
            feeds["lengths"] = rng.integers(0, time + 1, batch)
            if rng.random() < 0.3:
                feeds["lengths"] = rng.choice([-(2**63), -1, 0, time, time + 1, 2**40, 2**63 - 1], batch)
    if rng.random() < 0.3:
        key = list(feeds)[rng.integers(len(feeds))]
        feeds[key] = _changed(rng, feeds[key])
    return Call(feeds=feeds, wrong=wrong_feeds(name, sizes, feeds), misaligned=bool(rng.random() < 0.2))


def _changed(rng: np.random.Generator, array: Array) -> Array:
    """Return an input with another size, type or order in memory; or as it is, where it has no element to repeat."""
    axis = int(rng.integers(array.ndim))
    change = rng.choice(["longer", "shorter", "empty", "type", "strided"])
    if change == "type":
        return array.astype(rng.choice([np.float64, np.float16, np.int32, np.int64]))
    if change == "strided":
        return np.asfortranarray(array)
    if change == "empty":
        return np.take(array, [], axis)
    if array.shape[axis] == 0:
        return array
    return (
        np.delete(array, -1, axis) if change == "shorter" else np.concatenate([array, np.take(array, [0], axis)], axis)
    )


def _activations(rng: np.random.Generator, shape: tuple[int, ...], ordinary: bool) -> Array:
    """Draw numbers of order one; or, for some rows, ones at the edges of float32 and past it."""
    values = rng.standard_normal(shape).astype(np.float32)
    if ordinary or rng.random() < 0.5:
        return values
    payload = np.array([0x7FC000FF, 0xFFFFFFFF, 0x7F800001], np.uint32).view(np.float32)
    edges = np.array([0, -0.0, TINY, -TINY, 1e-40, 2.0**-100, 1e30, HUGE, -HUGE, np.nan, np.inf, -np.inf], np.float32)
    some = rng.random((*shape[:-1], 1)) < 0.3
    drawn = rng.choice(np.concatenate([edges, payload]), shape)
    return np.where(some & (rng.random(shape) < rng.choice((0.05, 1.0))), drawn, values)
