"""Seeded nodes of every operator, sound and damaged: a model of one node, its calls, and what must come of each.

A case is a function of a seed and a number. Its constants are sound, or one or two of them are changed in shape, type
or content; or the node around them is changed (``node_damage.py``). ``node_rules.py`` says which of them is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from kernel_cases import CELLS, GRUS, LINEARS, RNNS, STATE, Array, one_node
from node_damage import damage_node
from node_float32 import FLOAT32_NAMES, Float32Layer, change_attributes, draw_layer
from node_rules import constants_of, inputs_of, sizes_of, storage_of, wrong_constants, wrong_feeds
from node_values import BATCHES, HUGE, SIZES, TIMES, TINY, activations, change_constant, changed_input, floats

from lstm_edge_exporters.functions import Places
from lstm_edge_exporters.functions import simulation as numpy_model
from lstm_edge_exporters.functions.names import parse_cell_name, parse_gru_name, parse_rnn_name

__all__ = ["Call", "Node", "draw"]

NAMES = (*(cell.name for cell in CELLS), *(gru.name for gru in GRUS), *(rnn.name for rnn in RNNS), *LINEARS)
# How often a name is drawn, each of the ones above once: there are few float32 operators, in three directions each.
FLOAT32_DRAWS = 2


@dataclass(frozen=True, kw_only=True)
class Call:
    """The inputs of one call; ``wrong``: why it must be refused; ``misaligned``: passed at odd addresses."""

    feeds: Mapping[str, Array]
    wrong: str
    misaligned: bool


@dataclass(frozen=True, kw_only=True)
class Node:
    """A model of one node. ``must``: "open", "refuse" or "either"; ``why`` says what was changed.

    ``ordinary``: the constants are of the size that training leaves, so that float32 answers can be compared;
    ``layer``: the call of a float32 operator whose body is one ONNX node.
    """

    name: str
    model: bytes = field(repr=False)
    weights: Mapping[str, Array] = field(repr=False)
    must: str
    why: str
    ordinary: bool
    calls: tuple[Call, ...] = field(repr=False)
    layer: Float32Layer | None = None

    @property
    def exact(self) -> bool:
        """Whether every kernel gives the NumPy model's bits: the order of float32 sums is free."""
        return "Int" in self.name

    @property
    def in_chunks(self) -> bool:
        """Whether a call can be cut in time: the states go in and out, and each row has all steps from the first on."""
        if self.layer is None:
            return not self.name.startswith("Linear") and "Ragged" not in self.name
        forward = self.layer.attributes["direction"] == "forward" and not self.layer.variant.ragged
        return forward and self.layer.states == self.layer.variant.states

    def expected(self, call: Call) -> tuple[Array, ...]:
        """Return the NumPy model's answer to a call that is not wrong."""
        feeds, weights = dict(call.feeds), self.weights
        if "lengths" in feeds:
            feeds["lengths"] = feeds["lengths"].clip(0, len(feeds["x"]))
        with np.errstate(all="ignore"):
            if self.layer is not None:
                return self.layer.expected(weights, feeds)
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
    at = int(rng.integers(len(NAMES) + FLOAT32_DRAWS * len(FLOAT32_NAMES)))
    name = NAMES[at] if at < len(NAMES) else FLOAT32_NAMES[(at - len(NAMES)) % len(FLOAT32_NAMES)]
    ordinary = bool(rng.random() < 0.5)
    layer, weights = draw_layer(rng, name, ordinary) if name in FLOAT32_NAMES else (None, _weights(rng, name, ordinary))
    why = ""
    if rng.random() < 0.4:
        why = " and ".join(change_constant(rng, weights) for _ in range(rng.integers(1, 3)))
        ordinary = False
    if layer is not None and rng.random() < 0.2:
        layer, changed = change_attributes(rng, layer)
        why = f"{why} and {changed}" if why else changed
    wrong = wrong_constants(name, weights) if layer is None else layer.wrong_constants(weights)
    why = f"{why} ({wrong})" if wrong else why
    must = "refuse" if wrong else "open"
    rank = 3 if not name.startswith("Linear") else int(rng.integers(1, 6))
    model = _model(name, weights, rank) if layer is None else layer.model(weights)
    if rng.random() < 0.3:
        model, after, how = damage_node(rng, model)
        must = after if must == "open" else "refuse" if after in {"open", "refuse"} else "either"
        why = f"{why}; {how}" if why else how
    calls: tuple[Call, ...] = ()
    if must != "refuse" and not wrong:
        calls = tuple(_call(rng, name, layer, weights, rank, ordinary) for _ in range(rng.integers(1, 4)))
    return Node(
        name=name, model=model, weights=weights, must=must, why=why, ordinary=ordinary, calls=calls, layer=layer
    )


def _model(name: str, weights: Mapping[str, Array], rank: int) -> bytes:
    outputs = STATE if name.startswith("Lstm") else STATE[:2] if name.startswith(("Gru", "Rnn")) else ("y",)
    return one_node(name, inputs_of(name), outputs, weights, rank=rank, body=False)


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
            weights[key] = floats(rng, shapes[key], 0.3 if len(shapes[key]) == 1 else rows**-0.5, ordinary)
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


def _call(
    rng: np.random.Generator,
    name: str,
    layer: Float32Layer | None,
    weights: Mapping[str, Array],
    rank: int,
    ordinary: bool,
) -> Call:
    if layer is not None:
        feeds = layer.feeds(rng, weights, ordinary)
    else:
        feeds = _feeds(rng, name, sizes_of(name, weights), rank, ordinary)
    if rng.random() < 0.3:
        key = list(feeds)[rng.integers(len(feeds))]
        feeds[key] = changed_input(rng, feeds[key])
    if layer is not None:
        wrong = layer.wrong_feeds(weights, feeds)
    else:
        wrong = wrong_feeds(name, sizes_of(name, weights), feeds)
    return Call(feeds=feeds, wrong=wrong, misaligned=bool(rng.random() < 0.2))


def _feeds(
    rng: np.random.Generator, name: str, sizes: tuple[int, int, int], rank: int, ordinary: bool
) -> dict[str, Array]:
    inputs, hidden, outputs = sizes
    if name.startswith("Linear"):
        shape = tuple(int(rng.choice((0, 1, 1, 2, 3, 5))) for _ in range(rank - 1))
        return {"x": activations(rng, (*shape, inputs), ordinary)}
    time, batch = int(rng.choice(TIMES)), int(rng.choice(BATCHES))
    feeds = {"x": activations(rng, (time, batch, inputs), ordinary)}
    feeds["h"] = activations(rng, (1, batch, outputs), ordinary) * np.float32(0.3)
    if name.startswith("Lstm"):
        feeds["c"] = activations(rng, (1, batch, hidden), ordinary)
    if "Ragged" in name:
        feeds["lengths"] = rng.integers(0, time + 1, batch)
        if rng.random() < 0.3:
            feeds["lengths"] = rng.choice([-(2**63), -1, 0, time, time + 1, 2**40, 2**63 - 1], batch)
    return feeds
