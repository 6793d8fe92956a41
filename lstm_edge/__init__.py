"""lstm-edge: bring LSTMs to embedded Linux, from PyTorch to a verified, quantized, streaming ONNX file.

The names below are loaded when they are first used: importing this package imports neither torch nor onnxruntime.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lstm_edge.layers import LSTM
    from lstm_edge.training import train_classifier, train_forecaster, train_language_model, train_tagger
    from lstm_edge.training.models import LanguageModel, SequenceClassifier, SequenceForecaster, SequenceTagger
    from lstm_edge.validation.judge import validate
    from lstm_edge_exporters.pytorch.export import export
    from lstm_edge_exporters.quantize import quantize
    from lstm_edge_runtime.selftest import self_test
    from lstm_edge_runtime.session import Session
    from lstm_edge_runtime.state import State
    from lstm_edge_runtime.stream import Stream

__all__ = [
    "LSTM",
    "LanguageModel",
    "SequenceClassifier",
    "SequenceForecaster",
    "SequenceTagger",
    "Session",
    "State",
    "Stream",
    "export",
    "quantize",
    "self_test",
    "train_classifier",
    "train_forecaster",
    "train_language_model",
    "train_tagger",
    "validate",
]

_HOME = {
    "LSTM": "lstm_edge.layers",
    "LanguageModel": "lstm_edge.training.models",
    "SequenceClassifier": "lstm_edge.training.models",
    "SequenceForecaster": "lstm_edge.training.models",
    "SequenceTagger": "lstm_edge.training.models",
    "Session": "lstm_edge_runtime.session",
    "State": "lstm_edge_runtime.state",
    "Stream": "lstm_edge_runtime.stream",
    "export": "lstm_edge_exporters.pytorch.export",
    "quantize": "lstm_edge_exporters.quantize",
    "self_test": "lstm_edge_runtime.selftest",
    "train_classifier": "lstm_edge.training",
    "train_forecaster": "lstm_edge.training",
    "train_language_model": "lstm_edge.training",
    "train_tagger": "lstm_edge.training",
    "validate": "lstm_edge.validation.judge",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lstm_edge' has no attribute {name!r}")
    try:
        module = importlib.import_module(_HOME[name])
    except ModuleNotFoundError as error:
        from lstm_edge._imports import missing_extra

        raise missing_extra(error, f"lstm_edge.{name}") from error
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)
