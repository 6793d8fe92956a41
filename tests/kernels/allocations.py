"""Prints how often the kernels' library allocates when a model of each operator opens, and in calls after the first.

test_allocations.py runs it with count_allocations.cpp preloaded.
"""

import ctypes
import json
from collections.abc import Iterator, Mapping

import float32_cases
import kernel_cases

from lstm_edge_exporters.functions import CellVariant, GruVariant, RnnVariant, all_float32
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.library import Library, find_library
from lstm_edge_runtime.providers import open_session

# T and B: two groups of 16 rows.
TIME, BATCH = 3, 20
INPUTS, HIDDEN = 6, 40


def models() -> Iterator[tuple[str, bytes, Mapping[str, Array]]]:
    """Yield the name of an operator, its model and the inputs of a call."""
    for ragged in (False, True):
        for cell in (
            CellVariant(storage="float32", ragged=ragged),
            CellVariant(storage="int8", peephole="full", projected=True, ragged=ragged),
            CellVariant(storage="sparse_int8", ragged=ragged),
        ):
            outputs = HIDDEN // 2 if cell.projected else HIDDEN
            made = kernel_cases.cell(cell, INPUTS, HIDDEN, outputs, kernel_cases.with_scheme(cell)[0])
            yield made.name, made.model, kernel_cases.feeds_of(made, TIME, BATCH)
        for one in (GruVariant(storage="int4", ragged=ragged), RnnVariant(storage="int8", ragged=ragged)):
            made = kernel_cases.one_state(one, INPUTS, HIDDEN, kernel_cases.with_scheme(one)[0])
            yield made.name, made.model, kernel_cases.feeds_of(made, TIME, BATCH)
    linear = kernel_cases.linear("LinearInt8V1", INPUTS, HIDDEN, kernel_cases.INT8)
    yield linear.name, linear.model, kernel_cases.feeds_of(linear, TIME, BATCH)
    for variant in all_float32():
        case = float32_cases.float32_case(variant, INPUTS, HIDDEN, "bidirectional")
        yield variant.name, case.model, float32_cases.feeds_of(case, TIME, BATCH)


def counts(counter: ctypes.CDLL, library: Library) -> dict[str, tuple[int, int]]:
    """Return by operator how many allocations opening its model took, and three calls after the first two."""
    found = {}
    for name, model, feeds in models():
        before = counter.counted()
        session = open_session(model, library=library)
        opened = counter.counted()
        for _ in range(2):
            session.run(None, feeds)
        warm = counter.counted()
        for _ in range(3):
            session.run(None, feeds)
        found[name] = opened - before, counter.counted() - warm
    return found


def main() -> None:
    """Tell the counter where the library's instructions are, count, print."""
    counter, library = ctypes.CDLL(None), find_library()
    with open("/proc/self/maps") as maps:
        mine = [line.split() for line in maps if line.rstrip().endswith(str(library.path))]
    (start, end), *_ = (line[0].split("-") for line in mine if "x" in line[1])
    counter.watch.argtypes = (ctypes.c_size_t, ctypes.c_size_t)
    counter.counted.restype = ctypes.c_long
    counter.watch(int(start, 16), int(end, 16))
    print(json.dumps(counts(counter, library)))


if __name__ == "__main__":
    main()
