"""Run as a script, Keras writes the models of ``keras_cases`` and its answers.

    KERAS_BACKEND=torch python tests/support/keras_run.py FOLDER [NAME ...]

FOLDER gets for each case NAME.keras (or NAME.h5) and NAME.npz: inputs x0, x1, ... of several shapes, and Keras's
answers y0_0, y0_1, ... to each. Keras runs in its own process: which backend it uses is fixed when it is imported.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a script, it is on its own

from support.keras_cases import CASES, FEATURES, SHAPES, WORDS, Case


def shapes_of(case: Case) -> list[tuple[int, int]]:
    """Return the (batch, time) that a case is compared at."""
    if case.time is not None:
        return [(2, case.time), (5, case.time)]
    return [(case.batch or batch, time) for batch, time in SHAPES]


def make_input(case: Case, index: int, batch: int, time: int) -> np.ndarray:
    """Return an input; where masked: holes, a masked beginning, a masked end, and a row without a valid step."""
    rng = np.random.default_rng(index)
    if case.ids:
        x = rng.integers(1, WORDS, (batch, time))
    else:
        x = rng.standard_normal((batch, time, FEATURES)).astype(np.float32)
    if case.masked and time > 1:
        drop = rng.random((batch, time)) < 0.3
        drop[0, :2], drop[-1, -1] = True, True
        if batch > 3:
            drop[1] = True
            drop[2], drop[2, 0] = False, True
        x[drop] = 0 if case.ids else (-2.0 if case.name == "masked-value" else 0.0)
    return x


def _fill(model: Any, seed: int) -> None:
    """Random weights everywhere: Keras's own zeros and ones would hide a bias or a scale that is not read."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        # Wide layers get smaller weights: saturated gates would make a last bit of 128 sums visible in the states.
        values = rng.standard_normal(weight.shape) * min(0.4, 1.6 / weight.shape[0] ** 0.5)
        weight.assign(np.abs(values) + 0.3 if "variance" in weight.path else values)


def _model(case: Case) -> Any:
    import keras

    made = case.layers(keras.layers)
    if not isinstance(made, list):
        return made
    shape = (case.time,) if case.ids else (case.time, FEATURES)
    return keras.Sequential([keras.Input(shape, batch_size=case.batch), *made])


def write(folder: Path, names: list[str]) -> None:
    """Write each case's model and Keras's answers to a folder; all cases where no names are given."""
    for seed, case in enumerate(CASES):
        if names and case.name not in names:
            continue
        model = _model(case)
        _fill(model, seed)
        model.save(folder / f"{case.name}.keras")
        if case.legacy:
            model.save(folder / f"{case.name}.h5")
        arrays = {}
        for index, (batch, time) in enumerate(shapes_of(case)):
            if case.batch is not None:
                for layer in model.layers:
                    getattr(layer, "reset_state", lambda: None)()
            x = make_input(case, index, batch, time)
            answers = model(x, training=False)
            answers = answers if isinstance(answers, list | tuple) else [answers]
            arrays[f"x{index}"] = x
            arrays |= {f"y{index}_{k}": np.asarray(answer.detach()) for k, answer in enumerate(answers)}
        np.savez(folder / f"{case.name}.npz", **arrays)


def run_keras(folder: Path, *names: str) -> None:
    """Run this file in its own process, with Keras on PyTorch; warnings of Keras's own stay there."""
    environment = os.environ | {"KERAS_BACKEND": "torch", "KERAS_HOME": str(folder)}
    done = subprocess.run(
        [sys.executable, __file__, str(folder), *names], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


if __name__ == "__main__":
    assert os.environ["KERAS_BACKEND"] == "torch"
    write(Path(sys.argv[1]), sys.argv[2:])
