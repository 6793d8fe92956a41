"""Made searches for the evaluations on held-out data: files, verdicts and losses are computed in no time."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np

from lstm_edge.precision_search.candidates import Candidates, ceiling
from lstm_edge.precision_search.looks import Looks
from lstm_edge.precision_search.measure import Built, Workbench
from lstm_edge.precision_search.request import BudgetRequest
from lstm_edge.precision_search.space import PLAIN, SCHEMES, SearchPart
from lstm_edge.validation.report import ValidationReport

__all__ = ["REPORT", "AutoWorld"]

REPORT = ValidationReport(
    metric="accuracy",
    unit="share",
    data="made",
    samples=100,
    reference=1.0,
    candidate=1.0,
    drop=0.0,
    budget="1pt",
    max_drop=0.01,
    passed=True,
    confidence=0.99,
    drop_bound=0.0,
    seed=0,
    agreement=None,
    max_abs_difference=0.0,
    mean_abs_difference=0.0,
    snr_db=float("inf"),
    reference_bytes=10,
    candidate_bytes=5,
    drop_low=0.0,
    drop_high=0.0,
    candidate_low=1.0,
    candidate_high=1.0,
)
RATIOS = {"float32": 1.0, "float16": 0.5, "int8": 0.27, "int4:32:zero": 0.17, "int4:32": 0.16, "int4:128": 0.14}
# Noise of a part in a scheme, relative to its largest.
NOISE = {"float16": 1e-6, "int8": 1e-2, "int4:32:zero": 0.6, "int4:32": 0.8, "int4:128": 1.0}


class Memory:
    """A journal that is not written."""

    def __init__(self):
        self.known = {}

    def get(self, what, parts):
        return self.known.get((what, str(sorted(parts.items()))))

    def put(self, what, parts, values):
        self.known[what, str(sorted(parts.items()))] = values
        return values

    def forget(self, start):
        """Forget the measurements of this kind."""
        self.known = {key: values for key, values in self.known.items() if not key[0].startswith(start)}


class AutoWorld:
    """A made model of a few parts. ``passes`` says whether a file is within the budget on the held-out data.

    With ``labels`` the outputs have no loss. The metric is saturated: on the tuning data no file has a drop.
    """

    def __init__(self, seed, passes, *, parts=3, labels=False, **options):
        random = np.random.default_rng(seed)
        self.bytes = dict(zip((f"p{n}" for n in range(parts)), random.integers(4_000, 60_000, parts), strict=True))
        self.minds = {part: random.lognormal(0, 1) for part in self.bytes}
        self.extra = {scheme: int(random.integers(0, 2_000)) for scheme in RATIOS}
        self.journal = Memory()
        self.passes, self.labels, self.judged = passes, labels, []
        self.note = int(random.integers(100, 300))
        self.request = BudgetRequest(
            source=Path("in.onnx"), output=Path("out.onnx"), data="", metric="accuracy", max_drop="1pt", **options
        )
        self.parts = [SearchPart(part=part, layer=part, kind="linear", schemes=SCHEMES) for part in self.bytes]
        judges = {"tuning": self.tune, "held-out": self.hold}
        self.bench = Workbench(build=self.build, plain=self.plain, judges=judges, journal=self.journal)

    def build(self, parts, *, plain=False):
        schemes = {part: parts.get(part, "float32") for part in self.bytes}
        size = sum(self.bytes[part] * RATIOS[scheme] for part, scheme in schemes.items())
        size += sum(self.extra[scheme] for scheme in set(schemes.values()) - {"float32"})
        text = json.dumps({"parts": dict(sorted(parts.items())), "plain": plain}).encode()
        # A calibrated file has the hash of its data in its card.
        return Built(data=text.ljust(int(size) + (0 if plain else 56)), saved=int(sum(self.bytes.values()) - size))

    def plain(self, scheme):
        return self.build(dict.fromkeys(self.bytes, scheme), plain=True)

    def loss(self, parts):
        return sum(1e-3 * self.minds[part] * NOISE.get(scheme, 0.0) for part, scheme in parts.items())

    def tune(self, data):
        loss = self.loss(json.loads(data)["parts"])
        snr_db = None if self.labels else float("inf") if not loss else -10 * math.log10(loss)
        return dataclasses.replace(REPORT, snr_db=snr_db, confidence=0.95)

    def hold(self, data):
        self.judged.append(data)
        passed = self.passes(data, self.loss(json.loads(data)["parts"]))
        return dataclasses.replace(REPORT, passed=passed, drop_bound=0.0 if passed else 0.02)

    def search(self):
        """Run the search and the evaluations on the held-out data."""
        base = self.bench.evaluate({}, "sensitivity")
        alone = {
            (part.part, scheme): self.bench.evaluate({part.part: scheme}, "sensitivity")
            for part in self.parts
            for scheme in part.schemes
        }
        named = [
            self.bench.evaluate(dict.fromkeys(self.bytes, scheme), "sensitivity", plain=scheme) for scheme in PLAIN
        ]

        def say(_line):
            pass

        candidates = Candidates(self.request, self.bench, self.parts, alone, base=base, allowed=0.01, say=say)
        looks = Looks(
            self.bench,
            self.parts,
            prefer="size",
            ceiling=ceiling(self.request, base),
            written=lambda parts: len(self.build(parts).data) + self.note,
            say=say,
        )
        return looks.look(named, candidates)
