"""What provokes each error of lstm-edge, as a user does it: class -> a function that raises it in the current folder.

``docs/troubleshooting.md`` quotes the sentences, ``test_troubleshooting.py`` compares them.
"""

import builtins
import hashlib
import shutil
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import nn

import lstm_edge
from lstm_edge_runtime import Session, cmake_dir

__all__ = ["SYMPTOMS", "prepare"]

MODELS = Path(__file__).parents[1] / "device" / "models"


class Tagger(nn.Module):
    """Six features to four logits, step by step."""

    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(6, 8, batch_first=True), nn.Linear(8, 4)

    def forward(self, x):
        """Return logits [batch, time, 4] of x [batch, time, 6]."""
        return self.head(self.lstm(x)[0])


def prepare():
    """Write the files that the sentences speak of: ``model.onnx``, ``int8.onnx``, ``both.onnx``, ``data.npz``."""
    torch.manual_seed(0)
    tagger, options = Tagger().eval(), {"inputs": ["x: float32[batch, time, 6]"], "task": "tagging"}
    lstm_edge.export(tagger, output="model.onnx", **options)
    lstm_edge.quantize("model.onnx", "int8.onnx")
    shutil.copy(MODELS / "bidirectional.onnx", "both.onnx")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 9, 6)).astype(np.float32)
    np.savez("data.npz", x=x, y=rng.integers(0, 4, size=(60, 9)))
    np.savez("features.npz", x=x[:, :, :5], y=rng.integers(0, 4, size=(60, 9)))
    for parameter in tagger.head.parameters():
        parameter.data.neg_()
    lstm_edge.export(tagger, output="other.onnx", **options)
    # Data whose every target is what model.onnx answers.
    np.savez("judged.npz", x=x, y=Session("model.onnx").run(x)[0]["output"].argmax(-1))
    lstm_edge.keygen("fleet")
    lstm_edge.sign("model.onnx", key="fleet", name="tagger", version="1.0")


def _damaged():
    data = bytearray(Path("model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    Path("damaged.onnx").write_bytes(data)
    Session("damaged.onnx")


def _other_card():
    _rewrite("newer.onnx", lambda body: body.replace(b'"schema": "1.', b'"schema": "2.'))
    Session("newer.onnx")


def _rewrite(path, change):
    """Write model.onnx with a change and the digest of the changed bytes, as a tool that rewrites files would."""
    data = Path("model.onnx").read_bytes()
    body, trailer = change(data[:-86]), data[-86:-64]
    Path(path).write_bytes(body + trailer + hashlib.sha256(body).hexdigest().encode())


def _other_weights():
    torch.manual_seed(0)
    bias = Tagger().head.bias.detach().numpy()
    _rewrite("rewritten.onnx", lambda body: body.replace(bias.tobytes(), (bias + 1).tobytes()))
    lstm_edge.check("rewritten.onnx").check()


def _unpruned():
    lstm_edge.quantize("model.onnx", "sparse.onnx", sparse="required")


def _no_worker():
    with mock.patch("lstm_edge.precision_search.process.CODE", "raise SystemExit(7)"):
        lstm_edge.quantize(
            "model.onnx", "auto.onnx", scheme="auto", data="judged.npz", metric="accuracy", max_drop="1pt", workers=2
        )


def _without(package):
    real = builtins.__import__

    def refuse(name, *rest, **named):
        if name.partition(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=package)
        return real(name, *rest, **named)

    return mock.patch.object(builtins, "__import__", refuse)


def _missing_extra():
    with _without("cryptography"):
        lstm_edge.check("model.onnx", trusted_keys=["fleet.pub"])


def _missing_tool():
    with mock.patch.object(shutil, "which", return_value=None):
        options = {"compatible": "kws board", "cert": "signer.cert.pem", "key": "signer.key.pem"}
        lstm_edge.bundle("int8.onnx", format="rauc", path="/srv/kws", version="1.0", **options)


def _training_mode():
    lstm_edge.export(Tagger(), output="new.onnx", inputs=["x: float32[batch, time, 6]"])


SYMPTOMS = {
    "ArtifactError": lambda: Session("modle.onnx"),
    "IntegrityError": _damaged,
    "CardError": _other_card,
    "SignatureError": lambda: lstm_edge.check("int8.onnx", trusted_keys=["fleet.pub"]),
    "InputError": lambda: Session("int8.onnx").run(np.zeros((1, 9, 5), np.float32)),
    "ProviderError": lambda: Session("int8.onnx", provider="cuda"),
    "StreamingError": lambda: Session("both.onnx").stream(),
    "MissingExtraError": _missing_extra,
    "MissingToolError": _missing_tool,
    "MissingLibraryError": cmake_dir,
    "DataError": lambda: lstm_edge.validate("int8.onnx", "model.onnx", "features.npz"),
    "OutputError": lambda: lstm_edge.quantize("model.onnx", "models/int8.onnx"),
    "CaptureError": _training_mode,
    "QuantizationError": lambda: lstm_edge.quantize("model.onnx", "new.onnx", parts={"gru": "int4"}),
    "CoverageError": _unpruned,
    "WorkerError": _no_worker,
    "ParityError": _other_weights,
    "BudgetError": lambda: lstm_edge.validate("other.onnx", "model.onnx", "judged.npz", max_drop="1pt").check(),
    "DeployError": lambda: lstm_edge.deploy("int8.onnx", to=["pi@127.0.0.1:1"], path="/srv/kws").check(),
    "DeviceError": lambda: lstm_edge.validate("int8.onnx", "model.onnx", "judged.npz", on="pi@127.0.0.1:1"),
}
