"""From a float32 file to the smallest (or fastest) quantized one that keeps the task's metric within a budget.

1. Sensitivity: each part alone in each scheme, and each scheme for all parts, evaluated on the tuning data.
2. Search (``lstm_edge.precision_search.search``): assignments of schemes to parts, each evaluated as a whole on the
   tuning data. It gives at most three candidates, each clearly safer than the one before
   (``lstm_edge.precision_search.candidates``).
3. At most five evaluations on the held-out data: of plain float16 and plain int8, and of the candidates
   (``lstm_edge.precision_search.looks``).
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lstm_edge.precision_search.candidates import Candidates, ceiling
from lstm_edge.precision_search.compose import Composer, built
from lstm_edge.precision_search.crew import Crew, setup_of
from lstm_edge.precision_search.data import Roles, calibration_feeds, load_roles
from lstm_edge.precision_search.expected import expected, expected_plain, task_of
from lstm_edge.precision_search.finish import finished, plain_artifact, written_bytes
from lstm_edge.precision_search.journal import Journal
from lstm_edge.precision_search.judges import Judges
from lstm_edge.precision_search.looks import Looks
from lstm_edge.precision_search.measure import Evaluation, Workbench, step_time_us
from lstm_edge.precision_search.outcome import Outcome, report_on
from lstm_edge.precision_search.report import Baseline, BudgetReport
from lstm_edge.precision_search.request import (
    BudgetRequest,
    check_evaluations,
    check_request,
    identity_of,
    shared_identity,
)
from lstm_edge.precision_search.space import PLAIN, STATIC, UNIFORM, SearchPart, search_parts, spelled, uniform
from lstm_edge.validation.judge import load_metric
from lstm_edge_exporters.quantize import describe_parts
from lstm_edge_runtime.errors import CoverageError, LstmEdgeError, QuantizationError
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.writing import write_atomically

if TYPE_CHECKING:
    from lstm_edge.precision_search.shared import Shared

__all__ = ["quantize_to_budget"]

# A drop that equals the budget passes: see lstm_edge.validation.judge.
ROUNDING = 1e-12
Say = Callable[[str], None]
OnWorkers = Callable[[Sequence[str]], None]
Alone = dict[tuple[str, str], Evaluation]


def quantize_to_budget(
    request: BudgetRequest,
    *,
    progress: Say | None = None,
    on_evaluation: Callable[[Evaluation], None] | None = None,
    on_workers: OnWorkers | None = None,
    timer: Callable[[bytes], float] = step_time_us,
) -> BudgetReport:
    """Find the smallest or fastest assignment of schemes within the budget, and write its file.

    If there is none, nothing is written and ``report.check()`` raises. An interruption leaves the journal, and
    ``resume`` continues from it to the same result.

    Args:
        request: see ``BudgetRequest``.
        progress: called with one line for each stage.
        on_evaluation: called after each evaluation, including those from the journal.
        on_workers: called with what each worker process does, whenever that changes.
        timer: returns microseconds per step of a file; called for every candidate with ``prefer="latency"``, else for
            source and result.

    Raises:
        InputError: an option is not allowed, the data do not fit the metric or the model, or an output is NaN.
        DataError: the data cannot be loaded, or have too few samples.
        ArtifactError: the file cannot be read, or the journal is damaged or belongs to another search.
        QuantizationError: there is nothing to quantize, or a part or scheme is unknown.
        OutputError: the output cannot be written, or has the journal of an interrupted search.
        WorkerError: a measurement ended two worker processes.
    """
    start, say = time.monotonic(), progress or (lambda _message: None)
    check_request(request)
    composer = Composer.read(request.source, sparse=request.sparse, prefer=request.prefer)
    composer.check_float32()
    layers = [row for row in describe_parts(composer.source) if request.layers in ("all", row.kind)]
    parts = search_parts(layers, prefer=request.prefer, gates=request.gates, pinned=request.parts)
    check_evaluations(request, parts)
    if request.parts:
        # Refuses unknown parts and unsupported schemes before the search.
        # Without activations, which fixed scales need.
        pinned = {part: "int8" if scheme == STATIC else scheme for part, scheme in request.parts.items()}
        composer.artifact(pinned | {parts[0].part: parts[0].schemes[-1]})
    roles = load_roles(
        request.data, request.held_out, metric=request.metric, table=request.table, seed=request.seed, say=say
    )
    identity = identity_of(request, composer.sha256, roles)
    journal = Journal(request.journal, identity, resume=request.resume)
    try:
        if request.resume:
            say(f"continuing with {len(journal)} measurements in {request.journal}")
        shared = _shared(request, identity, say)
        _calibrate(request, composer, roles, say)
        judges = Judges(request, composer.source, tuning=roles.tuning, held_out=roles.held_out)
        bench = Workbench(
            build=composer.build,
            plain=lambda scheme: built(plain_artifact(request, composer, scheme)),
            judges=judges.by_role,
            journal=journal,
            timer=timer if request.prefer == "latency" else None,
            on_evaluation=on_evaluation,
        )
        with _crew(request, composer, roles, journal, shared=shared, say=say, on_workers=on_workers) as crew:
            if crew is not None:
                bench.fetch = crew.fetch
                crew.expect(expected(request, parts))
            # Checked before the search, which may take an hour: held-out data of a wrong shape, or a metric that is NaN
            # on them.
            judges.check_held_out()
            if crew is not None:
                crew.expect(expected_plain(request, composer))
            outcome = _find(request, bench, parts, composer, roles=roles, say=say)
            answer = outcome.answer
            sha256 = None if crew is None or answer is None else crew.sha256_of(task_of(answer))
        artifact = None if answer is None else finished(request, composer, answer, roles, measured_sha256=sha256)
        report = report_on(
            request,
            outcome,
            artifact,
            composer=composer,
            verify=judges.held_out,
            layers=layers,
            roles=roles,
            evaluations=bench.evaluations,
            timer=timer,
            start=start,
        )
        if artifact is not None:
            write_atomically(request.output, artifact.data)
        journal.remove()
    except LstmEdgeError:
        if journal.is_worth_keeping:
            say(f"{request.journal} keeps the measurements; continue with --resume, or delete the file")
        raise
    finally:
        journal.close()
        if not journal.is_worth_keeping:
            journal.remove()
    return report


def _shared(request: BudgetRequest, identity: Mapping[str, Any], say: Say) -> "Shared | None":
    """Open the database in which the measurements are shared, if there is one."""
    if request.storage is None:
        return None
    from lstm_edge.precision_search.shared import Shared, digest_of
    from lstm_edge.storage import parse_storage

    shared = Shared(parse_storage(request.storage), digest_of(shared_identity(request, identity)))
    say(f"sharing evaluations through {shared.name}, which has {shared.count()} of this search")
    return shared


@contextmanager
def _crew(
    request: BudgetRequest,
    composer: Composer,
    roles: Roles,
    journal: Journal,
    *,
    shared: "Shared | None",
    say: Say,
    on_workers: OnWorkers | None,
) -> Iterator[Crew | None]:
    """Start the workers of a search, None if this process makes all measurements."""
    if shared is None and request.workers == 1:
        yield None
        return
    setup = setup_of(request, composer, roles)
    with Crew(request.workers, setup, composer, journal, shared=shared, say=say, on_workers=on_workers) as crew:
        yield crew
        say(f"{crew.made} evaluations were made here" + f", {crew.read} by other processes" * (shared is not None))


def _calibrate(request: BudgetRequest, composer: Composer, roles: Roles, say: Say) -> None:
    say(f"collecting activations on {roles.calibration.name}")
    session = Session(composer.source, kernels="off")
    feeds = calibration_feeds(session, roles.calibration, request.calibration_samples, seed=request.seed)
    composer.calibrate(
        feeds, compensate=request.compensate, search_scales=request.search_scales, clip=request.clip, say=say
    )


def _find(
    request: BudgetRequest,
    bench: Workbench,
    parts: tuple[SearchPart, ...],
    composer: Composer,
    *,
    roles: Roles,
    say: Say,
) -> Outcome:
    """Run the three stages."""
    reference = bench.evaluate({}, "sensitivity", prefer=request.prefer)
    base = bench.evaluate(request.parts, "sensitivity", prefer=request.prefer) if request.parts else reference
    assert reference.allowed is not None
    assert reference.value is not None
    say(f"sensitivity of {len(parts)} parts, each alone")
    alone = _sensitivities(request, bench, parts, say)
    others, missing = _one_scheme(request, bench, parts, composer, alone)
    note = _tuning_note(request, reference, [*alone.values(), *(entry.evaluation for entry in others)], roles)
    for sentence in (*missing, *([note] if note else [])):
        say(sentence)
    allowed = reference.allowed + ROUNDING * max(1.0, abs(reference.value))
    candidates = Candidates(request, bench, parts, alone, base=base, allowed=allowed, say=say)
    looks = Looks(
        bench,
        parts,
        prefer=request.prefer,
        ceiling=ceiling(request, base),
        written=lambda mix: written_bytes(request, composer, mix, roles),
        say=say,
    )
    looked = looks.look([entry.evaluation for entry in others if entry.evaluation.plain], candidates)
    return Outcome(
        reference=reference,
        parts=parts,
        alone=alone,
        baselines=(Baseline(name="float32", evaluation=reference), *others),
        exhaustive=candidates.exhaustive,
        answer=looked.answer,
        tuning_note=note,
        left_out=(*missing, *looked.left_out),
    )


def _one_scheme(
    request: BudgetRequest, bench: Workbench, parts: tuple[SearchPart, ...], composer: Composer, alone: Alone
) -> tuple[list[Baseline], list[str]]:
    """Evaluate each scheme for all parts; returns a sentence on each plain file that cannot be built as well."""
    found, missing = [], []
    for scheme in UNIFORM:
        if scheme in PLAIN:
            try:
                quantization = plain_artifact(request, composer, scheme).card.quantization
            except (QuantizationError, CoverageError) as error:
                missing.append(f"Plain {scheme} was left out: {error}")
                continue
            assert quantization is not None
            evaluation = bench.evaluate(quantization.parts, "sensitivity", prefer=request.prefer, plain=scheme)
        else:
            mix = uniform(parts, scheme, request.parts, alone)
            if mix == dict(request.parts):
                continue
            evaluation = bench.evaluate(mix, "sensitivity", prefer=request.prefer)
        found.append(Baseline(name=scheme, evaluation=evaluation))
    return found, missing


def _tuning_note(request: BudgetRequest, reference: Evaluation, found: Sequence[Evaluation], roles: Roles) -> str:
    """Return a sentence if the metric is saturated on the tuning data, else nothing."""
    metric = load_metric(request.metric)
    assert reference.value is not None
    best = 1.0 if metric.more_is_better else 0.0
    if metric.unit == "share" and metric.target != "reference" and abs(reference.value - best) <= ROUNDING:
        what = f"the source makes no error by {request.metric}"
    elif all(abs(f.drop or 0.0) <= ROUNDING and abs(f.high or 0.0) <= ROUNDING for f in found):
        what = f"{request.metric} is the same for the source and all {len(found)} files of the sensitivities"
    else:
        return ""
    order = (
        "the squared error of the outputs orders the candidates"
        if all(f.has_loss for f in found)
        else "the outputs are no numbers, so each candidate is finer in every part than the one before"
    )
    return (
        f"On {roles.tuning.name} {what}, as on data that the model was trained on, so {request.metric} cannot order "
        f"the candidates there: {order}"
    )


def _sensitivities(request: BudgetRequest, bench: Workbench, parts: tuple[SearchPart, ...], say: Say) -> Alone:
    alone: Alone = {}
    for part in parts:
        for scheme in part.schemes:
            mix = dict(request.parts) | spelled(part.part, scheme)
            try:
                alone[part.part, scheme] = bench.evaluate(mix, "sensitivity", prefer=request.prefer)
            except (QuantizationError, CoverageError) as error:  # such as a weight beyond the range of float16
                say(f"{part.part} cannot be {scheme}: {error}")
    if not alone:
        raise QuantizationError("no part of the model supports any of the schemes of the search")
    return alone
