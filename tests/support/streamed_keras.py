"""Keras models with something that looks at earlier or later steps.

    KERAS_BACKEND=torch python tests/support/streamed_keras.py FOLDER

writes each as ``0.keras``, ``1.keras``, ... and Keras's answers to sequences of several lengths as ``0.npz``, ...
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np

F = 6  # features of every input


def keras_forms(layers: Any) -> dict[str, list[Any]]:
    """Return the layers of the Keras forms by name."""
    return {
        "causal convolution, GRU": [
            layers.Conv1D(8, 3, padding="causal", activation="relu"),
            layers.GRU(8, return_sequences=True),
        ],
        "causal, stride 2, LSTM": [
            layers.Conv1D(8, 3, strides=2, padding="causal"),
            layers.LSTM(8, return_sequences=True),
        ],
        "same padding, dilation 2, LSTM": [
            layers.Conv1D(8, 3, padding="same", dilation_rate=2),
            layers.BatchNormalization(),
            layers.LSTM(8, return_sequences=True),
        ],
        "separable convolution, pooling, last step": [
            layers.SeparableConv1D(8, 3, padding="same"),
            layers.MaxPooling1D(2),
            layers.GRU(8),
        ],
        "zeros in front, valid convolution, GRU": [
            layers.ZeroPadding1D((2, 0)),
            layers.Conv1D(8, 3),
            layers.GRU(8, return_sequences=True),
        ],
    }


KERAS_FORMS = tuple(keras_forms(MagicMock()))
KERAS_LENGTHS = (12, 13, 23)


def write_keras(folder: Path) -> None:
    """Let Keras, in a process of its own, write its forms (``0.keras``, ...) and its answers (``0.npz``, ...)."""
    environment = os.environ | {"KERAS_BACKEND": "torch", "KERAS_HOME": str(folder)}
    subprocess.run(
        [sys.executable, __file__, str(folder)], check=True, capture_output=True, env=environment, timeout=300
    )


def _write_keras(folder: Path) -> None:
    import keras

    for number, (name, blocks) in enumerate(keras_forms(keras.layers).items()):
        keras.utils.set_random_seed(number)
        model = keras.Sequential([keras.layers.Input((None, F)), *blocks])
        rng = np.random.default_rng(number)
        for weight in model.weights:
            values = rng.standard_normal(weight.shape) * 0.4
            weight.assign(np.abs(values) + 0.3 if "variance" in weight.path else values)
        model.save(folder / f"{number}.keras")
        arrays = {}
        for steps in KERAS_LENGTHS:
            x = rng.standard_normal((2, steps, F)).astype(np.float32)
            arrays[f"x{steps}"], arrays[f"y{steps}"] = x, np.asarray(model(x).detach())
        np.savez(folder / f"{number}.npz", **arrays)
        print(name)


if __name__ == "__main__":
    _write_keras(Path(sys.argv[1]))
