"""Writes cases of the node fuzzer, with this machine's verdicts and answers, for node_replay.py on another machine.

    LSTM_EDGE_ISA=portable python node_corpus.py FOLDER [--seconds 20] [--seed 0]

Only cases whose verdict docs/operators.md fixes are written; each is first checked as the fuzzer does. Exit code 1
when a check fails.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / folder) for folder in ("tests/fuzz", "tests", "tests/kernels", "exporters", "runtime")]

from node_cases import Node, draw  # noqa: E402  # needs the path above
from node_replay import Array, call, digest, opened  # noqa: E402
from nodes import check  # noqa: E402

from lstm_edge_runtime.library import find_library  # noqa: E402


def recorded(label: str, node: Node, arrays: dict[str, Array]) -> dict[str, Any]:
    """Put a case's bytes, inputs and float32 answers under its label; returns its entry in the index."""
    arrays[f"{label}.model"] = np.frombuffer(node.model, np.uint8)
    session, _ = opened(node.model, find_library())
    calls = []
    for number, made in enumerate(node.calls if session is not None else ()):
        got, _ = call(session, made.feeds, misaligned=made.misaligned)
        arrays |= {f"{label}.{number}.{name}": array for name, array in made.feeds.items()}
        # float32 sums have no fixed order: their answers are compared as numbers, where trained weights made them.
        near = got is not None and node.ordinary and not node.exact
        if near:
            arrays |= {f"{label}.{number}.out{place}": array for place, array in enumerate(got or ())}
        entry = {"feeds": list(made.feeds), "misaligned": made.misaligned, "exact": node.exact, "answers": near}
        calls.append({**entry, "digest": None if got is None else digest(got)})
    return {"refused": session is None, "calls": calls}


def main() -> int:
    """Draw cases until the time is over, and write them."""
    parser = argparse.ArgumentParser(description="write cases of the node fuzzer for node_replay.py")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=20.0, help="how long to draw (default 20)")
    parser.add_argument("--seed", type=int, default=0, help="random seed (default 0)")
    options = parser.parse_args()
    until = time.monotonic() + options.seconds
    index: dict[str, Any] = {}
    arrays: dict[str, Array] = {}
    number, faults = 0, 0
    while time.monotonic() < until:
        node = draw(options.seed, number)
        verdict = check(node)
        if verdict.startswith("fault: "):
            print(f"seed {options.seed}, number {number}: {verdict}")
            faults += 1
        elif node.must != "either":
            label = f"{options.seed}-{number}-{node.name}"
            index[label] = recorded(label, node, arrays)
        number += 1
    options.folder.mkdir(parents=True, exist_ok=True)
    (options.folder / "index.json").write_text(json.dumps(index), encoding="utf-8")
    np.savez(options.folder / "arrays.npz", **arrays)
    calls = sum(len(entry["calls"]) for entry in index.values())
    print(f"{find_library().instruction_set}: {len(index):,} nodes, {calls:,} calls written; faults: {faults}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
