"""The request of a search, its checks, and the identity of a search."""

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lstm_edge._imports import extra_named
from lstm_edge.amounts import check_confidence
from lstm_edge.data import TableOptions, data_sha256
from lstm_edge.precision_search.data import Roles
from lstm_edge.precision_search.environment import arithmetic, machine, versions
from lstm_edge.precision_search.space import PLAIN, UNIFORM, Prefer, SearchPart
from lstm_edge.refused_options import check_other_name
from lstm_edge.validation.own_metric import OwnMetric, load_metric
from lstm_edge.validation.report import parse_budget
from lstm_edge_exporters.quantize import Scheme
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.writing import beside, check_target

__all__ = [
    "LOOKS",
    "SEARCHED",
    "BudgetRequest",
    "check_evaluations",
    "check_request",
    "identity_of",
    "shared_identity",
]

# Largest number of evaluations on the held-out data: of candidates of the search, and with the plain files.
SEARCHED = 3
LOOKS = len(PLAIN) + SEARCHED
# Each worker has its own copy of the model, of the data and of the reference's answers.
MOST_WORKERS = 256


@dataclass(frozen=True, kw_only=True)
class BudgetRequest:
    """Source, budget and search options; one field for each option of the command.

    Attributes:
        source: the float32 file.
        output: the file to write; until then the journal is beside it as ``OUTPUT.search``.
        data, held_out, table: see ``lstm_edge.precision_search.data``.
        metric, max_drop: as for ``lstm_edge.validation.judge.validate``.
        confidence: confidence level of the upper bound that must stay within the budget.
        prefer: ``"size"``, or ``"latency"``: the lowest measured time of a step on this machine.
        max_evaluations: largest number of files to build and evaluate, including those on the held-out data.
        seed: random seed.
        gates: allow different schemes for the four gates of W and of R.
        layers: ``"all"``, or ``"recurrent"``: everything else stays unchanged.
        parts: fixed schemes, by part.
        sparse: ``"auto"``: sparse int8 weights are candidates; ``"off"``: zero blocks are stored.
        calibration_samples: number of calibration samples.
        compensate, search_scales, clip: options of the calibrated rounding.
        threads: onnxruntime's threads.
        workers: number of processes that measure, beside the one that decides; with 1 it measures itself.
        storage: URL of a database through which processes on several machines share their measurements, or None.
        resume: continue from the journal.
        command: command line for the report.
    """

    source: Path
    output: Path
    data: str
    metric: str
    max_drop: str
    held_out: str | None = None
    table: TableOptions | None = None
    confidence: float = 0.95
    prefer: Prefer = "size"
    max_evaluations: int = 200
    seed: int = 0
    gates: bool = False
    layers: str = "all"
    parts: Mapping[str, str] = field(default_factory=dict)
    sparse: Literal["auto", "off"] = "auto"
    calibration_samples: int = 128
    compensate: bool = True
    search_scales: bool = True
    clip: bool = True
    threads: int = 1
    workers: int = 1
    storage: str | None = field(default=None, repr=False)
    resume: bool = False
    command: str = ""

    @property
    def journal(self) -> Path:
        """The path of the journal."""
        return beside(self.output, ".search")

    @property
    def look_confidence(self) -> float:
        """The confidence level of each evaluation on the held-out data."""
        return 1 - (1 - self.confidence) / LOOKS


def check_request(request: BudgetRequest) -> None:
    """Refuse invalid requests before anything is read.

    Raises:
        InputError: an option is out of its range, or the budget does not fit the metric's unit.
        OutputError: the output cannot be written, or is the source.
        QuantizationError: a fixed scheme is unknown.
    """
    check_target(request.output, ".onnx")
    check_other_name(request.source, request.output)
    parse_budget(request.max_drop).check(load_metric(request.metric))
    check_confidence(request.confidence)
    choices = (("prefer", ("size", "latency")), ("layers", ("all", "recurrent")), ("sparse", ("auto", "off")))
    for name, known in choices:
        if getattr(request, name) not in known:
            raise InputError(f"{name} is {getattr(request, name)!r}, expected one of {', '.join(known)}")
    for text in request.parts.values():
        Scheme.parse(text)
    _check_sharing(request)


def _check_sharing(request: BudgetRequest) -> None:
    if not 1 <= request.workers <= MOST_WORKERS:
        raise InputError(f"workers is {request.workers}, expected 1 to {MOST_WORKERS}")
    name = "--storage" if request.storage is not None else "--workers" if request.workers > 1 else ""
    if name and request.prefer == "latency":
        raise InputError(
            f"{name} is for --prefer size: step times are those of this machine, and other processes disturb them; "
            "leave it out"
        )
    if request.storage is not None:
        with extra_named("--storage"):
            from lstm_edge.storage import parse_storage

        parse_storage(request.storage)


def check_evaluations(request: BudgetRequest, parts: Sequence[SearchPart]) -> None:
    """Refuse fewer evaluations than the sensitivities and the evaluations on held-out data take.

    Raises:
        InputError: the number is too small; the message has the required number.
    """
    alone = 1 + sum(len(part.schemes) for part in parts) + len(UNIFORM)
    least = alone + LOOKS + 1
    if request.max_evaluations < least:
        raise InputError(
            f"max_evaluations is {request.max_evaluations}, expected {least} or more: {alone} for the sensitivities of "
            f"{len(parts)} parts, {LOOKS} for held-out data, and one to search with"
        )


def identity_of(request: BudgetRequest, source_sha256: str, roles: Roles) -> dict[str, Any]:
    """Return the values that the measurements of a search depend on, as JSON values."""
    fixed = ("source", "output", "data", "held_out", "table", "resume", "command", "workers", "storage")
    options = {key: value for key, value in vars(request).items() if key not in fixed}
    return options | {
        "parts": {part: Scheme.parse(text).text for part, text in request.parts.items()},
        "source": source_sha256,
        "tuning data": data_sha256(roles.tuning),
        "held-out data": data_sha256(roles.held_out),
        "calibration data": data_sha256(roles.calibration),
        "versions": versions(),
        # Step times depend on the machine.
        "machine": machine() if request.prefer == "latency" else None,
    }


def shared_identity(request: BudgetRequest, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return the identity of a search whose measurements several machines share, as JSON values.

    Other machines may have another processor, and another version of a user-defined metric under the same name.
    """
    metric = load_metric(request.metric)
    source = inspect.getsourcefile(metric.function) if isinstance(metric, OwnMetric) else None
    code = None if source is None else hashlib.sha256(Path(source).read_bytes()).hexdigest()
    return dict(identity) | {"arithmetic": arithmetic(), "metric's code": code}
