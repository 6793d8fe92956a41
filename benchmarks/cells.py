"""Compare the three cells on Japanese Vowels at one number of parameters: accuracy, bytes, step time, as Markdown.

Run with lstm-edge installed: ``python benchmarks/cells.py``; it takes about ten minutes on one core. The standard cell
has the classifier's default size. The other two have the hidden size whose number of parameters is nearest; a
difference of more than 3 % is an error. All three train on the training split with the defaults of ``lstm-edge train
classification``. The official test split (370 utterances) is read once for each finished model. No seed is left out.
"""

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import lstm_edge
from lstm_edge.data import Dataset, load
from lstm_edge.layers import Peephole
from lstm_edge.training import TrainingOptions, train_classifier
from lstm_edge.training.models import ClassifierConfig, SequenceClassifier
from lstm_edge_runtime.bench import bench

CELLS: dict[Peephole, str] = {"none": "standard", "diagonal": "diagonal peephole", "full": "full peephole"}
CLOSE = 0.03


@dataclass(frozen=True, kw_only=True)
class Row:
    """Results of one trained model; accuracies are shares of the test split's utterances."""

    float32: float
    int8: float
    int8_bytes: int
    step_us: float
    per_second: float


def main() -> None:
    """Choose the sizes, train, measure, print."""
    parser = argparse.ArgumentParser(description="compare the three cells at the same number of parameters")
    parser.add_argument("--hidden", type=int, default=64, help="hidden size of the standard cell")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds, starting at 0")
    parser.add_argument("--epochs", type=int, default=TrainingOptions().epochs)
    parser.add_argument("--steps", type=int, default=2000, help="number of timed steps")
    arguments = parser.parse_args()
    train, test = (load(f"japanese-vowels:{split}", default_split="train") for split in ("train", "test"))
    budget = parameters(make_config(train, "none", arguments.hidden))
    print("| cell | hidden | parameters | test accuracy, float32: mean (lowest to highest) | int8 | ", end="")
    print("int8 bytes | int8, µs per step | training, sequences per second |")
    print("|---|---:|---:|---|---|---:|---:|---:|")
    for cell, name in CELLS.items():
        config = same_budget(train, cell, budget)
        rows = [measure(train, test, config, seed, arguments) for seed in range(arguments.seeds)]
        print(
            f"| {name} | {config.hidden} | {parameters(config):,} "
            f"| {spread([row.float32 for row in rows])} | {spread([row.int8 for row in rows])} "
            f"| {round(np.mean([row.int8_bytes for row in rows])):,} | {np.median([row.step_us for row in rows]):.1f} "
            f"| {np.median([row.per_second for row in rows]):,.0f} |",
            flush=True,
        )


def same_budget(data: Dataset, cell: Peephole, budget: int) -> ClassifierConfig:
    """Return the configuration of a cell whose number of parameters is nearest to the budget.

    Raises:
        ValueError: the nearest number of parameters differs from the budget by more than 3 %.
    """
    sizes = range(2, 1025)
    low = max((hidden for hidden in sizes if parameters(make_config(data, cell, hidden)) <= budget), default=2)
    nearest = min((low, low + 1), key=lambda hidden: abs(parameters(make_config(data, cell, hidden)) - budget))
    config = make_config(data, cell, nearest)
    if abs(parameters(config) / budget - 1) > CLOSE:
        raise ValueError(f"{cell}: the nearest to {budget:,} parameters is {parameters(config):,}, over 3 % away")
    return config


def make_config(data: Dataset, cell: Peephole, hidden: int) -> ClassifierConfig:
    """Return the default classifier's configuration with another cell and size."""
    return ClassifierConfig(
        features=data.features, classes=data.classes, labels=data.labels, hidden=hidden, peephole=cell
    )


def parameters(config: ClassifierConfig) -> int:
    """Count the parameters of a one-layer classifier: gates with both biases, peepholes, the linear layer."""
    hidden = config.hidden
    peephole = {"none": 0, "diagonal": 3 * hidden, "full": 4 * hidden * hidden}[config.peephole]
    return 4 * hidden * (config.features + hidden + 2) + peephole + (hidden + 1) * config.classes


def measure(train: Dataset, test: Dataset, config: ClassifierConfig, seed: int, arguments: argparse.Namespace) -> Row:
    """Train one model, quantize it, evaluate both files on the test split, and time the int8 file."""
    model, report = train_classifier(train, config, seed=seed, options=TrainingOptions(epochs=arguments.epochs))
    check_count(model, config)
    with tempfile.TemporaryDirectory() as folder:
        float32, int8 = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        lstm_edge.export(model, None, float32)
        lstm_edge.quantize(float32, int8, scheme="int8")
        files = lstm_edge.validate(int8, float32, test)
        timed = bench(int8, threads=1, steps=arguments.steps, time_steps=2, repeats=1)
    assert timed.step is not None
    return Row(
        float32=files.reference,
        int8=files.candidate,
        int8_bytes=files.candidate_bytes,
        step_us=timed.step.p50_us,
        per_second=float(np.median([epoch.per_second for epoch in report.history])),
    )


def check_count(model: SequenceClassifier, config: ClassifierConfig) -> None:
    """Compare the formula of ``parameters`` with the model.

    Raises:
        ValueError: they differ.
    """
    counted = sum(parameter.numel() for parameter in model.parameters())
    if counted != parameters(config):
        raise ValueError(f"{config.peephole}: the model has {counted:,} parameters, expected {parameters(config):,}")


def spread(accuracies: list[float]) -> str:
    """Return the mean and the range of accuracies, in per cent."""
    return f"{np.mean(accuracies):.2%} ({min(accuracies):.2%} to {max(accuracies):.2%})"


if __name__ == "__main__":
    main()
