"""The demo (``make demo``): Japanese Vowels from training to a checked int8 file.

Run ``python -m lstm_edge.demo [FOLDER]``; the files stay in FOLDER (``demo-out`` by default).
"""

import sys
import time
from pathlib import Path

import numpy as np

from lstm_edge.cli._frame import print_table, progress

__all__ = ["main"]

Rows = list[tuple[str, str]]


def main() -> None:
    """Train, export, quantize, validate, stream, self-test; print one table. Exits 1 when a check fails."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo-out")
    folder.mkdir(exist_ok=True)
    start = time.monotonic()
    rows = _train_and_export(folder)
    passed_budget, budget_rows = _validate(folder)
    passed_test, device_rows = _run_on_device(folder)
    rows += budget_rows + device_rows + [("whole demo", f"{time.monotonic() - start:.0f} s")]
    print_table(("Japanese Vowels, 9 speakers", "result"), rows)
    sys.exit(0 if passed_budget and passed_test else 1)


def _train_and_export(folder: Path) -> Rows:
    from lstm_edge import export, quantize
    from lstm_edge.checkpoint import load_checkpoint, save_checkpoint
    from lstm_edge.data import load
    from lstm_edge.training import train_classifier
    from lstm_edge_exporters.quantize import QuantizationReport

    progress("training SequenceClassifier, hidden 64, seed 0 (about 10 s)")
    model, report = train_classifier(load("japanese-vowels", default_split="train"), seed=0)
    save_checkpoint(model, folder / "model.safetensors")
    exported = export(load_checkpoint(folder / "model.safetensors"), None, folder / "model.onnx", progress=progress)
    quantized = quantize(folder / "model.onnx", folder / "model.int8.onnx", progress=progress)
    assert isinstance(quantized, QuantizationReport)  # what it returns for one scheme
    parity = exported.card.parity
    assert parity is not None
    return [
        ("trained on / held out", f"{report.trained} / {report.held_out} sequences"),
        ("epochs (best)", f"{len(report.history)} ({report.best.number})"),
        ("training time", f"{report.seconds:.0f} s"),
        ("float32 file, worst difference to PyTorch", f"{parity.max_abs_difference:.1e}"),
        ("file size, float32", f"{exported.size_bytes:,} bytes"),
        ("file size, int8", f"{quantized.size_bytes:,} bytes"),
    ]


def _validate(folder: Path) -> tuple[bool, Rows]:
    from lstm_edge import validate

    progress("validating on the official test split")
    report = validate(
        folder / "model.int8.onnx", folder / "model.onnx", "japanese-vowels:test", metric="accuracy", max_drop="0.5pt"
    )
    assert report.agreement is not None
    return report.passed, [
        ("test accuracy, float32", f"{report.reference:.2%}"),
        ("test accuracy, int8", f"{report.candidate:.2%}"),
        ("budget of 0.5 points", "passed" if report.passed else "BROKEN"),
        ("same decision", f"{report.agreement:.2%} of {report.samples}"),
        ("signal to noise of the logits", f"{report.snr_db:.1f} dB"),
    ]


def _run_on_device(folder: Path) -> tuple[bool, Rows]:
    """The part that runs on the device: numpy and onnxruntime only."""
    from lstm_edge import Session, self_test
    from lstm_edge.data import load

    progress("streaming one utterance frame by frame")
    session = Session(folder / "model.int8.onnx")
    data = load("japanese-vowels", default_split="test")
    utterance = data[0]
    stream = session.stream()
    answers, times = [], []
    for frame in utterance:
        start = time.perf_counter()
        answers.append(stream.push(frame))
        times.append(time.perf_counter() - start)
    logits = answers[-1]
    whole, _ = session.run(utterance[np.newaxis])
    same = np.array_equal(logits, whole["logits"][0])
    heard = int(np.argmax(logits))
    report = self_test(session)
    return report.passed and same, [
        ("streamed utterance", f"{len(utterance)} frames, heard speaker {heard + 1}, is {int(data.y[0]) + 1}"),
        ("stream against whole sequence", "same bits" if same else "DIFFERS"),
        ("one step on this machine, one thread", f"{np.median(times) * 1e6:.0f} µs, {session.kernels or 'bodies'}"),
        (
            "self-test of the int8 file",
            f"{'passed' if report.passed else 'FAILED'}, worst difference {report.worst:.2g}",
        ),
    ]


if __name__ == "__main__":
    main()
