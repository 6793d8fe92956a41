"""Lengths for layers that see other axes folded into the batch: each row of the batch is that row alone, in PyTorch."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lstm_edge_exporters.pytorch.export import build
from lstm_edge_exporters.pytorch.options import ExportOptions
from lstm_edge_runtime import Session, State
from lstm_edge_runtime.errors import CaptureError

pytestmark = pytest.mark.slow

# float32 sums in another order, over a few calls.
CLOSE = 1e-5
LENGTHS = (9, 1, 4, 9, 2)


class PerSensor(nn.Module):
    """Each sensor of each row is a sequence; those of a row lie side by side, or the rows of a sensor do."""

    def __init__(self, *, outer: bool = False, flipped: bool = False, **options: object) -> None:
        super().__init__()
        self.outer, self.flipped = outer, flipped
        self.rnn = nn.LSTM(2, 4, batch_first=True, **options)

    def forward(self, x: Tensor) -> Tensor:
        b, t, s, f = x.shape
        if self.flipped:
            x = x.flip(0)
        rows = x.permute(2, 0, 1, 3) if self.outer else x.permute(0, 2, 1, 3)
        y, _ = self.rnn(rows.reshape(-1, t, f))
        y = y.reshape(s, b, t, -1).permute(1, 2, 0, 3) if self.outer else y.reshape(b, s, t, -1).transpose(1, 2)
        return y.flip(0) if self.flipped else y


class DualPath(nn.Module):
    """A bidirectional layer over the bands of each frame, then a layer over time for each band, time first."""

    def __init__(self) -> None:
        super().__init__()
        self.intra, self.inter = nn.GRU(3, 4, batch_first=True, bidirectional=True), nn.GRU(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        b, t, f, c = x.shape
        y = self.intra(x.reshape(b * t, f, c))[0].reshape(b, t, f, 8)
        z = self.inter(y.permute(1, 0, 2, 3).reshape(t, b * f, 8))[0]
        return z.reshape(t, b, f, 5).transpose(0, 1)


class Hierarchy(nn.Module):
    """A layer for each sensor, then one for all of them together."""

    def __init__(self) -> None:
        super().__init__()
        self.each, self.all = nn.GRU(2, 4, 2, batch_first=True), nn.LSTM(12, 6, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        b, t, s, f = x.shape
        y, _ = self.each(x.permute(0, 2, 1, 3).reshape(b * s, t, f))
        return self.all(y.reshape(b, s, t, 4).transpose(1, 2).reshape(b, t, 12))[0]


SENSORS = "x: float32[batch, time, 3, 2]"
FOLDED = {
    "inner": (PerSensor, SENSORS),
    "outer": (lambda: PerSensor(outer=True), SENSORS),
    "both directions": (lambda: PerSensor(outer=True, bidirectional=True), SENSORS),
    "projected": (lambda: PerSensor(proj_size=3), SENSORS),
    "dual path": (DualPath, "x: float32[batch, time, 5, 3]"),
    "hierarchy": (Hierarchy, SENSORS),
}


@pytest.mark.parametrize("name", FOLDED)
def test_each_row_is_that_row_alone(name):
    make, text = FOLDED[name]
    torch.manual_seed(0)
    module = make().eval()
    session = Session(build(module, None, ExportOptions(inputs=[text], lengths=True)).artifact.data)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(len(LENGTHS), 9, *map(int, text.rstrip("]").split(", ")[2:]))).astype(np.float32)
    outputs, _ = session.run(x, lengths=LENGTHS)
    for row, length in enumerate(LENGTHS):
        with torch.no_grad():
            expected = module(torch.from_numpy(x[row : row + 1, :length])).numpy()
        np.testing.assert_allclose(outputs["output"][row : row + 1, :length], expected, atol=CLOSE)
        assert not outputs["output"][row, length:].any()
    if name != "both directions":
        check_states(session, x, outputs["output"])


def check_states(session, x, outputs):
    """The states after each row's length are where that row goes on."""
    rng = np.random.default_rng(1)
    more = rng.normal(size=(len(LENGTHS), 3, *x.shape[2:])).astype(np.float32)
    _, state = session.run(x, lengths=LENGTHS)
    went_on, _ = session.run(more, State.from_arrays(session.states, state), (3,) * len(LENGTHS))
    for row, length in enumerate(LENGTHS):
        joined = np.concatenate([x[row : row + 1, :length], more[row : row + 1]], 1)
        whole, _ = session.run(joined, lengths=(length + 3,))
        np.testing.assert_allclose(went_on["output"][row], whole["output"][0, length:], atol=CLOSE)


def test_rows_in_another_order_are_refused():
    sentence = (
        r"rnn sees rows of which it is not known to which row of the batch they belong \(.*\), and lengths are one"
    )
    with pytest.raises(CaptureError, match=sentence):
        build(PerSensor(flipped=True).eval(), None, ExportOptions(inputs=[SENSORS], lengths=True))
