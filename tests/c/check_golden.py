"""Compare the C library with Python bit for bit on a folder of golden files; NumPy and onnxruntime only.

    python check_golden.py LIBRARY ONNXRUNTIME FOLDER [INSTRUCTION_SET]

LIBRARY is liblstm_edge.so, ONNXRUNTIME libonnxruntime.so, FOLDER what tests/kernels/make_golden.py wrote; the models of
tests/device are compared too, with all that a file is for. Exit code 1 on any difference, or when another instruction
set than the named one is in use.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "runtime")]

import numpy as np  # noqa: E402  # needs the path above
from support.c_agreement import compare_file, differing_bits  # noqa: E402
from support.c_library import Library  # noqa: E402
from support.c_models import stored_models  # noqa: E402

from lstm_edge_runtime.library import find_library  # noqa: E402
from lstm_edge_runtime.session import Session  # noqa: E402


def differences(library: Library, path: Path) -> Iterator[str]:
    """Yield what differs between C and Python, and from the expected outputs where these are exact."""
    data = path.with_suffix(".onnx").read_bytes()
    session, c_session = Session(data), library.open(data)
    with np.load(path) as arrays:
        feeds = {name.removeprefix("in."): arrays[name] for name in arrays.files if name.startswith("in.")}
        expected = {name.removeprefix("out."): arrays[name] for name in arrays.files if name.startswith("out.")}
        exact = bool(arrays["exact"])
    if (session.kernels, session.operators) != (c_session.kernels, c_session.operators):
        yield f"{path.stem}: kernels {session.kernels}, in C {c_session.kernels}"
    want, got = session.run(feeds)[0], c_session.run(feeds)[0]
    yield from differing_bits(want, got, path.stem)
    if exact:
        yield from differing_bits(expected, {name: got[name] for name in expected}, f"{path.stem}, expected outputs")


def main() -> int:
    """Check all files; print what differs and a summary."""
    library = Library(Path(sys.argv[1]), Path(sys.argv[2]))
    folder, wanted = Path(sys.argv[3]), (sys.argv[4:] or [""])[0]
    instruction_set = find_library().instruction_set
    paths = sorted(folder.glob("*.npz"))
    wrong = [text for path in paths for text in differences(library, path)]
    models = stored_models()
    for name, data in models.items():
        for kernels in ("auto", "off"):
            wrong += [f"{name}, kernels {kernels}: {text}" for text in compare_file(library, data, kernels=kernels)]
    session = library.open(models["exported_int8"])
    said = f"instruction set {session.kernels}, onnxruntime {session.onnxruntime_version}"
    print(
        "\n".join([*wrong[:50], f"{len(paths)} golden files, {len(models)} models, {len(wrong)} differences, {said}"])
    )
    known = session.kernels == instruction_set and wanted in ("", instruction_set)
    return 0 if paths and known and not wrong else 1


if __name__ == "__main__":
    sys.exit(main())
