"""The choice of golden vectors: small ones, from inputs at which a small change of the input changes little."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lstm_edge_exporters.verify.cases import Case, input_steps, within
from lstm_edge_exporters.verify.inputs import InputMaker, random_feeds
from lstm_edge_exporters.verify.open_model import OpenModel
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import ModelCard
from lstm_edge_runtime.errors import ArtifactError, first_line
from lstm_edge_runtime.golden import Golden, GoldenVector, encode_golden, sample
from lstm_edge_runtime.providers import RUNTIME_ERRORS

__all__ = ["golden_choices"]

# Golden vectors of float32 graphs: other CPUs sum in other orders (3e-8 seen between x86-64 and ARM; PyTorch and
# onnxruntime on one CPU are up to 1.3e-6 apart at hidden 1024). Of int8 graphs: the last bit of a sigmoid may flip a
# rounding, which moves an output by up to 2e-3 and is then fed back.
FLOAT_TOLERANCE = 1e-5
INT8_TOLERANCE = 1e-2

# Two rows with a state, and one step from zero; smaller ones where the model or the file takes no more. The last is for
# models that take no short sequences, such as a convolution over time without padding.
SHAPES = (((2, 5), (1, 1)), ((2, 2), (1, 1)), ((1, 2),), ((1, 1),), ((1, 23),))
# Further draws, with the share of the usual spread, for models that amplify a small change at the first one.
DRAWS = ((0, 1.0), (1, 1.0), (2, 1.0), (3, 1.0), (4, 0.25), (5, 0.25), (6, 1 / 64), (7, 1 / 64))
# A relative change of an input by four units in the last place of float32: more than CPUs and kernels differ by.
SMALL_CHANGE = 2.0**-22
# The state that counts the samples of a stream; the streaming package makes it.
POSITION = "stream.position"
# An array of more elements repeats its first ones, which a deflated archive stores once. A prime number: it shares no
# divisor with the sizes of axes, so the rows and columns of an image still differ.
MOST_DRAWN = 1024
REPEATED = 509
# Elements that the sample of one output has at most: fewer where there are many outputs.
SAMPLES = (4096, 1024, 256, 64)


class _NoVector(Exception):  # noqa: N818  not an error: another shape may give one
    """An input gives no golden vector; the message is the reason."""


class _NotFinite(_NoVector):
    """Another draw of the same shape may have finite answers."""


@dataclass(frozen=True)
class _Candidate:
    """Golden vectors of one draw, and how far a small change of their inputs moves the answers, in tolerances."""

    golden: Golden
    change: float


def golden_choices(model: OpenModel, card: ModelCard, maker: InputMaker, *, least: int = 1) -> Iterator[Golden]:
    """Run the model on a few inputs and keep the answers; yields the best choice first.

    Inputs at which a small change of the input moves the answers by less than the tolerance come first: on another CPU
    the last bits differ. None has fewer steps than ``least`` (``Comparison.fewest_steps``), and none an answer that is
    empty, not finite, or another one the second time. A large array repeats a short block, and large outputs are
    sampled.

    Raises:
        ArtifactError: no shape gives vectors; the message says why not.
    """
    unstable: list[_Candidate] = []
    reasons: list[str] = []
    found, tried = False, set[tuple[object, ...]]()
    for grid in SHAPES:
        shapes = [(batch, input_steps(card, time)) for batch, time in grid]
        cases = [within(Case(batch=batch, time=time), maker) for batch, time in shapes if time >= least]
        key = tuple(dict.fromkeys(map(str, cases)))
        if not cases or key in tried:
            continue
        tried.add(key)
        choice = _Choice(model, card, maker, [shape for shape in shapes if shape[1] >= least])
        for candidate in choice.candidates():
            found = True
            if candidate.change <= 0.5:
                yield candidate.golden
                break
            unstable.append(candidate)
        reasons += choice.reasons
    if not found:
        raise ArtifactError(f"no golden vectors: {'; '.join(list(dict.fromkeys(reasons))[:3])}")
    yield from (candidate.golden for candidate in sorted(unstable, key=lambda candidate: candidate.change)[:8])


class _Choice:
    """The golden vectors of one or two shapes; ``reasons`` says of each shape without one why."""

    def __init__(self, model: OpenModel, card: ModelCard, maker: InputMaker, shapes: Sequence[tuple[int, int]]) -> None:
        self.model, self.card, self.maker, self.shapes = model, card, maker, shapes
        self.reasons: list[str] = []
        self.counts = {state.output for state in card.states if state.input.startswith(POSITION)}
        self.tolerance = FLOAT_TOLERANCE if card.quantization is None else INT8_TOLERANCE

    def candidates(self) -> Iterator[_Candidate]:
        """Yield the vectors of each draw; none where no shape gives one."""
        for seed, spread in DRAWS:
            found, moves, finite = list[GoldenVector](), list[dict[str, float]](), True
            for shape in self.shapes:
                try:
                    vector, moved = self._vector(*shape, seed, spread)
                except _NoVector as error:
                    finite &= not isinstance(error, _NotFinite)
                    self.reasons.append(f"at {within(Case(batch=shape[0], time=shape[1]), self.maker)} {error}")
                    continue
                found.append(vector)
                moves.append(moved)
            if not found and finite:
                return
            try:
                golden = self._fitting(found) if found else None
            except ArtifactError as error:
                self.reasons.append(str(error))
                return
            if golden is not None:
                shares = (by / golden.tolerance(name, kernels=False) for moved in moves for name, by in moved.items())
                yield _Candidate(golden, max(shares, default=np.inf))

    def _vector(self, batch: int, time: int, seed: int, spread: float) -> tuple[GoldenVector, dict[str, float]]:
        """One input with its answer, and how far a small change of the input moves each output."""
        rng = np.random.default_rng(batch * 100 + time + 10_000 * seed)
        drawn = random_feeds(
            self.maker, self.card, rng, batch, time, zero_state=time == input_steps(self.card, 1), spread=spread
        )
        feeds = {name: _repeated(array) for name, array in drawn.items()}
        try:
            answers, again = self.model.answers(feeds), self.model.answers(feeds)
            changed = self.model.answers({name: _changed(array, rng) for name, array in feeds.items()})
        except RUNTIME_ERRORS as error:
            raise _NoVector(f"onnxruntime does not run the model: {first_line(error)}") from error
        for name, array in answers.items():
            if not array.size:
                raise _NoVector(f"the output {name!r} is empty")
            if not np.all(np.isfinite(array)):
                raise _NotFinite(f"the output {name!r} is NaN or infinite")
            if not np.array_equal(array, again[name]):
                raise _NoVector(f"the output {name!r} is another one each time")
        return GoldenVector(inputs=feeds, outputs=answers), _distances(answers, changed)

    def _fitting(self, vectors: Sequence[GoldenVector]) -> Golden:
        """The vectors, with samples of the outputs that are small enough for the file.

        Raises:
            ArtifactError: the inputs alone are too large.
        """
        refusal: ArtifactError | None = None
        for most in SAMPLES:
            sampled = tuple(vector if most == SAMPLES[0] else _sampled(vector, most) for vector in vectors)
            each = _tolerances(self.tolerance, vectors, sampled, self.counts)
            whole = max(each.values())
            golden = Golden(
                vectors=sampled,
                tolerance_bodies=whole,
                tolerance_kernels=whole,
                tolerance_outputs={name: value for name, value in each.items() if value < whole},
            )
            try:
                encode_golden(golden)
            except ArtifactError as error:
                refusal = error
            else:
                return golden
        assert refusal is not None
        raise refusal


def _tolerances(
    least: float, vectors: Sequence[GoldenVector], sampled: Sequence[GoldenVector], counts: Collection[str]
) -> dict[str, float]:
    """The tolerance of each output: ``least``, scaled by its largest value where that is above 1, as ``EXPORT`` is.

    A last bit, and the step of a rounding that flips, are shares of the values; a language model's logits go to 20. A
    reader knows of a sample alone and accepts ten times what it calls for. Integers and ``counts``, such as a stream's
    position, are exact. A cell state or cache of 8 says nothing of a probability beside it.
    """
    real, shown = (_largest(those, counts) for those in (vectors, sampled))
    return {name: least * min(largest, 10.0 * shown[name]) for name, largest in real.items()}


def _largest(vectors: Sequence[GoldenVector], counts: Collection[str]) -> dict[str, float]:
    """The largest magnitude of each output, 1 where it is less or where the last bits do not differ."""
    largest: dict[str, float] = {}
    for name, array in (pair for vector in vectors for pair in vector.outputs.items()):
        rounded = array.dtype.kind == "f" and name not in counts
        found = float(np.abs(array.astype(np.float64)).max()) if rounded else 1.0
        largest[name] = max(1.0, found, largest.get(name, 1.0))
    return largest


def _repeated(array: Array) -> Array:
    """Repeat the first elements of a large array: a fixed image of 115,200 bytes becomes 2 KiB of the archive."""
    return array if array.size <= MOST_DRAWN else np.resize(array.reshape(-1)[:REPEATED], array.shape)


def _changed(array: Array, rng: np.random.Generator) -> Array:
    if array.dtype.kind != "f":
        return array
    signs = rng.integers(0, 2, array.shape) * 2 - 1
    return np.asarray(array * (1 + SMALL_CHANGE * signs), array.dtype)


def _distances(answers: Mapping[str, Array], changed: Mapping[str, Array]) -> dict[str, float]:
    """The greatest difference in each output; infinite where one is NaN or the shapes differ."""
    distances = dict.fromkeys(answers, np.inf)
    for name, array in answers.items():
        if array.shape == changed[name].shape:
            difference = np.abs(array.astype(np.float64) - changed[name])
            distances[name] = float(np.nan_to_num(difference, nan=np.inf).max())
    return distances


def _sampled(vector: GoldenVector, most: int) -> GoldenVector:
    samples = {name: sample(array, most) for name, array in vector.outputs.items()}
    return GoldenVector(
        inputs=vector.inputs,
        outputs={name: flat if stride > 1 else vector.outputs[name] for name, (flat, stride) in samples.items()},
        strides={name: stride for name, (_, stride) in samples.items() if stride > 1},
    )
