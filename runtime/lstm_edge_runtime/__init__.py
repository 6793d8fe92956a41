"""Run, stream, measure and self-test an lstm-edge model on the device; imports numpy and onnxruntime only.

A name is loaded when it is first used.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lstm_edge_runtime.c_library import cmake_dir
    from lstm_edge_runtime.card import ModelCard
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
    from lstm_edge_runtime.pool import Answers, Pool
    from lstm_edge_runtime.selftest import SelfTestReport, self_test
    from lstm_edge_runtime.session import Session
    from lstm_edge_runtime.state import State
    from lstm_edge_runtime.stream import Stream
    from lstm_edge_runtime.watch import Metrics

__all__ = [
    "Answers",
    "ArtifactError",
    "BudgetError",
    "CaptureError",
    "CardError",
    "CoverageError",
    "DataError",
    "DeployError",
    "DeviceError",
    "InputError",
    "IntegrityError",
    "LstmEdgeError",
    "Metrics",
    "MissingExtraError",
    "MissingLibraryError",
    "MissingToolError",
    "ModelCard",
    "OutputError",
    "ParityError",
    "Pool",
    "ProviderError",
    "QuantizationError",
    "SelfTestReport",
    "Session",
    "SignatureError",
    "State",
    "Stream",
    "StreamingError",
    "WorkerError",
    "cmake_dir",
    "self_test",
]

_HOME = {
    "Answers": "pool",
    "Pool": "pool",
    "Metrics": "watch",
    "ModelCard": "card",
    "SelfTestReport": "selftest",
    "Session": "session",
    "State": "state",
    "Stream": "stream",
    "cmake_dir": "c_library",
    "self_test": "selftest",
    **{name: "errors" for name in __all__ if name.endswith("Error")},
}


# onnxruntime 1.32 on Linux writes an identifier of the device below the home folder and sends usage data, unless this
# is set when it is loaded. A value that the environment has already is kept.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lstm_edge_runtime' has no attribute {name!r}")
    return getattr(importlib.import_module(f"lstm_edge_runtime.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
