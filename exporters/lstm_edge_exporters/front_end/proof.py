"""Proves a file with a front end: its features are the definition's, and its answers those of the model on them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from lstm_edge_exporters.front_end.attach import Place
from lstm_edge_exporters.front_end.features import features_of
from lstm_edge_exporters.front_end.graph import alone
from lstm_edge_exporters.front_end.request import FrontEnd
from lstm_edge_exporters.verify.cases import Case, Comparison
from lstm_edge_exporters.verify.compare import Tolerance
from lstm_edge_exporters.verify.inputs import InputMaker, random_state
from lstm_edge_exporters.verify.open_model import OpenModel
from lstm_edge_exporters.verify.parity import Subjects, Trial, check_close, run_trials
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import StateSpec

__all__ = ["FEATURES", "prove"]

FEATURES = Tolerance(
    name="FEATURES",
    absolute=1e-4,
    reason="the logarithm of float32 sums over a window against float64: seen 4e-6 on noise of 80 bands and 3e-5 on "
    "cepstra; a wrong window, hop or band is off by 1e-2 and more. Scaled by the largest feature above 1",
)

# Levels of the noise that is compared: full scale, and close to the default floor.
LEVELS = (1.0, 1e-3)
FRAMES = 7


def prove(
    front_end: FrontEnd,
    place: Place,
    whole: OpenModel,
    model: OpenModel,
    maker: InputMaker,
    *,
    states: Sequence[StateSpec],
    compared: Comparison,
) -> Comparison:
    """Compare the front end with its definition, and the file with the model on the features.

    Args:
        front_end: the parameters.
        place: where it was put.
        whole: the model with the front end.
        model: the captured model, which takes features.
        maker: makes the inputs of ``whole``.
        states: the explicit states of both.
        compared: the model's comparison with the original; its cases are repeated with samples.

    Returns:
        ``compared`` in samples, with the worst of all differences.

    Raises:
        ParityError: a difference is over its tolerance.
    """
    front = OpenModel.of(alone(front_end))
    _check_features(front_end, front)

    def ask(inputs: Mapping[str, Array], state: Mapping[str, Array]) -> Mapping[str, Array]:
        others = {name: array for name, array in inputs.items() if name != place.samples.name}
        return model.answers({**others, **state, place.features.name: _features(front, place, inputs)})

    rng = np.random.default_rng(2025)
    trials = []
    for case in compared.ran:
        shape = _in_samples(front_end, case)
        inputs = maker.make(rng, shape.batch, shape.time)
        state = random_state(states, rng, shape.batch, zero=case.zero_state)
        trials.append(Trial(case=shape, feeds={**inputs, **state}, ask=partial(ask, inputs, state)))
    subjects = Subjects(
        file="the file with the front end",
        original="the model on the front end's features",
        against=f"{compared.against}, behind {front_end.text.partition(',')[0]}",
    )
    found = run_trials(whole, trials, subjects)
    furthest = max(found, compared, key=lambda one: one.max_abs_difference)
    return replace(
        found,
        max_abs_difference=furthest.max_abs_difference,
        scale=furthest.scale,
        refused=tuple((_in_samples(front_end, case), reason) for case, reason in compared.refused),
    )


def _in_samples(front_end: FrontEnd, case: Case) -> Case:
    """Return a case of frames as one of samples."""
    return replace(case, time=front_end.samples(case.time))


def _features(front: OpenModel, place: Place, inputs: Mapping[str, Array]) -> Array:
    """Compute the features as the model takes them."""
    samples = inputs[place.samples.name]
    features = front.answers({"samples": samples if place.batched else samples[None]})["features"]
    if not place.batched:
        features = features[0]
    order = [index - (not place.batched) for index in place.order if index is not None]
    ones = tuple(index for index, source in enumerate(place.order) if source is None)
    return np.ascontiguousarray(np.expand_dims(features.transpose(order), ones))


def _check_features(front_end: FrontEnd, front: OpenModel) -> None:
    """Compare the front end's nodes with the definition, on noise of several levels.

    Raises:
        ParityError: a feature differs by more than ``FEATURES``.
    """
    subjects = Subjects(
        file="the front end's graph",
        original="the definition of its features",
        against="",
        tolerance=FEATURES,
    )
    rng = np.random.default_rng(7)
    for level in LEVELS:
        for count in (front_end.window, front_end.samples(FRAMES) + front_end.hop - 1):
            noise = (level * rng.uniform(-1.0, 1.0, (2, count))).astype(np.float32)
            expected = features_of(front_end, noise).transpose(0, 2, 1).astype(np.float32)
            got = front.answers({"samples": noise})["features"]
            check_close(f"features of {count} samples of noise at {level:g}", got, expected, subjects)
