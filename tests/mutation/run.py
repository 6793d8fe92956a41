"""Mutation test: small faults are put into a module one by one, and its tests must fail.

    python tests/mutation/run.py [--seed 0] [--count 300] [--modules rounding,stream] [--list] [--json FILE]
    python tests/mutation/run.py --again FILE

Draws a seeded sample of mutants, an equal share for each module, and runs the module's tests on each in a copy of the
tree: the working files are never changed. Prints each survivor, which is either a missing test or an equivalent
program, and a table. Exit code 0 where the tests of each module pass without a mutant, however many survive.

Each mutant runs in a forked child of a process that has imported the third-party packages, with limits on its processor
and wall-clock time. Hypothesis draws the same examples each time.
"""

import argparse
import importlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path

from mutants import Mutant, mutants_of

ROOT = Path(__file__).resolve().parents[2]

EXPORTERS, RUNTIME, TOOLKIT = "exporters/lstm_edge_exporters", "runtime/lstm_edge_runtime", "lstm_edge"


@dataclass(frozen=True, kw_only=True)
class Target:
    """Files whose faults are tried, and what pytest runs on each, the quickest to fail first."""

    files: tuple[str, ...]
    tests: tuple[str, ...]


TARGETS = {
    "rounding": Target(
        files=(f"{EXPORTERS}/quantize/rounding.py", f"{EXPORTERS}/quantize/scales.py"),
        tests=tuple(f"tests/exporters/test_{name}.py" for name in ("rounding", "rounding_blocks", "scales")),
    ),
    "stream": Target(
        files=tuple(f"{RUNTIME}/{name}.py" for name in ("stream", "pieces", "delivery")),
        tests=(
            "tests/device/test_stream.py",
            "tests/device/test_stream_pieces.py",
            "tests/device/test_interrupts.py",
            "tests/device/test_ownership.py::test_every_array_that_was_lent_is_alive",
        ),
    ),
    "calls": Target(
        files=tuple(f"{RUNTIME}/{name}.py" for name in ("calls", "layout", "finite")),
        tests=(
            "tests/device/test_calls.py",
            "tests/device/test_finite.py",
            "tests/exporters/test_calls_of_any_graph.py",
        ),
    ),
    "keeping": Target(
        files=tuple(f"{RUNTIME}/{name}.py" for name in ("keeping", "moment", "stepping")),
        tests=("tests/device/test_stream_kept.py", "tests/device/test_stream_moments.py"),
    ),
    "parity": Target(
        files=tuple(
            f"{EXPORTERS}/{name}.py" for name in ("pytorch/parity", "verify/parity", "verify/cases", "verify/inputs")
        ),
        tests=tuple(
            f"tests/exporters/test_{name}.py" for name in ("parity", "inputs", "golden_shapes", "parity_table")
        ),
    ),
    "gates": Target(files=(f"{EXPORTERS}/gates.py",), tests=("tests/exporters/test_gates.py",)),
    "bootstrap": Target(
        files=(f"{TOOLKIT}/validation/bootstrap.py",),
        tests=("tests/toolkit/test_bootstrap.py", "tests/toolkit/test_budget.py"),
    ),
    "budget": Target(
        files=(f"{TOOLKIT}/precision_search/search.py", f"{TOOLKIT}/precision_search/space.py"),
        tests=tuple(f"tests/toolkit/test_budget_{name}.py" for name in ("space", "moves", "search")),
    ),
    "metrics": Target(
        files=tuple(
            f"{RUNTIME}/metrics/_{name}.py" for name in ("signals", "correlation", "detections", "events", "options")
        ),
        tests=(
            "tests/device/test_metrics.py",
            "tests/toolkit/test_signal_metrics.py",
            "tests/toolkit/test_detection_metrics.py",
        ),
    ),
    "card": Target(
        files=(f"{RUNTIME}/card.py", f"{RUNTIME}/_json.py"),
        tests=tuple(f"tests/device/test_{name}.py" for name in ("json", "card_and_graph", "card_quantization")),
    ),
}


def sample(modules: list[str], count: int, seed: int) -> list[Mutant]:
    """Draw ``count`` mutants, equal shares of the modules; what one with few leaves over goes to the others."""
    rest, drawn = count, []
    pools = [
        (module, [m for file in TARGETS[module].files for m in mutants_of(module, ROOT, file)]) for module in modules
    ]
    for place, (module, pool) in enumerate(sorted(pools, key=lambda item: len(item[1]))):
        share = min(len(pool), rest // (len(pools) - place))
        rest -= share
        drawn += random.Random(f"{seed} {module}").sample(pool, share)
    return sorted(drawn, key=lambda mutant: (modules.index(mutant.module), mutant.file, mutant.start))


def not_killed(results: Path, modules: list[str]) -> list[Mutant]:
    """Return the mutants that a file of ``--json`` lists as not killed, as far as the sources are still the same."""
    listed = {
        Mutant(**{name: value for name, value in row.items() if name != "outcome"})
        for row in json.loads(results.read_text())
        if row["outcome"] != "killed"
    }
    return [
        m for module in modules for file in TARGETS[module].files for m in mutants_of(module, ROOT, file) if m in listed
    ]


def copy_of_the_tree(folder: Path) -> None:
    """Copy what git knows and the compiled kernels."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    kernels = (str(path.relative_to(ROOT)) for path in (ROOT / RUNTIME / "kernels").glob("*.so"))
    for name in (*filter(None, listed.stdout.split("\0")), *kernels):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def child(folder: Path, target: Target, log: Path, processor_s: float) -> None:
    """Run a target's tests in this process, which is a fork, and end it with pytest's exit code."""
    os.setsid()
    os.chdir(folder)
    resource.setrlimit(resource.RLIMIT_CPU, (int(processor_s), int(processor_s) + 5))
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    import hypothesis
    import pytest

    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    hypothesis.settings.register_profile("mutants", derandomize=True, database=None, phases=phases)
    hypothesis.settings.load_profile("mutants")
    # Nothing may come from the tree that this was started from.
    own = (ROOT, ROOT / "exporters", ROOT / "runtime", Path(__file__).parent.resolve())
    sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() not in own]
    options = ["-x", "-q", "-n", "0", "-p", "no:cacheprovider", "--no-header", "--tb=line"]
    # Hypothesis is imported before pytest could rewrite its assertions, which nobody reads here.
    code = int(pytest.main([*options, "-W", "ignore::pytest.PytestAssertRewriteWarning", *target.tests]))
    strangers = [
        name
        for name, module in sys.modules.items()
        if name.startswith("lstm_edge") and not str(getattr(module, "__file__", folder)).startswith(str(folder))
    ]
    if strangers:
        print(f"imported from elsewhere: {strangers}")
        code = 99
    sys.stdout.flush()
    os._exit(code)


def run(folder: Path, target: Target, *, processor_s: float, wall_s: float) -> tuple[int | None, float, str]:
    """Return pytest's exit code (None where the time was up), the processor seconds used and the last lines."""
    log = folder.parent / "log"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    pid = os.fork()
    if pid == 0:
        try:
            child(folder, target, log, processor_s)
        except BaseException:  # whatever it is: it must not run on as a second parent
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(98)
    until, status = time.monotonic() + wall_s, None
    while status is None:
        ended, found = os.waitpid(pid, os.WNOHANG)
        if ended:
            status = found
        elif time.monotonic() > until:
            os.killpg(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
        else:
            time.sleep(0.02)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    code = os.waitstatus_to_exitcode(status)
    return (None if code in (-signal.SIGKILL, -signal.SIGXCPU) else code), used, log.read_text(errors="replace")[-800:]


def outcome_of(mutant: Mutant, folder: Path, limits: dict[str, float]) -> tuple[str, str]:
    path = folder / mutant.file
    source, times = path.read_bytes(), (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    path.write_bytes(source[: mutant.start] + mutant.new.encode() + source[mutant.end :])
    # A compiled copy goes by time and size: neither the mutant may be taken for the original nor the reverse.
    os.utime(path, ns=(times[0], times[1] + 10**9 * (1 + mutant.start)))
    try:
        code, _, tail = run(folder, TARGETS[mutant.module], processor_s=limits[mutant.module], wall_s=600)
    finally:
        path.write_bytes(source)
        os.utime(path, ns=times)
    names = {0: "survived", None: "timed out", 99: "error", 98: "error", 4: "killed", 5: "error"}
    return names.get(code, "killed"), tail


def main() -> int:
    options = argparse.ArgumentParser(description="Mutation test: each survivor is a missing test or equivalent.")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--count", type=int, default=300, help="mutants in all, equal shares of the modules")
    options.add_argument("--modules", default=",".join(TARGETS), help=f"of {', '.join(TARGETS)}; default: all")
    options.add_argument("--list", action="store_true", help="print the sample and run nothing")
    options.add_argument("--json", type=Path, help="write every mutant and its outcome to this file")
    options.add_argument(
        "--again", type=Path, help="instead of a sample, those that a file of --json lists as not killed"
    )
    given = options.parse_args()
    modules = given.modules.split(",")
    if unknown := set(modules) - set(TARGETS):
        options.error(f"unknown modules {', '.join(sorted(unknown))}; known ones are {', '.join(TARGETS)}")
    drawn = sample(modules, given.count, given.seed) if given.again is None else not_killed(given.again, modules)
    if given.list:
        print(*drawn, sep="\n")
        return 0
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": ""}
    for package in ("hypothesis.extra.numpy", "onnx", "onnxruntime", "pytest", "torch"):
        importlib.import_module(package)  # once, before the forks

    results: list[tuple[Mutant, str]] = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as scratch:
        folder = Path(scratch).resolve() / "tree"
        copy_of_the_tree(folder)
        os.environ["PYTHONPATH"] = os.pathsep.join(str(folder / part) for part in ("", "exporters", "runtime"))
        limits = {}
        for module in modules:
            code, used, tail = run(folder, TARGETS[module], processor_s=600, wall_s=600)
            if code != 0:
                print(f"{module}: the tests fail without a mutant (exit code {code}):\n{tail}", file=sys.stderr)
                return 1
            limits[module] = 10 + 5 * used
            print(f"{module}: {used:.1f} s of one core without a mutant", flush=True)
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        for mutant in drawn:
            outcome, tail = outcome_of(mutant, folder, limits)
            results.append((mutant, outcome))
            if outcome != "killed":
                print(f"{outcome}: {mutant}" + (f"\n{tail}" if outcome == "error" else ""), flush=True)
    print(f"\nseed {given.seed}\n{'module':12}{'mutants':>9}{'killed':>9}{'timed out':>11}{'survived':>10}{'error':>7}")
    for module in (*modules, "all"):
        found = [outcome for mutant, outcome in results if module in (mutant.module, "all")]
        counts = [found.count(outcome) for outcome in ("killed", "timed out", "survived", "error")]
        print(f"{module:12}{len(found):9}{counts[0]:9}{counts[1]:11}{counts[2]:10}{counts[3]:7}")
    if given.json:
        rows = [asdict(mutant) | {"outcome": outcome} for mutant, outcome in results]
        given.json.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    return 1 if any(outcome == "error" for _, outcome in results) else 0


if __name__ == "__main__":
    sys.exit(main())
