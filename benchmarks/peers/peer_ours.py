"""lstm-edge: ``Stream.push``, which keeps the states, and ``Session.run`` with the states in and out."""

from pathlib import Path
from typing import Any

import numpy as np
from given import Array, Case, RefusedError, Sequence, pruned

SCHEMES = {"float32 kernel": "float32", "int8": "int8", "int8 run": "int8", "int4": "int4", "sparse": "int8"}


def convert(case: Case, form: str, folder: Path) -> int:
    """Export or adopt the model and quantize it."""
    path = folder / "model.onnx"
    plain = folder.parent / ("pruned.onnx" if form == "sparse" else "plain.onnx")
    if not plain.exists():  # the forms of one case are made one after the other
        if case.cell:
            export_recurrent(case, form, plain)
        else:
            from lstm_edge import adopt

            adopt(case.folder / "source.onnx", plain)
    if form == "float32":
        path.write_bytes(plain.read_bytes())
    else:
        quantized(form, plain, path)
    return path.stat().st_size


def export_recurrent(case: Case, form: str, path: Path) -> None:
    """Export the standard layers, with blocks of zeros for the sparse form."""
    import torch
    from torch_cells import standard

    from lstm_edge import export

    module = standard(case).recurrent
    if form == "sparse":
        for name, array in pruned(case).items():
            getattr(module, name).data = torch.from_numpy(array)
    export(module, torch.randn(5, 2, case.inputs), path)


def quantized(form: str, plain: Path, path: Path) -> None:
    """Quantize with the form's scheme, and check that its operators are in the file."""
    import inspect

    import onnx

    from lstm_edge_exporters.quantize import quantize

    options: dict[str, Any] = {"scheme": SCHEMES[form]}
    if form == "sparse":
        if "sparse" not in inspect.signature(quantize).parameters:
            raise RefusedError("this version quantizes to no sparse operators")
        options["sparse"] = "required"
    quantize(plain, path, **options)
    nodes = onnx.load(path).graph.node
    if form == "float32 kernel" and not any(node.domain for node in nodes):
        raise RefusedError("this version writes no float32 operator with a kernel")
    if form == "sparse" and not any("Sparse" in node.op_type for node in nodes):
        raise RefusedError("quantize wrote no sparse operator")


def runtime() -> str:
    """Import the library."""
    import onnxruntime

    import lstm_edge_runtime.session  # noqa: F401
    from lstm_edge_runtime.library import find_library

    return f"this version, kernels {find_library().instruction_set}, onnxruntime {onnxruntime.__version__}"


def frames_of(case: Case) -> list[Array]:
    """Frames as ``push`` takes them: [I], without the axes of time and batch, for a model with a time axis."""
    x = case.arrays["x"]
    return list(x.reshape(len(x), -1)) if case.cell or x.ndim == 3 else list(x)


class Pushed:
    """``Stream.push``; ``inner`` is a bare onnxruntime run of the same session with bound arrays."""

    def __init__(self, case: Case, session: Any) -> None:
        from peer_onnxruntime import bound

        from lstm_edge_runtime.state import State

        self.stream = session.stream()
        layers = [array[spec.layer : spec.layer + 1] if case.cell else array for spec, array in matched(case, session)]
        names = [spec.input for spec in session.states]
        self.initial = State(session.states, dict(zip(names, layers, strict=True)), begun=True)
        self.step = self.stream.push
        spec = session.inputs[0]
        frame = case.arrays["x"][0].reshape([axis if isinstance(axis, int) else 1 for axis in spec.axes])
        self.inner = bound(session.onnxruntime_session, {spec.name: frame, **self.initial})
        self.reset()

    def reset(self) -> None:
        """Go back to the initial states."""
        self.stream.state = self.initial


class Run:
    """``Session.run`` with the states in and out."""

    inner = None

    def __init__(self, case: Case, session: Any) -> None:
        self.session = session
        self.initial = Pushed(case, session).initial
        self.shape = (1, 1, case.inputs)
        self.reset()

    def reset(self) -> None:
        """Go back to the initial states."""
        self.state = self.initial

    def step(self, frame: Array) -> Array:
        """Run one call."""
        outputs, self.state = self.session.run(frame.reshape(self.shape), self.state)
        answer: Array = next(iter(outputs.values()))
        return answer


def matched(case: Case, session: Any) -> list[tuple[Any, Array]]:
    """Pair the session's states with the case's: by kind in a recurrent case, in order in a published model."""
    initial = case.initial
    if case.cell:
        return [(spec, initial[spec.kind]) for spec in session.states]
    return list(zip(session.states, (initial[spec.input] for spec in session.states), strict=True))


def open_step(case: Case, form: str, folder: Path) -> Any:
    """Open the file, with the kernels required for what needs them."""
    from lstm_edge_runtime.session import Session

    session = Session(folder / "model.onnx", kernels="auto" if form == "float32" else "required")
    return Run(case, session) if form == "int8 run" else Pushed(case, session)


def open_sequence(case: Case, form: str, folder: Path) -> Sequence | None:
    """Push all frames in one call."""
    if not case.cell or form == "int8 run":
        return None
    opened = open_step(case, form, folder)
    x = np.ascontiguousarray(case.arrays["x"].reshape(-1, 1, case.inputs))

    def run() -> Array:
        opened.reset()
        answer: Array = opened.stream.push(x)
        return answer

    return run
