"""Measure quantization-aware fine-tuning: the King James model in four bits before and after it, as Markdown.

    python benchmarks/quantize_aware.py [--keep FOLDER] [--scheme int4 ...] [--max-minutes 6]

The parent is the model of ``benchmarks/language_model.py --recipe quarter``: taken from the folder if it is there, else
trained now (15 minutes on all cores). Fine-tuning uses one thread. Each file is evaluated once on the last 5 % of the
text, against the float32 parent. The exit code is 1 if a fine-tuned file loses more than 0.5 % of the parent's
perplexity.
"""

import argparse
import json
import math
import sys
import tempfile
from pathlib import Path

from language_model import run, train

from lstm_edge.validation.judge import validate
from lstm_edge_exporters.quantize import Scheme, quantize

# Options of `lstm-edge train language-model` after the data, the parent and the scheme.
RECIPE = "--learning-rate 0.0005 --epochs 1 --threads 1"
LARGEST_LOSS = 0.005


def main() -> None:
    """Train or reuse the parent, fine-tune for each scheme, evaluate, print."""
    parser = argparse.ArgumentParser(description="quantization-aware fine-tuning of the King James model")
    parser.add_argument("--keep", type=Path, help="folder that has or keeps quarter.safetensors")
    parser.add_argument("--scheme", nargs="+", default=["int4:32", "int4:128"], help="schemes of --quantize-aware")
    parser.add_argument("--max-minutes", type=float, default=6.0)
    arguments = parser.parse_args()
    schemes = [Scheme.parse(text) for text in arguments.scheme]
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        parent = folder / "quarter.safetensors"
        if not parent.exists():
            train(folder, "quarter")
        tuned = {scheme: fine_tune(parent, scheme, arguments.max_minutes) for scheme in schemes}
        sys.exit(0 if judge(parent, tuned) else 1)


def fine_tune(parent: Path, scheme: Scheme, minutes: float) -> Path:
    """Fine-tune the parent for a scheme; print the command, return the checkpoint."""
    tuned = parent.with_name(f"aware-{scheme.text.replace(':', '-')}.safetensors")
    options = ["--quantize-aware", scheme.text, *RECIPE.split(), "--max-minutes", f"{minutes:g}"]
    data = ["--data", "king-james", "--from", str(parent)]
    log = run("train", "language-model", *data, *options, "-o", str(tuned), "--json")
    training = json.loads(log.splitlines()[-1])
    epoch, how = training["best"], training["options"]
    tokens = epoch["updates"] * how["batch_size"] * how["window"]
    print(f"- `lstm-edge train language-model --data king-james --from kjv.safetensors {' '.join(options)}`:")
    print(f"  {tokens:,} of {training['trained']:,} characters read, {epoch['per_second']:,.0f} per second")
    return tuned


def judge(parent: Path, tuned: dict[Scheme, Path]) -> bool:
    """Print the table; return whether every fine-tuned file meets the goal."""
    reference = exported(parent)
    files: dict[str, Path] = {"parent, float32": reference}
    for scheme, model in tuned.items():
        files[f"parent, {scheme}"] = rounded(reference, scheme)
        files[f"fine-tuned, {scheme}"] = rounded(exported(model), scheme)
    whole, passed = reference.stat().st_size, True
    print("\n| file | bytes | of float32 | perplexity, test split | bits per character | perplexity lost |")
    print("|---|---:|---:|---:|---:|---:|")
    for title, file in files.items():
        report = validate(file, reference, "king-james", metric="perplexity", max_drop="100%")
        lost, size = report.candidate / report.reference - 1, file.stat().st_size
        passed = passed and not (title.startswith("fine-tuned") and lost > LARGEST_LOSS)
        print(f"| {title} | {size:,} | {size / whole:.3f} ", end="")
        print(f"| {report.candidate:.4f} | {math.log2(report.candidate):.4f} | {lost:.2%} |", flush=True)
    return passed


def exported(model: Path) -> Path:
    """Export a checkpoint to a float32 file beside it."""
    file = model.with_suffix(".aware.onnx")
    run("export", str(model), "-o", str(file))
    return file


def rounded(source: Path, scheme: Scheme) -> Path:
    """Quantize a file by plain rounding, the library's default, which fine-tuning trained for."""
    file = source.with_suffix(f".{scheme.text.replace(':', '-')}.onnx")
    quantize(source, file, scheme=scheme)
    return file


if __name__ == "__main__":
    main()
