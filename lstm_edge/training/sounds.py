"""A folder of WAV files as sequences of features, computed by the front end that the exported file will have."""

from collections.abc import Callable, Sequence

import numpy as np

from lstm_edge.data import Dataset, is_audio, load_audio
from lstm_edge_exporters.front_end.features import features_of
from lstm_edge_exporters.front_end.request import parse_front_end
from lstm_edge_runtime.errors import DataError, InputError

__all__ = ["load_features"]


def load_features(
    spec: str,
    front_end: str,
    *,
    labels: Sequence[str] | None = None,
    say: Callable[[str], None] | None = None,
) -> Dataset:
    """Load a folder of WAV files by label, each file as the features of its frames, float32 ``[frames, features]``.

    Args:
        spec: the folder; its sub-folders are the labels (docs/audio.md).
        front_end: the kind of features and their parameters, as ``export`` takes them.
        labels: the labels of the training data, for held-out data; None: those of the folder, sorted.
        say: called with a line now and then if reading takes long.

    Raises:
        DataError: the folder has no labels or one that was not trained on, a file cannot be read, is at another sample
            rate than the front end's, or shorter than a frame.
        InputError: the front end is malformed, or the data are no folder.
    """
    request = parse_front_end(front_end)
    if not is_audio(spec):
        raise InputError(f"data {spec}: --front-end is for a folder of WAV files; leave it out")
    sounds = load_audio(spec, say=say)
    if sounds.rate_hz != request.rate_hz:
        raise DataError(
            f"data {spec}: is at {sounds.rate_hz} Hz, the front end at {request.rate_hz} Hz; nothing is resampled: "
            f"give --front-end with rate={sounds.rate_hz}, or resample the files first"
        )
    classes = sounds.classes
    if classes is None:
        raise DataError(f"data {spec}: has no labels; expected a folder of WAV files for each label")
    rows = []
    for name, samples in zip(sounds.ids, sounds.inputs[""], strict=True):
        if not request.frames(len(samples)):
            raise DataError(
                f"data {spec}: {name} has {len(samples)} samples, expected at least {request.window}, one frame"
            )
        rows.append(features_of(request, samples[None])[0].astype(np.float32))
    dataset = Dataset(
        name=spec,
        x=np.concatenate(rows),
        lengths=np.array([len(row) for row in rows], dtype=np.int64),
        y=classes,
        labels=sounds.labels,
        ids=sounds.ids,
    )
    return dataset if labels is None else dataset.for_model(labels, len(labels))
