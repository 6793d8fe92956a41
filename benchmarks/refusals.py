"""Measure how long each command takes to refuse a wrong path, a missing option or a wrong ending.

Run with lstm-edge installed: ``python benchmarks/refusals.py``; it takes a minute. Each line runs three times in a
process of its own. The table has the shortest wall time, imports included, and the heavy packages that were imported.
Exit code 1: a line took more than half a second, or imported torch or onnx.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lstm_edge_runtime.fresh_python import python_command

MOST_SECONDS = 0.5
HEAVY = ("torch", "onnx", "onnxruntime", "numpy")
CODE = f"""
import sys
from lstm_edge_runtime.cli import main
try:
    main()
finally:
    print("imported", *(name for name in {HEAVY!r} if name in sys.modules), file=sys.stderr)
"""
PACKAGES = ("lstm_edge", "lstm_edge_exporters", "lstm_edge_runtime")
TRAIN = "train classification --data japanese-vowels -o new.safetensors"
SELECT = "select --data japanese-vowels -o new.safetensors"
# None of the files exists but model.onnx and wrong.txt.
LINES = (
    "export nope.pt",
    "export nope.pt -o new.onnx",
    "export nope.keras -o new.onnx",
    "export wrong.txt -o new.onnx",
    "export nope:make -o new.onnx",
    "export nope.safetensors -o new.txt",
    "export nope.safetensors -o none/new.onnx",
    "export torch.nn:Identity -o new.onnx --input x:float32[2] --weights nope.pt",
    "export torch.nn:Identity -o new.onnx --input x:float32[2] --example nope.npy",
    "export torch.nn:Identity -o new.onnx --input x:float32[2] --labels @nope",
    "export torch.nn:Identity -o new.onnx --input x:float32[2] --scheme int8 --data nope",
    "adopt nope.onnx -o new.onnx",
    "adopt",
    "adopt model.onnx -o new.txt",
    "adopt model.onnx -o new.onnx --example nope.npy",
    "adopt model.onnx -o new.onnx --labels @nope",
    "quantize nope.onnx",
    "quantize nope.onnx -o new.onnx",
    "quantize model.onnx -o new.txt",
    "quantize model.onnx -o new.onnx --data nope.npz",
    "quantize model.onnx -o new.onnx --data nope",
    "quantize model.onnx -o new.onnx --max-drop 1%",
    "quantize model.onnx -o new.onnx --report new.html",
    "quantize model.onnx -o new.onnx --no-compensate",
    "quantize model.onnx -o new.onnx --columns target=y",
    "quantize model.onnx -o new.onnx --scheme auto --data japanese-vowels --max-drop 1% --reference-data nope.npz",
    "quantize model.onnx -o new.onnx --scheme auto",
    "quantize model.onnx -o new.onnx --scheme auto --data nope.npz --max-drop 1%",
    "quantize model.onnx -o new.onnx --scheme auto --data japanese-vowels --held-out-data nope --max-drop 1%",
    "quantize nope.onnx -o new.onnx --scheme auto --data japanese-vowels --max-drop 1% --report new.html",
    "validate",
    "validate model.onnx --against model.onnx",
    "validate model.onnx --against model.onnx --data nope.npz",
    "validate model.onnx --against model.onnx --data nope",
    "validate model.onnx --against model.onnx --data japanese-vowels:nope",
    "validate model.onnx --against nope.onnx --data japanese-vowels",
    "train classification",
    "train classification --data japanese-vowels -o new.pt",
    "train classification --data japanese-vowels -o none/new.safetensors",
    "train classification --data nope.npz -o new.safetensors",
    "train classification --data wrong.txt -o new.safetensors",
    "train classification --data nope -o new.safetensors",
    "train forecast --data nope -o new.safetensors",
    f"{TRAIN} --held-out-data nope.npz",
    f"{TRAIN} --plot new.txt",
    f"{TRAIN} --from nope.safetensors",
    f"{TRAIN} --teacher nope.safetensors",
    f"{TRAIN} --resume",
    "train language-model --data nope.txt -o new.safetensors",
    "train language-model --data king-james -o new.onnx",
    "select",
    "select --data japanese-vowels -o new.pt",
    "select --data nope.npz -o new.safetensors",
    "select --data nope -o new.safetensors",
    f"{SELECT} --plot new.txt",
    f"{SELECT} --hidden-sizes a",
    f"{SELECT} --densities 2",
    f"{SELECT} --max-bytes x",
    f"{SELECT} --folds 1",
    f"{TRAIN} --epochs 0",
    f"{TRAIN} --batch-size 0",
    f"{TRAIN} --seed -1",
    "export wrong.txt",
    "export model.onnx -o new.onnx",
    "export nope.safetensors -o new.onnx --weights nope.pt",
    "export nope.safetensors -o new.onnx --weights-key a",
    "export nope.safetensors -o new.onnx --data japanese-vowels",
    "export torch.nn:Identity -o new.onnx --input x:float32[2] --max-drop 1pt",
    "export torch.nn:Identity -o new.onnx --input x:float32[2] --scheme int8 --data japanese-vowels --max-drop x",
    "export torch.nn:Identity -o new.onnx --input x:float32[2] --scheme int8 --data japanese-vowels --confidence 2",
    "adopt wrong.txt",
    "adopt model.onnx -o model.onnx",
    "quantize wrong.txt",
    "quantize model.onnx -o model.onnx",
    "quantize model.onnx -o new.onnx --reference-data nope.npz",
    "quantize model.onnx -o new.onnx --scheme auto --data japanese-vowels --max-drop x",
    "quantize model.onnx -o new.onnx --scheme auto --data japanese-vowels --max-drop 1pt --confidence 2",
    "quantize model.onnx -o new.onnx --scheme auto --data japanese-vowels --max-drop 1pt --report new.txt",
    "quantize model.onnx -o new.onnx --scheme auto --data japanese-vowels --max-drop 1pt --report none/new.html",
    "validate model.onnx --against wrong.txt --data japanese-vowels",
    "validate model.onnx --against model.onnx --data japanese-vowels --max-drop x",
    "validate model.onnx --against model.onnx --data japanese-vowels --confidence 2",
    "validate model.onnx --against model.onnx --data japanese-vowels --identity nope",
    "validate model.onnx --against model.onnx --data japanese-vowels --trusted-key nope",
    "inspect nope.onnx",
    "inspect wrong.txt",
    "check nope.onnx",
    "run nope.onnx x.npy",
    "bench nope.onnx",
    "check model.onnx --trusted-key nope",
    "check model.onnx --trusted-key wrong.txt",
    "check model.onnx --minimum-version 1.0",
    "check wrong.txt",
    "bench model.onnx --rate -1",
    "bench model.onnx --steps 0",
    "bench model.onnx --require-clock",
    "run model.onnx",
    "run model.onnx wrong.txt",
    "run model.onnx model.onnx",
    "run model.onnx nope.npy -o new.txt",
    "run model.onnx nope.npy -o none/new.npy",
    "run model.onnx nope.npy --row-lengths a",
    "run model.onnx --stream --load-state nope.npz",
    "run model.onnx --stream --save-state new.txt",
    "run model.onnx --stream --save-state none/new.npz",
    "run model.onnx --stream --metrics new.txt",
    "run model.onnx --stream --signature nope.sig",
    "run model.onnx --score nope.txt",
    "run model.onnx --prompt x --top-p 2",
    "run model.onnx nope.npy",
    "run model.onnx nope.npy --prompt x",
    "data check nope.npz",
    "data check nope",
    "data check japanese-vowels:nope",
    "zoo get nope",
    "sign nope.onnx --key nope",
    "bundle nope.onnx --format tar --path /srv/kws",
    "deploy nope.onnx --to board --path /srv/kws",
    "status --hosts nope.toml",
)


def prepare(folder: Path) -> None:
    """Write the two files that exist."""
    (folder / "wrong.txt").write_text("hello\n")
    (folder / "model.onnx").write_bytes(b"\x08\x08\x12\x04made")


def main() -> None:
    """Measure and print."""
    failed = False
    print("| command | s | imported |")
    print("|---|---:|---|")
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name))
        for line in LINES:
            command = python_command(CODE, *line.split(), packages=PACKAGES)
            taken, said = [], ""
            for _ in range(3):
                start = time.perf_counter()
                done = subprocess.run(command, cwd=name, check=False, capture_output=True, text=True)
                taken.append(time.perf_counter() - start)
                said = done.stderr.splitlines()[-1]
            imported = said.split()[1:]
            failed |= done.returncode != 2 or min(taken) > MOST_SECONDS or bool({"torch", "onnx"} & set(imported))
            print(f"| `lstm-edge {line}` | {min(taken):.2f} | {', '.join(imported)} |", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
