"""Run, stream, measure and self-test an lstm-edge model on the device; imports numpy and onnxruntime only.

A name is loaded when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lstm_edge_runtime.card import ModelCard
    from lstm_edge_runtime.errors import LstmEdgeError
    from lstm_edge_runtime.selftest import SelfTestReport, self_test
    from lstm_edge_runtime.session import Session
    from lstm_edge_runtime.state import State
    from lstm_edge_runtime.stream import Stream

__all__ = ["LstmEdgeError", "ModelCard", "SelfTestReport", "Session", "State", "Stream", "self_test"]

_HOME = {
    "LstmEdgeError": "errors",
    "ModelCard": "card",
    "SelfTestReport": "selftest",
    "Session": "session",
    "State": "state",
    "Stream": "stream",
    "self_test": "selftest",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lstm_edge_runtime' has no attribute {name!r}")
    return getattr(importlib.import_module(f"lstm_edge_runtime.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
