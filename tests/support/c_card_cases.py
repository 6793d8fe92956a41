"""Cards, good and damaged, and graphs that agree or disagree with them, for Python and C."""

import copy
import json
import math
import random
from collections.abc import Iterator
from typing import Any

__all__ = ["TEXTS", "VALUES", "damaged_text", "full_card", "graph_and_card", "mutated", "paths", "with_value"]

VALUES: list[Any] = [
    None,
    True,
    0,
    10**18,
    2**63 - 1,
    2**63,
    -(2**63) - 1,
    10**400,
    10**308,
    1.5,
    -0.0,
    1e16,
    1e-7,
    math.nan,
    -math.inf,
    "",
    "é\n\x7f\u2028😀",
    "'\"",
    "\ud800",
    [],
    {},
    [1, [2, {"a": None}]],
    {"k": "v", "\ud800": 1},
    {"a": math.inf},
    "int4",
    "a" * 80,
    [0.1] * 30,
    "0" * 61,
]

# What is no card: JSON that ends early, with wrong characters, with numbers at Python's limits, nested deeply.
TEXTS: list[str] = [
    *("", "[", "[]", "{", '{"a"', '{"a":', '{"a":1', '{"a":1,', "[1", "[1,", "[1,]", "{1}", "{,}", "[,]", "[1 2]"),
    *('"a', '"\\', '"\\u', '"\\u12', '"\\u1234', '"\\u1234"', '"\\ud800\\u', '"\\ud800\\u12"', '"\\ud800\\u1234"'),
    *('"\\ud83d\\ude00"', '"\\x"', '"\\u00e9\\u00"', '{"a" 1}', '{"é": é}', '"é\n"', '"' + "a" * 70 + '"'),
    *("-", "-a", "01", "1.", "1.e", "1e", "1e+", "1e+5", "1.5E", "-0", "-0.0", "1e-400", "1E400", "1 ", "true false"),
    *("nul", "null", "NaN", "-Infinity", "-Infinit", "\ufeff{}", " \n [1] 2", "\n\n x", "\xa0{}"),
    *("1" * 4300, "1" * 4301, "-" + "1" * 4301, "[" * 900 + "]" * 900, "[" * 1100, '{"a":' * 1100, "[" * (2**20 + 1)),
    *('{"schema": "1.5"}', '{"schema":"2.0"}', '{"schema": 1}', '{"schema": null}', '{"schema": "1.1234567890"}'),
]

_KEYS = ["zz", "extra", "\ud800", 'é "x"', "a" * 70, "new"]
_SCHEMAS = ["1.0", "1.1", "1.2", "1.3", "1.4", "1.9", "2.0", "1", "1.", "01.2", 1.5, None, "\u0661.\u0665"]
_PIECES = [
    *'{}[],:"\\/0-e\n\x1f\x00\u00e9',
    *("\\u", "\\ud83d", "\\ude00", "NaN", "Infinity", "1E400", "tru", '"schema": "1.2", ', '"zz": 1, "zz": [], '),
]


def full_card(golden: dict[str, Any]) -> dict[str, Any]:
    """Return a card in which no field is null, made of one that was exported."""
    coverage = {"layer": "a", "operator": "b", "scheme": "int4", "bytes_before": 3, "bytes_after": 1}
    metric = {"name": "a", "value": 1, "low": 0.1, "high": 2e30, "data": "d", "confidence": 0.95}
    card = copy.deepcopy(golden)
    card["quantization"] = {
        "scheme": "mixed",
        "parent_sha256": "0",
        "coverage": [coverage | {"density": {"W": 0.5}}],
        "parts": {"a": "int4", "b": "int8"},
        "calibration_sha256": None,
        "metric": metric,
        "inexact": {"output": ["a"]},
    }
    card["front_end"] = {"input": "x", "text": "mel", "rate_hz": 16000, "first": 400, "every": 160}
    card["trained_for"] = "int4"
    card["reference"] = {"data": "d", "inputs": {"x": [{"edges": [-1, 0.5], "counts": [1, 2, 3]}]}}
    card["inputs"][0]["range"] = [0, 1]
    return card


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in a document."""
    yield path
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from paths(item, (*path, key))


def with_value(card: dict[str, Any], path: tuple[Any, ...], *values: Any) -> dict[str, Any]:
    """Return a copy of a card with another value at a path, or without what is there."""
    changed = copy.deepcopy(card)
    place: Any = changed
    for key in path[:-1]:
        place = place[key]
    if values:
        place[path[-1]] = copy.deepcopy(values[0])
    else:
        del place[path[-1]]
    return changed


def mutated(card: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    """Return a card with one to three values deleted, renamed, nested, replaced or added, and maybe another schema."""
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        found = [path for path in paths(card) if path]
        if not found:
            break
        path = draw.choice(found)
        card = copy.deepcopy(card)
        place: Any = card
        for key in path[:-1]:
            place = place[key]
        key, kind = path[-1], draw.randrange(5)
        if kind == 0:
            del place[key]
        elif kind == 1 and isinstance(place, dict):
            place[draw.choice([*_KEYS, key + "_"])] = place.pop(key)
        elif kind == 2 and isinstance(place, dict):
            place[draw.choice(_KEYS)] = copy.deepcopy(draw.choice(VALUES))
        elif kind == 3:
            place[key] = [place[key]]
        else:
            place[key] = copy.deepcopy(draw.choice(VALUES))
    return card | {"schema": draw.choice(_SCHEMAS)} if draw.random() < 0.3 else card


def damaged_text(text: str, draw: random.Random) -> str:
    """Return a text with a character or two deleted, replaced or added, or without its end."""
    for _ in range(draw.randrange(1, 3)):
        at = draw.randrange(len(text) + 1)
        piece = draw.choice(_PIECES)
        text = draw.choice([text[:at] + text[at + 1 :], text[:at] + piece + text[at + draw.randrange(2) :], text[:at]])
    return text


_AXES: list[Any] = [
    *("batch", "time", "batch*3", "batch*0", "batch*1234567890", "batch*999999999", "features", "", "x'\n", "é"),
    *(1, 2, 0, -1, 7, 2**20, 2**28, 2**29, 2**30, 2**63 - 1, 2**63, -(2**64), 10**30, 10**4000),
]
_GRAPH_AXES = [axis for axis in _AXES if isinstance(axis, str) or abs(axis) < 2**63]
_TYPES = ["float", "int64", "int32", "double", "float16", "bool", "uint8", "string", "float32", "bfloat16", "uint64"]
_COUNTS = [0, 1, 2, 65536, 65537, -1, 2**63, 10**70, -(10**100)]
_RANGES = [[0, 1], [1, 0], [], [1], [1, 2, 3], [-1e300, 1], [0, 2147483647], [0, 2147483648], [0.1] * 40, [-0.0, 0]]
_NAMES = ["x", "y", "h0", "hn", "len", "end", "zz", "a'b", ""]


def _tensor(name: str, axes: list[Any], dtype: str = "float32") -> dict[str, Any]:
    return {"name": name, "dtype": dtype, "axes": axes, "range": None}


def _node(name: str, axes: list[Any], element: str = "float") -> dict[str, Any]:
    return {"name": name, "type": f"tensor({element})", "axes": axes}


def _state(name: str, output: str, axes: list[Any], dtype: str = "float32") -> dict[str, Any]:
    constant = {"kind": "h", "module": "m", "layer": 0, "initial": "zeros", "nonnegative": False, "counts": False}
    return {"input": name, "output": output, "axes": axes, "dtype": dtype} | constant


def graph_and_card(golden: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    """Return a card's text (or None) and the inputs and outputs of a graph, which agree up to three changes."""
    states = [_state("h0", "hn", [1, "batch", 9])] if draw.random() < 0.7 else []
    made = {
        "inputs": [_node("x", ["batch", "time", 5]), *(_node(s["input"], list(s["axes"])) for s in states)],
        "outputs": [_node("y", ["batch", "time", 3]), *(_node(s["output"], list(s["axes"])) for s in states)],
    }
    if draw.random() < 0.3:
        states.append(_state("c0", "cn", ["batch*3", 2], "int64"))
        made["inputs"].append(_node("c0", [draw.choice(["batch", ""]), 2], "int64"))
        made["outputs"].append(_node("cn", [], "int64"))
    card = golden | {
        "inputs": [_tensor("x", ["batch", "time", 5])],
        "outputs": [_tensor("y", ["batch", "time", 3])],
        "states": states,
        "lengths": None,
        "streaming": {"verdict": "every-step", "reason": "", "latency_steps": 0, "end": None}
        | dict.fromkeys(("first", "first_gives", "every", "gives"), 1),
    }
    if draw.random() < 0.4:
        card["lengths"] = "len"
        made["inputs"].append(_node("len", ["batch"], "int64"))
    if draw.random() < 0.4:
        card["streaming"]["end"] = "end"
        made["inputs"].append(_node("end", [1], "int64"))
    for _ in range(draw.choice([0, 1, 1, 1, 2, 3])):
        if draw.random() < 0.6:
            _change_card(card, draw)
        else:
            _change_graph(made, draw)
    return made | {"card": None if draw.random() < 0.1 else json.dumps(card)}


def _change_card(card: dict[str, Any], draw: random.Random) -> None:
    spec = draw.choice([*card["inputs"], *card["outputs"], *card["states"]])
    kind = draw.randrange(9)
    if kind == 0:
        spec["axes"] = draw.choices(_AXES, k=draw.randrange(4))
    elif kind == 1:
        spec["dtype"] = draw.choice(["float32", "int64", "int32"])
    elif kind == 2 and spec["axes"]:
        at = draw.randrange(len(spec["axes"]))
        spec["axes"] = [*spec["axes"][:at], draw.choice(_AXES), *spec["axes"][at + 1 :]]
    elif kind == 3:
        spec["name" if "name" in spec else draw.choice(["input", "output"])] = draw.choice(_NAMES)
    elif kind == 4:
        card["streaming"][draw.choice(["latency_steps", "first", "first_gives", "every", "gives"])] = draw.choice(
            _COUNTS
        )
    elif kind == 5:
        spec["range"] = draw.choice(_RANGES)
    elif kind == 6:
        card["lengths"] = draw.choice([*_NAMES, None])
    elif kind == 7:
        card["streaming"]["end"] = draw.choice([*_NAMES, None])
    else:
        field = draw.choice(["inputs", "outputs", "states"])
        card[field] = [*card[field], *copy.deepcopy(card[field][:1])]


def _change_graph(made: dict[str, Any], draw: random.Random) -> None:
    nodes = draw.choice([made["inputs"], made["outputs"]])
    node, kind = draw.choice(nodes), draw.randrange(5)
    taken = {other["name"] for other in nodes}  # onnxruntime refuses a name that is there twice
    if kind == 0:
        node["axes"] = draw.choices(_GRAPH_AXES, k=draw.randrange(4))
    elif kind == 1:
        node["type"] = f"tensor({draw.choice(_TYPES)})"
    elif kind == 2:
        node["name"] = draw.choice([name for name in ["n\x00", "é", "w", "x\u2028", "'"] if name not in taken])
    elif kind == 3 and len(nodes) > 1:
        nodes.remove(node)
    elif kind == 4 and "more" not in taken:
        nodes.append(_node("more", []))
