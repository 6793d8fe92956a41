"""A model's outputs for a whole data set. Imports only NumPy and the runtime package, so it also runs on the device."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lstm_edge.data import Dataset, Transcripts
from lstm_edge.data.binding import as_named, bind, has_plain_input
from lstm_edge.validation.answers import sequence_answers
from lstm_edge.validation.transcription import Transcriber
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import BATCH, TIME, TensorSpec
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.library import KernelChoice
from lstm_edge_runtime.session import Session

__all__ = ["OpenModel", "Predictions", "ReadModel", "Source", "name_of", "opener", "predict"]

Source = str | os.PathLike[str] | bytes


class ReadModel(bytes):
    """The bytes of a file that was read once; ``path`` is its name in messages."""

    path: str

    @classmethod
    def of(cls, data: bytes, path: str) -> "ReadModel":
        """Return the bytes with the path that they were read from."""
        model = cls(data)
        model.path = path
        return model


# Opens a model to run it: here, or on a device.
OpenModel = Callable[[Source], Session]


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """A model's outputs, and the size of the model in bytes.

    ``outputs``: ``[N, ...]``, one row for each sequence; if the data have a target for each step, or a text for each
    sequence, ``[steps, ...]``, the concatenated steps of all sequences. ``labels``: the class names in the model's
    card, or empty. ``texts``: for data with texts the transcription of each sequence, else empty.
    """

    outputs: Array
    size_bytes: int
    labels: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()


def predict(
    source: Source,
    data: Dataset | Transcripts,
    *,
    open_model: OpenModel = Session,
    on_sample: Callable[[int], None] | None = None,
) -> Predictions:
    """Run a model over every sequence, one by one (batch 1), so that it needs no ``lengths`` input.

    Args:
        source: path of an ``.onnx`` file, or its bytes, with one input of any axes (see ``lstm_edge.data.binding``),
            float32 or token ids, and one output: without a time axis for one answer for each sequence, with one for an
            answer for each step; for data with texts logits ``[batch, time, symbols]`` or integers ``[batch, time]``
            (see ``lstm_edge.validation.transcription``).
        data: N sequences.
        open_model: opens the model; by default on this machine, with one thread.
        on_sample: called with the number of sequences done.

    Returns:
        The model's output for each sequence, without the batch axis of 1, and the size of the model in bytes.

    Raises:
        ArtifactError: the file is missing or cannot be opened.
        DataError: the data do not fit the model's input.
        InputError: the model's input or output has another form, or an output holds NaN or infinity.
    """
    name = name_of(source)
    session = open_model(source)
    target = _only(name, "output", session.outputs) if session.card is not None else _form(name, session, data)[1]
    transcriber = Transcriber(name, session) if isinstance(data, Transcripts) else None
    run = _runner(name, session, data)
    rows: list[Array] = []
    for number, sequence in enumerate(data, start=1):
        row = run(number - 1)
        if row.dtype.kind == "f" and not np.isfinite(row).all():
            raise InputError(f"{name}: output {target.name!r} holds NaN or infinity for sequence {number - 1}")
        if isinstance(data, Dataset) and data.per_step and len(row) != len(sequence):
            raise InputError(
                f"{name}: output {target.name!r} has {len(row)} steps for the {len(sequence)} of sequence "
                f"{number - 1}, expected one answer for each step"
            )
        rows.append(row)
        if on_sample:
            on_sample(number)
    labels = (session.card.labels if session.card is not None else None) or ()
    whole = isinstance(data, Dataset) and not data.per_step
    return Predictions(
        outputs=np.stack(rows) if whole else np.concatenate(rows),
        size_bytes=session.size_bytes,
        labels=tuple(labels),
        texts=() if transcriber is None else tuple(transcriber.read(row) for row in rows),
    )


def opener(threads: int, kernels: KernelChoice = "auto") -> OpenModel:
    """Return what opens a model on this machine with so many of onnxruntime's threads, and these kernels."""
    return lambda source: Session(source, threads=threads, kernels=kernels)


def name_of(source: Source) -> str:
    """Return the name of a model for messages."""
    if isinstance(source, ReadModel):
        return f"model {source.path}"
    return "model" if isinstance(source, bytes) else f"model {os.fspath(source)}"


def _runner(name: str, session: Session, data: Dataset | Transcripts) -> Callable[[int], Array]:
    """Return the function that runs the model on a sequence and gives its only output without the batch axis."""
    if session.card is not None and not has_plain_input(session):
        bound = bind(as_named(data), session, model=name)
        target = session.outputs[0]
        if isinstance(data, Dataset):
            _check_time(name, target, data, by_step=bound.by_step)
        return lambda index: sequence_answers(session, bound, index)[target.name]
    feed, target = _form(name, session, data)
    time_first = TIME in feed.axes and feed.axes.index(TIME) == 0

    def run(index: int) -> Array:
        outputs, _ = session.run({feed.name: np.expand_dims(np.asarray(data[index], feed.dtype), int(time_first))})
        return _row(outputs[target.name], target)

    return run


def _row(output: Array, target: TensorSpec) -> Array:
    """Return the only row of a batch, with the time axis first if there is one."""
    axes = list(target.axes)
    batch = axes.index(BATCH) if BATCH in axes else 0
    row = np.take(output, 0, axis=batch)
    axes.pop(batch)
    return np.moveaxis(row, axes.index(TIME), 0) if TIME in axes else row


def _form(name: str, session: Session, data: Dataset | Transcripts) -> tuple[TensorSpec, TensorSpec]:
    """Return the input and the output that go with the data."""
    try:
        feed = _only(name, "input", session.inputs)
        target = _only(name, "output", session.outputs)
        _check_features(name, feed, data)
        if isinstance(data, Dataset):
            _check_time(name, target, data)
    except InputError as error:
        if session.card is not None:
            raise
        raise InputError(
            f"{error}; the file has no model card, so its states and axes are unknown: adopt it first, with lstm-edge "
            "adopt IN.onnx -o OUT.onnx"
        ) from error
    return feed, target


def _only(name: str, what: str, specs: Sequence[TensorSpec]) -> TensorSpec:
    if len(specs) != 1:
        names = ", ".join(spec.name for spec in specs) or "none"
        raise InputError(f"{name}: has {len(specs)} {what}s ({names}), expected one to validate")
    return specs[0]


def _check_time(name: str, target: TensorSpec, data: Dataset, *, by_step: bool = False) -> None:
    timed = by_step or TIME in target.axes
    if timed and not data.per_step:
        raise InputError(f"{name}: output {target.name!r} has a time axis, expected one answer for each sequence")
    if not timed and data.per_step:
        raise InputError(
            f"{name}: output {target.name!r} has no time axis, but data {data.name} has a target for each step"
        )


def _check_features(name: str, source: TensorSpec, data: Dataset | Transcripts) -> None:
    if isinstance(data, Dataset) and data.is_ids:
        if source.dtype not in ("int32", "int64") or len(source.axes) != 2:
            axes = ", ".join(map(str, source.axes))
            raise InputError(
                f"{name}: input {source.name!r} is {source.dtype}[{axes}], but data {data.name} has token ids, "
                "int64[batch, time]"
            )
        return
    known = [axis for axis in source.axes if isinstance(axis, int)]
    if source.dtype != "float32" or len(source.axes) != 3 or known[-1:] not in ([], [data.features]):
        axes = ", ".join(map(str, source.axes))
        raise InputError(
            f"{name}: input {source.name!r} is {source.dtype}[{axes}], "
            f"but data {data.name} has float32[batch, time, {data.features}]"
        )
