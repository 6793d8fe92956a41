"""Export: an ``nn.Module`` becomes one verified file in memory."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import onnx
from torch import Tensor, nn

from lstm_edge_exporters.artifact import (
    MINIMUM_ONNXRUNTIME,
    Artifact,
    assemble,
    own_version,
)
from lstm_edge_exporters.labels import check_labels
from lstm_edge_exporters.onnx_graph.quiet import quiet
from lstm_edge_exporters.onnx_graph.writing import to_proto
from lstm_edge_exporters.pytorch.caches import with_returned_states
from lstm_edge_exporters.pytorch.calls import recurrent_modules
from lstm_edge_exporters.pytorch.capture import Captured, capture
from lstm_edge_exporters.pytorch.containers import flat_forward
from lstm_edge_exporters.pytorch.front import with_front_end
from lstm_edge_exporters.pytorch.given import Examples, Given, input_specs, read_inputs
from lstm_edge_exporters.pytorch.inputs import looked_up
from lstm_edge_exporters.pytorch.lengths import LENGTHS, could_be_lengths, ragged_maker, takes_lengths
from lstm_edge_exporters.pytorch.options import ExportOptions
from lstm_edge_exporters.pytorch.original import Original
from lstm_edge_exporters.pytorch.outputs import axes_of_graph
from lstm_edge_exporters.pytorch.parity import check_parity
from lstm_edge_exporters.pytorch.plan import Plan, watch
from lstm_edge_exporters.pytorch.prepare import as_float32, check_module, prepare, without_compiled
from lstm_edge_exporters.pytorch.unchanged import unchanged
from lstm_edge_exporters.streaming.attempt import Attempt, attempt
from lstm_edge_exporters.streaming.errors import NotStreamable
from lstm_edge_exporters.verify.chunks import judge_streaming
from lstm_edge_exporters.verify.golden import golden_choices
from lstm_edge_exporters.verify.inputs import InputMaker
from lstm_edge_exporters.verify.open_model import OpenModel
from lstm_edge_runtime.card import BATCH, TIME, ModelCard, Parity, Streaming, TensorSpec
from lstm_edge_runtime.errors import CaptureError

__all__ = ["Built", "build"]

Progress = Callable[[str], None]
DEFAULTS = ExportOptions()


@dataclass(frozen=True, kw_only=True)
class Built:
    """A finished export in memory: the file, and its graph as onnx has it, for what goes on working on it."""

    artifact: Artifact
    proto: onnx.ModelProto


@quiet()
def build(
    module: nn.Module,
    example_inputs: Examples | None,
    options: ExportOptions = DEFAULTS,
    progress: Progress | None = None,
) -> Built:
    """Export a module to a verified file in memory.

    Args:
        module: any module around ``nn.LSTM``, ``nn.GRU``, ``nn.RNN`` or ``lstm_edge.LSTM``, in evaluation mode, float32
            on the CPU.
        example_inputs: a tensor, a sequence of tensors, or a mapping from name to tensor, in the order of forward's
            positional arguments; may be None where ``options.inputs`` says it all. Batch and time lead, in the order
            that the recurrent layers have (``batch_first``).
        options: see ``ExportOptions``.
        progress: called with one line for each thing that is being done.

    Raises:
        CaptureError: the module cannot be captured; the message says what to change.
        ParityError: onnxruntime's answers are not the module's.
        InputError: an entry of ``options.inputs`` cannot be read.
    """
    say = progress or (lambda _message: None)
    module = without_compiled(module) if isinstance(module, nn.Module) else module
    check_module(module)
    with unchanged(module):
        before = prepare(module, say)
        try:
            return _build(module, example_inputs if before is None else as_float32(example_inputs), options, say)
        except CaptureError as error:
            if before is None:
                raise
            raise CaptureError(
                f"{error}. The module's {before} parameters were converted to float32: forward must not cast to "
                f"{before} itself"
            ) from error


def _build(module: nn.Module, example_inputs: Examples | None, options: ExportOptions, say: Progress) -> Built:
    description = _description(module)
    said = {"task": options.task, "labels": options.labels}
    description |= {key: value for key, value in said.items() if value is not None}
    given = read_inputs(module, example_inputs, options.inputs or description.get("inputs") or ())
    for constant in () if given.structure is None else given.structure.constants:
        say(constant)
    with flat_forward(module, given.structure):
        return _build_flat(module, given, description=description, options=options, say=say)


def _build_flat(
    module: nn.Module, given: Given, *, description: Mapping[str, Any], options: ExportOptions, say: Progress
) -> Built:
    """Export a module whose forward takes tensors one by one."""
    layers = recurrent_modules(module)
    if not layers:
        raise CaptureError(
            "the module has no recurrent layer (nn.LSTM, nn.GRU, nn.RNN, their cells, lstm_edge.LSTM): there is "
            "nothing to keep whole. A cell of your own, in a loop that you wrote, is exported when its step is wrapped "
            "as lstm_edge.Recurrent(step, ...)"
        )
    specs = input_specs(module, layers, given, options)
    ids = looked_up(module, specs)
    everything = given.maker(module, specs, lengths=[name for name in could_be_lengths(specs) if name not in ids])
    keyword = takes_lengths(module) and all(spec.name != LENGTHS for spec in specs)
    everything = ragged_maker(module, layers, everything, keyword=keyword)
    plan = watch(
        module,
        layers,
        specs,
        everything,
        explicit_state=options.state == "explicit",
        output_names=options.output_names or description.get("outputs"),
        pairs=options.pairs,
    )
    original = Original(module, plan)
    lengths = _wants_lengths(module, plan, asked=options.lengths)
    maker = everything.without(
        {spec.input for spec in plan.states} | {plan.lengths},
        # Ordinary inputs that forward computes lengths from, and packs by, stay such.
        lengths=[name for name in everything.lengths if plan.packs and name != plan.lengths],
    )

    count = sum(len(recurrence.layers) for _, recurrence in layers.values())
    say(f"capturing {type(module).__name__} with {count} recurrent layer{'s' * (count != 1)} kept whole")
    captured = capture(module, plan, maker, lengths=lengths)
    if options.state == "explicit":
        captured, original, maker = with_returned_states(captured, original, maker, named=options.pairs, say=say)
    check_labels(options.labels, captured.outputs)
    proto = to_proto(captured.model, plain=options.plain)
    captured = replace(captured, outputs=axes_of_graph(captured.outputs, proto.graph))
    model = OpenModel.of(proto.SerializeToString(deterministic=True))

    say("comparing onnxruntime with PyTorch over the grid of shapes")
    compared = check_parity(
        model, original, maker, lengths=captured.lengths, example=_example_shape(specs, given.examples)
    )
    front = None
    if options.front_end is not None:
        front = with_front_end(captured, options.front_end, model, maker, compared, plain=options.plain, say=say)
        captured, proto, model, maker, compared = front.captured, front.proto, front.model, front.maker, front.compared

    say("comparing chunks with the whole sequence")
    streaming = Streaming(verdict="each-call")
    fewest = compared.fewest_steps if front is None else front.front_end.window
    if not captured.states or any(TIME in spec.axes for spec in captured.inputs):
        streaming = judge_streaming(
            model,
            maker,
            outputs=captured.outputs,
            states=captured.states,
            layers=captured.along_time,
            lengths=captured.lengths,
            fewest=fewest,
        )
    if streaming.verdict == "none":
        say("giving what looks at earlier steps its caches")
        made = _with_caches(captured, model, maker, fewest=fewest)
        if isinstance(made, str):
            streaming = replace(streaming, reason=made)
        else:
            if front is None:
                compared = check_parity(made.whole, original, maker, lengths=None)
            model, proto, streaming = made.open, made.proto, made.streaming
            captured = replace(captured, model=made.model, outputs=made.outputs, states=made.states)
    card = _card(captured, compared.for_card(), streaming, description)
    if front is not None:
        card = front.described(card)

    say("making golden vectors and running the self-test")
    goldens = golden_choices(model, card, maker, least=compared.fewest_steps)
    return Built(artifact=assemble(model.data, card, goldens, output_scale=compared.scale), proto=proto)


def _with_caches(captured: Captured, model: OpenModel, maker: InputMaker, *, fewest: int) -> Attempt | str:
    """Return the captured graph with caches, or the reason why it cannot be streamed."""
    try:
        return attempt(
            model,
            maker,
            outputs=captured.outputs,
            states=captured.states,
            layers=captured.along_time,
            lengths=captured.lengths,
            fewest=fewest,
        )
    except NotStreamable as error:
        return str(error)


def _wants_lengths(module: nn.Module, plan: Plan, *, asked: bool) -> bool:
    """Say whether the file takes lengths: they were requested, or forward needs them."""
    _check_rows(plan, asked=asked)
    named = any(spec.name == LENGTHS for spec in plan.inputs)
    if asked and named:
        raise CaptureError("an input is already called lengths: remove it from the inputs, export adds it")
    if asked and not any(TIME in spec.axes for spec in plan.inputs):
        raise CaptureError("lengths were asked for, but no input has a time axis")
    if asked and not any(BATCH in spec.axes for spec in plan.inputs):
        raise CaptureError(
            "lengths were asked for, but no input has a dynamic batch axis, and lengths are one number per row of it: "
            "name the axis of the rows instead of giving its size, or give the file each sequence cut to its length"
        )
    parameter = inspect.signature(module.forward).parameters.get(LENGTHS)
    required = parameter is not None and parameter.default is parameter.empty and not named
    return asked or required or plan.lengths is not None


def _check_rows(plan: Plan, *, asked: bool) -> None:
    folded = [item for item in plan.passes if item.folded and not item.fresh]
    unknown = [item for item in folded if item.folding is None or plan.loops]
    if asked and unknown:
        raise CaptureError(
            f"lengths were asked for, but {unknown[0].name} sees rows of which it is not known to which row of the "
            f"batch they belong ({unknown[0].line}), and lengths are one number per row of the batch: let forward take "
            "lengths and mask by them, or give the file each sequence cut to its length"
        )


def _description(module: nn.Module) -> dict[str, Any]:
    """Return the module's description for the card, if any: task, labels, vocabulary, text, inputs and so on."""
    describe_model = getattr(module, "describe_model", None)
    said: Any = describe_model() if callable(describe_model) else {}
    return dict(said)


def _example_shape(specs: Sequence[TensorSpec], examples: Mapping[str, Tensor]) -> tuple[int, int] | None:
    for spec in specs:
        if spec.name in examples and BATCH in spec.axes and TIME in spec.axes:
            shape = examples[spec.name].shape
            return shape[spec.axes.index(BATCH)], shape[spec.axes.index(TIME)]
    return None


def _card(captured: Captured, parity: Parity, streaming: Streaming, description: Mapping[str, Any]) -> ModelCard:
    return ModelCard(
        task=description.get("task", "generic"),
        producer=f"lstm-edge {own_version()}",
        inputs=captured.inputs,
        outputs=captured.outputs,
        states=captured.states,
        lengths=captured.lengths,
        streaming=streaming,
        layers=captured.layers,
        labels=description.get("labels"),
        vocabulary=description.get("vocabulary"),
        text=description.get("text"),
        preprocessing=tuple(description.get("preprocessing", ())),
        trained_for=description.get("trained_for"),
        parity=parity,
        minimum_onnxruntime=MINIMUM_ONNXRUNTIME,
    )
