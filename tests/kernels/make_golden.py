"""Write golden files for any machine: a model of one operator, its inputs, and the bytes that it must answer.

    python make_golden.py FOLDER

The expected outputs are the NumPy model's; of int8 convolutions, which onnxruntime computes, those of exact sums.
check_golden.py reads the folder where there is no onnx package.
"""

import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(HERE.parent), str(ROOT), str(ROOT / "exporters"), str(ROOT / "runtime")]

import float32_cases  # noqa: E402  # needs the path above
from convolution_cases import golden_convolutions  # noqa: E402
from kernel_cases import feeds_of, golden_operators  # noqa: E402


def main(folder: Path) -> None:
    """Write ``NNN-operator.onnx`` and ``NNN-operator.npz`` for each golden operator."""
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for operator, time, batch in golden_operators():
        feeds = feeds_of(operator, time, batch, seed=count)
        arrays = {f"in.{name}": array for name, array in feeds.items()}
        arrays |= {f"out.{name}": array for name, array in operator.expected(feeds).items()}
        stem = f"{count:03d}-{operator}"
        (folder / f"{stem}.onnx").write_bytes(operator.model)
        np.savez(folder / f"{stem}.npz", exact=np.array(operator.exact), **arrays)
        count += 1
    for call, time, batch in float32_cases.golden_cases():
        feeds = float32_cases.feeds_of(call, time, batch, seed=count)
        arrays = {f"in.{name}": array for name, array in feeds.items()}
        arrays |= {f"out.{name}": array for name, array in call.expected(feeds).items()}
        stem = f"{count:03d}-{call}"
        (folder / f"{stem}.onnx").write_bytes(call.model)
        np.savez(folder / f"{stem}.npz", exact=np.array(False), **arrays)
        count += 1
    for case in golden_convolutions():
        stem = f"{count:03d}-{case.name}"
        (folder / f"{stem}.onnx").write_bytes(case.model)
        np.savez(folder / f"{stem}.npz", exact=np.array(True), **{"in.x": case.x, "out.y": case.y})
        count += 1
    print(f"{count} golden files")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
