"""The measurements of a search that are made whatever the outcomes are."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import get_args

from lstm_edge.precision_search.compose import Composer
from lstm_edge.precision_search.finish import plain_artifact
from lstm_edge.precision_search.measure import Evaluation
from lstm_edge.precision_search.request import BudgetRequest
from lstm_edge.precision_search.space import PLAIN, UNIFORM, SearchPart, spelled, uniform
from lstm_edge.precision_search.tasks import Role, Task
from lstm_edge_runtime.errors import CoverageError, QuantizationError

__all__ = ["expected", "expected_plain", "task_of"]


def expected(request: BudgetRequest, parts: Sequence[SearchPart]) -> Iterator[Task]:
    """Yield the measurements of the first stage that need no other one."""
    alone = {
        (part.part, scheme): dict(request.parts) | spelled(part.part, scheme)
        for part in parts
        for scheme in part.schemes
    }
    whole = [uniform(parts, scheme, request.parts, alone) for scheme in UNIFORM if scheme not in PLAIN]
    for mix in ({}, request.parts, *alone.values(), *whole):
        yield Task(parts=dict(mix), role="tuning")


def expected_plain(request: BudgetRequest, composer: Composer) -> Iterator[Task]:
    """Yield the measurements of the plain files, which are made on both data in any case."""
    for scheme in PLAIN:
        # One that cannot be built is reported where it is evaluated.
        with suppress(QuantizationError, CoverageError):
            quantization = plain_artifact(request, composer, scheme).card.quantization
            assert quantization is not None
            for role in get_args(Role):
                yield Task(parts=dict(quantization.parts), role=role, plain=scheme)


def task_of(found: Evaluation) -> Task:
    """Return the measurement of an evaluation."""
    role: Role = "held-out" if found.stage == "held-out" else "tuning"
    return Task(parts=found.parts, role=role, plain=found.name if found.plain else "")
