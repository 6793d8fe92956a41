"""A BatchNorm that torch folds into a convolution leaves the convolution its name."""

import onnx
import pytest
import torch
from torch import nn

import lstm_edge


class Normalized(nn.Module):
    """Layers with a BatchNorm, which the export makes one node each, around a recurrent layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(3, 5, 1), nn.BatchNorm1d(5)
        self.up, self.up_norm = nn.ConvTranspose1d(5, 5, 1), nn.BatchNorm1d(5)
        self.lstm = nn.LSTM(5, 4, batch_first=True)
        self.head = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.up_norm(self.up(self.norm(self.conv(x.transpose(1, 2)))))
        return self.head(self.lstm(x.transpose(1, 2))[0][:, -1])


@pytest.mark.slow
def test_a_fused_convolution_keeps_its_name(tmp_path):
    torch.manual_seed(0)
    module = Normalized().eval()
    module.norm.running_mean = torch.full((5,), 0.3)
    lstm_edge.export(module, output=tmp_path / "m.onnx", inputs=["x: float32[batch, time, 3]"])
    nodes = onnx.load(tmp_path / "m.onnx").graph.node
    assert "BatchNormalization" not in {node.op_type for node in nodes}
    named = {node.op_type: node.name for node in nodes}
    assert (named["Conv"], named["ConvTranspose"]) == ("conv/Conv", "up/ConvTranspose")
    assert [name for name in named.values() if name.startswith("head")] == ["head.0/Gemm"], named
