"""Opens and calls a node's model, and says how an answer differs from what was expected; numpy and onnxruntime only.

    python node_replay.py FOLDER [SECONDS]

As a program it replays a folder that ``node_corpus.py`` wrote, on any machine: every verdict must be the same, every
answer of an int8 or int4 operator must have the same bits, and a float32 one's be near. Exit code 1 otherwise.
"""

import hashlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.errors import ArtifactError, first_line
from lstm_edge_runtime.library import Library, find_library
from lstm_edge_runtime.providers import RUNTIME_ERRORS, open_session

__all__ = ["FLOAT_TOLERANCE", "OPERATORS", "call", "digest", "far_off", "opened"]

# float32 sums of up to 1,100 products in another order, over up to 25 steps; 2e-6 is seen.
FLOAT_TOLERANCE = 2e-5
# What the kernels' own sentences begin with; onnxruntime refuses the rest before a kernel sees it.
OPERATORS = ("Lstm", "Gru", "Rnn", "Linear")


def opened(model: bytes, library: Library, *, threads: int = 1) -> tuple[Any, str]:
    """Return a session and "", or None and the sentence of the refusal; raises whatever else is raised."""
    try:
        return open_session(model, library=library, threads=threads), ""
    except ArtifactError as error:
        return None, str(error)


def call(session: Any, feeds: Mapping[str, Array], *, misaligned: bool) -> tuple[list[Array] | None, str]:
    """Return the answers and "", or None and the sentence of the refusal; raises whatever else is raised."""
    given = {name: _misaligned(array) if misaligned else array for name, array in feeds.items()}
    given = {name: given[name] for name in (spec.name for spec in session.get_inputs()) if name in given}
    try:
        return session.run(None, given), ""
    except RUNTIME_ERRORS as error:
        return None, first_line(error)


def _misaligned(array: Array) -> Array:
    moved = np.frombuffer(bytearray(array.nbytes + 1), array.dtype, array.size, 1).reshape(array.shape)
    moved[...] = array
    return moved


def digest(arrays: Sequence[Array]) -> str:
    """Return a hash of shapes and bits; NaN counts as NaN, whose sign and payload differ between processors."""
    hashed = hashlib.sha256()
    for array in arrays:
        hashed.update(f"{array.dtype}{array.shape}".encode())
        hashed.update(np.where(np.isnan(array), np.float32(np.nan), array).tobytes())
    return hashed.hexdigest()


def far_off(got: Sequence[Array], expected: Sequence[Array]) -> float:
    """Return the largest difference of float32 answers of the same shapes; infinity for other shapes or a NaN."""
    if [array.shape for array in got] != [array.shape for array in expected]:
        return np.inf
    worst = (np.abs(a.astype(np.float64) - b).max(initial=0.0) for a, b in zip(got, expected, strict=True))
    return max(float(np.nan_to_num(value, nan=np.inf)) for value in worst)


def replay(folder: Path, until: float) -> tuple[int, int, list[str]]:
    """Replay cases until the time is over; returns how many nodes and calls were replayed, and what differed."""
    library, wrong, nodes, calls = find_library(), [], 0, 0
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    with np.load(folder / "arrays.npz") as arrays:
        for label, entry in index.items():
            if time.monotonic() > until:
                break
            nodes += 1
            session, _ = opened(arrays[f"{label}.model"].tobytes(), library)
            if (session is None) != entry["refused"]:
                wrong.append(f"{label}: {'refused' if session is None else 'opened'} here")
                continue
            for number, wanted in enumerate(entry["calls"]):
                calls += 1
                feeds = {name: arrays[f"{label}.{number}.{name}"] for name in wanted["feeds"]}
                got, said = call(session, feeds, misaligned=wanted["misaligned"])
                if (got is None) != (wanted["digest"] is None):
                    wrong.append(f"{label}, call {number}: {said or 'answered'}")
                elif got is None:
                    continue
                elif wanted["exact"] and digest(got) != wanted["digest"]:
                    wrong.append(f"{label}, call {number}: other bits")
                elif wanted["answers"]:
                    near = [arrays[f"{label}.{number}.out{place}"] for place in range(len(got))]
                    if far_off(got, near) > FLOAT_TOLERANCE:
                        wrong.append(f"{label}, call {number}: differs by {far_off(got, near):.3g}")
    return nodes, calls, wrong


def main() -> int:
    """Replay the folder of the arguments; print counts and what differed."""
    folder, seconds = Path(sys.argv[1]), float((sys.argv[2:] or ["inf"])[0])
    nodes, calls, wrong = replay(folder, time.monotonic() + seconds)
    print("\n".join(wrong[:20]), end="\n" if wrong else "")
    print(f"{find_library().instruction_set}: {nodes:,} nodes, {calls:,} calls replayed; faults: {len(wrong)}")
    return 1 if wrong or not calls else 0


if __name__ == "__main__":
    sys.exit(main())
