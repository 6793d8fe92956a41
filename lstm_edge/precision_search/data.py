"""The data of a search: tuning data, held-out data for verification, calibration data.

There are three roles. ``tuning`` decides which assignment of schemes is tried next and which passes. ``held_out`` only
confirms a result, a few times at most. ``calibration`` is for collecting the layers' activations.

* ``japanese-vowels`` is tuned and calibrated on its training split, verified on its test split.
* ``king-james`` is calibrated on its training part, tuned on its validation part, verified on its test part.
* If ``held_out`` is given, all of the data are tuning data.
* Other data are split once: sequences into halves by ``lstm_edge.data.holdout.hold_out_sequences`` (every class in both
  halves, whole groups, the later half in time held out), a text at its middle.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lstm_edge.data import BUNDLED, Dataset, NamedDataset, TableOptions, Transcripts, is_table, load_samples
from lstm_edge.data.binding import as_named, bind, calibration_calls, has_plain_input
from lstm_edge.data.holdout import hold_out_sequences
from lstm_edge.data.naming import ONLY_TARGET
from lstm_edge.data.text import TEXTS, TextData, is_text
from lstm_edge.validation.judge import load_data
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import TIME
from lstm_edge_runtime.errors import DataError, InputError
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.text import Vocabulary

__all__ = ["Roles", "Samples", "calibration_feeds", "load_calibration", "load_roles"]

Samples = Dataset | NamedDataset | Transcripts | TextData

# Fewer samples cannot show a drop at 95 %: if each had a probability of 14 % to get worse, all 20 would still be
# unchanged in 1 of 20 cases (0.86 ** 20 = 0.05).
LEAST_SEQUENCES = 20
# The bootstrap of a text draws blocks of 500 tokens (lstm_edge.validation.text); 20 blocks for the same reason.
LEAST_CHARACTERS = 10_000
# Tokens of a calibration sample of a text. Each sample starts without context, so it must not be too short.
WINDOW = 256


@dataclass(frozen=True, kw_only=True)
class Roles:
    """The samples of the three roles; ``calibration`` may equal ``tuning``; ``held_out`` shares no sample with them."""

    tuning: Samples
    held_out: Samples
    calibration: Samples


def load_roles(
    data: str,
    held_out: str | None,
    *,
    metric: str,
    table: TableOptions | None = None,
    seed: int = 0,
    say: Callable[[str], None] | None = None,
) -> Roles:
    """Load the data of a search and assign the roles.

    Args:
        data: a name for ``lstm_edge.validation.judge.load_data``.
        held_out: another name, or None: see above.
        metric: decides whether the data are sequences or a text.
        table: how a table is read: roles of the columns, spacing of the steps, what becomes of what is missing.
        seed: random seed of the split.
        say: called with one line for each thing that was done to the rows of a table.

    Raises:
        DataError: the data cannot be loaded, or there are too few samples.
        InputError: the data do not fit the metric, or both data share samples.
    """
    if table is not None and table.targets is not None and held_out is not None and held_out.endswith(".npy"):
        raise InputError(
            f"held-out data {held_out}: --targets has the targets of {data}; give the held-out data as one .npz file"
        )
    # One of two files may be a table; if neither is, the loader refuses the options of tables.
    tables = [spec for spec in (data, held_out) if spec is not None and (is_table(spec) or spec.endswith(".npy"))]

    def load(spec: str) -> Samples:
        return load_data(spec, metric, table=table if spec in tables or not tables else None, say=say)

    if held_out is not None:
        named = load(_first_part(data))
        roles = Roles(tuning=named, held_out=load(held_out), calibration=_trained_part(data, named, load))
    elif data in BUNDLED:
        train = load(f"{data}:train")
        roles = Roles(tuning=train, held_out=load(f"{data}:test"), calibration=train)
    elif data in TEXTS:
        parts = [load(f"{data}:{part}") for part in ("train", "validation", "test")]
        roles = Roles(calibration=parts[0], tuning=parts[1], held_out=parts[2])
    else:
        tuning, rest = _halves(load(data), seed)
        roles = Roles(tuning=tuning, held_out=rest, calibration=tuning)
    _check_apart(roles.tuning, roles.held_out)
    _check_enough("data", roles.tuning)
    _check_enough("held-out data", roles.held_out)
    return roles


def load_calibration(
    data: str, *, table: TableOptions | None = None, say: Callable[[str], None] | None = None
) -> Samples:
    """Load calibration data without a search: a bundled name means its training part.

    Args:
        data: the name or the file.
        table: how a table is read: roles of the columns, spacing of the steps, what becomes of what is missing.
        say: called with one line for each thing that was done to the rows of a table.

    Raises:
        DataError: the data cannot be loaded.
    """
    from lstm_edge.data.text import load_text

    if is_text(data):
        return load_text(data, default_part="train")
    return load_samples(data, default_split="train", table=table, say=say)


def calibration_feeds(
    session: Session, samples: Samples, count: int, *, seed: int = 0
) -> Iterator[Mapping[str, Array]]:
    """Yield the feeds for collecting the layers' activations: single rows, each from its initial state.

    A model without a time axis is run step by step, with its states carried from step to step.

    Args:
        session: the float32 model.
        samples: N sequences of any form that fits the model, or a text.
        count: number of random sequences, or of random chunks of 256 tokens of the text, in the data's order.
        seed: random seed of the selection.

    Yields:
        The model's inputs by name, in the model's order of axes, such as float32 ``[1, T, F]`` or ids int64 ``[1, T]``;
        and its states, where they are not zeros.

    Raises:
        DataError: the text is shorter than one chunk, or the data do not fit the model.
        InputError: the model of a text has more than one input, ``count`` is below 1, or the file has no card.
    """
    if count < 1:
        raise InputError(f"the number of calibration samples is {count}, expected 1 or more")
    generator = np.random.default_rng(seed)
    plain = session.card is None or has_plain_input(session)
    if isinstance(samples, NamedDataset) or (not isinstance(samples, TextData) and not plain):
        bound = bind(_without_plain_targets(as_named(samples), session), session, model="the model")
        for number in np.sort(generator.permutation(len(samples))[:count]):
            yield from calibration_calls(session, bound, int(number))
        return
    if len(session.inputs) != 1:
        names = ", ".join(spec.name for spec in session.inputs) or "none"
        raise InputError(f"the model has {len(session.inputs)} inputs ({names}), expected one to calibrate")
    [spec] = session.inputs
    if not isinstance(samples, TextData) and (spec.dtype.startswith("int") != _has_ids(samples)):
        held = "token ids" if _has_ids(samples) else "float32 steps"
        raise InputError(f"data {samples.name} holds {held}, but the model's input {spec.name!r} is {spec.dtype}")
    batch_axis = 1 if spec.axes[:1] == (TIME,) else 0
    for rows in _drawn(session, samples, count, generator):
        yield {spec.name: np.expand_dims(np.asarray(rows, spec.dtype), batch_axis)}


def _without_plain_targets(data: NamedDataset, session: Session) -> NamedDataset:
    """Leave out a target without the name of a tensor: calibration reads none, so no output has to be chosen for it."""
    names = {spec.name for spec in (*session.inputs, *session.outputs)}
    kept = {name: rows for name, rows in data.targets.items() if name not in ONLY_TARGET or name in names}
    return dataclasses.replace(data, targets=kept)


def _has_ids(samples: Samples) -> bool:
    return isinstance(samples, Dataset) and samples.is_ids


def _drawn(
    session: Session, samples: Dataset | Transcripts | TextData, count: int, generator: np.random.Generator
) -> Iterator[Array]:
    if not isinstance(samples, TextData):
        for number in np.sort(generator.permutation(len(samples))[:count]):
            yield samples[int(number)]
        return
    ids = Vocabulary.from_card(session.card).encode(samples.text)
    if len(ids) < WINDOW:
        raise DataError(f"data {samples.name}: has {len(ids)} tokens to calibrate with, expected {WINDOW} or more")
    starts = np.arange(0, len(ids) - WINDOW + 1, WINDOW)
    for start in np.sort(generator.permutation(starts)[:count]):
        yield ids[start : start + WINDOW]


def _first_part(data: str) -> str:
    """Return a bundled name without a part as its tuning part: training split, or validation part of a text."""
    return f"{data}:train" if data in BUNDLED else f"{data}:validation" if data in TEXTS else data


def _trained_part(data: str, tuning: Samples, load: Any) -> Samples:
    calibration: Samples = load(f"{data}:train") if data in TEXTS else tuning
    return calibration


def _halves(samples: Samples, seed: int) -> tuple[Samples, Samples]:
    if isinstance(samples, TextData):
        middle = len(samples) // 2
        return (
            TextData(name=f"{samples.name}, first half", text=samples.text[:middle]),
            TextData(name=f"{samples.name}, second half", text=samples.text[middle:]),
        )
    if isinstance(samples, Transcripts):
        order = np.random.default_rng(seed).permutation(len(samples))
        rows = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
    else:
        rows = hold_out_sequences(samples, 0.5, seed=seed)
    names = (f"{samples.name}, one half (seed {seed})", f"{samples.name}, other half (seed {seed})")
    first, second = (samples.subset(part, name=name) for part, name in zip(rows, names, strict=True))
    return first, second


def _check_apart(tuning: Samples, held_out: Samples) -> None:
    """Refuse tuning and held-out data of which one contains the other."""
    sentence = (
        f"data {tuning.name} and held-out data {held_out.name} are the same samples, or one is part of the other; "
        "expected samples that were not tuned on"
    )
    if isinstance(tuning, TextData) != isinstance(held_out, TextData):
        raise InputError(f"data {tuning.name} and held-out data {held_out.name}: expected two texts or two data sets")
    if isinstance(tuning, TextData) and isinstance(held_out, TextData):
        if tuning.text in held_out.text or held_out.text in tuning.text:
            raise InputError(sentence)
    elif not isinstance(tuning, TextData) and not isinstance(held_out, TextData):
        mine, theirs = (
            {hashlib.sha256(_content(side, number)).digest() for number in range(len(side))}
            for side in (tuning, held_out)
        )
        if mine <= theirs or theirs <= mine:
            raise InputError(sentence)


def _content(samples: Dataset | NamedDataset | Transcripts, number: int) -> bytes:
    return samples.fingerprint(number) if isinstance(samples, NamedDataset) else samples[number].tobytes()


def _check_enough(role: str, samples: Samples) -> None:
    if isinstance(samples, TextData):
        least, unit = LEAST_CHARACTERS, "characters"
    else:
        least, unit = LEAST_SEQUENCES, "sequences"
    if len(samples) < least:
        raise DataError(
            f"{role} {samples.name}: has {len(samples):,} {unit}, expected {least:,} or more to verify a budget"
        )
