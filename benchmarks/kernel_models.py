"""Models for benchmarks/kernels.py, and the measurements of them other than latency."""

import json
import platform
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic

from lstm_edge import export
from lstm_edge.layers import LSTM
from lstm_edge_exporters.quantize import Scheme, quantize
from lstm_edge_runtime.fresh_python import python_command
from lstm_edge_runtime.session import Session

SIZES = ((64, 128), (128, 256), (256, 512), (512, 1024))
LAYERS = 2
NOISE = ("int8", "DynamicQuantizeLSTM", "int4, block 32", "int4, block 128")
MEMORY_COLUMNS = ("I, H", "file", "run by", "file MB", "resident MB", "load ms")


@dataclass(frozen=True, kw_only=True)
class Files:
    """One model in all its forms: paths of .onnx files."""

    float32: Path
    float_kernel: Path
    int8: Path
    int4: Path
    int4_wide: Path
    dynamic: Path
    full: Path
    full_int8: Path
    projected: Path
    projected_int8: Path

    def items(self) -> Iterator[tuple[str, Path]]:
        """Return names and paths."""
        return ((field.name, getattr(self, field.name)) for field in fields(self))


def make_files(folder: Path, inputs: int, hidden: int) -> Files:
    """Export a seeded two-layer LSTM, time-major, and quantize it in every form."""
    torch.manual_seed(0)
    stem = str(folder / f"lstm{hidden}")
    files = Files(**{field.name: Path(f"{stem}.{field.name}.onnx") for field in fields(Files)})
    standard = LSTM(inputs, hidden, LAYERS).eval()
    full = LSTM(inputs, hidden, LAYERS, peephole="full").eval()
    example = torch.randn(5, 2, inputs)
    projected = torch.nn.LSTM(inputs, hidden, LAYERS, proj_size=hidden // 2).eval()
    for module, path in ((standard, files.float32), (full, files.full), (projected, files.projected)):
        export(module, example, path)
    quantize(files.float32, files.int8)
    quantize(files.full, files.full_int8)
    quantize(files.projected, files.projected_int8)
    quantize(files.float32, files.int4, scheme=Scheme(kind="int4", block=32))
    quantize(files.float32, files.int4_wide, scheme=Scheme(kind="int4", block=128))
    quantize_dynamic(files.float32, files.dynamic, weight_type=QuantType.QInt8)
    quantize(files.float32, files.float_kernel, scheme="float32")
    return files


def weight_bytes(path: Path) -> int:
    """Return the bytes of the file's matrices and scales, which a step reads once."""
    return sum(len(t.raw_data) for t in onnx.load(path).graph.initializer if len(t.dims) >= 1)


def bare_session(path: Path) -> onnxruntime.InferenceSession:
    """Open a file in stock onnxruntime: one thread, onnxruntime's own kernels and the function bodies only."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@dataclass(frozen=True, kw_only=True)
class NoiseRow:
    """Signal-to-noise ratio in dB at one size, outputs and states together."""

    size: str
    int8: float
    dynamic: float
    int4: float
    int4_wide: float

    def cells(self) -> tuple[str, ...]:
        """Return the row as text."""
        return (self.size, *(f"{value:.1f}" for value in (self.int8, self.dynamic, self.int4, self.int4_wide)))


def signal_to_noise(files: Files, inputs: int, hidden: int) -> NoiseRow:
    """Compare every quantized form with float32 on the same random sequences."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((100, 4, inputs)).astype(np.float32)
    answers = {name: _answer(path, x) for name, path in files.items() if not name.startswith(("full", "projected"))}
    signal = float(np.sum(answers["float32"] ** 2))

    def ratio(name: str) -> float:
        return 10 * np.log10(signal / float(np.sum((answers[name] - answers["float32"]) ** 2)))

    return NoiseRow(
        size=f"{inputs}, {hidden}",
        int8=ratio("int8"),
        dynamic=ratio("dynamic"),
        int4=ratio("int4"),
        int4_wide=ratio("int4_wide"),
    )


def _answer(path: Path, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the outputs of four rows; each row runs alone, because DynamicQuantizeLSTM shares a scale between rows."""
    session = bare_session(path)
    rows = []
    for row in range(x.shape[1]):
        feeds = {
            i.name: np.zeros([1 if isinstance(n, str) else n for n in i.shape], np.float32)
            for i in session.get_inputs()
        }
        feeds[session.get_inputs()[0].name] = x[:, row : row + 1]
        rows.append(np.concatenate([a.reshape(-1) for a in session.run(None, feeds)]).astype(np.float64))
    return np.concatenate(rows)


_PROBE = """
import json, sys, time
def resident():
    return next(int(l.split()[1]) for l in open('/proc/self/status') if l.startswith('VmRSS')) / 1024
import numpy as np
import onnxruntime
from lstm_edge_runtime.session import Session
path, kernels = sys.argv[1:]
before = resident()
start = time.perf_counter()
if kernels == 'bare':
    options = onnxruntime.SessionOptions(); options.intra_op_num_threads = 1; options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options)
    feeds = {i.name: np.zeros([1 if isinstance(n, str) else n for n in i.shape], 'f') for i in session.get_inputs()}
    load = time.perf_counter() - start
    session.run(None, feeds)
else:
    session = Session(path, kernels=kernels)
    load = time.perf_counter() - start
    session.stream().push(np.zeros(session.inputs[0].axes[-1], "f"))
print(json.dumps([resident() - before, load * 1e3]))
"""


def memory_rows(files: Files, inputs: int, hidden: int) -> list[tuple[str, ...]]:
    """Measure the resident memory that loading and one step add, and the load time, each in a fresh process."""
    cases = (
        ("int8", files.int8, "required", "kernels"),
        ("int8", files.int8, "off", "function bodies"),
        ("int4", files.int4, "required", "kernels"),
        ("int8 dynamic", files.dynamic, "bare", "onnxruntime alone"),
        ("float32", files.float32, "bare", "onnxruntime alone"),
    )
    rows = []
    for name, path, kernels, by in cases:
        output = subprocess.run(
            python_command(_PROBE, str(path), kernels), check=True, capture_output=True, text=True
        ).stdout
        resident, load = json.loads(output)
        size = path.stat().st_size / 2**20
        rows.append((f"{inputs}, {hidden}", name, by, f"{size:.1f}", f"{resident:.1f}", f"{load:.0f}"))
    return rows


def machine() -> str:
    """Return the name of the processor and the measured versions."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cpu = names[0] if names else platform.machine()
    return f"{cpu}, onnxruntime {onnxruntime.__version__}, numpy {np.__version__}"


def check_answers(files: Files, inputs: int) -> None:
    """Check that the timed float32 kernel gives onnxruntime's answers."""
    x = np.random.default_rng(5).standard_normal((7, 2, inputs)).astype(np.float32)
    ours, _ = Session(files.float_kernel, kernels="required").run(x)
    theirs, _ = Session(files.float32).run(x)
    for name, answer in theirs.items():
        np.testing.assert_allclose(ours[name], answer, atol=2e-6)
