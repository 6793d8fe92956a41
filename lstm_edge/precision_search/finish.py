"""The finished file of a search: the plain file, or the candidate with its metric in its card."""

import dataclasses
import hashlib

from lstm_edge.precision_search.compose import Composer
from lstm_edge.precision_search.data import Roles
from lstm_edge.precision_search.measure import Evaluation
from lstm_edge.precision_search.request import BudgetRequest
from lstm_edge.precision_search.tasks import Parts
from lstm_edge_exporters.artifact import Artifact, with_card
from lstm_edge_runtime.card import Metric
from lstm_edge_runtime.errors import ArtifactError

__all__ = ["finished", "plain_artifact", "written_bytes"]

# A number with as many characters as any.
WIDEST = -2.2250738585072014e-308


def plain_artifact(request: BudgetRequest, composer: Composer, scheme: str) -> Artifact:
    """Build the file that ``lstm-edge quantize --scheme SCHEME`` writes."""
    return composer.plain(scheme, layers=request.layers, pinned=request.parts)


def finished(
    request: BudgetRequest, composer: Composer, answer: Evaluation, roles: Roles, *, measured_sha256: str | None
) -> Artifact:
    """Build the result. A candidate's card records its validation; a plain file stays as ``--scheme`` writes it.

    Args:
        request: the request.
        composer: builds the file.
        answer: the evaluation of the file on the held-out data.
        roles: the data.
        measured_sha256: SHA-256 of the file that another process built and evaluated, or None.

    Raises:
        ArtifactError: this process builds another file.
    """
    artifact = plain_artifact(request, composer, answer.name) if answer.plain else composer.artifact(answer.parts)
    own = hashlib.sha256(artifact.data).hexdigest()
    if measured_sha256 not in (None, own):
        raise ArtifactError(
            f"{request.output}: the file of this assignment has SHA-256 {own} here and {measured_sha256} where it was "
            "evaluated; machines that share evaluations need the same processor and the same versions of all packages"
        )
    if answer.plain:
        return artifact
    assert answer.value is not None
    assert answer.value_low is not None
    assert answer.value_high is not None
    return _with_metric(request, artifact, (answer.value, answer.value_low, answer.value_high), roles)


def written_bytes(request: BudgetRequest, composer: Composer, parts: Parts, roles: Roles) -> int:
    """Return an upper bound of the bytes of a candidate's finished file, before its metric is known."""
    return len(_with_metric(request, composer.artifact(parts), (WIDEST, WIDEST, WIDEST), roles).data)


def _with_metric(
    request: BudgetRequest, artifact: Artifact, values: tuple[float, float, float], roles: Roles
) -> Artifact:
    """Record the metric's value, and the ends of its interval, in the card."""
    quantization = artifact.card.quantization
    assert quantization is not None
    note = Metric(
        name=request.metric,
        value=values[0],
        low=values[1],
        high=values[2],
        data=roles.held_out.name,
        confidence=request.look_confidence,
    )
    return with_card(artifact, artifact.card.replace(quantization=dataclasses.replace(quantization, metric=note)))
