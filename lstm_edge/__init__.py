"""lstm-edge: bring LSTMs to embedded Linux, from PyTorch to a verified, quantized, streaming ONNX file.

Each command of ``lstm-edge`` is a function of the same name with the same options, and returns a report (``data check``
is ``check_data``; ``zoo list`` and ``zoo get`` are ``zoo_list`` and ``zoo_get``): ``export``, ``adopt``, ``quantize``,
``validate``, ``inspect``, ``check``, ``bench``, ``run``, ``train``, ``select``, ``keygen``, ``sign``, ``bundle``,
``deploy``, ``status``, ``rollback`` and ``prune``. Names are loaded on first use: importing this package imports
neither torch nor onnxruntime.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lstm_edge.commands.adopt import adopt
    from lstm_edge.commands.bundle import bundle
    from lstm_edge.commands.data import check_data
    from lstm_edge.commands.export import export
    from lstm_edge.commands.fleet import deploy, prune, rollback, status
    from lstm_edge.commands.quantize import quantize
    from lstm_edge.commands.select import select
    from lstm_edge.commands.train import train
    from lstm_edge.commands.validate import validate
    from lstm_edge.commands.zoo import zoo_get, zoo_list
    from lstm_edge.fleet.keys import keygen
    from lstm_edge.fleet.signing import sign
    from lstm_edge.front_ends import front_end
    from lstm_edge.layers import LSTM
    from lstm_edge.recurrent import Recurrent
    from lstm_edge.sparsity import BlockSparsity
    from lstm_edge.training import (
        distillation_loss,
        train_classifier,
        train_forecaster,
        train_language_model,
        train_tagger,
    )
    from lstm_edge.training.models import LanguageModel, SequenceClassifier, SequenceForecaster, SequenceTagger
    from lstm_edge_runtime.commands.device import bench, check, inspect
    from lstm_edge_runtime.commands.run import run
    from lstm_edge_runtime.errors import (
        ArtifactError,
        BudgetError,
        CaptureError,
        CardError,
        CoverageError,
        DataError,
        DeployError,
        DeviceError,
        InputError,
        IntegrityError,
        LstmEdgeError,
        MissingExtraError,
        MissingLibraryError,
        MissingToolError,
        OutputError,
        ParityError,
        ProviderError,
        QuantizationError,
        SignatureError,
        StreamingError,
        WorkerError,
    )
    from lstm_edge_runtime.selftest import self_test
    from lstm_edge_runtime.session import Session
    from lstm_edge_runtime.state import State
    from lstm_edge_runtime.stream import Stream

    __version__: str

__all__ = [
    "LSTM",
    "ArtifactError",
    "BlockSparsity",
    "BudgetError",
    "CaptureError",
    "CardError",
    "CoverageError",
    "DataError",
    "DeployError",
    "DeviceError",
    "InputError",
    "IntegrityError",
    "LanguageModel",
    "LstmEdgeError",
    "MissingExtraError",
    "MissingLibraryError",
    "MissingToolError",
    "OutputError",
    "ParityError",
    "ProviderError",
    "QuantizationError",
    "Recurrent",
    "SequenceClassifier",
    "SequenceForecaster",
    "SequenceTagger",
    "Session",
    "SignatureError",
    "State",
    "Stream",
    "StreamingError",
    "WorkerError",
    "__version__",
    "adopt",
    "bench",
    "bundle",
    "check",
    "check_data",
    "deploy",
    "distillation_loss",
    "export",
    "front_end",
    "inspect",
    "keygen",
    "prune",
    "quantize",
    "rollback",
    "run",
    "select",
    "self_test",
    "sign",
    "status",
    "train",
    "train_classifier",
    "train_forecaster",
    "train_language_model",
    "train_tagger",
    "validate",
    "zoo_get",
    "zoo_list",
]

# No module of this package may have the name of a function: importing the module would replace the function.
_COMMANDS = ("adopt", "bundle", "export", "quantize", "select", "train", "validate")
_HOME = {
    "BlockSparsity": "lstm_edge.sparsity",
    "LSTM": "lstm_edge.layers",
    "LanguageModel": "lstm_edge.training.models",
    "Recurrent": "lstm_edge.recurrent",
    "SequenceClassifier": "lstm_edge.training.models",
    "SequenceForecaster": "lstm_edge.training.models",
    "SequenceTagger": "lstm_edge.training.models",
    "Session": "lstm_edge_runtime.session",
    "State": "lstm_edge_runtime.state",
    "Stream": "lstm_edge_runtime.stream",
    "front_end": "lstm_edge.front_ends",
    "keygen": "lstm_edge.fleet.keys",
    "self_test": "lstm_edge_runtime.selftest",
    "sign": "lstm_edge.fleet.signing",
    **{name: f"lstm_edge.commands.{name}" for name in _COMMANDS},
    "check_data": "lstm_edge.commands.data",
    **dict.fromkeys(("zoo_get", "zoo_list"), "lstm_edge.commands.zoo"),
    **dict.fromkeys(("bench", "check", "inspect"), "lstm_edge_runtime.commands.device"),
    "run": "lstm_edge_runtime.commands.run",
    **dict.fromkeys(("deploy", "prune", "rollback", "status"), "lstm_edge.commands.fleet"),
    **dict.fromkeys(
        ("distillation_loss", "train_classifier", "train_forecaster", "train_language_model", "train_tagger"),
        "lstm_edge.training",
    ),
    **{name: "lstm_edge_runtime.errors" for name in __all__ if name.endswith("Error")},
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("lstm-edge")
        except PackageNotFoundError:
            return "uninstalled: a checkout on the path"
    if name not in _HOME:
        raise AttributeError(f"module 'lstm_edge' has no attribute {name!r}")
    from lstm_edge._imports import extra_named

    with extra_named(f"lstm_edge.{name}"):
        return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
