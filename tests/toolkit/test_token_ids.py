"""Data files of token ids, for models other than language models: validate, run and calibration take them."""

import numpy as np
import pytest
from support.networks import build, seeded
from torch import Tensor, nn

import lstm_edge
from lstm_edge.data import load
from lstm_edge.precision_search.data import calibration_feeds
from lstm_edge_runtime.errors import DataError, InputError
from lstm_edge_runtime.session import Session

pytestmark = pytest.mark.slow


class Intent(nn.Module):
    """Token ids to one class a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.rnn = nn.Embedding(30, 8), nn.GRU(8, 12, batch_first=True)
        self.head = nn.Linear(12, 4)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.rnn(self.table(ids))[1][-1])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ids")
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 12, 40)
    ids = rng.integers(0, 30, lengths.sum())
    artifact = build(seeded(Intent()), None, inputs=["ids: int64[batch, time]"], lengths=True)
    (folder / "model.onnx").write_bytes(artifact.data)
    session = Session(artifact.data, kernels="off")
    starts = np.cumsum(lengths) - lengths
    rows = [ids[start : start + length] for start, length in zip(starts, lengths, strict=True)]
    y = np.array([int(session.run(row[None])[0]["output"].argmax()) for row in rows])
    np.savez(folder / "data.npz", ids=ids.astype(np.int32), lengths=lengths, y=y)
    padded = np.zeros((40, 12), np.int64)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = row
    np.savez(folder / "run.npz", ids=padded, lengths=lengths)
    return folder


def test_ids_are_validated_and_calibrated_with(files):
    assert lstm_edge.quantize(files / "model.onnx", files / "int8.onnx", data=str(files / "data.npz"))
    report = lstm_edge.validate(
        files / "int8.onnx", files / "model.onnx", data=str(files / "data.npz"), metric="accuracy", max_drop="10pt"
    )
    assert report.samples == 40
    assert report.reference == 1.0
    feeds = list(
        calibration_feeds(Session(files / "model.onnx"), load(str(files / "data.npz"), default_split="test"), 3)
    )
    assert [(feed["ids"].dtype.name, feed["ids"].ndim) for feed in feeds] == [("int64", 2)] * 3


def test_run_takes_the_lengths_from_the_file(files):
    session = Session(files / "model.onnx", kernels="off")
    data = load(str(files / "data.npz"), default_split="test")
    got = lstm_edge.run(files / "model.onnx", files / "run.npz").outputs["output"]
    assert np.array_equal(got.argmax(axis=1), data.y)
    assert np.abs(got[3] - session.run(data[3][None])[0]["output"][0]).max() < 1e-5


def test_what_does_not_fit_is_said(files, tmp_path):
    data = load(str(files / "data.npz"), default_split="test")
    assert (data.is_ids, data.x.dtype.name, len(data.subset([1, 2]))) == (True, "int64", 2)
    with pytest.raises(DataError, match=r"x holds token ids; expected float32 \[sum\(lengths\), features\]$"):
        assert data.features
    np.savez(tmp_path / "none.npz", lengths=data.lengths, y=data.y)
    with pytest.raises(DataError, match="'x'"):
        load(str(tmp_path / "none.npz"), default_split="test")
    np.savez(tmp_path / "negative.npz", ids=-data.x - 1, lengths=data.lengths, y=data.y)
    with pytest.raises(DataError, match=r"x holds token ids, and its least is -30; expected ids of 0 or more$"):
        load(str(tmp_path / "negative.npz"), default_split="test")
    np.savez(
        tmp_path / "floats.npz", x=np.zeros((int(data.lengths.sum()), 3), np.float32), lengths=data.lengths, y=data.y
    )
    floats = load(str(tmp_path / "floats.npz"), default_split="test")
    with pytest.raises(InputError, match=r"holds float32 steps, but the model's input 'ids' is int64$"):
        next(calibration_feeds(Session(files / "model.onnx"), floats, 1))
