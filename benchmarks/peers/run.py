"""``make bench-peers``: every peer and this project on the same models, in one run, on one core.

``python benchmarks/peers/run.py`` prints the tables, ``--write`` puts them into docs/peers.md. The environments and
the converted models are kept in .cache/peers; the first run makes them, and then takes about twenty minutes longer.
``--quick`` makes few calls, on the smallest size unless ``--sizes`` says otherwise: it shows that everything runs, and
its times mean nothing.
"""

import argparse
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from cases import CELLS, SIZES, STEPS, case_name, make_case, references  # noqa: E402
from entries import ENTRIES, PUBLISHED, STEPS_ALONE, key  # noqa: E402
from environments import ROOT, environment, peer_names  # noqa: E402
from page import ratio_table, table  # noqa: E402
from published import published, reference  # noqa: E402
from race import Peers, Result, run_case, versions  # noqa: E402
from turns import Plan  # noqa: E402

CACHE = ROOT / ".cache" / "peers"
DOCUMENT = ROOT / "docs" / "peers.md"
BEGIN, END = "<!-- peers: written by `make bench-peers` -->\n", "<!-- peers: end -->\n"
STEP_PLAN = Plan()
# A sequence has STEPS steps: a turn of 2 has more steps than the 150 of a turn of single steps.
SEQUENCE_PLAN = replace(STEP_PLAN, settling=1, calls=2)
QUICK = {"step": Plan(turns=2, settling=1, calls=3), "sequence": Plan(turns=2, settling=0, calls=1)}


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="put the tables into docs/peers.md")
    parser.add_argument("--quick", action="store_true", help="few calls: the times mean nothing")
    parser.add_argument("--sizes", help="sizes to measure, as digits 0 to 3; default: all, with --quick the first")
    parser.add_argument("--cells", default=",".join(CELLS), help="cells to measure")
    parser.add_argument("--peers", default=",".join(peer_names()), help="peers to measure beside this project")
    parser.add_argument(
        "--entries", help="keys of the entries to measure, as peer_c:int8, without the published models"
    )
    parser.add_argument("--ratios", action="store_true", help="print the table of ratios to LiteRT alone")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder of environments and converted models")
    return parser.parse_args()


def machine() -> str:
    """Return the processor, the kernel and Python."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (
        f"{names[0] if names else platform.machine()}, Linux {platform.release()}, Python {platform.python_version()}"
    )


def interpreters(names: Sequence[str], cache: Path) -> dict[str, Path | str]:
    """Return an interpreter for each environment, or the reason why there is none."""
    found: dict[str, Path | str] = {"": Path(sys.executable)}
    for name in names:
        python, reason = environment(name, cache / name)
        found[name] = python or reason
    return found


def main() -> None:
    """Measure, print or write."""
    chosen = options()
    names = [name for name in chosen.peers.split(",") if name]
    entries = [entry for entry in ENTRIES if entry.environment in ("", *names)]
    if chosen.entries:
        entries = [entry for entry in (*ENTRIES, *STEPS_ALONE) if key(entry) in chosen.entries.split(",")]
    few = [entry for entry in PUBLISHED if entry in entries]
    cache = chosen.cache.resolve()
    peers = Peers(pythons=interpreters(names, cache), models=cache / "models")
    sizes = [SIZES[int(digit)] for digit in chosen.sizes or ("0" if chosen.quick else "0123")]
    plans = QUICK if chosen.quick else {"step": STEP_PLAN, "sequence": SEQUENCE_PLAN}
    start, results, skipped = time.monotonic(), {}, []
    for cell in chosen.cells.split(","):
        for inputs, hidden in sizes:
            case = make_case(cache / "cases" / case_name(cell, inputs, hidden), cell, inputs, hidden)
            found = run_case(case, entries, peers, plans, references(case))
            results[f"{cell} ({inputs}, {hidden})"] = found
            print(f"{case.name}: {time.monotonic() - start:.0f} s", file=sys.stderr)
    for title, made in [] if chosen.entries else published(cache / "cases"):
        if isinstance(made, str):
            skipped.append(f"{title}: skipped, {made}.")
            continue
        steps = {"step": plans["step"]}
        results[title] = run_case(made, few, peers, steps, reference(made))
        print(f"{made.name}: {time.monotonic() - start:.0f} s", file=sys.stderr)
    text = document(results, skipped, plans["step"])
    if chosen.ratios:
        text = ratio_table(results)
    if chosen.write:
        before, _, rest = DOCUMENT.read_text().partition(BEGIN)
        DOCUMENT.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}")
    else:
        print(text)


def document(results: Mapping[str, list[Result]], skipped: Sequence[str], plan: Plan) -> str:
    """Return what the command writes: machine, versions, ratios, and a table for each case."""
    used = sorted(set(versions([result for found in results.values() for result in found])))
    parts = [
        f"Measured on: {machine()}; one pinned core, one thread; {plan.turns} turns of {plan.calls} steps after "
        f"{plan.settling} that do not count.\n",
        "Versions: " + "; ".join(used) + ".\n",
        "## Ratios to LiteRT\n",
        ratio_table(results) + "\n",
        *(f"{line}\n" for line in skipped),
    ]
    for title, found in results.items():
        parts += [f"## {title}\n", table(found, STEPS) + "\n"]
    return "\n".join(parts)


if __name__ == "__main__":
    main()
