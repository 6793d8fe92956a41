"""Calibration: statistics of the activations of a float32 model's layers, as a Gram matrix for each weight matrix.

The Gram matrix Σ a aᵀ over the rows a that a matrix [K, N] multiplies says what an error of its weights costs in the
products: for a column's error e it is eᵀ (Σ a aᵀ) e. ``compensate`` rounds by it.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_edge_exporters.functions.simulation import quantize_rows
from lstm_edge_exporters.onnx_graph.reading import parse_model
from lstm_edge_exporters.onnx_graph.writing import draft
from lstm_edge_exporters.quantize.activations import add_pairs, add_taps, find_taps
from lstm_edge_exporters.quantize.convolutions.statistics import Gathered, gathering
from lstm_edge_exporters.quantize.layers import find_layers
from lstm_edge_exporters.quantize.pointwise import linear_convolutions
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import BATCH
from lstm_edge_runtime.checks import check_array, check_finite, check_lengths, check_shapes, name_inputs
from lstm_edge_runtime.contract import Contract
from lstm_edge_runtime.errors import DataError, InputError, QuantizationError, first_line
from lstm_edge_runtime.providers import RUNTIME_ERRORS, open_session
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.state import State

__all__ = ["Calibration", "collect"]

Float64 = NDArray[np.float64]
Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The statistics that ``collect`` gathered for a model's layers.

    Attributes:
        grams: Σ a aᵀ, float64 [K, K], for each matrix [K, N] by its name (``lstm.w``, ``lstm.r``, ``head.weight``),
            over the rows a as the kernels see them: rounded to int8 by row. Padding is not counted.
        rows: how many rows the matrix that saw the fewest has in ``grams``.
        missing: the matrices without a Gram matrix, each with the reason; they are rounded without compensation.
        sha256: of the data, in hexadecimal: names, types, shapes and bytes of all feeds in their order.
        convolutions: what the inputs and results of convolutions were.
    """

    grams: Mapping[str, Float64]
    rows: int
    missing: Mapping[str, str]
    sha256: str
    convolutions: Gathered = field(default_factory=Gathered)

    def without_graph(self) -> "Calibration":
        """Return the same statistics without the graph that they were gathered in, for another process."""
        return replace(self, convolutions=self.convolutions.without_graph())


@dataclass(kw_only=True)
class _Sums:
    """The sums over the feeds."""

    grams: dict[str, Float64] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, rows: Array) -> None:
        """Add rows float32 [R, K].

        Raises:
            DataError: they hold NaN or infinity.
        """
        if not np.isfinite(rows).all():
            raise DataError(
                f"calibration: the activations that {name} multiplies hold NaN or infinity: the float32 model itself "
                "gives them on this data"
            )
        width = rows.shape[-1]
        gram = self.grams.setdefault(name, np.zeros((width, width)))
        self.rows[name] = self.rows.get(name, 0) + len(rows)
        if len(rows):
            q, s = quantize_rows(np.asarray(rows, np.float32))
            seen = q * s.astype(np.float64)
            gram += seen.T @ seen


def collect(data: bytes, feeds: Iterable[Mapping[str, Array]], *, progress: Progress | None = None) -> Calibration:
    """Run a float32 model on data and collect what its layers' matrices multiply.

    Args:
        data: the model's file, float32, as it goes into ``quantize_bytes``.
        feeds: arrays by the names of the model's inputs, one mapping per run. Missing states are zero, and missing
            lengths are all steps.
        progress: called with a line for each run.

    Raises:
        DataError: there is no feed, no layer saw as many rows as it has inputs, or activations are NaN or infinite.
        InputError: a feed does not fit the model: name, dtype, shape, length, NaN, or onnxruntime refuses it.
        QuantizationError: the model has no layer with activations to collect.
        ArtifactError: the model cannot be read.
    """
    say = progress or (lambda _message: None)
    opened = Session(data, kernels="off")
    contract = Contract(
        inputs=opened.inputs, outputs=opened.outputs, states=opened.states, lengths=opened.lengths, end=opened.end
    )
    model = parse_model(data)
    # As the quantizer does, so that these layers are calibrated too.
    linear_convolutions(model, {reader.node for reader in find_layers(model) if reader.kind == "recurrent"})
    taps, missing = find_taps(model)
    if not taps and not missing:
        raise QuantizationError("the model has no float32 recurrent or linear layer: there is nothing to calibrate")
    outputs, convolutions = add_taps(model, taps), gathering(model)
    pairs = add_pairs(model, convolutions.values())
    session = open_session(draft(model).SerializeToString(deterministic=True))
    names = [name for roles in outputs for name in roles.values()] + [name for pair in pairs for name in pair]
    sums, digest, count = _Sums(), hashlib.sha256(), 0
    for count, feed in enumerate(feeds, start=1):
        complete = _complete(contract, feed, f"calibration feed {count}")
        _update(digest, feed)
        try:
            # onnxruntime returns all outputs if none is requested.
            answers: dict[str, Any] = dict(zip(names, session.run(names, complete) if names else (), strict=True))
        except RUNTIME_ERRORS as error:
            raise InputError(f"calibration feed {count}: onnxruntime refused it: {first_line(error)}") from error
        for tap, roles in zip(taps, outputs, strict=True):
            for name, rows in tap.rows({role: answers[output] for role, output in roles.items()}):
                sums.add(name, rows)
        convolutions.add(complete, [(answers[x], answers[y]) for x, y in pairs])
        say(f"calibrating: {count} runs, {max(sums.rows.values(), default=0):,} rows of activations")
    if not count:
        raise DataError("calibration: there is no data: expected at least one feed")
    return replace(_finish(sums, missing, digest.hexdigest()), convolutions=convolutions)


def _finish(sums: _Sums, missing: Mapping[str, str], sha256: str) -> Calibration:
    reasons = dict(missing)
    for name, count in sums.rows.items():
        width = len(sums.grams[name])
        if count < width:
            # Fewer rows than inputs leave directions in which an error seems to cost nothing.
            reasons.setdefault(name, f"{count} rows of activations, expected {width} or more: give more samples")
    grams = {name: gram for name, gram in sums.grams.items() if name not in reasons}
    if sums.rows and not grams:
        listed = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise DataError(f"calibration: no layer can be calibrated ({listed})")
    rows = min((sums.rows[name] for name in grams), default=0)
    return Calibration(grams=grams, rows=rows, missing=reasons, sha256=sha256)


def _update(digest: Any, feed: Mapping[str, Array]) -> None:
    for name in sorted(feed):
        array = np.ascontiguousarray(feed[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode() + array.tobytes())


def _complete(contract: Contract, feed: Mapping[str, Array], where: str) -> dict[str, Array]:
    """Check a feed as ``Session.run`` does, and fill in states and lengths that it does not give."""
    try:
        states = {spec.input for spec in contract.states}
        rest = {name: array for name, array in feed.items() if name not in states and name != contract.lengths}
        named = name_inputs(contract, rest)
        arrays = {spec.name: check_array(spec, named[spec.name]) for spec in contract.inputs}
        sizes = check_shapes(contract.inputs, arrays)
        for name, array in arrays.items():
            check_finite(name, array)
        lengths = check_lengths(contract, feed.get(contract.lengths or ""), sizes)
        if contract.lengths and lengths is not None:
            arrays[contract.lengths] = lengths
        if contract.end is not None:
            arrays[contract.end] = np.ones(1, np.int64)
        zeros = dict(State.zeros(contract.states, sizes.get(BATCH, 1)))
        given = zeros | {name: feed[name] for name in states if name in feed}
        state = State.from_arrays(contract.states, given)
        if contract.states and state.batch_size not in (None, sizes.get(BATCH, 1)):
            raise InputError(f"the states have {state.batch_size} rows, the inputs {sizes.get(BATCH, 1)}")
        return arrays | dict(state)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
