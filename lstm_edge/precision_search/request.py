"""What a search is asked for, what is refused before it starts, and what makes two searches the same."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lstm_edge.data import Columns, data_sha256
from lstm_edge.precision_search.data import Roles
from lstm_edge.precision_search.environment import machine, versions
from lstm_edge.precision_search.space import UNIFORM, Prefer, SearchPart
from lstm_edge.validation.report import parse_budget
from lstm_edge_exporters.quantize import Scheme
from lstm_edge_runtime.errors import InputError, OutputError
from lstm_edge_runtime.writing import beside, check_target

__all__ = ["LOOK_SHARES", "BudgetRequest", "check_evaluations", "check_request", "identity_of"]

# The share of the budget that a mix may use on the tuning data, look by look.
LOOK_SHARES = (1.0, 0.9, 0.75, 0.5, 0.25)


@dataclass(frozen=True, kw_only=True)
class BudgetRequest:
    """What is to be quantized, what it may lose, and how it is looked for; one field for each option of the command.

    Attributes:
        source: the float32 file.
        output: the file to write; the journal lies beside it as ``OUTPUT.search`` until it is written.
        data, held_out, columns: see ``lstm_edge.precision_search.data``.
        metric, max_drop: as for ``lstm_edge.validation.judge.validate``.
        confidence: of the bound that must keep within the budget.
        prefer: ``"size"``, or ``"latency"``: the lowest measured time of a step on this machine.
        max_evaluations: how many files are built and judged at most, looks at the held-out data among them.
        seed: of every draw.
        gates: let the four gates of W and of R differ.
        layers: ``"all"``, or ``"recurrent"``: everything else stays as it is.
        parts: schemes that are fixed beforehand, by part.
        calibration_samples: on how many samples activations are collected.
        compensate, search_scales, clip: parts of the calibrated rounding.
        threads: onnxruntime's.
        resume: go on with the journal.
        command: how to do it again, for the report.
    """

    source: Path
    output: Path
    data: str
    metric: str
    max_drop: str
    held_out: str | None = None
    columns: Columns | None = None
    confidence: float = 0.95
    prefer: Prefer = "size"
    max_evaluations: int = 200
    seed: int = 0
    gates: bool = False
    layers: str = "all"
    parts: Mapping[str, str] = field(default_factory=dict)
    calibration_samples: int = 128
    compensate: bool = True
    search_scales: bool = True
    clip: bool = True
    threads: int = 1
    resume: bool = False
    command: str = ""

    @property
    def journal(self) -> Path:
        """Where the journal lies."""
        return beside(self.output, ".search")

    @property
    def look_confidence(self) -> float:
        """The confidence that each of the looks at the held-out data decides at."""
        return 1 - (1 - self.confidence) / len(LOOK_SHARES)


def check_request(request: BudgetRequest) -> None:
    """Refuse what cannot work before anything is read.

    Raises:
        InputError: an option is out of its range.
        OutputError: the output cannot be written, or is the source.
        QuantizationError: a fixed scheme is unknown.
    """
    target = check_target(request.output, ".onnx")
    if target.exists() and request.source.exists() and target.samefile(request.source):
        raise OutputError(f"{request.output}: this is the file that is read; give the result another name")
    parse_budget(request.max_drop)
    if not 0 < request.confidence < 1:
        raise InputError(f"confidence is {request.confidence}, expected a share above 0 and below 1, such as 0.95")
    for name, known in (("prefer", ("size", "latency")), ("layers", ("all", "recurrent"))):
        if getattr(request, name) not in known:
            raise InputError(f"{name} is {getattr(request, name)!r}, expected one of {', '.join(known)}")
    for text in request.parts.values():
        Scheme.parse(text)


def check_evaluations(request: BudgetRequest, parts: Sequence[SearchPart]) -> None:
    """Refuse fewer evaluations than the sensitivities and the looks at held-out data take.

    Raises:
        InputError: with the number that is needed.
    """
    alone = 1 + sum(len(part.schemes) for part in parts) + len(UNIFORM)
    least = alone + len(LOOK_SHARES) + 1
    if request.max_evaluations < least:
        raise InputError(
            f"max-evaluations is {request.max_evaluations}, expected {least} or more: {alone} for the sensitivities of "
            f"{len(parts)} parts, {len(LOOK_SHARES)} for held-out data, and one to search with"
        )


def identity_of(request: BudgetRequest, source_sha256: str, roles: Roles) -> dict[str, Any]:
    """Return all that the measurements of a search depend on, as JSON values."""
    fixed = ("source", "output", "data", "held_out", "columns", "resume", "command")
    options = {key: value for key, value in vars(request).items() if key not in fixed}
    return options | {
        "parts": dict(request.parts),
        "source": source_sha256,
        "tuning data": data_sha256(roles.tuning),
        "held-out data": data_sha256(roles.held_out),
        "calibration data": data_sha256(roles.calibration),
        "versions": versions(),
        # Times of steps are those of this machine.
        "machine": machine() if request.prefer == "latency" else None,
    }
