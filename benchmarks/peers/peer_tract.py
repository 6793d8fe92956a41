"""tract: reads the ONNX files as they are."""

from pathlib import Path
from typing import Any

from given import Array, Case, RefusedError, Sequence, copied


def convert(case: Case, form: str, folder: Path) -> int:
    """Copy the files; tract has no quantizer."""
    if form != "float32":
        raise RefusedError("tract has no tool that quantizes a recurrent layer")
    if case.cell:
        copied(case, "sequence.onnx", folder)
    return copied(case, "step.onnx", folder).stat().st_size


def runtime() -> str:
    """Import the library."""
    import tract

    return f"tract {tract.version()}"


def runnable(path: Path) -> Any:
    """Read, type and optimize a file."""
    import tract

    return tract.onnx().load(str(path)).into_model().into_runnable()


class TractStep:
    """``run`` with arrays in and arrays out. tract has no call that reuses memory."""

    inner = None

    def __init__(self, case: Case, model: Any) -> None:
        self.case, self.model = case, model
        self.reset()

    def reset(self) -> None:
        """Go back to the initial states."""
        self.states = list(self.case.initial.values())

    def step(self, frame: Array) -> Array:
        """Run one frame."""
        answer, *self.states = [value.to_numpy() for value in self.model.run([frame, *self.states])]
        return answer


def open_step(case: Case, form: str, folder: Path) -> TractStep:  # noqa: ARG001
    """Open the file of one frame; the case's files have the frame first, then the states, in and out."""
    return TractStep(case, runnable(folder / "step.onnx"))


def open_sequence(case: Case, form: str, folder: Path) -> Sequence | None:  # noqa: ARG001
    """Open the file of all frames."""
    if not case.cell:
        return None
    model = runnable(folder / "sequence.onnx")
    feeds = [case.arrays["x"].reshape(-1, 1, case.inputs), *case.initial.values()]

    def run() -> Array:
        answer: Array = model.run(feeds)[0].to_numpy()
        return answer

    return run
