"""Models and data that are made, not trained: with outputs near to and far from their decisions."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["MADE", "QUICK", "MadeModel", "answer_labels"]

FEATURES, CLASSES = 10, 4
GATES = {"LSTM": 4, "GRU": 3}


@dataclass(frozen=True, kw_only=True)
class MadeModel:
    """A random cell before a linear layer, its data, and a budget.

    ``near``: the share of the held-out sequences, of many drawn ones, whose decision is the closest; 1 takes any.
    ``certain``: tuning data of which each decision is far from the next class, and right: as data after training.
    ``wrong``: share of the held-out (and, without ``certain``, of the tuning) classes that are not the model's.
    ``outliers``: one weight of this many times the largest in each matrix, which coarse rounding minds.
    """

    name: str
    budget: str
    cell: str = "LSTM"
    hidden: int = 48
    seed: int = 0
    samples: int = 120
    near: float = 1.0
    certain: bool = False
    wrong: float = 0.1
    outliers: float = 0.0
    metric: str = "accuracy"

    def write(self, folder: Path) -> tuple[Path, Path, Path]:
        """Write the model, the tuning data and the held-out data."""
        model = folder / "model.onnx"
        self._write_model(model)
        random = np.random.default_rng(1000 + self.seed)
        x = random.normal(size=(16 * self.samples, 6, FEATURES)).astype(np.float32)
        outputs = _outputs(model, x)
        if self.metric.startswith("mean"):
            targets = (outputs + random.normal(size=outputs.shape) * 0.1).astype(np.float32)
            rows = np.arange(2 * self.samples)
            return model, *_save(folder, x, targets, rows[: self.samples], rows[self.samples :])
        ordered = np.sort(outputs, axis=1)
        margins = np.argsort(ordered[:, -1] - ordered[:, -2], kind="stable")
        closest = margins[: max(self.samples, int(self.near * len(margins)))]
        held_out = random.choice(closest, self.samples, replace=False)
        others = np.setdiff1d(margins, held_out)
        far = margins[np.isin(margins, others)][-self.samples :]
        tuning = far if self.certain else random.choice(others, self.samples, replace=False)
        targets = outputs.argmax(axis=1)
        wrong = random.random(len(targets)) < self.wrong
        if self.certain:
            wrong[tuning] = False
        return model, *_save(folder, x, np.where(wrong, (targets + 1) % CLASSES, targets), tuning, held_out)

    def _write_model(self, path: Path) -> None:
        random = np.random.default_rng(self.seed)
        rows = GATES[self.cell] * self.hidden
        shapes = {"W": (1, rows, FEATURES), "R": (1, rows, self.hidden), "B": (1, 2 * rows)}
        shapes |= {"head.weight": (self.hidden, CLASSES), "head.bias": (CLASSES,)}
        arrays = {name: random.normal(size=shape) * (1.5 / shape[-1] ** 0.5) for name, shape in shapes.items()}
        for name in ("W", "R", "head.weight"):
            if self.outliers:
                flat = arrays[name].reshape(-1)
                flat[random.integers(flat.size)] = self.outliers * np.abs(flat).max()
        weights = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()]
        weights.append(numpy_helper.from_array(np.array([0]), "axis"))
        more = {"linear_before_reset": 1} if self.cell == "GRU" else {}
        nodes = [
            helper.make_node(self.cell, ["x", "W", "R", "B"], ["", "h"], name="cell", hidden_size=self.hidden, **more),
            helper.make_node("Squeeze", ["h", "axis"], ["last"]),
            helper.make_node("MatMul", ["last", "head.weight"], ["product"], name="head"),
            helper.make_node("Add", ["product", "head.bias"], ["logits"]),
        ]
        ends = [("x", ("time", "batch", FEATURES)), ("logits", ("batch", CLASSES))]
        x, logits = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in ends)
        graph = helper.make_graph(nodes, "g", [x], [logits], weights)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)


def answer_labels(model: Path) -> None:
    """Change a model so that it answers the number of a class, not logits."""
    proto = onnx.load(model)
    proto.graph.node.append(helper.make_node("ArgMax", ["logits"], ["label"], axis=1, keepdims=0))
    del proto.graph.output[:]
    proto.graph.output.append(helper.make_tensor_value_info("label", TensorProto.INT64, ("batch",)))
    onnx.save(proto, model)


def _outputs(model: Path, x: np.ndarray) -> np.ndarray:
    from lstm_edge_runtime.session import Session

    return Session(model).run(np.moveaxis(x, 0, 1).copy())[0]["logits"]


def _save(folder: Path, x: np.ndarray, y: np.ndarray, *parts: np.ndarray) -> list[Path]:
    paths = []
    for name, rows in zip(("tuning", "held-out"), parts, strict=True):
        path = folder / f"{name}.npz"
        np.savez(path, x=x[rows].reshape(-1, FEATURES), lengths=np.full(len(rows), x.shape[1]), y=y[rows])
        paths.append(path)
    return paths


def _made() -> tuple[MadeModel, ...]:
    """Easy and hard, saturated and not, large and tiny held-out data, wide and narrow and impossible budgets."""
    found = []
    for seed, cell in enumerate(("LSTM", "GRU", "LSTM", "GRU")):
        base = {"cell": cell, "seed": seed, "hidden": (48, 56, 64, 40)[seed]}
        found += [
            MadeModel(name=f"{cell}{seed}-saturated", budget="2pt", near=0.1, certain=True, samples=200, **base),
            MadeModel(name=f"{cell}{seed}-saturated-narrow", budget="0.5pt", near=0.2, certain=True, **base),
            MadeModel(name=f"{cell}{seed}-easy", budget="5pt", **base),
            MadeModel(name=f"{cell}{seed}-tiny", budget="4pt", samples=20, near=0.5, certain=True, **base),
            MadeModel(name=f"{cell}{seed}-outliers", budget="3pt", near=0.3, outliers=6.0, **base),
            MadeModel(name=f"{cell}{seed}-no-drop", budget="0pt", near=0.1, samples=300, **base),
            MadeModel(name=f"{cell}{seed}-loss", budget="0.02%", metric="cross-entropy", wrong=0.3, **base),
            MadeModel(
                name=f"{cell}{seed}-values",
                budget=("1%", "0.1%", "10%", "0.001%")[seed],
                metric="mean-squared-error",
                **base,
            ),
            MadeModel(
                name=f"{cell}{seed}-same-decision", budget="1pt", metric="agreement", near=0.2, certain=True, **base
            ),
        ]
    return tuple(found)


MADE = _made()
# A few that show each end: they run in the ordinary suite.
QUICK = ("GRU1-saturated-narrow", "LSTM0-outliers", "GRU1-easy")
