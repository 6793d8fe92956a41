"""Measure the default classifier's test accuracy on Japanese Vowels, float32 and int8, seeds 0 to 4, as Markdown.

Run with lstm-edge installed: ``python benchmarks/japanese_vowels_seeds.py``; it takes about a minute on one core.
Each seed trains on the training split only, with the defaults of ``lstm-edge train classification``. The official
test split (370 utterances) is read once for each finished model. No seed is left out.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch

import lstm_edge
from lstm_edge.data import Dataset, load, pad
from lstm_edge.training import train_classifier
from lstm_edge.training.models import SequenceClassifier
from lstm_edge.validation.report import ValidationReport
from lstm_edge_runtime.metrics import METRICS

SEEDS = range(5)


def main() -> None:
    """Train, evaluate, print."""
    train, test = (load(f"japanese-vowels:{split}", default_split="train") for split in ("train", "test"))
    print(
        "| seed | best epoch / run | held-out | test, PyTorch | test, float32 file | test, int8 file | lost by int8 | ",
        end="",
    )
    print("agreement | signal to noise, dB | float32 / int8, bytes | training, s |")
    print("|---:" * 11 + "|")
    accuracies: list[tuple[float, float, float]] = []
    for seed in SEEDS:
        model, report = train_classifier(train, seed=seed)
        files = compare_files(model, test)
        accuracies.append((evaluate(model, test), files.reference, files.candidate))
        print(
            f"| {seed} | {report.best.number} / {len(report.history)} | {report.best.held_out_metric:.2%} | "
            + " | ".join(f"{accuracy:.2%}" for accuracy in accuracies[-1])
            + f" | {round(files.drop * files.samples)} | {files.agreement:.2%} | {files.snr_db:.1f} "
            f"| {files.reference_bytes:,} / {files.candidate_bytes:,} | {report.seconds:.1f} |",
            flush=True,
        )
    means = np.mean(accuracies, axis=0)
    print("| mean | | | " + " | ".join(f"{mean:.2%}" for mean in means) + " | " * 5 + "|")


def compare_files(model: SequenceClassifier, data: Dataset) -> ValidationReport:
    """Export a model, quantize the file to int8, and validate the int8 file against the float32 file."""
    with tempfile.TemporaryDirectory() as folder:
        float32, int8 = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        lstm_edge.export(model, None, float32)
        lstm_edge.quantize(float32, int8, scheme="int8")
        return lstm_edge.validate(int8, float32, data)


def evaluate(model: SequenceClassifier, data: Dataset) -> float:
    """Return the accuracy of a model in PyTorch, as a share."""
    x, lengths = pad(list(data))
    with torch.no_grad():
        logits = model(torch.from_numpy(x), torch.from_numpy(lengths))
    return METRICS["accuracy"](logits.numpy(), data.y)


if __name__ == "__main__":
    main()
