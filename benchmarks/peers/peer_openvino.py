"""OpenVINO: float32 from the ``LSTM`` or ``GRU`` node, and from cells of ``MatMul``, whose weights NNCF compresses."""

from pathlib import Path
from typing import Any

from given import Array, Case, RefusedError, Sequence

# One stream, one thread, float32 arithmetic (on some processors the default is bfloat16).
SETTINGS = {
    "INFERENCE_NUM_THREADS": 1,
    "NUM_STREAMS": 1,
    "PERFORMANCE_HINT": "LATENCY",
    "INFERENCE_PRECISION_HINT": "f32",
}
INT4_BLOCK = 32


def convert(case: Case, form: str, folder: Path) -> int:
    """Convert one of the case's files; NNCF finds no weights in recurrent nodes, so int8 and int4 take the cells."""
    import openvino

    source = "step.onnx" if form == "float32" or not case.cell else "cells.onnx"
    model = openvino.convert_model(case.folder / source)
    if form in ("int8", "int4"):
        import nncf

        modes = nncf.CompressWeightsMode
        settings = {"mode": modes.INT8_SYM} if form == "int8" else {"mode": modes.INT4_SYM, "group_size": INT4_BLOCK}
        model = nncf.compress_weights(model, **settings, **({"all_layers": True} if form == "int4" else {}))
        if not any(op.get_type_name() == "Constant" and op.get_element_type().bitwidth <= 8 for op in model.get_ops()):
            raise RefusedError("NNCF compresses no weight of this file")
    openvino.save_model(model, folder / "step.xml", compress_to_fp16=False)
    if form == "float32" and case.cell:
        sequence = openvino.convert_model(case.folder / "sequence.onnx")
        openvino.save_model(sequence, folder / "sequence.xml", compress_to_fp16=False)
    return sum((folder / f"step.{end}").stat().st_size for end in ("xml", "bin"))


def runtime() -> str:
    """Import the library."""
    import openvino

    return f"OpenVINO {openvino.__version__.partition('-')[0]}"


class OpenVinoStep:
    """Arrays copied into the request's memory, ``infer``, arrays copied out; ``inner`` is ``infer``."""

    def __init__(self, case: Case, path: Path) -> None:
        import openvino

        self.case = case
        model = openvino.Core().compile_model(path, "CPU", SETTINGS)
        self.request = model.create_infer_request()
        self.inputs = [self.request.get_tensor(name).data for name in (case.x, *case.states)]
        self.fixed = [(self.request.get_tensor(name).data, array) for name, array in case.fixed.items()]
        self.outputs = [self.request.get_tensor(name).data for name in (case.y, *case.states.values())]
        self.inner = self.request.infer
        self.reset()

    def reset(self) -> None:
        """Go back to the initial states."""
        self.states = list(self.case.initial.values())
        for memory, array in self.fixed:
            memory[...] = array

    def step(self, frame: Array) -> Array:
        """Run one call."""
        for memory, array in zip(self.inputs, (frame, *self.states), strict=True):
            memory[...] = array
        self.request.infer()
        answer, *self.states = [memory.copy() for memory in self.outputs]
        return answer


def open_step(case: Case, form: str, folder: Path) -> OpenVinoStep:  # noqa: ARG001
    """Open the file of one frame."""
    return OpenVinoStep(case, folder / "step.xml")


def open_sequence(case: Case, form: str, folder: Path) -> Sequence | None:  # noqa: ARG001
    """Open the file of all frames, where there is one."""
    path = folder / "sequence.xml"
    if not path.exists():
        return None
    opened = OpenVinoStep(case, path)
    x: Any = case.arrays["x"].reshape(-1, 1, case.inputs)

    def run() -> Array:
        opened.reset()
        return opened.step(x)

    return run
