"""The models that every peer gets: their weights, their inputs, and their answers in float64."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from given import Array, Case, pruned
from graphs import GATES, cells_graph, standard_graph

__all__ = ["CELLS", "LAYERS", "SIZES", "STEPS", "case_name", "decibels", "make_case", "references", "write_case"]

SIZES = ((64, 128), (128, 256), (256, 512), (512, 1024))
CELLS = ("LSTM", "GRU")
LAYERS, STEPS = 2, 100


def case_name(cell: str, inputs: int, hidden: int) -> str:
    """Return the case's name and folder."""
    return f"{cell.lower()}-{inputs}-{hidden}"


def make_case(folder: Path, cell: str, inputs: int, hidden: int) -> Case:
    """Write a recurrent case with seeded weights, as PyTorch initializes them, and states that are not zero."""
    rng = np.random.default_rng(hidden + len(cell))
    bound = hidden**-0.5
    arrays: dict[str, Array] = {"x": rng.standard_normal((STEPS, 1, 1, inputs)).astype(np.float32)}
    for layer in range(LAYERS):
        rows, width = GATES[cell] * hidden, inputs if layer == 0 else hidden
        shapes = {"weight_ih": (rows, width), "weight_hh": (rows, hidden), "bias_ih": (rows,), "bias_hh": (rows,)}
        for kind, shape in shapes.items():
            arrays[f"{kind}_l{layer}"] = rng.uniform(-bound, bound, shape).astype(np.float32)
    states = ("h", "c") if cell == "LSTM" else ("h",)
    for state in states:
        arrays[f"initial.{state}"] = (0.3 * rng.standard_normal((LAYERS, 1, hidden))).astype(np.float32)
    case = Case(
        name=folder.name, cell=cell, inputs=inputs, hidden=hidden, layers=LAYERS, x="x", y="y",
        states={state: f"{state}_out" for state in states}, constant={}, source="", folder=folder, arrays=arrays,
    )  # fmt: skip
    write_case(case)
    for steps, name in ((1, "step"), (STEPS, "sequence")):
        onnx.save(standard_graph(case, steps), folder / f"{name}.onnx")
    onnx.save(cells_graph(case), folder / "cells.onnx")
    return case


def write_case(case: Case) -> None:
    """Write the names and the arrays."""
    case.folder.mkdir(parents=True, exist_ok=True)
    names = {key: value for key, value in vars(case).items() if key not in ("folder", "arrays")}
    (case.folder / "case.json").write_text(json.dumps(names))
    np.savez(case.folder / "arrays.npz", **case.arrays)  # type: ignore[arg-type]  # the stub takes a bool by keyword


def references(case: Case) -> dict[str, Array]:
    """Return PyTorch's answers in float64, [T, H]: of the model, and ``sparse`` of the pruned one."""
    import torch
    from torch_cells import standard

    found = {}
    for name, changed in (("dense", {}), ("sparse", pruned(case))):
        module = standard(case).double()
        for key, array in changed.items():
            getattr(module.recurrent, key).data = torch.from_numpy(array).double()
        x = torch.from_numpy(case.arrays["x"].reshape(-1, 1, case.inputs)).double()
        with torch.no_grad():
            y = module(x, *(torch.from_numpy(state).double() for state in case.initial.values()))[0]
        found[name] = y.numpy().reshape(len(x), -1)
    return found


def decibels(answers: Mapping[str, Array], reference: Array) -> float:
    """Return the signal-to-noise ratio of the worse of the answers (single steps, whole sequence) in dB."""
    signal = float(np.sum(reference.astype(np.float64) ** 2))
    noise = max(float(np.sum((answer.astype(np.float64) - reference) ** 2)) for answer in answers.values())
    return float("inf") if noise == 0 else 10 * float(np.log10(signal / noise)) if np.isfinite(noise) else float("nan")
