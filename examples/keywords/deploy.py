"""From Lightning's checkpoint to an int8 file that listens to samples; run spotter.py first."""

import sys

import numpy as np
import soundfile
from spotter import WORDS

import lstm_edge

HOP = 160  # samples of 10 ms, as a microphone gives them


def make() -> None:
    """Export, quantize and judge the model: keywords.onnx takes samples and computes the features itself."""
    report = lstm_edge.export(
        "spotter:Spotter",
        output="keywords.onnx",
        weights="last.ckpt",
        inputs=["x: float32[batch, time, 40]"],
        front_end="log-mel:40",
        labels=WORDS,
        task="classification",
        scheme="int8",
        data="words",
        max_drop="2pt",
    )
    report.check()
    for name, value in report.rows():
        print(f"{name}: {value}")


def listen(samples: np.ndarray) -> list[tuple[int, str]]:
    """Push samples as they come; return the samples heard and the word at each answer."""
    stream = lstm_edge.Session("keywords.onnx").stream()
    heard = []
    for start in range(0, len(samples) - HOP + 1, HOP):
        logits = stream.push(samples[None, start : start + HOP])
        if len(logits):  # no row: these samples completed no step
            heard.append((start + HOP, WORDS[logits[0].argmax()]))
    return heard


if __name__ == "__main__":
    make()
    for path in sys.argv[1:] or ["words/up/0.wav", "words/down/0.wav"]:
        answers = listen(soundfile.read(path, dtype="float32")[0])
        print(f"{path}: first answer after {answers[0][0]} samples, at the end {answers[-1][1]}")
