"""From a float32 file to the smallest (or fastest) quantized one that keeps the task's metric within a budget.

1. Sensitivity: each part alone in each scheme, and each scheme for all parts, evaluated on the tuning data.
2. Search (``lstm_edge.precision_search.search``): assignments of schemes to parts, each evaluated as a whole on the
   tuning data.
3. At most five evaluations on the held-out data. Each would accept a bad assignment with the error probability that
   its confidence allows, so together they share the requested one: each uses the confidence 1 - (1 - confidence) / 5
   (the Bonferroni inequality: Dunn, Multiple comparisons among means, JASA 56, 1961). After a failed evaluation the
   next assignment may use less of the budget on the tuning data: the next larger file is nearly the same assignment
   and would fail for the same reason.
"""

import dataclasses
import math
import time
from collections.abc import Callable

from lstm_edge.precision_search.compose import Composer
from lstm_edge.precision_search.data import Roles, calibration_feeds, load_roles
from lstm_edge.precision_search.journal import Journal
from lstm_edge.precision_search.measure import Evaluation, Judged, Workbench, step_time_us
from lstm_edge.precision_search.outcome import Outcome, report_on
from lstm_edge.precision_search.report import Baseline, BudgetReport
from lstm_edge.precision_search.request import LOOK_SHARES, BudgetRequest, check_evaluations, check_request, identity_of
from lstm_edge.precision_search.search import Axis, Mix, Search, Trial
from lstm_edge.precision_search.space import UNIFORM, SearchPart, mix_of, parts_of, search_axes, search_parts, uniform
from lstm_edge.validation.judge import Judge
from lstm_edge_exporters.artifact import Artifact, with_card
from lstm_edge_exporters.quantize import describe_parts
from lstm_edge_runtime.card import Metric
from lstm_edge_runtime.errors import CoverageError, LstmEdgeError, QuantizationError
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.writing import write_atomically

__all__ = ["quantize_to_budget"]

# Largest amount by which a file can be smaller than the source minus the savings of its weights: function bodies and
# the card only grow, golden vectors take at most 64 KiB of the source.
OVERHEAD = 64 * 1024
# A drop that equals the budget passes: see lstm_edge.validation.judge.
ROUNDING = 1e-12

Say = Callable[[str], None]
Alone = dict[tuple[str, str], Evaluation]


def quantize_to_budget(
    request: BudgetRequest,
    *,
    progress: Say | None = None,
    on_evaluation: Callable[[Evaluation], None] | None = None,
    timer: Callable[[bytes], float] = step_time_us,
) -> BudgetReport:
    """Find the smallest or fastest assignment of schemes within the budget, and write its file.

    If there is none, nothing is written and ``report.check()`` raises. An interruption leaves the journal, and
    ``resume`` continues from it to the same result.

    Args:
        request: see ``BudgetRequest``.
        progress: called with one line for each stage.
        on_evaluation: called after each evaluation, including those from the journal.
        timer: returns microseconds per step of a file; called for every candidate with ``prefer="latency"``, else for
            source and result.

    Raises:
        InputError: an option is not allowed, the data do not fit the metric or the model, or an output is NaN.
        DataError: the data cannot be loaded, or have too few samples.
        ArtifactError: the file cannot be read, or the journal is damaged or belongs to another search.
        QuantizationError: there is nothing to quantize, or a part or scheme is unknown.
        OutputError: the output cannot be written, or has the journal of an interrupted search.
    """
    start, say = time.monotonic(), progress or (lambda _message: None)
    check_request(request)
    composer = Composer.read(request.source)
    composer.check_float32()
    layers = [row for row in describe_parts(composer.source) if request.layers in ("all", row.kind)]
    parts = search_parts(layers, prefer=request.prefer, gates=request.gates, pinned=request.parts)
    check_evaluations(request, parts)
    if request.parts:
        # Refuses unknown parts and unsupported schemes before the search.
        composer.artifact(dict(request.parts) | {parts[0].part: parts[0].schemes[-1]})
    roles = load_roles(
        request.data, request.held_out, metric=request.metric, table=request.table, seed=request.seed, say=say
    )
    journal = Journal(request.journal, identity_of(request, composer.sha256, roles), resume=request.resume)
    try:
        if request.resume:
            say(f"continuing with {len(journal)} measurements in {request.journal}")
        _calibrate(request, composer, roles, say)
        judges = _Judges(request, composer.source, roles)
        # Checked before the search, which may take an hour: held-out data of a wrong shape, or a metric that is NaN on
        # them.
        judges.check_held_out()
        bench = Workbench(
            build=composer.build,
            judges={"tuning": judges.tuning, "held-out": judges.held_out},
            journal=journal,
            timer=timer if request.prefer == "latency" else None,
            on_evaluation=on_evaluation,
        )
        outcome = _find(request, bench, parts, say)
        artifact = None if outcome.answer is None else _with_metric(request, composer, outcome.answer, roles)
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


class _Judges:
    """Evaluation on both data; each runs the reference once, at the first evaluation."""

    def __init__(self, request: BudgetRequest, source: bytes, roles: Roles) -> None:
        self._request, self._source, self._roles = request, source, roles
        self._made: dict[str, Judge] = {}

    def tuning(self, data: bytes) -> Judged:
        """Evaluate on the tuning data at the requested confidence."""
        return self._judge("tuning", data, self._request.confidence)

    def held_out(self, data: bytes) -> Judged:
        """Evaluate on the held-out data at the confidence of one of five evaluations."""
        return self._judge("held_out", data, self._request.look_confidence)

    def check_held_out(self) -> None:
        """Evaluate the source on the held-out data, to raise their errors before the search."""
        self._judge("held_out", self._source, self._request.confidence)

    def _judge(self, role: str, data: bytes, confidence: float) -> Judged:
        request = self._request
        if role not in self._made:
            self._made[role] = Judge(
                self._source,
                getattr(self._roles, role),
                metric=request.metric,
                seed=request.seed,
                threads=request.threads,
            )
        return self._made[role].judge(data, max_drop=request.max_drop, confidence=confidence)


def _calibrate(request: BudgetRequest, composer: Composer, roles: Roles, say: Say) -> None:
    say(f"collecting activations on {roles.calibration.name}")
    session = Session(composer.source, kernels="off")
    feeds = calibration_feeds(session, roles.calibration, request.calibration_samples, seed=request.seed)
    composer.calibrate(
        feeds, compensate=request.compensate, search_scales=request.search_scales, clip=request.clip, say=say
    )


def _find(request: BudgetRequest, bench: Workbench, parts: tuple[SearchPart, ...], say: Say) -> Outcome:
    """Run the three stages."""
    reference = bench.evaluate({}, "sensitivity", prefer=request.prefer)
    base = bench.evaluate(request.parts, "sensitivity", prefer=request.prefer) if request.parts else reference
    assert reference.allowed is not None
    assert reference.value is not None
    say(f"sensitivity of {len(parts)} parts, each alone")
    alone = _sensitivities(request, bench, parts, say)
    baselines = [Baseline(name="float32", evaluation=reference)]
    for scheme in UNIFORM:
        mix = uniform(parts, scheme, request.parts, alone)
        if mix != dict(request.parts):
            baselines.append(
                Baseline(name=scheme, evaluation=bench.evaluate(mix, "sensitivity", prefer=request.prefer))
            )
    allowed = reference.allowed + ROUNDING * max(1.0, abs(reference.value))
    axes = search_axes(parts, alone, base=base, prefer=request.prefer, allowed=allowed)
    search = _search(request, bench, axes, base, allowed)
    plan = "every one" if search.exhaustive else f"the promising ones, at most {search.planned}"
    say(f"searching {search.size:,} assignments of schemes to {len(axes)} parts, {plan}")
    return Outcome(
        reference=reference,
        parts=parts,
        alone=alone,
        baselines=tuple(baselines),
        exhaustive=search.exhaustive,
        answer=_look(request, bench, axes, search, say),
    )


def _sensitivities(request: BudgetRequest, bench: Workbench, parts: tuple[SearchPart, ...], say: Say) -> Alone:
    alone: Alone = {}
    for part in parts:
        for scheme in part.schemes:
            mix = dict(request.parts) | {part.part: scheme}
            try:
                alone[part.part, scheme] = bench.evaluate(mix, "sensitivity", prefer=request.prefer)
            except (QuantizationError, CoverageError) as error:  # such as a weight beyond the range of float16
                say(f"{part.part} cannot be {scheme}: {error}")
    if not alone:
        raise QuantizationError("no part of the model supports any of the schemes of the search")
    return alone


def _search(
    request: BudgetRequest, bench: Workbench, axes: tuple[Axis, ...], base: Evaluation, allowed: float
) -> Search:
    def measure(mix: Mix, below: float) -> Trial:
        parts = parts_of(mix, axes, request.parts)
        found = bench.evaluate(parts, "search", prefer=request.prefer, below=below)
        return Trial(mix=mix, cost=found.cost(request.prefer), high=found.high)

    known = {}
    for found in bench.evaluations:
        own = {part: scheme for part, scheme in found.parts.items() if part not in request.parts}
        mix = mix_of(own, axes)
        if mix is not None and parts_of(mix, axes, request.parts) == found.parts:
            known[mix] = Trial(mix=mix, cost=found.cost(request.prefer), high=found.high)
    return Search(
        axes,
        measure,
        base_cost=base.cost(request.prefer),
        allowed=allowed,
        most=request.max_evaluations - len(bench.evaluations) - len(LOOK_SHARES),
        known=known.values(),
        # The source loses nothing but is not a result, and neither is a larger or slower file.
        ceiling=math.inf if set(request.parts.values()) - {"float32"} else base.cost(request.prefer),
        overhead=OVERHEAD if request.prefer == "size" else math.inf,
    )


def _look(
    request: BudgetRequest, bench: Workbench, axes: tuple[Axis, ...], search: Search, say: Say
) -> Evaluation | None:
    """Evaluate the results of the tuning data on the held-out data; None if none passes there."""
    refused: list[Mix] = []
    for number, share in enumerate(LOOK_SHARES, start=1):
        trial = search.best(share, refused)
        if trial is None:
            return None
        say(f"evaluation {number} of {len(LOOK_SHARES)} on the held-out data")
        found = bench.evaluate(parts_of(trial.mix, axes, request.parts), "held-out", prefer=request.prefer)
        if found.passed:
            return found
        refused.append(trial.mix)
    return None


def _with_metric(request: BudgetRequest, composer: Composer, answer: Evaluation, roles: Roles) -> Artifact:
    """Build the result, and record its validation in its card."""
    artifact = composer.artifact(answer.parts)
    quantization = artifact.card.quantization
    assert quantization is not None
    assert answer.value is not None
    assert answer.value_low is not None
    assert answer.value_high is not None
    note = Metric(
        name=request.metric,
        value=answer.value,
        low=answer.value_low,
        high=answer.value_high,
        data=roles.held_out.name,
        confidence=request.look_confidence,
    )
    return with_card(artifact, artifact.card.replace(quantization=dataclasses.replace(quantization, metric=note)))
