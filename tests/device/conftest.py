"""What the device tests share: where the models are, and a way to add metadata without the onnx package."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# This folder alone is what a device gets: its tests import ``streamed`` from here, wherever the folder lies.
sys.path.insert(0, str(Path(__file__).parent))

MODELS = Path(__file__).parent / "models"


@pytest.fixture(scope="session")
def models() -> Path:
    """Folder of the small models that make_models.py wrote."""
    return MODELS


@pytest.fixture(scope="session")
def with_metadata() -> Callable[[bytes, str, str], bytes]:
    """A function that appends a metadata entry (field 14 of ModelProto) to the bytes of a model."""

    def add(model: bytes, key: str, value: str) -> bytes:
        entry = _field(1, key.encode()) + _field(2, value.encode())
        return model + _field(14, entry)

    return add


def _field(number: int, payload: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    digits = []
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])
