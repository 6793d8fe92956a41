"""Run as a script, Keras writes the graphs of ``keras_graphs`` and random ones, and its answers.

    KERAS_BACKEND=torch python tests/support/keras_graph_run.py FOLDER [FIRST COUNT]

With the word ``blocks`` behind FOLDER, those of ``keras_blocks``.

FOLDER gets for each case NAME.keras and what else the case names, and NAME.npz: inputs x0_0, x0_1, ... (the first
number is that of the example) and Keras's answers y0_0, y0_1, ... FIRST and COUNT ask for random graphs instead.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a script, it is on its own

from support.keras_blocks import BLOCKS
from support.keras_graphs import GRAPHS, WORDS, Graph
from support.keras_random import EXAMPLES, random_model


def make(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Return an input: ids, ids with masked steps, floats, floats with masked steps (all zero), or a mask."""
    if kind == "mask":
        return rng.random(shape) < 0.6
    if kind in ("ids", "masked-ids"):
        x = rng.integers(1, WORDS, shape).astype(np.int32)
    else:
        x = rng.standard_normal(shape).astype(np.float32)
    if kind.startswith("masked"):
        x[rng.random(shape[:2]) < 0.3] = 0
        x[0, 0] = x[-1, -1] = 0
    return x


def _fill(model: Any, seed: int) -> None:
    """Random weights everywhere: Keras's own zeros and ones would hide what is not read."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if "int" in str(weight.dtype):
            continue
        values = rng.standard_normal(weight.shape) * 0.4
        weight.assign(np.abs(values) + 0.3 if "variance" in weight.path else values)


def _flat(structure: Any) -> Iterator[np.ndarray]:
    if isinstance(structure, Mapping):
        for key in sorted(structure):
            yield from _flat(structure[key])
    elif isinstance(structure, list | tuple):
        for child in structure:
            yield from _flat(child)
    else:
        yield np.asarray(structure.detach())


def _save(model: Any, folder: Path, name: str, forms: tuple[str, ...]) -> None:
    for form in forms:
        if form == ".json":
            (folder / f"{name}.json").write_text(model.to_json())
            model.save_weights(folder / f"{name}.weights.h5")
        else:
            model.save(folder / f"{name}{form}")


def _write(folder: Path, graph: Graph, seed: int) -> None:
    import keras
    import torch

    model = graph.build(keras)
    _fill(model, seed)
    _save(model, folder, graph.name, graph.forms)
    rng = np.random.default_rng(seed + 1)
    arrays = {}
    for index, shapes in enumerate(graph.examples):
        inputs = [make(kind, shape, rng) for kind, shape in zip(graph.kinds, shapes, strict=True)]
        tensors = [torch.from_numpy(x) for x in inputs]
        with torch.no_grad():
            answers = model(tensors if len(tensors) > 1 else tensors[0], training=False)
        arrays |= {f"x{index}_{k}": x for k, x in enumerate(inputs)}
        arrays |= {f"y{index}_{k}": y for k, y in enumerate(_flat(answers))}
    np.savez(folder / f"{graph.name}.npz", **arrays)


def examples(folder: Path, name: str) -> Iterator[tuple[list[np.ndarray], list[np.ndarray]]]:
    """Yield the inputs of each example with Keras's answers; ids become int64."""
    with np.load(folder / f"{name}.npz") as arrays:
        found = dict(arrays)
    for index in (0, 1):
        both = [
            [found[f"{side}{index}_{k}"] for k in range(sum(key.startswith(f"{side}{index}_") for key in found))]
            for side in "xy"
        ]
        yield [x.astype(np.int64) if x.dtype == np.int32 else x for x in both[0]], both[1]


def run_graphs(folder: Path, *arguments: object) -> None:
    """Run this file in its own process, with Keras on PyTorch; warnings of Keras's own stay there."""
    environment = os.environ | {"KERAS_BACKEND": "torch", "KERAS_HOME": str(folder)}
    command = [sys.executable, __file__, str(folder), *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def main() -> None:
    """Write the graphs, or random ones."""
    assert os.environ["KERAS_BACKEND"] == "torch"
    folder = Path(sys.argv[1])
    if sys.argv[2:] == ["blocks"]:
        for seed, graph in enumerate(BLOCKS):
            _write(folder, graph, seed)
        return
    if len(sys.argv) > 2:
        first, count = map(int, sys.argv[2:4])
        for seed in range(first, first + count):
            graph = Graph(
                name=f"random-{seed}",
                build=lambda keras, seed=seed: random_model(keras, seed),
                kinds=("masked-ids", "masked"),
                examples=EXAMPLES,
            )
            _write(folder, graph, seed)
        return
    for seed, graph in enumerate(GRAPHS):
        _write(folder, graph, seed)


if __name__ == "__main__":
    main()
