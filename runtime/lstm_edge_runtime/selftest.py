"""The self-test: does this device give the answers that the file was made with?"""

import dataclasses
import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.errors import ArtifactError
from lstm_edge_runtime.golden import GoldenVector
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.state import State

__all__ = ["OutputDifference", "SelfTestReport", "self_test"]


@dataclass(frozen=True, kw_only=True)
class OutputDifference:
    """The greatest absolute difference in one output over all vectors, and the flat index and vector it was seen at.

    A sampled output counts its sample's elements. It is infinite where one side is NaN or the shapes differ.
    ``tolerance`` is the largest difference that the file allows in this output.
    """

    name: str
    max_abs_difference: float
    tolerance: float
    vector: int
    index: int


@dataclass(frozen=True, kw_only=True)
class SelfTestReport:
    """What the golden vectors gave: ``passed`` means that no output differs by more than its tolerance.

    ``worst`` and ``tolerance`` (outputs' unit) are those of the output whose difference is the largest share of its
    tolerance.
    ``kind`` says which tolerance of the file applies: ``"kernels"`` where fused kernels run its operators, else
    ``"bodies"``.
    """

    passed: bool
    worst: float
    tolerance: float
    vectors: int
    kind: str
    verified: bool
    outputs: tuple[OutputDifference, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values; an infinite difference becomes None."""
        document = dataclasses.asdict(self)
        document["worst"] = _finite_or_none(self.worst)
        for output in document["outputs"]:
            output["max_abs_difference"] = _finite_or_none(output["max_abs_difference"])
        return document


def self_test(source: Session | str | os.PathLike[str] | bytes) -> SelfTestReport:
    """Run the file's golden vectors and compare every output and state with what is expected.

    Args:
        source: an open Session, the path of an ``.onnx`` file, or its bytes.

    Raises:
        ArtifactError: the file carries no golden vectors, or they do not fit its graph.
    """
    session = source if isinstance(source, Session) else Session(source)
    golden = session.golden()
    if golden is None or not golden.vectors:
        raise ArtifactError("the file carries no golden vectors: export it with lstm-edge to be able to self-test it")
    kernels = session.kernels is not None
    worst: dict[str, OutputDifference] = {}
    for number, vector in enumerate(golden.vectors):
        answers = _run(session, vector)
        for name, expected in vector.outputs.items():
            if name not in answers:
                raise ArtifactError(f"golden vector {number} has the output {name!r}, which the model lacks")
            found, index = _difference(answers[name], expected, vector.strides.get(name))
            if name not in worst or found > worst[name].max_abs_difference:
                worst[name] = OutputDifference(
                    name=name,
                    max_abs_difference=found,
                    tolerance=golden.tolerance(name, kernels=kernels),
                    vector=number,
                    index=index,
                )
    greatest = max(worst.values(), key=_share)
    return SelfTestReport(
        passed=all(output.max_abs_difference <= output.tolerance for output in worst.values()),
        worst=greatest.max_abs_difference,
        tolerance=greatest.tolerance,
        vectors=len(golden.vectors),
        kind="kernels" if kernels else "bodies",
        verified=session.verified,
        outputs=tuple(worst.values()),
    )


def _share(output: OutputDifference) -> tuple[float, float, float]:
    """Order outputs by the share of the tolerance, then the difference, then the smaller tolerance."""
    found, allowed = output.max_abs_difference, output.tolerance
    return (found / allowed if allowed > 0 else math.inf if found > 0 else 0.0), found, -allowed


def _run(session: Session, vector: GoldenVector) -> dict[str, Array]:
    inputs = dict(vector.inputs)
    end = inputs.pop(session.end, None) if session.end is not None else None
    if end is not None and not end.all():
        # The vector is a part of a sequence, cut anywhere.
        return session.run_graph(vector.inputs)
    arrays = {spec.input: inputs.pop(spec.input) for spec in session.states if spec.input in inputs}
    lengths = inputs.pop(session.lengths, None) if session.lengths is not None else None
    state = State.from_arrays(session.states, arrays) if arrays else None
    outputs, new_state = session.run(inputs, state, lengths)
    return outputs | {spec.output: new_state[spec.input] for spec in session.states}


def _difference(got: Array, expected: Array, stride: int | None) -> tuple[float, int]:
    if stride is not None:
        got = got.reshape(-1)[::stride]
    if got.shape != expected.shape:
        return math.inf, 0
    if got.size == 0:
        return 0.0, 0
    a, b = got.astype(np.float64).reshape(-1), expected.astype(np.float64).reshape(-1)
    with np.errstate(invalid="ignore"):  # infinity minus infinity is NaN, and counts as different below
        difference = np.where(a == b, 0.0, np.abs(a - b))
    difference = np.where(np.isnan(difference), math.inf, difference)
    index = int(difference.argmax())
    return float(difference[index]), index


def _finite_or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
