"""Foreign ONNX files: found, rewritten and described, so that the rest of the toolkit can work on them.

May import ``functions``, ``onnx_graph``, ``verify``, ``quantize``, ``artifact`` and ``gates``; never torch.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from lstm_edge_exporters.adopt.axes import apply_axes, check_dtypes, name_roles
from lstm_edge_exporters.adopt.describe import name_layers
from lstm_edge_exporters.adopt.find import FoundLayer, find_layers
from lstm_edge_exporters.adopt.rolling import gather_layers
from lstm_edge_exporters.adopt.stateful import make_stateful
from lstm_edge_exporters.adopt.steps import declared_inside
from lstm_edge_exporters.adopt.subject import Subject
from lstm_edge_exporters.artifact import Artifact, assemble, write
from lstm_edge_exporters.labels import check_label_names, check_task
from lstm_edge_exporters.onnx_graph.defaults import drop_defaults
from lstm_edge_exporters.onnx_graph.fold import fix_inputs, fold
from lstm_edge_exporters.onnx_graph.half import has_float16, widen_float16, widened
from lstm_edge_exporters.onnx_graph.layout import rewrite_layout
from lstm_edge_exporters.onnx_graph.opset import raise_opset
from lstm_edge_exporters.onnx_graph.quiet import quiet
from lstm_edge_exporters.onnx_graph.reading import parse_model, read_again, with_weights
from lstm_edge_exporters.onnx_graph.tidy import strip
from lstm_edge_exporters.quantize.integer import integer_notes
from lstm_edge_exporters.verify.file_parity import Original
from lstm_edge_exporters.verify.golden import golden_choices
from lstm_edge_runtime.artifact import read_model_bytes
from lstm_edge_runtime.card import CARD_KEY, ModelCard, StateSpec, Task, TensorSpec, card_to_json
from lstm_edge_runtime.errors import ArtifactError, OutputError
from lstm_edge_runtime.writing import check_target

__all__ = ["AdoptReport", "Adopted", "FoundLayer", "adopt", "adopt_bytes"]

Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Adopted:
    """An adopted file in memory, the layers that the original had, and sentences on what was rewritten."""

    artifact: Artifact
    layers: tuple[FoundLayer, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class AdoptReport:
    """What adoption did: where the file is, its size in bytes, its card, and how long it took in seconds.

    ``layers`` are those of the original, ``notes`` say what was rewritten and found. ``output_scale`` is the greatest
    absolute answer of the original in the output with the worst difference.
    """

    path: str
    size_bytes: int
    card: ModelCard
    layers: tuple[FoundLayer, ...]
    notes: tuple[str, ...]
    elapsed_s: float
    output_scale: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        layers = [asdict(layer) for layer in self.layers]
        return vars(self) | {"layers": layers, "notes": list(self.notes), "card": card_to_json(self.card)}


def adopt(
    source: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    stateful: bool = False,
    sequence: bool = False,
    fixed: Mapping[str, float] | None = None,
    inputs: Sequence[TensorSpec] = (),
    axes: Mapping[str, tuple[str | int, ...]] | None = None,
    states: Mapping[str, str] | None = None,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    batch_axis: str | None = None,
    time_axis: str | None = None,
    task: Task | None = None,
    labels: tuple[str, ...] | None = None,
    progress: Progress | None = None,
) -> AdoptReport:
    """Convert any ONNX file to a self-describing file that the rest of the toolkit accepts.

    The file appears only when its answers agree with those of the original over a grid of shapes; the original is
    never changed.

    Args:
        source: an ONNX file; weights in files beside it are read with it.
        path: where the new file goes; must differ from ``source``.
        stateful: make the hidden zero states of LSTM, GRU and RNN layers explicit inputs and outputs.
        sequence: run a file of one step per call over a whole sequence in one call, by a ``Scan`` over time.
        fixed: numbers for inputs that become constants, such as ``{"sr": 16000}``.
        inputs: dtype and axes of inputs whose axes cannot be found.
        axes: the axes alone, such as ``{"x": ("batch", "time", 64)}``.
        states: outputs by input for states that cannot be recognized.
        ranges: the least and the largest value of inputs; an empty name is that of the only one.
        batch_axis: the name of the inputs' axis that is the batch.
        time_axis: the name of the inputs' axis that is time.
        task: what the model is for; None: the card says ``generic``.
        labels: the names of the classes, in the order of an output's last axis.
        progress: called with one line for each step.

    Raises:
        ArtifactError, IntegrityError: the file cannot be read, or something in it cannot be adopted; the message
            names it and says why.
        InputError: an option names something that the file does not have.
        ParityError: the adopted file's answers differ from the original's; nothing is written.
        OutputError: the path cannot be written, or is the source.
    """
    start = time.monotonic()
    target = check_target(path, ".onnx")
    if target.exists() and Path(source).exists() and target.samefile(source):
        raise OutputError(f"{path}: this is the file that is read; give the result another name")
    data = with_weights(read_model_bytes(source), Path(source).parent)
    adopted = adopt_bytes(
        data,
        stateful=stateful,
        sequence=sequence,
        fixed=fixed,
        inputs=inputs,
        axes=axes,
        states=states,
        ranges=ranges,
        batch_axis=batch_axis,
        time_axis=time_axis,
        task=task,
        labels=labels,
        progress=progress,
    )
    write(adopted.artifact, path)
    return AdoptReport(
        path=os.fspath(path),
        size_bytes=len(adopted.artifact.data),
        card=adopted.artifact.card,
        layers=adopted.layers,
        notes=adopted.notes,
        elapsed_s=time.monotonic() - start,
        output_scale=adopted.artifact.output_scale,
    )


@quiet()
def adopt_bytes(
    data: bytes,
    *,
    stateful: bool = False,
    sequence: bool = False,
    fixed: Mapping[str, float] | None = None,
    inputs: Sequence[TensorSpec] = (),
    axes: Mapping[str, tuple[str | int, ...]] | None = None,
    states: Mapping[str, str] | None = None,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    batch_axis: str | None = None,
    time_axis: str | None = None,
    task: Task | None = None,
    labels: tuple[str, ...] | None = None,
    progress: Progress | None = None,
) -> Adopted:
    """Adopt a model in memory; arguments and errors as ``adopt``."""
    say = progress or (lambda _message: None)
    check_task(task)
    check_label_names(labels, task)
    model = parse_model(data)
    if CARD_KEY in model.metadata_props:
        raise ArtifactError("the file already has a model card: it does not need adoption")
    notes = drop_defaults(model)
    declared = {str(value.name): len(value.shape) for value in model.graph.outputs if value.shape is not None}
    half = has_float16(model)
    original = Original(data, half=half)
    twin = Original(widened(data), widened=True) if half else None
    name_layers(model)
    layers = find_layers(model)
    say(f"found {len(layers)} recurrent layer{'s' * (len(layers) != 1)}; folding constants")
    constants = fix_inputs(model, fixed or {})
    check_dtypes(model, inputs)
    apply_axes(model, {spec.name: spec.axes for spec in inputs} | dict(axes or {}))
    name_roles(model, batch_axis=batch_axis, time_axis=time_axis)
    notes += _rewrite(model)
    model = read_again(model)
    made, said_of_states = _stateful(model) if stateful else ((), ())
    notes += said_of_states
    strip(model)

    say("finding the axes and the states")
    said = {spec.name: spec.range for spec in inputs if spec.range is not None}
    subject = Subject(model, made, dict(ranges or {}) | said)
    subject.find(states or {})
    subject.describe(task, labels)
    notes += subject.corrected(declared)
    say("comparing with the original over the grid of shapes")
    if twin is not None:
        subject.compare(twin, constants)
    compared = subject.compare(original, constants)
    streaming = subject.judge(compared)
    cached = stateful and streaming.verdict == "none"
    if cached:
        say("giving what looks at earlier steps its caches")
        compared, streaming = subject.with_caches(original, constants, compared, streaming)
    elif subject.recognized and not made:
        compared = subject.compare_calls(original, constants, compared)
    if made and not cached and streaming.verdict in ("every-step", "last-step"):
        compared = subject.compare_chunks(original, constants, compared)
    if sequence:
        say("wrapping the step in a loop over time")
        streaming = subject.over_time(streaming)
    say("making golden vectors and running the self-test")
    card = subject.card(compared.for_card(), streaming)
    goldens = golden_choices(subject.open, card, subject.maker, least=compared.fewest_steps)
    artifact = assemble(subject.data, card, goldens, output_scale=compared.scale)
    return Adopted(artifact=artifact, layers=layers, notes=notes)


def _stateful(model: ir.Model) -> tuple[tuple[StateSpec, ...], tuple[str, ...]]:
    """Make hidden states explicit; return them, and sentences on what could not be."""
    inside = declared_inside(model)
    made = make_stateful(model, inside)
    notes = tuple(f"{name} does not run over time: it starts from zeros in every call" for name in sorted(inside))
    return made, notes + (() if made else ("no layer has a hidden zero state: nothing was made explicit",))


def _rewrite(model: ir.Model) -> tuple[str, ...]:
    """Apply every rewrite that keeps the graph's answers; returns sentences on what was done."""
    names = [layer.name for layer in find_layers(model)]
    notes = widen_float16(model)
    fold(model)
    notes += raise_opset(model)
    notes += rewrite_layout(model)
    notes += gather_layers(model)
    notes += integer_notes(model)
    name_layers(model, names)
    return notes
