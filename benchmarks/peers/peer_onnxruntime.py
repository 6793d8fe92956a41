"""onnxruntime's own operators: ``LSTM`` and ``GRU`` in float32, and what ``quantize_dynamic`` makes of them."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from given import Array, Case, RefusedError, Sequence, copied

# Files of a form: the published models have no sequence.
FILES = ("step.onnx", "sequence.onnx")


def convert(case: Case, form: str, folder: Path) -> int:
    """Copy the files, or quantize them and check that the recurrent layers were quantized."""
    for name in FILES if case.cell else FILES[:1]:
        if form == "float32":
            copied(case, name, folder)
        else:
            quantize(case, name, folder)
    return (folder / "step.onnx").stat().st_size


def quantize(case: Case, name: str, folder: Path) -> None:
    """Quantize dynamically; the tool leaves what it cannot quantize as it is, which is not an int8 model."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    target = folder / name
    quantize_dynamic(case.folder / name, target, weight_type=QuantType.QInt8)
    kinds = {node.op_type for node in onnx.load(target).graph.node}
    left = {case.cell} & kinds
    if left:
        shutil.rmtree(folder)
        raise RefusedError(f"quantize_dynamic leaves {case.cell} nodes in float32")


def runtime() -> str:
    """Import the library."""
    import onnxruntime

    return f"onnxruntime {onnxruntime.__version__}"


def session(path: Path) -> Any:
    """Open a file with one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


class OnnxStep:
    """``session.run`` with the states in and out; ``inner`` is a run with bound arrays."""

    def __init__(self, case: Case, opened: Any) -> None:
        self.case, self.session = case, opened
        self.names = [case.y, *case.states.values()]
        self.feeds: dict[str, Array] = {}
        self.reset()
        self.inner = bound(opened, {case.x: case.arrays["x"][0], **self.feeds})

    def reset(self) -> None:
        """Go back to the initial states."""
        self.feeds = {**self.case.initial, **self.case.fixed}

    def step(self, frame: Array) -> Array:
        """Run one frame."""
        self.feeds[self.case.x] = frame
        answer, *states = self.session.run(self.names, self.feeds)
        for name, state in zip(self.case.states, states, strict=True):
            self.feeds[name] = state
        return np.asarray(answer)


def bound(opened: Any, feeds: dict[str, Array]) -> Any:
    """Return a call of a session with inputs and outputs bound to fixed memory.

    It calls the native session with options made once: the Python class around it adds 0.3 µs, without options
    onnxruntime makes its own in each run, and its class takes 24 µs to check options that it is given.
    """
    import onnxruntime

    binding, options = opened.io_binding(), onnxruntime.RunOptions()
    kept = {name: np.ascontiguousarray(array) for name, array in feeds.items()}
    for name, array in kept.items():
        binding.bind_cpu_input(name, array)
    for output in opened.get_outputs():
        binding.bind_output(output.name)
    run, handle = opened._sess.run_with_iobinding, binding._iobinding

    def call() -> None:
        assert kept  # the arrays live as long as the call
        run(handle, options)

    return call


def open_step(case: Case, form: str, folder: Path) -> OnnxStep:  # noqa: ARG001
    """Open the file of one frame."""
    return OnnxStep(case, session(folder / "step.onnx"))


def open_sequence(case: Case, form: str, folder: Path) -> Sequence | None:  # noqa: ARG001
    """Open the file of all frames."""
    if not case.cell:
        return None
    opened = session(folder / "sequence.onnx")
    feeds = {case.x: case.arrays["x"].reshape(-1, 1, case.inputs), **case.initial}
    return lambda: opened.run(None, feeds)[0]
