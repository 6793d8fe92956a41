"""What the values inside a graph have for shapes, found by running it at several batches and lengths."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir

from lstm_edge_exporters.onnx_graph.writing import draft
from lstm_edge_exporters.streaming.errors import NotStreamable
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import BATCH, TIME
from lstm_edge_runtime.errors import LstmEdgeError, first_line
from lstm_edge_runtime.providers import RUNTIME_ERRORS, open_session

__all__ = ["MEASURED_BATCH", "Dims", "Measured", "measure"]

# An axis each: its size, ``batch``, a multiple ``batch*3``, or ``time`` (any size that changes with the steps).
Dims = tuple[int | str, ...]
_REFUSALS: tuple[type[Exception], ...] = (LstmEdgeError, *RUNTIME_ERRORS)

# Rows of the two runs that differ in length; a third one has a row more.
MEASURED_BATCH = 2
Feeds = Callable[[int, int], Mapping[str, Array]]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The axes of every value of the outer graph by name, its sizes along time at two lengths, and which are zero.

    Attributes:
        dims: the axes.
        steps: sizes along the time axis at the shorter and the longer sequence, for values that have such an axis.
        folded: values whose axis of time holds the rows of the batch too.
        lengths: the two lengths, in input steps.
        zeros: values that were 0 everywhere in every run.
        dtypes: NumPy's name of each value's dtype.
    """

    dims: Mapping[str, Dims]
    steps: Mapping[str, tuple[int, int]]
    folded: frozenset[str]
    lengths: tuple[int, int]
    zeros: frozenset[str]
    dtypes: Mapping[str, str]


def measure(model: ir.Model, feeds: Feeds, fewest: int) -> Measured:
    """Run a graph with all its values as outputs, at batches 2 and 3 and at two lengths.

    Args:
        model: the graph; it is not changed.
        feeds: makes the graph's inputs for a batch and a length.
        fewest: the fewest steps that the model takes.

    Raises:
        NotStreamable: it does not run so, or two axes of a value depend on the length.
    """
    proto = draft(model)
    known = {output.name for output in proto.graph.output}
    names = [name for node in proto.graph.node for name in node.output if name and name not in known]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    short = 4 * fewest + 12
    lengths = (short, 2 * short + 1)
    rows, runs = MEASURED_BATCH, list[dict[str, Array]]()
    try:
        session = open_session(proto.SerializeToString(deterministic=True))
        outputs = [output.name for output in session.get_outputs()]
        for batch, time in ((rows, lengths[0]), (rows, lengths[1]), (rows + 1, lengths[0])):
            fed = dict(feeds(batch, time))
            answers = dict(zip(outputs, session.run(None, fed), strict=True))
            runs.append({name: np.asarray(array) for name, array in (fed | answers).items()})
    except _REFUSALS as error:
        raise NotStreamable(f"the graph could not be run with its inner values: {first_line(error)}") from error
    shapes = {name: tuple(run[name].shape for run in runs) for name in runs[0]}
    return Measured(
        dims={name: _dims(name, found) for name, found in shapes.items()},
        steps={name: steps for name, found in shapes.items() if (steps := _steps(found)) is not None},
        folded=frozenset(name for name, found in shapes.items() if _is_folded(found)),
        lengths=lengths,
        zeros=frozenset(name for name in runs[0] if all(run[name].size and not run[name].any() for run in runs)),
        dtypes={name: str(array.dtype) for name, array in runs[0].items()},
    )


def _dims(name: str, shapes: tuple[tuple[int, ...], ...]) -> Dims:
    base, longer, wider = shapes
    if not len(base) == len(longer) == len(wider):
        raise NotStreamable(f"{name} has another number of axes at another length")
    dims: list[int | str] = []
    for size, long, wide in zip(base, longer, wider, strict=True):
        if size != long:
            dims.append(TIME)
        elif size != wide:
            factor, rest = divmod(size, MEASURED_BATCH)
            if rest or wide != size + factor:
                raise NotStreamable(f"{name} has an axis that is no multiple of the batch")
            dims.append(BATCH if factor == 1 else f"{BATCH}*{factor}")
        else:
            dims.append(size)
    if dims.count(TIME) > 1:
        raise NotStreamable(f"two axes of {name} depend on the number of steps: attention over the whole sequence?")
    return tuple(dims)


def _steps(shapes: tuple[tuple[int, ...], ...]) -> tuple[int, int] | None:
    base, longer, _ = shapes
    return next(((a, b) for a, b in zip(base, longer, strict=True) if a != b), None)


def _is_folded(shapes: tuple[tuple[int, ...], ...]) -> bool:
    return any(base not in {longer, wider} for base, longer, wider in zip(*shapes, strict=True))
