"""Caches that a foreign file keeps beside its recurrent layers: proved by what becomes of their values.

Three kinds are proved, each on random values of every other input:

- A register: a Concat joins the cache and new values, and the output is the end of what was joined (or its beginning,
  where the cache comes last), so that at the next call it is what came before. It may be as short as one step.
- A buffer that keeps elements: some elements of the output are elements of the cache, at other places (they moved on)
  or at the same ones (a ring of which one place was written).
- A statistic: each element of the output is a share of the same element of the cache plus something that depends on
  other inputs, or plus a constant (a counter).

A residual output looks like the last two: the names of input and output must then agree as well, which for the other
kinds they need not.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from lstm_edge_exporters.adopt.trial import Runs
from lstm_edge_exporters.onnx_graph.edit import append_node
from lstm_edge_exporters.onnx_graph.nodes import attribute_of
from lstm_edge_exporters.onnx_graph.reading import parse_model
from lstm_edge_exporters.onnx_graph.writing import draft
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import TensorSpec

__all__ = ["find_caches", "same_stem"]

# Nodes between a cache and the Concat, whose output holds elements of their first input.
_MOVES = ("Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze")
# Words in names that say which way a value goes; what is left of two names must be the same.
_DIRECTIONS = frozenset(
    ("cur", "current", "i", "in", "init", "initial", "input", "last", "n", "new", "next", "o", "old", "out")
) | {"output", "past", "present", "prev", "previous", "updated"}
# Two float32 evaluations of a share and a sum, on values of order one.
_ROUNDING = 1e-5

_Run = tuple[dict[str, Array], dict[str, Array]]
_Runner = Callable[[int, Mapping[str, Array]], _Run | None]


@dataclass(frozen=True, kw_only=True)
class _Join:
    """A Concat behind an input: the names of the probes that show its part made of the input, and all that it joined.

    ``first`` and ``last`` say whether that part begins or ends what was joined.
    """

    entering: str
    part: str
    whole: str
    axis: int
    first: bool
    last: bool


def find_caches(
    data: bytes,
    inputs: Sequence[TensorSpec],
    candidates: Mapping[str, Sequence[str]],
    *,
    sizes: Mapping[str, int],
    open_trial: Callable[[bytes], Runs],
    related: Callable[[str, str], bool] | None = None,
    counts: Collection[str] = (),
) -> dict[str, list[str]]:
    """Return the outputs that are proved to be the next value of an input.

    Args:
        data: the serialized model.
        inputs: all of its inputs, axes named.
        candidates: for each float32 input in question the outputs of its shape and dtype.
        sizes: the size of each named axis.
        open_trial: opens a serialized model, with more outputs than this one, to be run.
        related: says whether an input and an output belong together, which some proofs need; by default their names
            agree.
        counts: the inputs that count: their values are whole numbers.

    Returns:
        For each input of which a proof was found, the outputs that are proved; several where the file itself leaves
        open which is meant.
    """
    specs = {spec.name: spec for spec in inputs}
    shapes = {name: [sizes[a] if isinstance(a, str) else a for a in specs[name].axes] for name in candidates}
    model = parse_model(data)
    joins = [join for name in candidates for join in _probe_joins(model, name)]
    trial = open_trial(draft(model).SerializeToString(deterministic=True))
    related = related or same_stem

    def run(seed: int, given: Mapping[str, Array]) -> _Run | None:
        answers = trial.run(inputs, sizes, seed=seed, given=given)
        return None if answers is None else (dict(given), answers)

    tried = [run(seed, _distinct_values(shapes, seed, counts)) for seed in (1, 2)]
    runs = [one for one in tried if one is not None]
    found: dict[str, list[str]] = {}
    for name, outputs in candidates.items():
        proved = []
        if len(runs) == len(tried):
            own = [join for join in joins if join.entering == name]
            proved = [
                out for out in outputs if _is_register(own, runs, name, out) or _is_buffer(runs, name, out, related)
            ]
        alike = [] if proved else [output for output in outputs if related(name, output)]
        proved += [output for output in alike if _is_statistic(run, shapes[name], name, output)]
        if proved:
            found[name] = proved
    return found


def same_stem(entering: str, leaving: str) -> bool:
    """Say whether two names agree apart from words for a direction: ``cache`` and ``cache_out``, ``h`` and ``hn``.

    Names of such words alone (``input`` and ``output``) do not agree.
    """
    return bool(_stem(entering)) and _stem(entering) == _stem(leaving)


def _stem(name: str) -> tuple[str, ...]:
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+", name)
    left = [word.lower() for word in words if word.lower() not in _DIRECTIONS]
    if left and len(left[-1]) == 2 and left[-1][1] in "nio":  # h and hn, r1i and r1o
        left[-1] = left[-1][0]
    return tuple(left)


def _distinct_values(shapes: Mapping[str, Sequence[int]], seed: int, counts: Collection[str]) -> dict[str, Array]:
    """Values between -1.5 and 1.5 in random order for each input, each of them once: float32 of the shapes.

    Those of ``counts`` are 1 or 2, by the seed.
    """
    values = {}
    for place, (name, shape) in enumerate(shapes.items()):
        count = int(np.prod(shape, dtype=np.int64))
        if name in counts:
            values[name] = np.full(shape, seed, np.float32)
            continue
        order = np.random.default_rng([seed, place]).permutation(count) + (place + 1) / (len(shapes) + 1)
        values[name] = (order * (3 / count) - 1.4993).reshape(shape).astype(np.float32)
    return values


def _probe_joins(model: ir.Model, entering: str) -> list[_Join]:
    """Let each Concat that joins elements of an input and others leave the graph, with the part made of the input."""
    source = next(value for value in model.graph.inputs if value.name == entering)
    stack, seen = [source], {source}
    joins: list[_Join] = []
    while stack:
        value = stack.pop()
        for node, index in value.uses():
            if node.graph is not model.graph or node.domain not in ("", "ai.onnx"):
                continue
            if node.op_type == "Concat":
                place = f"lstm_edge.join.{entering}.{len(joins)}.{index}.{node.name}"
                parts = list(node.inputs)
                joins.append(
                    _Join(
                        entering=entering,
                        part=_probe(model.graph, value, f"{place}.part"),
                        whole=_probe(model.graph, node.outputs[0], f"{place}.whole"),
                        axis=int(attribute_of(node, "axis", 0)),
                        first=parts[0] is value,
                        last=parts[-1] is value,
                    )
                )
            elif node.op_type in _MOVES and index == 0:
                new = [output for output in node.outputs if output not in seen]
                seen.update(new)
                stack += new
    return joins


def _probe(graph: ir.Graph, value: ir.Value, name: str) -> str:
    copy = append_node(graph, "Identity", value, name=name, output=name)
    copy.type = ir.TensorType(ir.DataType.FLOAT)
    graph.outputs.append(copy)
    return name


def _is_register(joins: Sequence[_Join], runs: Sequence[_Run], entering: str, leaving: str) -> bool:
    """Say whether each element of the output is what a Concat leaves at the place of the input's same element."""
    covered = np.zeros(runs[0][0][entering].size, bool)
    for join in joins:
        places = [_places(given[entering], answers[join.part]) for given, answers in runs]
        if places[0] is None or places[1] is None or not np.array_equal(places[0], places[1]):
            continue
        steps = runs[0][1][join.part].shape[join.axis]
        for wanted, ends in ((join.first, range(-steps, 0)), (join.last, range(steps))):
            if wanted and all(
                np.array_equal(
                    np.take(answers[join.whole], list(ends), axis=join.axis).reshape(-1),
                    answers[leaving].reshape(-1)[places[0]],
                )
                for _given, answers in runs
            ):
                covered[places[0]] = True
    return bool(covered.all())


def _places(source: Array, values: Array) -> Array | None:
    """Where in ``source``, whose elements are distinct, each of the values is; None if one is missing."""
    flat = source.reshape(-1)
    order = np.argsort(flat)
    at = np.minimum(np.searchsorted(flat[order], values.reshape(-1)), flat.size - 1)
    places = np.asarray(order[at])
    return places if np.array_equal(flat[places], values.reshape(-1)) else None


def _is_buffer(runs: Sequence[_Run], entering: str, leaving: str, related: Callable[[str, str], bool]) -> bool:
    """Say whether some elements of the output, and not all, are elements of the input, the same ones in each run.

    Where most are at the place that they had, as in an output that lets something through, the names must agree.
    """
    (given, answers), (again, others) = runs
    flat, result = given[entering].reshape(-1), answers[leaving].reshape(-1)
    order = np.argsort(flat)
    places = order[np.minimum(np.searchsorted(flat[order], result), flat.size - 1)]
    same = (flat[places] == result) & (again[entering].reshape(-1)[places] == others[leaving].reshape(-1))
    if not same.any() or same.all():
        return False
    moved = same & (places != np.arange(flat.size))
    return bool(2 * moved.sum() > same.sum()) or related(entering, leaving)


def _is_statistic(run: _Runner, shape: Sequence[int], entering: str, leaving: str) -> bool:
    """Say whether each element becomes a share of itself and something of other inputs, or itself and a constant."""
    offsets, shares = [], []
    for seed in (3, 4):
        rng = np.random.default_rng(seed)
        values = [np.zeros(shape), *rng.uniform(0.1, 0.9, (2, *shape))]
        tried = [run(seed, {entering: value.astype(np.float32)}) for value in values]
        runs = [one for one in tried if one is not None]
        if len(runs) < len(tried):
            return False
        zero, one, two = (r[1][leaving].astype(np.float64) for r in runs)
        share = (one - zero) / runs[1][0][entering]
        limit = _ROUNDING * max(1.0, float(np.abs(zero).max()))
        linear = np.abs(share * runs[2][0][entering] + zero - two).max() <= 10 * limit
        if not linear or not np.all(np.abs(share) > _ROUNDING) or not np.all(np.abs(share) <= 1 + 10 * limit):
            return False
        offsets.append(zero)
        shares.append(share)
    if not np.array_equal(offsets[0], offsets[1]):
        return True
    return bool(np.any(offsets[0] != 0) and np.allclose(shares, 1, rtol=0, atol=_ROUNDING))
