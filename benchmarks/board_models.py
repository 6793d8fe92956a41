"""Make the files that docs/boards.md compares devices with: two-layer LSTMs and GRUs with seeded weights.

    python benchmarks/board_models.py FOLDER

Needs PyTorch; run it on a PC and copy the folder to the board. The same versions of torch and onnx give the same bytes.
"""

import sys
from pathlib import Path

import torch

from lstm_edge import export
from lstm_edge_exporters.quantize import Scheme, quantize

LAYERS = 2
# (input size, hidden size).
SIZES = ((64, 128), (256, 512))
CELLS = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}


def make(folder: Path, sizes: tuple[tuple[int, int], ...] = SIZES) -> list[Path]:
    """Write float32, int8 and int4 files of every cell and size; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for cell, layer in CELLS.items():
        for inputs, hidden in sizes:
            torch.manual_seed(0)
            stem = f"{cell}-{inputs}-{hidden}"
            source = folder / f"{stem}.float32.onnx"
            export(layer(inputs, hidden, LAYERS).eval(), torch.randn(5, 2, inputs), source)
            made.append(source)
            for name, scheme in (("int8", Scheme()), ("int4", Scheme(kind="int4", block=128))):
                made.append(folder / f"{stem}.{name}.onnx")
                quantize(source, made[-1], scheme=scheme)
    return made


def main() -> None:
    """Make the files and print their names and sizes."""
    if len(sys.argv) != 2:
        sys.exit("usage: python benchmarks/board_models.py FOLDER")
    for path in make(Path(sys.argv[1])):
        print(f"{path}  {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
