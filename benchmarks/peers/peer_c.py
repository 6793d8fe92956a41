"""lstm-edge without Python: pushes of the C library, timed in C."""

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import peer_ours
from given import Array, Case

BENCHMARKS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(BENCHMARKS))

frames_of = peer_ours.frames_of


def convert(case: Case, form: str, folder: Path) -> int:
    """Export the model and quantize it; build the C library."""
    import c_driver

    c_driver.build_steps()
    return peer_ours.convert(case, form, folder)


def runtime() -> str:
    """Import what opens the library."""
    import c_driver

    return f"the C library of this version, {c_driver.find_onnxruntime().name}"


class Pushed:
    """``lstm_edge_stream_push``, from the case's initial states."""

    inner = None

    def __init__(self, case: Case, path: Path) -> None:
        import c_driver

        from lstm_edge_runtime.session import Session
        from lstm_edge_runtime.state import State

        self.steps = c_driver.Steps(c_driver.build_steps(), path, case.arrays["x"][0].reshape(-1), case.hidden)
        # The state crosses over as the bytes of a snapshot, which both sides read.
        session = Session(path, kernels="required")
        layers = [array[spec.layer : spec.layer + 1] for spec, array in peer_ours.matched(case, session)]
        stream = session.stream()
        names = [spec.input for spec in session.states]
        stream.state = State(session.states, dict(zip(names, layers, strict=True)), begun=True)
        saved = io.BytesIO()
        np.savez(saved, **stream.snapshot())  # type: ignore[arg-type]  # the stub takes a bool by keyword
        self.initial = saved.getvalue()
        self.reset()

    def reset(self) -> None:
        """Go back to the initial states."""
        self.steps.restore(self.initial)

    def step(self, frame: Array) -> Array:
        """Push one frame."""
        answer: Array = self.steps.answer(frame)
        return answer

    def step_us(self, settling: int, calls: int) -> float:
        """Return the median of a number of pushes in microseconds."""
        return float(self.steps.push_us(settling, calls))


def open_step(case: Case, form: str, folder: Path) -> Any:  # noqa: ARG001  # a peer has its forms
    """Open the file."""
    return Pushed(case, folder / "model.onnx")


def open_sequence(case: Case, form: str, folder: Path) -> None:
    """None: sequences are not compared."""
