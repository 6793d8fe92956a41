"""onnxruntime's int8 convolutions, as quantize writes them, have the bits of exact integer sums on this machine.

The same cases run on other versions of onnxruntime, on emulated ARM processors, and on an emulated processor that has
AVX2 and no VNNI, where sums of larger weights saturate (make_golden.py).
"""

import numpy as np
import pytest
from convolution_cases import golden_convolutions

from lstm_edge_runtime.providers import open_session

CASES = tuple(golden_convolutions())


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_bits_in_any_batch_and_on_any_threads(case):
    assert len(np.unique(case.y)) > 20 or case.y.size < 200 or "extreme" in case.name
    for threads in (1, 2):
        session = open_session(case.model, threads=threads)
        [y] = session.run(None, {"x": case.x})
        assert np.array_equal(y, case.y)
        rows = [session.run(None, {"x": case.x[row : row + 1]})[0] for row in range(len(case.x))]
        assert np.array_equal(np.concatenate(rows), y)
