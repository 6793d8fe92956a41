"""``lstm-edge export``: export a module, a checkpoint, a Keras file or a factory to one verified ``.onnx`` file."""

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lstm_edge.commands.class_names import parse_labels
from lstm_edge.commands.old_names import accept_old_names
from lstm_edge.data import Columns, Missing, table_options
from lstm_edge.exporting import ExportRequest, PipelineReport, run_export
from lstm_edge_exporters.front_end.request import parse_front_end
from lstm_edge_exporters.pytorch.options import ExportOptions
from lstm_edge_exporters.verify.inputs import parse_pairs
from lstm_edge_runtime.card import Task, TensorSpec
from lstm_edge_runtime.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["export"]

AnyPath = str | os.PathLike[str]


@accept_old_names(module="source", path="output")
def export(
    source: "nn.Module | AnyPath",
    example_inputs: "Tensor | Sequence[Tensor] | Mapping[str, Tensor] | None" = None,
    output: AnyPath = "",
    *,
    weights: AnyPath | None = None,
    weights_key: str | None = None,
    weights_prefix: str | None = None,
    inputs: Sequence[str | TensorSpec] | None = None,
    example: AnyPath | None = None,
    batch_axis: str | None = None,
    time_axis: str | None = None,
    output_names: Sequence[str] | None = None,
    task: Task | None = None,
    labels: Sequence[str] | str | None = None,
    front_end: str | None = None,
    states: Literal["explicit", "hidden"] = "explicit",
    state: Mapping[str, str] | Sequence[str] = (),
    lengths: bool = False,
    plain: bool = False,
    scheme: Literal["float32", "float16", "int8", "int4"] | None = None,
    allow_unquantized: bool = False,
    data: str | None = None,
    targets: str | None = None,
    columns: Columns | str | None = None,
    step_every: str | float | None = None,
    missing: Missing = "refuse",
    metric: str | None = None,
    max_drop: str | None = None,
    confidence: float | None = None,
    threads: int = 1,
    progress: Callable[[str], None] | None = None,
) -> PipelineReport:
    """Export a model to one verified ``.onnx`` file with a model card; implements ``lstm-edge export``.

    The file is written only if onnxruntime's answers agree with the module's over a grid of shapes and, with ``scheme``
    and ``data``, if the quantized model stays within ``max_drop``. Otherwise the report says so, and its ``check()``
    raises.

    Args:
        source: a module around ``nn.LSTM``, ``nn.GRU``, ``nn.RNN`` or ``lstm_edge.LSTM``, in evaluation mode, float32
            on the CPU; the path of a checkpoint (``.safetensors``) or a Keras file; or ``"package.module:factory"``.
        example_inputs: for a module: a tensor, a sequence of tensors, or a mapping from name to tensor, in the order of
            forward's arguments. Batch and time come first, in the order of the recurrent layers, or are found by
            running the module at other sizes. None if ``inputs`` or the model itself describes the inputs.
        output: the ``.onnx`` file to write.
        weights: for a factory: a ``.safetensors`` file, or a file of ``torch.save`` (``.pt``, ``.pth``, ``.ckpt``,
            ``.bin``) without other objects than tensors. Weights within a checkpoint are found if that is certain.
        weights_key: the key of the weights in a checkpoint, dotted where it is nested, such as ``"state_dict"``.
        weights_prefix: the prefix that is removed from their names, such as ``"model."``.
        inputs: each input as ``"x: float32[batch, time, 40]"``: names are dynamic axes, numbers fixed ones.
            Which axis is batch and which is time follows from what the recurrent layers see.
        example: an ``.npy`` or ``.npz`` file of inputs, by name, in place of ``example_inputs``.
        batch_axis: the name of the axis that is the batch, if that is not enough.
        time_axis: the name of the axis that is time, if that is not enough.
        output_names: names of the outputs, in order.
        task: what the model is for, as its card says it: ``"classification"``, ``"tagging"``, ``"forecast"``,
            ``"language-model"`` or ``"generic"``; None: what the model says itself, or ``"generic"``.
        labels: the names of the classes in the order of an output's last axis: a sequence, ``"yes,no"``, or
            ``"@file"`` with one name a line. ``run`` prints them.
        front_end: let the file take samples and compute the features itself: ``"log-mel:40"``, ``"mfcc:13"``, or with
            options, as in ``"log-mel:40,rate=8000"`` (docs/audio.md). ``inputs`` or ``example_inputs`` describe the
            features; ``lstm_edge.front_end`` computes the same ones for training.
        states: ``"explicit"``: one input and output per layer and kind; ``"hidden"``: zero initial states inside.
        state: the result that is the next value of an input, where the proof leaves it open: ``{"cache": "output_1"}``
            or ``["cache=output_1"]``. It is an error if it is not true.
        lengths: add an int64 ``[batch]`` input ``lengths``; outputs after a row's length are zero.
        plain: inline the ``lstm_edge`` functions, for consumers without local functions.
        scheme: quantize to this scheme; ``"float32"``: recurrent layers call operators with a float32 kernel; see
            ``lstm_edge.quantize``.
        allow_unquantized: accept recurrent layers that stay float32.
        data: the data to validate the quantized model on; see ``lstm_edge.validate``.
        targets: for data that are an ``.npy`` file of the input: the ``.npy`` file of the targets.
        columns: roles of the columns of a table.
        step_every: expected spacing of the steps of a table: ``"1s"``, ``"100ms"``, ``0.5``, or ``"any"``; None: 1 for
            integers, any even spacing otherwise.
        missing: what becomes of missing cells and steps of a table: ``"refuse"``, ``"ffill"`` or ``"drop"``.
        metric: see ``lstm_edge.validate``.
        max_drop: see ``lstm_edge.validate``.
        confidence: see ``lstm_edge.validate``.
        threads: onnxruntime's threads in the validation.
        progress: called with one line for each step of the work.

    Returns:
        The path of the file, its size in bytes, its card, the validation or None, seconds.

    Raises:
        CaptureError: the source cannot be loaded or captured; the message says what to change.
        ParityError: onnxruntime's answers differ from the module's; nothing is written.
        CoverageError: a recurrent layer stayed float32, and ``allow_unquantized`` is False.
        InputError: an option is malformed, requires another option, or ``state`` names what is no state.
        ArtifactError: a file is missing or damaged.
        DataError: the data cannot be loaded.
        OutputError: the path cannot be written.
    """
    if isinstance(state, str):
        states, state = _old_state(state), ()
        warnings.warn("state is the old name of states", DeprecationWarning, stacklevel=3)
    request = ExportRequest(
        source=os.fspath(source) if isinstance(source, str | os.PathLike) else source,
        output=Path(output),
        example_inputs=example_inputs,
        example=None if example is None else Path(example),
        weights=None if weights is None else Path(weights),
        weights_key=weights_key,
        weights_prefix=weights_prefix,
        options=ExportOptions(
            inputs=tuple(inputs or ()),
            batch_axis=batch_axis,
            time_axis=time_axis,
            output_names=tuple(output_names or ()),
            task=task,
            labels=parse_labels(labels),
            front_end=None if front_end is None else parse_front_end(front_end),
            state=states,
            pairs=dict(state) if isinstance(state, Mapping) else parse_pairs(state),
            lengths=lengths,
            plain=plain,
        ),
        scheme=scheme,
        allow_unquantized=allow_unquantized,
        data=data,
        table=table_options(columns, step_every, missing, targets),
        metric=metric,
        max_drop=max_drop,
        confidence=confidence,
        threads=threads,
    )
    return run_export(request, progress or (lambda _message: None))


def _old_state(state: str) -> Literal["explicit", "hidden"]:
    if state in ("explicit", "hidden"):
        return "explicit" if state == "explicit" else "hidden"
    raise InputError(f'state={state!r}: expected pairs, such as {{"cache": "output_1"}} or ["cache=output_1"]')
