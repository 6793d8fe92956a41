"""Adds model card, golden vectors and integrity trailer to a serialized graph; only the finished file is written."""

import dataclasses
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version

import onnx

from lstm_edge_exporters.functions import DOMAIN, recurrent_node
from lstm_edge_exporters.onnx_graph.writing import LARGEST_BYTES
from lstm_edge_runtime.artifact import GOLDEN_KEY, append_trailer
from lstm_edge_runtime.card import CARD_KEY, ModelCard, serialize_card
from lstm_edge_runtime.errors import ArtifactError
from lstm_edge_runtime.golden import Golden, encode_golden
from lstm_edge_runtime.model_reading import read_model
from lstm_edge_runtime.selftest import self_test
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.writing import write_atomically

__all__ = [
    "MINIMUM_ONNXRUNTIME",
    "Artifact",
    "assemble",
    "own_version",
    "with_card",
    "write",
]

MINIMUM_ONNXRUNTIME = "1.18"


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A finished model file in memory: its bytes, its card, and the session that tested the function bodies.

    ``output_scale`` is the scale of the worst difference in the card's parity: the greatest absolute value that was
    expected of the output that has it, in its unit. None: nothing was compared.
    """

    data: bytes
    card: ModelCard
    session: Session = field(repr=False, compare=False)
    output_scale: float | None = None


def own_version() -> str:
    """Return the version of this distribution, or ``uninstalled``."""
    try:
        return version("lstm-edge")
    except PackageNotFoundError:  # a checkout on the path that is not installed
        return "uninstalled"


def assemble(
    model: bytes, card: ModelCard, goldens: Iterable[Golden], *, output_scale: float | None = None
) -> Artifact:
    """Add card, golden vectors and trailer to a serialized model, then open it as a device would and self-test it.

    Args:
        model: the serialized graph.
        card: what the file says about itself. A layer under an operator that the graph does not call, because its body
            was put in its place, is described by the recurrent node of that body.
        goldens: choices of golden vectors, best first; the first one whose self-test passes is taken.
        output_scale: that of the artifact.

    Raises:
        ArtifactError: the file is over 2 GB, or does not pass its own self-test.
        CardError: the card contradicts the graph.
    """
    card = _with_operators_of(model, card)
    failures: list[ArtifactError] = []
    for golden in goldens:
        data = _with_metadata(model, card, golden)
        try:
            return Artifact(data=data, card=card, session=_tested(data), output_scale=output_scale)
        except _SelfTestError as error:
            failures.append(error)
    more = f", and {len(failures) - 1} more choices of golden inputs do too" if len(failures) > 1 else ""
    raise ArtifactError(f"{failures[0]}{more}")


def _with_operators_of(model: bytes, card: ModelCard) -> ModelCard:
    """Return a card whose layers name no ``lstm_edge`` operator that the graph does not call."""
    prefix = f"{DOMAIN}::"
    if not any(layer.operator.startswith(prefix) for layer in card.layers):
        return card
    reading = read_model(model)
    calls = (*reading.calls, *(called for function in reading.functions for called in function.calls))
    called = {f"{domain}::{name}" for domain, name, _overload in calls}
    return card.replace(
        layers=tuple(
            layer
            if layer.operator in called or not layer.operator.startswith(prefix)
            else dataclasses.replace(layer, operator=recurrent_node(layer.operator.removeprefix(prefix)))
            for layer in card.layers
        )
    )


def _with_metadata(model: bytes, card: ModelCard, golden: Golden) -> bytes:
    proto = onnx.ModelProto()
    proto.metadata_props.add(key=CARD_KEY, value=serialize_card(card))
    proto.metadata_props.add(key=GOLDEN_KEY, value=encode_golden(golden))
    # Concatenated protobuf messages merge, so the metadata can follow a model that is already serialized.
    data = model + proto.SerializeToString(deterministic=True)
    if len(data) > LARGEST_BYTES - 1024:
        raise ArtifactError(f"the model is {len(data)} bytes: an ONNX file holds at most {LARGEST_BYTES}")
    return append_trailer(data)


def _tested(data: bytes) -> Session:
    """Open a file as a device would, and self-test it."""
    bodies = Session(data, kernels="off")
    _test(bodies)
    # The function bodies are what every device can run; where kernels are at hand, they must pass too.
    if bodies.operators:
        fused = Session(data)
        if fused.kernels is not None:
            _test(fused)
    return bodies


class _SelfTestError(ArtifactError):
    """The golden vectors of a file are not its answers; others may be."""


def _test(session: Session) -> None:
    report = self_test(session)
    if not report.passed:
        raise _SelfTestError(
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
    return assemble(proto.SerializeToString(deterministic=True), card, [golden])


def write(artifact: Artifact, path: str | os.PathLike[str]) -> None:
    """Write the file atomically: it appears complete or not at all.

    Raises:
        OutputError: the path cannot be written.
    """
    write_atomically(path, artifact.data)
