"""Train, export, quantize, evaluate and prompt the character language model on the King James text; as Markdown.

    python benchmarks/language_model.py [--recipe quarter|long] [--keep FOLDER]

``quarter`` trains for 14.5 minutes, ``long`` for 22, both on all cores: nothing else should run. The finished model is
evaluated once on the last 5 % of the text. With ``--keep`` the trained model and its log are kept in the folder and
reused, so the table can be written again without training.
"""

import argparse
import json
import math
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from lstm_edge.validation.judge import validate
from lstm_edge_runtime.fresh_python import python_command

# `lstm-edge` in a fresh interpreter.
CLI = "from lstm_edge.cli import main; main()"
PACKAGES = ("lstm_edge", "lstm_edge_exporters", "lstm_edge_runtime")
# Options of `lstm-edge train language-model`. The clock ends the training before the limit of 30 epochs.
COMMON = "--data king-james --epochs 30"
RECIPES = {
    "quarter": f"{COMMON} --dropout 0.1 --max-minutes 14.5",
    "long": f"{COMMON} --hidden 512 --dropout 0.15 --max-minutes 22",
}
# Largest accepted bits per character on the test split, and minutes.
LIMITS = {"quarter": (1.72, 15.0), "long": (math.inf, 60.0)}
SCHEMES = {"int8": ["--scheme", "int8"], "int4, block 128": ["--scheme", "int4", "--block", "128"]}
LARGEST_INT8_LOSS = 0.003
PROMPTS = (("And the LORD said unto Moses, ", 300, 0.7, 1), ("In the beginning ", 250, 0.6, 2))


def main() -> None:
    """Train or reuse the model, evaluate it, print; exit 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description="the character language model on the King James text")
    parser.add_argument("--recipe", choices=sorted(RECIPES), default="quarter")
    parser.add_argument("--keep", type=Path, help="folder that keeps the model and its log")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        training = train(folder, arguments.recipe)
        sys.exit(0 if judge(folder, arguments.recipe, training) else 1)


def train(folder: Path, recipe: str) -> dict[str, Any]:
    """Train ``RECIPE.safetensors`` unless the folder has it, and return the report of its training."""
    model, log = folder / f"{recipe}.safetensors", folder / f"{recipe}.jsonl"
    if not (model.exists() and log.exists()):
        options = shlex.split(RECIPES[recipe])
        text = run("train", "language-model", *options, "-o", str(model), "--json")
        log.write_text(text)
    report: dict[str, Any] = json.loads(log.read_text().splitlines()[-1])
    return report


def judge(folder: Path, recipe: str, training: dict[str, Any]) -> bool:
    """Print the table and the generated text; return whether the goals are met."""
    files = {"float32": folder / f"{recipe}.onnx"}
    run("export", str(folder / f"{recipe}.safetensors"), "-o", str(files["float32"]))
    for name, options in SCHEMES.items():
        files[name] = folder / f"{recipe}.{name.replace(', block ', '-')}.onnx"
        run("quantize", str(files["float32"]), "-o", str(files[name]), *options)
    report = {
        name: validate(file, files["float32"], "king-james", metric="perplexity", max_drop="100%")
        for name, file in files.items()
    }
    reference = report["float32"].reference
    minutes, bits = training["seconds"] / 60, math.log2(reference)
    epochs = training["history"]
    speed = max(epoch["per_second"] for epoch in epochs)
    threads = training["options"]["threads"] or os.cpu_count()
    print(f"`lstm-edge train language-model {RECIPES[recipe]} -o kjv.safetensors`:")
    print(f"{minutes:.1f} minutes with {threads} threads, {len(epochs)} epochs begun,")
    print(f"at most {speed:,.0f} characters per second; {training['parameters']:,} parameters.\n")
    print("| file | bytes | of float32 | perplexity, test split | bits per character | perplexity lost |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, file in files.items():
        value = report[name].candidate
        print(
            f"| {name} | {file.stat().st_size:,} | {file.stat().st_size / files['float32'].stat().st_size:.3f} "
            f"| {value:.3f} | {math.log2(value):.3f} | {value / reference - 1:.2%} |"
        )
    lost = report["int8"].candidate / reference - 1
    for prompt, tokens, temperature, seed in PROMPTS:
        options = ["--tokens", str(tokens), "--temperature", str(temperature), "--seed", str(seed)]
        text = run("run", str(files["int8"]), "--prompt", prompt, *options).strip("\n")
        print(f"\n`lstm-edge run kjv.int8.onnx --prompt {prompt!r} {' '.join(options)}`:\n")
        print("\n".join(f"> {line}" for line in text.splitlines()))
    most_bits, most_minutes = LIMITS[recipe]
    return bits <= most_bits and minutes <= most_minutes and lost <= LARGEST_INT8_LOSS


def run(*arguments: str) -> str:
    """Return what the command line prints."""
    return subprocess.run(
        python_command(CLI, *arguments, packages=PACKAGES), stdout=subprocess.PIPE, text=True, check=True
    ).stdout


if __name__ == "__main__":
    main()
