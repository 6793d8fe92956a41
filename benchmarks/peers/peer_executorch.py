"""ExecuTorch with the XNNPACK backend; int8 by PT2E quantization, int4 by torchao, of cells of linear layers."""

from pathlib import Path
from typing import Any

from given import Array, Case, Sequence

INT4_BLOCK = 32


def convert(case: Case, form: str, folder: Path) -> int:
    """Export one frame and lower it; unrolling all frames takes minutes and gives a slower file than a loop."""
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower
    from torch_cells import cells, example

    inputs = example(case, 1)
    module: Any = cells(case)
    if form == "int8":
        module = int8(torch.export.export(module, inputs).module(), inputs)
    elif form == "int4":
        from torchao.quantization import Int8DynamicActivationIntxWeightConfig, quantize_
        from torchao.quantization.granularity import PerGroup

        block = PerGroup(INT4_BLOCK)
        quantize_(module, Int8DynamicActivationIntxWeightConfig(weight_dtype=torch.int4, weight_granularity=block))
    with torch.no_grad():
        exported = torch.export.export(module, inputs)
        program = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()]).to_executorch()
    path = folder / "step.pte"
    path.write_bytes(program.buffer)
    return path.stat().st_size


def int8(module: Any, inputs: tuple[Any, ...]) -> Any:
    """Quantize linear layers: weights per output channel, activations at each call."""
    from executorch.backends.xnnpack.quantizer import xnnpack_quantizer
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    quantizer = xnnpack_quantizer.XNNPACKQuantizer()
    settings = xnnpack_quantizer.get_symmetric_quantization_config(is_per_channel=True, is_dynamic=True)
    prepared = prepare_pt2e(module, quantizer.set_global(settings))
    prepared(*inputs)
    return convert_pt2e(prepared)


def runtime() -> str:
    """Import the library."""
    from importlib.metadata import version

    import executorch.runtime
    import torch

    torch.set_num_threads(1)
    executorch.runtime.Runtime.get()
    return f"ExecuTorch {version('executorch')}"


class ExecuTorchStep:
    """``execute`` with tensors in and out."""

    inner = None

    def __init__(self, case: Case, path: Path) -> None:
        import torch
        from executorch.runtime import Runtime

        self.case, self.tensor = case, torch.from_numpy
        self.program = Runtime.get().load_program(path)
        self.execute = self.program.load_method("forward").execute
        self.reset()

    def reset(self) -> None:
        """Go back to the initial states."""
        self.states = [self.tensor(array) for array in self.case.initial.values()]

    def step(self, frame: Array) -> Array:
        """Run one call; outputs may lie in the method's own memory, and the next call would overwrite them."""
        answer, *states = self.execute([self.tensor(frame), *self.states])
        self.states = [state.clone() for state in states]
        copy: Array = answer.numpy().copy()
        return copy


def open_step(case: Case, form: str, folder: Path) -> ExecuTorchStep:  # noqa: ARG001
    """Open the file of one frame."""
    return ExecuTorchStep(case, folder / "step.pte")


def open_sequence(case: Case, form: str, folder: Path) -> Sequence | None:  # noqa: ARG001
    """There is none."""
    return None
