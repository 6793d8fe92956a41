"""Measure what each scheme costs and saves on the bundled data, as Markdown for docs/quantization.md.

    python benchmarks/quantization.py vowels|language|auto|budget [--keep FOLDER]

``vowels``: the default classifier on Japanese Vowels, five seeds. ``language``: the character model of the King James
text that benchmarks/language_model.py trains (``FOLDER/quarter.safetensors``). ``auto``: ``--scheme auto`` on the
classifiers of ``vowels``, beside the plain int8 file. ``budget``: ``--scheme auto`` on a model
of two layers (``FOLDER/two_layers.safetensors``, trained for twelve minutes if it is missing). It writes its report to
report.json and report.html in the folder. Nothing else should run while models train.
"""

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lstm_edge.data import load
from lstm_edge.training import train_classifier
from lstm_edge.validation.judge import Judge
from lstm_edge_runtime.fresh_python import python_command

# `lstm-edge` in a fresh interpreter.
CLI = "from lstm_edge.cli import main; main()"
PACKAGES = ("lstm_edge", "lstm_edge_exporters", "lstm_edge_runtime")
FORMS = {
    "int8": "--scheme int8",
    "int4, block 32, plain": "--scheme int4 --block 32",
    "int4, block 32": "--scheme int4 --block 32 --data {data}",
    "int4, block 128, plain": "--scheme int4 --block 128",
    "int4, block 128": "--scheme int4 --block 128 --data {data}",
}
SEEDS = range(5)
TWO_LAYERS = "--data king-james --layers 2 --hidden 256 --dropout 0.1 --epochs 30 --max-minutes 12 --threads 1"
AUTO = "--scheme auto --data japanese-vowels --metric accuracy --max-drop 1pt"
BUDGET = "--scheme auto --data king-james --metric perplexity --max-drop 0.5%"
# Goals of the project: the largest loss of int8, of calibrated int4, and of int4 as a share of plain rounding's loss.
INT8_POINTS, INT8_SHARE, INT4_SHARE, OF_PLAIN = 0.003, 0.003, 0.015, 0.5
INT8_SIZE, INT4_SIZE, SMALLER_THAN_INT8 = 0.27, 0.16, 0.2


def main() -> None:
    """Measure one part and print it; exit 1 if a goal is missed."""
    parts = {"vowels": vowels, "language": language, "auto": auto, "budget": budget}
    parser = argparse.ArgumentParser(description="measure what quantization costs and saves")
    parser.add_argument("part", choices=sorted(parts))
    parser.add_argument("--keep", type=Path, help="folder that keeps the models")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        missed = parts[arguments.part](folder)
    for goal in missed:
        print(f"missed: {goal}", file=sys.stderr)
    sys.exit(1 if missed else 0)


def vowels(folder: Path) -> list[str]:
    """Measure the test accuracy of five classifiers in each form; return the missed goals."""
    import lstm_edge

    train, test = (load(f"japanese-vowels:{split}", default_split="train") for split in ("train", "test"))
    accuracies: dict[str, list[float]] = {name: [] for name in ("float32", *FORMS)}
    sizes: dict[str, list[int]] = {name: [] for name in accuracies}
    for seed in SEEDS:
        model, _ = train_classifier(train, seed=seed)
        parent = folder / f"vowels{seed}.onnx"
        lstm_edge.export(model, None, parent)
        judge = Judge(parent, test, metric="accuracy")
        for name, path in forms(parent, "japanese-vowels").items():
            accuracies[name].append(judge.judge(path, max_drop="100pt").candidate)
            sizes[name].append(path.stat().st_size)
    print("| form | accuracy, mean of five seeds | largest loss of a seed | bytes |\n|---|---:|---:|---:|")
    for name, values in accuracies.items():
        lost = max(before - after for before, after in zip(accuracies["float32"], values, strict=True))
        print(f"| {name} | {np.mean(values):.2%} | {100 * lost:.2f} points | {np.mean(sizes[name]):,.0f} |")
    lost = np.max(np.subtract(accuracies["float32"], accuracies["int8"]))
    return [f"int8 loses {100 * lost:.2f} points"] if lost > INT8_POINTS else []


def language(folder: Path) -> list[str]:
    """Measure the perplexity of the character model on the test split in each form; return the missed goals."""
    parent = folder / "quarter.onnx"
    run("export", str(folder / "quarter.safetensors"), "-o", str(parent))
    judge, size = Judge(parent, "king-james", metric="perplexity"), parent.stat().st_size
    print("| form | bytes | of float32 | perplexity | lost (95 % interval) |\n|---|---:|---:|---:|---:|")
    lost, share = {}, {}
    for name, path in forms(parent, "king-james").items():
        report = judge.judge(path, max_drop="100%")
        before, share[name] = report.reference, path.stat().st_size / size
        lost[name] = report.drop / before
        ends = f"{report.drop_low / before:.2%} to {report.drop_high / before:.2%}"
        print(f"| {name} | {path.stat().st_size:,} | {share[name]:.3f} ", end="")
        print(f"| {report.candidate:.4f} | {lost[name]:.2%} ({ends}) |", flush=True)
    wrong = {
        "int8 loses too much": lost["int8"] > INT8_SHARE,
        "int8 is too large": share["int8"] > INT8_SIZE,
        "int4, block 128, is too large": share["int4, block 128"] > INT4_SIZE,
    }
    for name in ("int4, block 32", "int4, block 128"):
        wrong[f"{name} loses too much"] = lost[name] > INT4_SHARE
        wrong[f"{name} is not twice as good as plain rounding"] = lost[name] > OF_PLAIN * lost[f"{name}, plain"]
    return [name for name, is_wrong in wrong.items() if is_wrong]


def auto(folder: Path) -> list[str]:
    """Find the smallest file within a point of accuracy, and the outcome of each evaluation on the test split."""
    import lstm_edge

    train = load("japanese-vowels:train", default_split="train")
    print(f"`lstm-edge quantize model.onnx -o small.onnx {AUTO}`:\n")
    print("| seed | int8, bytes | smaller candidates on the test split | result, bytes | the result is |")
    print("|---:|---:|---|---:|---|")
    missed = []
    for seed in SEEDS:
        parent = folder / f"auto{seed}.onnx"
        model, _ = train_classifier(train, seed=seed)
        lstm_edge.export(model, None, parent)
        page = folder / f"auto{seed}.html"
        run(
            "quantize",
            str(parent),
            "-o",
            str(parent.with_suffix(".small.onnx")),
            *shlex.split(AUTO),
            "--report",
            page,
            "--force",
        )
        report = json.loads(page.with_suffix(".json").read_text())
        judged = {row["name"]: row for row in report["judged"]}
        [result] = [row["name"] for row in report["judged"] if row["outcome"] == "result"]
        tried = [
            f"{row['bytes']:,} bytes, drop at most {100 * row['high']:.2f} pt: {'within' if row['passed'] else 'over'}"
            for name, row in judged.items()
            if name.startswith("candidate")
        ]
        int8 = judged["int8"]["bytes"]
        print(
            f"| {seed} | {int8:,} | {'; '.join(tried) or 'none'} | {report['result']['bytes']:,} | {result} |",
            flush=True,
        )
        if judged["int8"]["passed"] and report["result"]["bytes"] > int8:
            missed.append(f"seed {seed}: larger than int8")
    return missed


def budget(folder: Path) -> list[str]:
    """Find the smallest file of a model of two layers whose perplexity rises by at most half a percent."""
    model, parent, int8 = (folder / f"two_layers{suffix}" for suffix in (".safetensors", ".onnx", ".int8.onnx"))
    if not model.exists():
        run("train", "language-model", *shlex.split(TWO_LAYERS), "-o", str(model))
    run("export", str(model), "-o", str(parent))
    run("quantize", str(parent), "-o", str(int8), "--scheme", "int8")
    page = folder / "report.html"
    files = [str(parent), "-o", str(folder / "two_layers.auto.onnx")]
    run("quantize", *files, *shlex.split(BUDGET), "--report", str(page), "--force")
    report = json.loads(page.with_suffix(".json").read_text())
    chosen = report["validation"]
    saved = 1 - report["result"]["bytes"] / int8.stat().st_size
    print(f"`lstm-edge train language-model {TWO_LAYERS}`, then `lstm-edge quantize lm.onnx -o small.onnx {BUDGET}`:")
    minutes = report["elapsed_s"] / 60
    print(f"{len(report['evaluations'])} files built in {minutes:.1f} minutes. The perplexity on the test split was")
    print(f"{chosen['reference']:.4f} before and {chosen['candidate']:.4f} after: {chosen['drop']:.4f} more, at most")
    print(f"{chosen['drop_bound']:.4f} at confidence {chosen['confidence']:g}; {chosen['max_drop']:.4f} is allowed.\n")
    print_layers(report)
    print(f"| file | | {report['source']['bytes']:,} | {report['result']['bytes']:,} |\n")
    print(f"The int8 file has {int8.stat().st_size:,} bytes: this file is {saved:.0%} smaller.")
    return [] if saved >= SMALLER_THAN_INT8 else [f"only {saved:.1%} smaller than int8"]


def print_layers(report: dict[str, Any]) -> None:
    """Print the table of layers of a report.json."""
    print("| layer | scheme | bytes before | after |\n|---|---|---:|---:|")
    for layer in report["layers"]:
        schemes = ", ".join(
            f"{part.removeprefix(layer['name'] + '.')}: {text}" for part, text in layer["parts"].items()
        )
        print(f"| {layer['name']} | {schemes or 'float32'} | {layer['bytes_before']:,} | {layer['bytes_after']:,} |")


def forms(parent: Path, data: str) -> dict[str, Path]:
    """Quantize a float32 file in every form; return the files, the parent first."""
    files = {"float32": parent}
    for number, (name, options) in enumerate(FORMS.items()):
        files[name] = parent.with_suffix(f".{number}.onnx")
        run("quantize", str(parent), "-o", str(files[name]), *shlex.split(options.format(data=data)))
    return files


def run(*arguments: str | Sequence[str]) -> None:
    """Run the command line and discard its output."""
    subprocess.run(python_command(CLI, *arguments, packages=PACKAGES), stdout=subprocess.DEVNULL, check=True)


if __name__ == "__main__":
    main()
