"""Run every entry on one case: convert, load, compare the answers, and measure in interleaved turns."""

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from cases import decibels
from entries import Entry, key
from environments import PINS, ROOT
from given import Array, Case, RefusedError
from turns import Job, Measured, Plan, measure
from workers import WORKER, Worker

__all__ = ["HERE", "Peers", "Result", "run_case", "versions"]

HERE = Path(__file__).resolve().parent
# Seconds that one conversion may take, and opening a file (torch.compile compiles then).
CONVERT_LIMIT_S, LOAD_LIMIT_S = 600.0, 180.0
# Below these ratios in dB an answer is wrong, by bits of the weights.
LEAST_DB = {32: 80.0, 8: 25.0, 4: 12.0}
NOTHING = Measured()
SHARED = ("given.py", "torch_cells.py")  # what every conversion depends on


@dataclass(frozen=True, kw_only=True)
class Result:
    """What was measured of one entry on one case; a reason in place of what could not be."""

    entry: Entry
    reason: str = ""
    version: str = ""
    size_bytes: int = 0
    load_ms: float = 0
    resident_mb: float = 0
    added_mb: float = 0
    db: float = float("nan")
    step: Measured = NOTHING
    inner: Measured = NOTHING
    sequence: Measured = NOTHING
    whole: bool = False  # whether the sequence is one call

    @property
    def wrong(self) -> bool:
        """Whether the answers are too far from the reference."""
        return not self.reason and not self.db >= LEAST_DB[self.entry.bits]


@dataclass(frozen=True, kw_only=True)
class Peers:
    """Where the peers are: their interpreters or the reasons why there are none, their files, and their models."""

    pythons: Mapping[str, Path | str]
    models: Path
    folder: Path = HERE

    def place(self, case: Case, entry: Entry) -> Path:
        """Return the folder of a peer's models of a case; its name changes with all that they are made of."""
        digest = hashlib.sha256((case.folder / "arrays.npz").read_bytes() + (case.folder / "case.json").read_bytes())
        sources = [self.folder / f"{entry.module}.py", *(HERE / name for name in SHARED)]
        if not entry.environment:
            for part in ("lstm_edge", "exporters", "runtime"):
                sources += sorted((ROOT / part).rglob("*.py"))
        for path in sources:
            digest.update(path.read_bytes())
        digest.update("\n".join(PINS.get(entry.environment, ())).encode())
        return self.models / f"{case.name}-{entry.module}-{digest.hexdigest()[:16]}"

    def start(self, mode: str, case: Case, entry: Entry) -> Worker:
        """Start a worker.

        Raises:
            RefusedError: the peer has no environment.
        """
        python = self.pythons[entry.environment]
        if isinstance(python, str):
            raise RefusedError(python)
        place = self.place(case, entry)
        place.mkdir(parents=True, exist_ok=True)
        command = [str(python), "-I", str(WORKER), mode, str(self.folder), entry.module, str(case.folder), str(place)]
        variables = {"TORCHINDUCTOR_CACHE_DIR": str(self.models / "inductor")}
        return Worker(command, place / f"{entry.form}.{mode}.log".replace(" ", "-"), variables)


def run_case(case: Case, entries: Sequence[Entry], peers: Peers, plans: Mapping[str, Plan],
             references: Mapping[str, Array]) -> list[Result]:  # fmt: skip
    """Measure every entry on one case.

    Args:
        case: the model.
        entries: what to measure.
        peers: their environments and folders.
        plans: for ``step`` and ``sequence``.
        references: the exact answers, [T, n], by the entries' ``reference``.

    Returns:
        A result for each entry, in their order.
    """
    results = _converted(case, entries, peers)
    workers: dict[str, Worker] = {}
    with ExitStack() as stack:
        for name, result in results.items():
            if not result.reason:
                workers[name] = stack.enter_context(peers.start("run", case, result.entry))
        for name in list(workers):
            results[name] = _loaded(case, results[name], workers[name], peers, references)
            if results[name].reason:
                workers.pop(name).stop()
        _timed(results, workers, plans)
    return list(results.values())


def _converted(case: Case, entries: Sequence[Entry], peers: Peers) -> dict[str, Result]:
    """Convert for every entry whose files are not there from an earlier run."""
    results: dict[str, Result] = {}
    worker: Worker | None = None
    with ExitStack() as stack:
        for before, entry in zip((None, *entries), entries, strict=False):
            made = peers.place(case, entry) / entry.form / "made.json"
            if worker is not None and (before is None or before.module != entry.module):
                worker.stop()
            try:
                if not made.exists():
                    if worker is None or not worker.running:
                        worker = stack.enter_context(peers.start("convert", case, entry))
                    print(f"converting {case.name} for {entry.peer}, {entry.precision}", file=sys.stderr)
                    answer = worker.ask("convert", form=entry.form, limit_s=CONVERT_LIMIT_S)
                    made.write_text(json.dumps(answer))
                size = json.loads(made.read_text())["size_bytes"]
                results[key(entry)] = Result(entry=entry, size_bytes=size)
            except RefusedError as error:
                results[key(entry)] = Result(entry=entry, reason=str(error))
    return results


def _loaded(case: Case, result: Result, worker: Worker, peers: Peers, references: Mapping[str, Array]) -> Result:
    """Open the model in the worker and compare its answers."""
    entry = result.entry
    cpu = max(os.sched_getaffinity(0))
    answers = peers.place(case, entry) / f"{entry.form}.answers.npz"
    try:
        given = worker.ask("load", form=entry.form, cpu=cpu, limit_s=LOAD_LIMIT_S)
        whole = worker.ask("sequence", form=entry.form, limit_s=LOAD_LIMIT_S)["has"]
        has_inner = worker.ask("answers", target=str(answers), limit_s=LOAD_LIMIT_S)["inner"]
    except RefusedError as error:
        return replace(result, reason=str(error))
    with np.load(answers) as arrays:
        db = decibels(arrays, references[entry.reference])
    inner = NOTHING if has_inner else Measured(reason="no such call")
    return replace(result, **given, whole=whole, db=db, inner=inner)


def _timed(results: dict[str, Result], workers: Mapping[str, Worker], plans: Mapping[str, Plan]) -> None:
    """Measure steps together with inner calls, then sequences; store them in the results."""
    steps: list[Job] = []
    for name in workers:
        steps += [(name, "step"), *([(name, "inner")] if not results[name].inner.reason else [])]
    measured = measure(workers, steps, plans["step"])
    if "sequence" in plans:
        measured |= measure(workers, [(name, "sequence") for name in workers], plans["sequence"])
    for (name, what), value in measured.items():
        results[name] = replace(results[name], **{what: value})


def versions(results: Sequence[Result]) -> Iterator[str]:
    """Yield each peer's name and version once."""
    seen = set()
    for result in results:
        if result.version and result.version not in seen:
            seen.add(result.version)
            yield result.version
