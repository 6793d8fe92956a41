"""Published models as cases: silero-vad's detector and GTCRN, called frame by frame by every peer."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from cases import write_case
from given import Array, Case
from onnx import numpy_helper

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import denoiser
import silero

__all__ = ["published", "reference"]

# Frames that are run and compared.
FRAMES = 100
RATE = 16000
# The LSTM's weights in silero's file, and the places of ONNX's gates i, o, f, c in PyTorch's order.
SILERO_LSTM = ("onnx::LSTM_209", "onnx::LSTM_210", "onnx::LSTM_211")
ORDER = (0, 2, 3, 1)


def published(folder: Path) -> Iterator[tuple[str, Case | str]]:
    """Yield titles and cases; a text in place of a case says what is missing."""
    lacking = silero.missing()
    yield "silero-vad 6.2.3", make_silero(folder / "silero") if not lacking else "its files or recordings are missing"
    files = denoiser.missing(denoiser.FOLDER)
    yield "GTCRN", make_gtcrn(folder / "gtcrn") if not files else f"{', '.join(files)} missing"


def make_silero(folder: Path) -> Case:
    """Take the sequence form with one frame at a time: 576 samples, and the LSTM's two states."""
    source = silero.FORMS[0].path
    frames = np.concatenate([silero.frames_of(samples, RATE) for samples in silero.recordings()])[:FRAMES]
    state = np.zeros((1, 1, 128), np.float32)
    arrays = {"x": frames[:, None], "initial.h": state, "initial.c": state, **silero_weights(source)}
    return make(folder, source, "silero", {"h": "hn", "c": "cn"}, arrays)


def silero_weights(source: Path) -> dict[str, Array]:
    """Read the weights of torch_silero.py from the ONNX file."""
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(source).graph.initializer}
    w, r, b = (held[name][0] for name in SILERO_LSTM)
    gates = b.reshape(2, 4, 128)[:, list(ORDER)].reshape(2, 512)
    found = {
        "stft.weight": held["stft.forward_basis_buffer"],
        "w.weight": w.reshape(4, 128, 128)[list(ORDER)].reshape(512, 128),
        "r.weight": r.reshape(4, 128, 128)[list(ORDER)].reshape(512, 128),
        "w.bias": gates[0],
        "r.bias": gates[1],
        "output.weight": held["output.weight"][:, :, 0],
        "output.bias": held["output.bias"],
    }
    for layer in range(4):
        found |= {f"encoder.{layer}.{kind}": held[f"encoder.{layer}.{kind}"] for kind in ("weight", "bias")}
    return {f"weights.{name}": np.ascontiguousarray(array) for name, array in found.items()}


def make_gtcrn(folder: Path) -> Case:
    """Take the authors' streaming file: a spectrum of 257 bins and three caches."""
    source = denoiser.FOLDER / denoiser.MODEL
    frames = denoiser.spectra(denoiser.read_recording(denoiser.FOLDER / denoiser.RECORDING))[:FRAMES]
    shapes = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in onnx.load(source).graph.input}
    states = {f"initial.{name}": np.zeros(shapes[name], np.float32) for name in denoiser.STATES}
    return make(folder, source, "", denoiser.STATES, {"x": np.stack(frames), **states})


def make(folder: Path, source: Path, name: str, states: Any, arrays: dict[str, Array]) -> Case:
    """Write a case: the author's file, and the same with fixed shapes for the peers that want them."""
    model = onnx.load(source)
    case = Case(
        name=folder.name, cell="", inputs=0, hidden=0, layers=0, x=model.graph.input[0].name,
        y=model.graph.output[0].name, states=dict(states), constant={}, source=name, folder=folder, arrays=arrays,
    )  # fmt: skip
    write_case(case)
    onnx.save(model, folder / "source.onnx")
    for value in (*model.graph.input, *model.graph.output):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param:
                axis.dim_value = 1
    onnx.save(model, folder / "step.onnx")
    return case


def reference(case: Case) -> dict[str, Array]:
    """Return the answers of the author's file in float32, computed by onnxruntime. No float64 model exists."""
    from peer_onnxruntime import open_step

    opened = open_step(case, "float32", case.folder)
    return {"dense": np.stack([opened.step(frame).reshape(-1) for frame in case.arrays["x"]])}
