"""The reference data of a card: how the inputs are distributed on the data that ``quantize`` got."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from lstm_edge.data import TableOptions
from lstm_edge.precision_search.data import calibration_feeds, load_calibration
from lstm_edge_exporters.onnx_graph.reading import with_weights
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.artifact import read_model_bytes
from lstm_edge_runtime.card import TIME, TensorSpec
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.reference_data import ReferenceData
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.watch.drift import feature_histograms, feature_rows

__all__ = ["InputRows", "reference_for"]

# Evenly spaced rows of each sequence that are kept: 128 sequences give up to 128,000 rows, more than an index needs
# whose own error is about 9/N.
MOST_ROWS = 1000


class InputRows:
    """Collects rows of the float inputs with a time axis; ids and settings have no histogram."""

    def __init__(self, session: Session) -> None:
        """Start with none. A file without a card has unknown axes, so nothing is collected."""
        inputs: tuple[TensorSpec, ...] = () if session.card is None else session.inputs
        timed = [spec for spec in inputs if TIME in spec.axes] or inputs
        self._specs = [spec for spec in timed if np.dtype(spec.dtype).kind == "f"]
        self._rows: dict[str, list[Array]] = {spec.name: [] for spec in self._specs}

    def __bool__(self) -> bool:
        """Whether the model has such an input."""
        return bool(self._specs)

    def passing(self, feeds: Iterable[Mapping[str, Array]]) -> Iterator[Mapping[str, Array]]:
        """Yield the feeds, and collect of each as it passes."""
        for feed in feeds:
            for spec in self._specs:
                rows = feature_rows(spec, feed[spec.name])
                self._rows[spec.name].append(rows[:: -(-len(rows) // MOST_ROWS)].copy())
            yield feed

    def reference(self, name: str) -> ReferenceData | None:
        """Return the histograms under the name of the data; None if the model has no such input, or nothing passed."""
        if not self._specs or not all(self._rows.values()):
            return None
        histograms = {spec.name: feature_histograms(np.concatenate(self._rows[spec.name])) for spec in self._specs}
        return ReferenceData(data=name, inputs=histograms)


def reference_for(
    path: str | os.PathLike[str],
    data: str,
    *,
    table: TableOptions | None = None,
    samples: int = 128,
    seed: int = 0,
    say: Callable[[str], None] = lambda _message: None,
) -> ReferenceData:
    """Return the reference data of a model.

    Args:
        path: the model file.
        data: see ``load_calibration``.
        table: how a table is read.
        samples: number of sequences.
        seed: random seed of their selection.
        say: called with one line for each stage.

    Raises:
        InputError: the model has no float input with known axes.
        LstmEdgeError: the file or the data cannot be read, or the data do not fit.
    """
    session = Session(with_weights(read_model_bytes(path), Path(path).parent), kernels="off")
    rows = InputRows(session)
    if not rows:
        raise InputError(
            f"{os.fspath(path)}: the model has no float input with known axes, so there is no distribution to record: "
            "leave --reference-data out"
        )
    known = load_calibration(data, table=table, say=say)
    say(f"recording the distribution of the inputs on {known.name}")
    for _ in rows.passing(calibration_feeds(session, known, samples, seed=seed)):
        pass
    found = rows.reference(known.name)
    assert found is not None
    return found
