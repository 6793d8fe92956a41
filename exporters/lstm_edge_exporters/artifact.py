"""From a serialized graph to the file: model card, golden vectors, integrity trailer; nothing is written in between."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import onnx

from lstm_edge_exporters.onnx_graph.writing import LARGEST_BYTES
from lstm_edge_exporters.verify.inputs import InputMaker, random_feeds
from lstm_edge_exporters.verify.open_model import OpenModel
from lstm_edge_runtime.artifact import GOLDEN_KEY, append_trailer
from lstm_edge_runtime.card import CARD_KEY, ModelCard, serialize_card
from lstm_edge_runtime.errors import ArtifactError
from lstm_edge_runtime.golden import Golden, GoldenVector, encode_golden
from lstm_edge_runtime.providers import RUNTIME_ERRORS
from lstm_edge_runtime.selftest import self_test
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.writing import write_atomically

__all__ = [
    "MINIMUM_ONNXRUNTIME",
    "Artifact",
    "assemble",
    "make_golden",
    "own_version",
    "with_card",
    "write",
]

MINIMUM_ONNXRUNTIME = "1.18"

# Golden vectors of float32 graphs: other CPUs sum in other orders (3e-8 seen between x86-64 and ARM; PyTorch and
# onnxruntime on one CPU are up to 1.3e-6 apart at hidden 1024). Of int8 graphs: the last bit of a sigmoid may flip a
# rounding, which moves an output by up to 2e-3 and is then fed back.
FLOAT_TOLERANCE = 1e-5
INT8_TOLERANCE = 1e-2


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A finished model file in memory: its bytes, the card that they carry, and the session that tested the bodies."""

    data: bytes
    card: ModelCard
    session: Session = field(repr=False, compare=False)


def own_version() -> str:
    """Return the version of this distribution, or ``uninstalled``."""
    try:
        return version("lstm-edge")
    except PackageNotFoundError:  # a checkout that is on the path but not installed
        return "uninstalled"


def make_golden(model: OpenModel, card: ModelCard, maker: InputMaker, *, least: int = 1) -> Golden:
    """Run the model on a few inputs and keep the answers: two rows with a state, and one step from zero.

    Smaller shapes are taken where the vectors would not fit into 64 KiB; none of fewer steps than ``least``
    (``Comparison.fewest_steps``), and none whose answer is empty, is not finite, or is another one the second time.

    Raises:
        ArtifactError: no shape gives vectors.
    """
    # The last is for models that take no short sequences, such as a convolution over time without padding.
    for shapes in (((2, 5), (1, 1)), ((2, 2), (1, 1)), ((1, 2),), ((1, 1),), ((1, 23),)):
        found = [_vector(model, card, maker, batch, time) for batch, time in shapes if time >= least]
        vectors = tuple(vector for vector in found if vector is not None)
        if not vectors:
            continue
        tolerance = _tolerance(vectors, quantized=card.quantization is not None)
        golden = Golden(vectors=vectors, tolerance_bodies=tolerance, tolerance_kernels=tolerance)
        try:
            encode_golden(golden)
        except ArtifactError:
            continue
        return golden
    raise ArtifactError(
        "no golden vectors: the model does not run on sequences of 1 to 23 steps made from its own description, its "
        "answers are empty, not finite or different each time, or the vectors of a single step do not fit into 64 KiB"
    )


def _tolerance(vectors: Sequence[GoldenVector], *, quantized: bool) -> float:
    """The tolerance for answers of order one, scaled by the largest answer where that is above 1, as ``EXPORT`` is.

    A last bit, and the step of a rounding that flips, are shares of the values; a language model's logits go to 20.
    """
    largest = max(
        float(np.abs(array.astype(np.float64)).max()) for vector in vectors for array in vector.outputs.values()
    )
    return (INT8_TOLERANCE if quantized else FLOAT_TOLERANCE) * max(1.0, largest)


def _vector(model: OpenModel, card: ModelCard, maker: InputMaker, batch: int, time: int) -> GoldenVector | None:
    """One input with its answer, or None where the model does not take this shape."""
    rng = np.random.default_rng(batch * 100 + time)
    feeds = random_feeds(maker, card, rng, batch, time, zero_state=time == 1)
    try:
        answers, again = model.answers(feeds), model.answers(feeds)
    except RUNTIME_ERRORS:
        return None
    sound = all(
        array.size and np.all(np.isfinite(array)) and np.array_equal(array, again[name])
        for name, array in answers.items()
    )
    return GoldenVector(inputs=feeds, outputs=answers) if sound else None


def assemble(model: bytes, card: ModelCard, golden: Golden) -> Artifact:
    """Add card, golden vectors and trailer to a serialized model, then open it as a device would and self-test it.

    Raises:
        ArtifactError: the file is over 2 GB, or does not pass its own self-test.
        CardError: the card contradicts the graph.
    """
    proto = onnx.ModelProto()
    proto.metadata_props.add(key=CARD_KEY, value=serialize_card(card))
    proto.metadata_props.add(key=GOLDEN_KEY, value=encode_golden(golden))
    # Concatenated protobuf messages merge, so the metadata can follow a model that is already serialized.
    data = model + proto.SerializeToString(deterministic=True)
    if len(data) > LARGEST_BYTES - 1024:
        raise ArtifactError(f"the model is {len(data)} bytes: an ONNX file holds at most {LARGEST_BYTES}")
    data = append_trailer(data)
    bodies = Session(data, kernels="off")
    _test(bodies)
    # The function bodies are what every device can run; where kernels are at hand, they must pass too.
    if bodies.operators:
        fused = Session(data)
        if fused.kernels is not None:
            _test(fused)
    return Artifact(data=data, card=card, session=bodies)


def _test(session: Session) -> None:
    report = self_test(session)
    if not report.passed:
        raise ArtifactError(
            f"the new file fails its own self-test with {report.kind}: worst difference {report.worst:.3g}"
        )


def with_card(artifact: Artifact, card: ModelCard) -> Artifact:
    """Return the same graph and golden vectors with another card, opened and tested again.

    Raises:
        ArtifactError: the artifact has no golden vectors, or the new file does not pass its own self-test.
        CardError: the card contradicts the graph.
    """
    golden = artifact.session.golden()
    if golden is None:
        raise ArtifactError("the model has no golden vectors, so its card cannot be replaced")
    proto = onnx.ModelProto()
    proto.ParseFromString(artifact.data)
    del proto.metadata_props[:]
    return assemble(proto.SerializeToString(deterministic=True), card, golden)


def write(artifact: Artifact, path: str | os.PathLike[str]) -> None:
    """Write the file; it appears under its name whole or not at all.

    Raises:
        OutputError: the path cannot be written.
    """
    write_atomically(path, artifact.data)
