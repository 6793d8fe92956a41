"""Runs the fuzzers one after the other and prints a line of counts for each; exit 1 when there was a fault.

    python tests/fuzz/run.py [--seconds 600] [--seed 0] [--least 0] [NAME ...]

A fuzzer is a module beside this one with ``fuzz(seed, until, least) -> Tally`` (see sandbox.py). The seconds are shared
equally; ``--least`` is a number of cases that each runs whatever the time.
"""

import argparse
import importlib
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / folder) for folder in ("tests/fuzz", "tests", "tests/kernels", ".", "exporters", "runtime")]

# In the order of the layers that a hostile file meets: its bytes, its parts, the files beside it, its nodes; last, all
# of them in C.
FUZZERS = ("walker", "artifact", "readers", "nodes", "agreement")


def main() -> int:
    """Parse the options, run, print."""
    parser = argparse.ArgumentParser(description="fuzz what reads a stranger's file")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"fuzzers to run: {', '.join(FUZZERS)} (default: all)")
    parser.add_argument("--seconds", type=float, default=600.0, help="for all of them together (default 600)")
    parser.add_argument("--seed", type=int, default=0, help="of every draw (default 0)")
    parser.add_argument("--least", type=int, default=0, help="cases that each runs whatever the time (default 0)")
    options = parser.parse_args()
    names = options.names or list(FUZZERS)
    if unknown := [name for name in names if name not in FUZZERS]:
        parser.error(f"unknown fuzzer {unknown[0]!r}; known ones are {', '.join(FUZZERS)}")
    faults = 0
    for name in names:
        fuzz = importlib.import_module(name).fuzz
        start = time.monotonic()
        tally = fuzz(options.seed, start + options.seconds / len(names), options.least)
        counts = ", ".join(f"{count:,} {verdict}" for verdict, count in sorted(tally.verdicts.items()))
        seconds = time.monotonic() - start
        print(f"{name}: {tally.cases:,} cases in {seconds:.0f} s: {counts}; faults: {len(tally.faults)}", flush=True)
        for fault in tally.faults[:20]:
            print(f"  {fault}", flush=True)
        faults += len(tally.faults)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
