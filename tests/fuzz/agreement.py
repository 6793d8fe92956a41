"""Do Python and the C library make the same of a mutant: refused with one sentence, or opened with equal answers?

The mutants are those of ``artifact`` and ``walker``; each is opened, described, tested, run and streamed on both sides.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import artifact
import walker
from sandbox import Tally, run_cases
from support.c_agreement import compare_file, outcome
from support.c_build import build_library, find_onnxruntime
from support.c_library import Library

__all__ = ["fuzz"]

_LIBRARIES: list[Library] = []


def _library() -> Library:
    if not _LIBRARIES:
        _LIBRARIES.append(Library(build_library() / "liblstm_edge.so", find_onnxruntime()))
    return _LIBRARIES[0]


def check(case: tuple[str, str, bytes]) -> str:
    """Compare both sides; the first difference is the fault."""
    _name, done, data = case
    kernels = "auto" if len(data) % 2 else "off"
    for problem in compare_file(_library(), data, kernels=kernels):
        return f"fault: {problem[:600]} ({done[:200]})"
    error, _ = outcome(lambda: _library().open(data, kernels=kernels))
    return "both refuse it" if error else "both open it"


def _make(seed: int, number: int) -> tuple[str, str, bytes]:
    if number % 3:
        return artifact.make(seed, number)
    done, data, _ = walker.make(seed, number)
    return "", done, data


def fuzz(seed: int, until: float, least: int) -> Tally:
    """Try mutant after mutant; the honest files come first."""
    tally = Tally()
    for name, data in artifact.HONEST.items():
        tally.add(f"agreement {name}", check((name, name, data)))
    cases: Iterator[tuple[str, Any]] = ((f"agreement seed {seed} case {n}", _make(seed, n)) for n in itertools.count())
    run_cases(check, cases, until=until, tally=tally, least=least)
    return tally
