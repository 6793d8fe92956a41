"""One measurement as a value that travels between processes: which file, on which data; and what came out.

An outcome is a dict of JSON values. ``file`` has the size of the built file and its SHA-256, ``verdict`` the values of
its evaluation, None if its size made it unnecessary, and ``error`` the class and the message of an ``LstmEdgeError``.
Without ``file``, building failed; with ``file``, the evaluation failed. A measurement depends on its task and on the
identity of the search only, so it does not matter which process made it.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lstm_edge.validation.report import ValidationReport
from lstm_edge_runtime import errors
from lstm_edge_runtime.errors import DataError, LstmEdgeError

__all__ = [
    "Built",
    "Judged",
    "Outcome",
    "Parts",
    "Role",
    "Task",
    "error_of",
    "file_values",
    "key_of",
    "perform",
    "verdict_values",
]

Judged = ValidationReport
Parts = Mapping[str, str]
Role = Literal["tuning", "held-out"]
Outcome = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Built:
    """A file in memory, and by how many bytes the weights in it are smaller than in the source."""

    data: bytes
    saved: int


@dataclass(frozen=True, kw_only=True)
class Task:
    """Build the file of ``parts``, or the plain file of a scheme; evaluate it if it has fewer than ``below`` bytes.

    ``parts``: scheme by part; ``role``: on which data; ``plain``: the scheme of a plain file, which ``parts`` only
    describe, or empty.
    """

    parts: Parts
    role: Role
    plain: str = ""
    below: float = math.inf

    @property
    def key(self) -> str:
        """The measurement, without ``below``."""
        return json.dumps([self.role, self.plain, sorted(self.parts.items())])

    @property
    def name(self) -> str:
        """The candidate's schemes, for messages."""
        if self.plain:
            return f"plain {self.plain}"
        return ", ".join(f"{part}={scheme}" for part, scheme in self.parts.items()) or "the source"

    def __str__(self) -> str:
        return f"{self.name} on the {self.role} data"


def key_of(task: Task) -> str:
    """Return the SHA-256 of a task's key, in hexadecimal."""
    return hashlib.sha256(task.key.encode()).hexdigest()


def perform(
    task: Task,
    *,
    build: Callable[[Parts], Built],
    plain: Callable[[str], Built],
    judges: Mapping[Role, Callable[[bytes], Judged]],
) -> Outcome:
    """Measure; an ``LstmEdgeError`` is an outcome too, because the search continues without such a file."""
    outcome: Outcome = {}
    try:
        file = plain(task.plain) if task.plain else build(task.parts)
        digest = hashlib.sha256(file.data).hexdigest()
        outcome["file"] = file_values(file, None) | {"sha256": digest}
        judged = len(file.data) < task.below
        outcome["verdict"] = verdict_values(task.role, judges[task.role](file.data)) if judged else None
    except LstmEdgeError as error:
        outcome["error"] = [_class_of(error), str(error)]
    return outcome


def error_of(outcome: Outcome) -> LstmEdgeError:
    """Return the error of an outcome, of the class that it had in the process that measured."""
    name, message = outcome["error"]
    kind = getattr(errors, name) if name in errors.__all__ else LstmEdgeError
    error: LstmEdgeError = kind(message)
    return error


def _class_of(error: LstmEdgeError) -> str:
    """Return the public class of an error; a private subclass counts as its parent."""
    return next(kind.__name__ for kind in type(error).__mro__ if kind.__name__ in errors.__all__)


def file_values(file: Built, step_us: float | None) -> dict[str, Any]:
    """Return what the journal records of a built file; ``step_us`` is its step time in microseconds, if measured."""
    return {"bytes": len(file.data), "saved": file.saved, "step_us": step_us}


def verdict_values(role: Role, report: Judged) -> dict[str, Any]:
    """Return what the journal records of an evaluation.

    Raises:
        DataError: the metric or its bounds are undefined on the data.
    """
    finite = report.snr_db is not None and math.isfinite(report.snr_db)
    values = {
        "value": report.candidate,
        "value_low": report.candidate_low,
        "value_high": report.candidate_high,
        "drop": report.drop,
        "low": report.drop_low,
        "high": report.drop_bound,
        "snr_db": report.snr_db if finite else None,
        # All outputs of the source are 0 if the ratio is -infinity.
        "has_loss": bool(report.snr_db is not None and report.snr_db > -math.inf),
        "passed": report.passed,
        "confidence": report.confidence,
        "allowed": report.max_drop,
        "unit": report.unit,
    }
    undefined = [key for key, value in values.items() if isinstance(value, float) and not math.isfinite(value)]
    if undefined:
        raise DataError(
            f"the metric is undefined on the {role} data (not finite: {', '.join(undefined)}): no resample of the "
            "samples defines it; give more samples, or choose another metric"
        )
    return values
