"""Gate orders: hand-written examples, round trips, refusals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_edge_exporters.gates import (
    GRU_ONNX,
    GRU_PYTORCH,
    LSTM_ONNX,
    LSTM_PYTORCH,
    PEEPHOLE_ONNX,
    PEEPHOLE_PYTORCH,
    reorder_gates,
)
from lstm_edge_runtime.errors import CaptureError


def test_pytorch_to_onnx_by_hand() -> None:
    #             i0  i1  f0  f1  g0  g1  o0  o1
    w = np.array([10, 11, 20, 21, 30, 31, 40, 41])[:, None] + np.array([0, 100, 200])
    expected = np.array([10, 11, 40, 41, 20, 21, 30, 31])[:, None] + np.array([0, 100, 200])
    np.testing.assert_array_equal(reorder_gates(w), expected, strict=True)
    np.testing.assert_array_equal(reorder_gates(w.T, axis=1), expected.T, strict=True)
    np.testing.assert_array_equal(reorder_gates(w.T, axis=-1), expected.T, strict=True)


def test_peepholes_and_gru_by_hand() -> None:
    w = np.array([1.0, 2.0, 3.0], dtype=np.float32)
    peephole = reorder_gates(w, src=PEEPHOLE_PYTORCH, dst=PEEPHOLE_ONNX)
    np.testing.assert_array_equal(peephole, np.array([1, 3, 2], dtype=np.float32), strict=True)
    gru = reorder_gates(w, src=GRU_PYTORCH, dst=GRU_ONNX)
    np.testing.assert_array_equal(gru, np.array([2, 1, 3], dtype=np.float32), strict=True)


@pytest.mark.parametrize(("src", "dst"), [(LSTM_PYTORCH, LSTM_ONNX), (PEEPHOLE_PYTORCH, PEEPHOLE_ONNX)])
def test_the_result_is_a_copy(src: str, dst: str) -> None:
    w = np.arange(12.0)
    reorder_gates(w, src=src, dst=dst)[:] = -1
    reorder_gates(w, src=src, dst=src)[:] = -1
    np.testing.assert_array_equal(w, np.arange(12.0))


@given(
    data=st.data(),
    gates=st.sampled_from(["ifgo", "ifco", "ifo", "rzn", "rzh"]),
    hidden=st.integers(0, 4),
    other=st.integers(1, 3),
    axis=st.integers(-2, 1),
)
def test_there_and_back_is_the_same(data: st.DataObject, gates: str, hidden: int, other: int, axis: int) -> None:
    src, dst = (("".join(data.draw(st.permutations(gates)))) for _ in range(2))
    size = len(gates) * hidden
    w = np.arange(float(size * other)).reshape((size, other) if axis in (0, -2) else (other, size))
    there = reorder_gates(w, src=src, dst=dst, axis=axis)
    for place, gate in enumerate(dst):
        block, source = np.split(there, len(gates), axis)[place], np.split(w, len(gates), axis)[src.index(gate)]
        np.testing.assert_array_equal(block, source, strict=True)
    np.testing.assert_array_equal(reorder_gates(there, src=dst, dst=src, axis=axis), w, strict=True)


@pytest.mark.parametrize(
    ("shape", "src", "dst", "axis", "message"),
    [
        ((8,), "ifgo", "ifo", 0, "gate orders: got 'ifgo' and 'ifo', expected the same gates in both"),
        ((8,), "ifgg", "ifgg", 0, "gate orders: got 'ifgg' and 'ifgg', expected the same gates in both, each once"),
        ((8,), "ifgc", "ifcg", 0, "gate orders: got 'ifgc' and 'ifcg', expected the same gates in both, each once"),
        ((8,), "", "", 0, "gate orders: got '' and '', expected the same gates in both, each once"),
        (
            (7, 8),
            "ifgo",
            "iofc",
            0,
            r"gate order 'ifgo': got an array of shape \(7, 8\), expected axis 0 to hold 4 \* H",
        ),
        ((8,), "ifgo", "iofc", 1, r"gate order 'ifgo': got an array of shape \(8,\), expected axis 1 to hold 4 \* H"),
    ],
)
def test_what_cannot_be_reordered_is_refused(
    shape: tuple[int, ...], src: str, dst: str, axis: int, message: str
) -> None:
    with pytest.raises(CaptureError, match=f"^{message}"):
        reorder_gates(np.zeros(shape), src=src, dst=dst, axis=axis)
