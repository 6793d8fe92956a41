"""LiteRT: converted by litert-torch, quantized by ai-edge-quantizer, run by ai-edge-litert's interpreter."""

import time
from pathlib import Path
from typing import Any

from given import Array, Case, Sequence

RECIPES = {"int8": "dynamic_wi8_afp32", "int4": "dynamic_wi4_afp32"}


def convert(case: Case, form: str, folder: Path) -> int:
    """Convert one frame, and all frames (the converter unrolls them; the weights are shared), or the step alone."""
    sequence = case.cell and not form.endswith(" step")
    for name, steps in (("step", 1), *([("sequence", len(case.arrays["x"]))] if sequence else [])):
        path = folder / f"{name}.tflite"
        float32 = folder.parent / "float32" / path.name
        if not float32.exists():
            import litert_torch
            from torch_cells import example, standard

            float32.parent.mkdir(parents=True, exist_ok=True)
            litert_torch.convert(standard(case), example(case, steps)).export(str(float32))
        if form != "float32":
            from ai_edge_quantizer import quantizer, recipe

            tool = quantizer.Quantizer(str(float32))
            tool.load_quantization_recipe(getattr(recipe, RECIPES[form.removesuffix(" step")])())
            tool.quantize().export_model(str(path), overwrite=True)
    return (folder / "step.tflite").stat().st_size


def runtime() -> str:
    """Import the library."""
    from importlib.metadata import version

    import ai_edge_litert.interpreter  # noqa: F401

    return f"ai-edge-litert {version('ai-edge-litert')}, litert-torch {version('litert-torch')}"


class LiteRtStep:
    """``set_tensor``, ``invoke``, ``get_tensor``; ``inner`` is ``invoke``."""

    def __init__(self, case: Case, path: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self.case = case
        self.interpreter = Interpreter(model_path=str(path), num_threads=1)
        self.interpreter.allocate_tensors()
        # The converter numbers arguments and outputs, and the interpreter lists them in another order.
        self.inputs = [d["index"] for d in sorted(self.interpreter.get_input_details(), key=_number)]
        self.outputs = [d["index"] for d in sorted(self.interpreter.get_output_details(), key=_number)]
        self.inner = self.interpreter.invoke
        self.reset()

    def reset(self) -> None:
        """Go back to the initial states."""
        self.states = list(self.case.initial.values())

    def step(self, frame: Array) -> Array:
        """Run one call."""
        for index, array in zip(self.inputs, (frame, *self.states), strict=True):
            self.interpreter.set_tensor(index, array)
        self.interpreter.invoke()
        answer, *self.states = [self.interpreter.get_tensor(index) for index in self.outputs]
        return answer


def _number(details: Any) -> int:
    return int("".join(filter(str.isdigit, details["name"].rpartition("_default_")[2].split(":")[0])) or 0)


def open_step(case: Case, form: str, folder: Path) -> LiteRtStep:  # noqa: ARG001
    """Open the file of one frame."""
    return LiteRtStep(case, folder / "step.tflite")


def open_sequence(case: Case, form: str, folder: Path) -> Sequence | None:
    """Open the file of all frames; None where calling the file of one frame for each of them is faster.

    XNNPACK packs the weights of each of the unrolled operators: a large model then reads a hundred copies of them.
    """
    if not case.cell or form.endswith(" step"):
        return None
    opened, single = LiteRtStep(case, folder / "sequence.tflite"), open_step(case, form, folder)
    x = case.arrays["x"].reshape(-1, 1, case.inputs)

    def run() -> Array:
        opened.reset()
        return opened.step(x)

    def calls() -> None:
        for frame in case.arrays["x"]:
            single.step(frame)

    return run if _fastest(run) < _fastest(calls) else None


def _fastest(call: Any) -> float:
    times = []
    for _ in range(5):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)
