"""Select a size on Japanese Vowels, then train it with five seeds; print Markdown.

The grid is cross-validated on the 270 training utterances only. The official test split (370 utterances) is read
once for each of the five finished models of the chosen size, and decides nothing.

    python benchmarks/selection.py [DRAWING.svg]
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from lstm_edge.data import load
from lstm_edge.training.selection import Architecture, SelectionSettings
from lstm_edge.training.selection.candidates import score, train
from lstm_edge_runtime.fresh_python import python_command
from lstm_edge_runtime.metrics import get_metric

# `lstm-edge` in a fresh interpreter.
CLI = "from lstm_edge.cli import main; main()"
PACKAGES = ("lstm_edge", "lstm_edge_exporters", "lstm_edge_runtime")
HIDDEN, LAYERS, FOLDS = (16, 32, 64, 128), (1, 2), 5
SEEDS = range(5)
TARGET = 0.965


def main() -> None:
    """Run the command of docs/selection.md, and print its table and the results of the five seeds."""
    with tempfile.TemporaryDirectory() as folder:
        report = _select(Path(folder), sys.argv[1:2])
    print(_table(report), end="\n\n")
    chosen = Architecture(hidden=report["chosen"]["hidden"], layers=report["chosen"]["layers"])
    train_set, test_set = (load(f"japanese-vowels:{split}", default_split="train") for split in ("train", "test"))
    accuracies = []
    for seed in SEEDS:
        settings = SelectionSettings(hidden=(chosen.hidden,), layers=(chosen.layers,), seed=seed)
        model, _ = train(train_set, chosen, settings)
        accuracies.append(score(model, test_set, get_metric("accuracy")))
    mean = float(np.mean(accuracies))
    listed = ", ".join(f"{accuracy:.2%}" for accuracy in accuracies)
    verdict = "met" if mean >= TARGET else "MISSED"
    print(
        f"Chosen: {chosen} (hidden x layers). Test accuracy of that size over seeds 0 to 4: {listed}; "
        f"mean {mean:.2%} (at least {TARGET:.1%}: {verdict})."
    )
    if sys.argv[1:]:
        print(f"\n![Accuracy against size]({Path(sys.argv[1]).name})")


def _select(folder: Path, plot: list[str]) -> dict:
    sizes = ["--hidden-sizes", ",".join(map(str, HIDDEN)), "--layer-counts", ",".join(map(str, LAYERS))]
    sizes += ["--folds", str(FOLDS)]
    command = ["select", "--data", "japanese-vowels", *sizes, "--json"]
    command += ["-o", str(folder / "vowels.safetensors"), *(["--plot", plot[0]] if plot else [])]
    return json.loads(
        subprocess.run(
            python_command(CLI, *command, packages=PACKAGES), stdout=subprocess.PIPE, text=True, check=True
        ).stdout
    )


def _table(report: dict) -> str:
    lines = [
        "| hidden x layers | accuracy | standard error | parameters | int8 bytes | µs per step | |",
        "|---|---|---|---|---|---|---|",
    ]
    for candidate in report["candidates"]:
        size = {"hidden": candidate["hidden"], "layers": candidate["layers"]}
        note = ", ".join(name for name in ("best", "chosen") if report[name] == size)
        lines.append(
            f"| {size['hidden']} x {size['layers']} | {candidate['mean']:.2%} | {candidate['standard_error']:.2%} "
            f"| {candidate['parameters']:,} | {candidate['int8_bytes']:,} | {candidate['step_us']:.1f} | {note} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
