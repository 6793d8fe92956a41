"""``lstm-edge adopt``: rewrite an ONNX file of another tool as a file with a model card."""

import os
from collections.abc import Callable, Mapping, Sequence

from lstm_edge.commands.class_names import parse_labels
from lstm_edge_exporters.adopt import AdoptReport
from lstm_edge_exporters.adopt import adopt as run
from lstm_edge_exporters.adopt.axes import parse_inputs
from lstm_edge_exporters.onnx_graph.fold import parse_fixed
from lstm_edge_exporters.verify.inputs import parse_pairs, ranges_of
from lstm_edge_runtime.card import Task, TensorSpec
from lstm_edge_runtime.errors import ArtifactError
from lstm_edge_runtime.files import read_arrays

__all__ = ["adopt"]

AnyPath = str | os.PathLike[str]


def adopt(
    source: AnyPath,
    output: AnyPath,
    *,
    stateful: bool = False,
    sequence: bool = False,
    fix: Mapping[str, float] | Sequence[str] = (),
    inputs: Sequence[str | TensorSpec] = (),
    example: AnyPath | None = None,
    batch_axis: str | None = None,
    time_axis: str | None = None,
    task: Task | None = None,
    labels: Sequence[str] | str | None = None,
    state: Mapping[str, str] | Sequence[str] = (),
    axes: Mapping[str, tuple[str | int, ...]] | None = None,
    progress: Callable[[str], None] | None = None,
) -> AdoptReport:
    """Find a file's recurrent layers, states and axes, verify it, and write it with a model card; ``lstm-edge adopt``.

    The file is written only if its answers agree with those of the original. The original is never changed.

    Args:
        source: an ONNX file; external data files are read with it.
        output: the ``.onnx`` file to write; must differ from ``source``.
        stateful: make the hidden zero states of LSTM, GRU and RNN layers explicit inputs and outputs.
        sequence: run a file of one step per call over a whole sequence in one call.
        fix: values of inputs that become constants: ``{"sr": 16000}`` or ``["sr=16000"]``.
        inputs: dtype and axes of inputs whose axes cannot be derived, as ``"x: float32[batch, time, 64]"``: names are
            dynamic axes, numbers fixed ones.
        example: an ``.npy`` or ``.npz`` file of inputs, by name, that the model is made for.
        batch_axis: the name of the axis that is the batch, if the layers do not show it.
        time_axis: the name of the axis that is time, if the layers do not show it.
        task: what the model is for: ``"classification"``, ``"tagging"``, ``"forecast"``, ``"language-model"`` or
            ``"generic"``; None: ``"generic"``.
        labels: the names of the classes in the order of an output's last axis: a sequence, ``"yes,no"``, or
            ``"@file"`` with one name a line. ``run`` prints them.
        state: outputs by input for states that cannot be recognized: ``{"h": "hn"}`` or ``["h=hn"]``.
        axes: axes alone, without a dtype, such as ``{"x": ("batch", "time", 64)}``.
        progress: called with one line for each step of the work.

    Returns:
        The path of the file, its size in bytes, its card, the layers found, notes, seconds.

    Raises:
        ArtifactError, IntegrityError: the file cannot be read, or something in it cannot be adopted; the message
            names it and says why.
        InputError: an option is malformed, or names something that the file does not have.
        ParityError: the adopted file's answers differ from the original's; nothing is written.
        OutputError: the path cannot be written, or is the source.
    """
    texts = [spec for spec in inputs if isinstance(spec, str)]
    specs = [*parse_inputs(texts), *(spec for spec in inputs if not isinstance(spec, str))]
    try:
        return run(
            source,
            output,
            stateful=stateful,
            sequence=sequence,
            fixed=fix if isinstance(fix, Mapping) else parse_fixed(fix),
            inputs=specs,
            ranges={} if example is None else ranges_of(read_arrays(example)),
            batch_axis=batch_axis,
            time_axis=time_axis,
            task=task,
            labels=parse_labels(labels),
            axes=axes,
            states=state if isinstance(state, Mapping) else parse_pairs(state),
            progress=progress,
        )
    except ArtifactError as error:
        # The parser sees only bytes, so the message gets the path here.
        raise error if str(error).startswith(str(source)) else type(error)(f"{source}: {error}") from error
