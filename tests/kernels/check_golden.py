"""Compare the kernels' answers on this machine with a folder of golden files; numpy and onnxruntime only.

    python check_golden.py FOLDER [INSTRUCTION_SET]

int8 (onnxruntime's int8 convolutions too) and int4 must agree byte for byte, float32 within 2e-6. Exit code 1 on any
difference, or when another instruction set than the named one is in use.
"""

import sys
from pathlib import Path

import numpy as np

from lstm_edge_runtime.library import find_library
from lstm_edge_runtime.providers import open_session

# float32 sums in another order, on outputs of order one and at most 100 inputs: 1e-6 is seen.
FLOAT_TOLERANCE = 2e-6


def difference(path: Path) -> str:
    """Return what is wrong with the kernels' answer on one golden file, or nothing."""
    session = open_session(path.with_suffix(".onnx").read_bytes(), library=find_library())
    with np.load(path) as arrays:
        feeds = {name.removeprefix("in."): arrays[name] for name in arrays.files if name.startswith("in.")}
        expected = {name.removeprefix("out."): arrays[name] for name in arrays.files if name.startswith("out.")}
        exact = bool(arrays["exact"])
    answers = dict(zip(expected, session.run(list(expected), feeds), strict=True))
    for name, want in expected.items():
        got = answers[name]
        if got.shape != want.shape or got.dtype != want.dtype:
            return f"{path.stem}: {name} is {got.dtype}{got.shape}, expected {want.dtype}{want.shape}"
        worst = float(np.abs(got.astype(np.float64) - want).max(initial=0.0))
        if got.tobytes() != want.tobytes() if exact else not worst <= FLOAT_TOLERANCE:
            return f"{path.stem}: {name} differs by up to {worst:.3g}"
    return ""


def main() -> None:
    """Check all files of the folder; print what differs and a summary."""
    folder, wanted = Path(sys.argv[1]), (sys.argv[2:] or [""])[0]
    instruction_set = find_library().instruction_set
    paths = sorted(folder.glob("*.npz"))
    wrong = [text for text in map(difference, paths) if text]
    print("\n".join([*wrong, f"{len(paths)} golden files, {len(wrong)} differ, instruction set {instruction_set}"]))
    if wrong or not paths or (wanted and wanted != instruction_set):
        sys.exit(1)


if __name__ == "__main__":
    main()
