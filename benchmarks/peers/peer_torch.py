"""PyTorch: eager, ``torch.compile`` of cells of linear layers, and its own dynamic int8 layers."""

from pathlib import Path
from typing import Any

from given import Array, Case, Sequence


def convert(case: Case, form: str, folder: Path) -> int:
    """Write the weights; every form makes its module from them when it is opened."""
    import torch

    path = folder / "weights.pt"
    torch.save(module_of(case, form).state_dict(), path)
    return path.stat().st_size


def module_of(case: Case, form: str) -> Any:
    """Make the module of a form."""
    import warnings

    import torch
    from torch_cells import cells, standard

    if form == "compile":
        return cells(case)
    module = standard(case)
    if form == "int8":
        warnings.simplefilter("ignore")
        module.recurrent = torch.ao.quantization.quantize_dynamic(
            torch.nn.Sequential(module.recurrent), {type(module.recurrent)}
        )[0]
    return module


def runtime() -> str:
    """Import the library."""
    import torch

    torch.set_num_threads(1)
    return f"PyTorch {torch.__version__}"


class TorchStep:
    """A call of the module with tensors in and out; tensors made from arrays and back share the memory."""

    inner = None

    def __init__(self, case: Case, module: Any) -> None:
        import torch

        self.case, self.module, self.tensor, self.mode = case, module, torch.from_numpy, torch.inference_mode
        self.reset()

    def reset(self) -> None:
        """Go back to the initial states."""
        self.states = [self.tensor(array) for array in self.case.initial.values()]

    def step(self, frame: Array) -> Array:
        """Run one call, of one frame or of all."""
        with self.mode():
            answer, *self.states = self.module(self.tensor(frame), *self.states)
            result: Array = answer.numpy()
            return result


def open_step(case: Case, form: str, folder: Path) -> TorchStep:
    """Make and fill the module, and compile it where that is the form (compiled code is cached on disk)."""
    import torch

    module = module_of(case, form)
    module.load_state_dict(torch.load(folder / "weights.pt", weights_only=form != "int8"))
    if form == "compile":
        import torch._inductor.config

        torch._inductor.config.freezing = True  # weights are constants of the compiled code
        module = torch.compile(module.requires_grad_(False))
    return TorchStep(case, module)


def open_sequence(case: Case, form: str, folder: Path) -> Sequence | None:  # noqa: ARG001
    """The same module takes all frames; the compiled one is of one step."""
    if form == "compile" or not case.cell:
        return None
    opened = TorchStep(case, module_of(case, form))
    x = case.arrays["x"].reshape(-1, 1, case.inputs)

    def run() -> Array:
        opened.reset()
        return opened.step(x)

    return run
