"""From an ``nn.Module`` to an ONNX graph with its recurrent layers whole: the one place that exports from torch.

Each recurrent layer of a copy of the module is swapped for a stand-in; the graph that comes back has explicit
states as inputs and outputs, weights as initializers, and batch and time as symbolic axes.
"""

import contextlib
import io
import logging
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn

from lstm_edge_exporters.functions.rounding import OPSET
from lstm_edge_exporters.onnx_graph.tidy import free_output_names, tidy
from lstm_edge_exporters.pytorch.calls import Pass, users_line
from lstm_edge_exporters.pytorch.copying import Contents
from lstm_edge_exporters.pytorch.lengths import LENGTHS, takes_lengths
from lstm_edge_exporters.pytorch.listed import check_marks
from lstm_edge_exporters.pytorch.loops import roll_loops
from lstm_edge_exporters.pytorch.masking import mask_outputs, masked
from lstm_edge_exporters.pytorch.outputs import TRACED, flatten_outputs
from lstm_edge_exporters.pytorch.packing import Packing, exportable_functions
from lstm_edge_exporters.pytorch.plan import Plan
from lstm_edge_exporters.pytorch.standin import StandIn, operator_of
from lstm_edge_exporters.pytorch.tensor_length import dynamic_length
from lstm_edge_exporters.pytorch.unchanged import on_copies
from lstm_edge_exporters.verify.inputs import InputMaker
from lstm_edge_runtime.card import BATCH, TIME, Layer, StateSpec, TensorSpec
from lstm_edge_runtime.errors import CaptureError, LstmEdgeError
from lstm_edge_runtime.state import state_shape

__all__ = ["Captured", "capture"]


@dataclass(frozen=True, kw_only=True)
class Captured:
    """A captured module: the graph, and what the model card says about it.

    ``along_time`` are those of ``layers`` that run along time, and not along another axis such as frequencies.
    """

    model: ir.Model
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    states: tuple[StateSpec, ...]
    layers: tuple[Layer, ...]
    along_time: tuple[Layer, ...]
    lengths: str | None


class _Wrapper(nn.Module):
    """Feeds states and lengths to the stand-ins and hands their new states out as outputs.

    Its inputs, in order: forward's own, the exporter's states, and lengths where the exporter adds them.
    """

    def __init__(
        self, module: nn.Module, stand_ins: Mapping[str, StandIn], plan: Plan, *, added: bool, mask: bool
    ) -> None:
        super().__init__()
        self.module = module
        self.stand_ins = dict(stand_ins)
        self.plan = plan
        self.added = added  # lengths follow as a separate input
        self.mask = mask
        self.explicit = bool(plan.states)
        self.packing: Packing | None = None

    def forward(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        own = {spec.name: tensor for spec, tensor in zip(self.plan.inputs, tensors, strict=False)}
        pending = list(tensors[len(own) :])
        rows = pending.pop() if self.added else own.get(self.plan.lengths or "")
        if self.packing is not None:
            self.packing.begin()
        for stand_in in self.stand_ins.values():
            stand_in.begin(rows, own=self.plan.takes_lengths)
            for place, item in enumerate(stand_in.passes):
                stand_in.starts[place] = _starts(item, pending) if self.explicit and item.explicit else None
        keywords = {LENGTHS: rows} if self.added and takes_lengths(self.module) else {}
        # torch.export refuses a module that is left changed; within the copies forward may change what it likes.
        with self._copies():
            result = self.module(*own.values(), **keywords)
        finals = [
            (stand_in.leaving[place], stand_in.returned[place])
            for stand_in in self.stand_ins.values()
            for place, item in enumerate(stand_in.passes)
            if self.explicit and item.explicit
        ]
        returned = [tensor for _, parts in finals for tensor in parts]
        named = flatten_outputs(
            result,
            returned,
            self.plan.output_names,
            keep_one=self.plan.keeps_one,
            taken=[spec.name for spec in self.plan.inputs],
        )
        answers = [
            masked(named[spec.name], spec, rows) if rows is not None and self.mask else named[spec.name]
            for spec in self.plan.outputs
        ]
        answers += [named[spec.output] for spec in self.plan.states if spec.output in named]
        answers += [part for leaving, _ in finals for state in leaving for part in state]
        return tuple(answers)

    def _copies(self) -> contextlib.AbstractContextManager[None]:
        if any(self.module is stand_in for stand_in in self.stand_ins.values()):
            return contextlib.nullcontext()
        written = self.plan.written

        def copy_of(tensor: Tensor, path: str, _memo: dict[int, Any]) -> Tensor:
            return tensor.clone() if path in written else tensor

        kept = {id(stand_in): stand_in for stand_in in self.stand_ins.values()}
        return Contents(self.module, copy_of, kept).in_place()


def _starts(item: Pass, pending: list[Tensor]) -> list[tuple[Tensor, ...]]:
    return [tuple(pending.pop(0) for _ in layer.state_sizes) for layer in item.recurrence.layers]


def capture(module: nn.Module, plan: Plan, maker: InputMaker, *, lengths: bool = False) -> Captured:
    """Capture a module in evaluation mode.

    Args:
        module: the module; it is copied, never changed.
        plan: what ``watch`` found.
        maker: makes the inputs that the graph is traced with, except states and lengths.
        lengths: the graph gets an int64 ``[batch]`` input ``lengths``.

    Raises:
        CaptureError: a layer cannot be captured; the message names it.
    """
    stand_ins = {
        name: StandIn(name, layer, [item for item in plan.passes if item.module == name], plan.calls[name])
        for name, (layer, _) in plan.layers.items()
    }
    replaced = {id(stand_in.original): stand_in for stand_in in stand_ins.values()}
    added = lengths and plan.lengths is None
    own = [spec for spec in plan.states if spec.input in {spec.name for spec in plan.inputs}]
    states = [spec for spec in plan.states if spec not in own]
    wrapper = _Wrapper(replaced.get(id(module), module), stand_ins, plan, added=added, mask=not plan.loops)
    tensors, axes, names = _arguments(plan, maker, states, added=added)
    dynamic = tuple(_dynamic(item, frozen=bool(plan.loops)) for item in axes)
    output_names = [spec.name for spec in plan.outputs] + [spec.output for spec in [*own, *states]]
    with exportable_functions(plan.sorts) as packing, dynamic_length(module), on_copies(module, replaced=replaced):
        wrapper.packing = packing
        wrapper.eval()
        model = _export(wrapper, (tuple(tensors),), (dynamic,), names, output_names)
    free_output_names(model)
    check_marks(model)
    if plan.loops:
        rows = (plan.lengths or LENGTHS) if lengths else None
        roll_loops(model, plan.loops, steps=TRACED[TIME], lengths=rows)
        if rows is not None:
            mask_outputs(model, plan.outputs, rows)
        _free_time(model, dict(zip(names, axes, strict=True)), {spec.name: spec.axes for spec in plan.outputs})
    tidy(model, prefix="module.", root=next(iter(plan.layers)) if "." not in next(iter(plan.layers)) else "lstm")
    state_inputs = {spec.input for spec in plan.states}
    layers = _layers(plan, ragged=lengths)
    across = {item.module for item in plan.passes if item.fresh}
    return Captured(
        model=model,
        inputs=tuple(s for s in plan.inputs if s.name not in state_inputs and s.name != plan.lengths),
        outputs=plan.outputs,
        states=plan.states,
        layers=layers,
        along_time=tuple(layer for layer in layers if layer.name.rpartition(".")[0] not in across),
        lengths=plan.lengths or (LENGTHS if lengths else None),
    )


def _arguments(
    plan: Plan, maker: InputMaker, states: Sequence[StateSpec], *, added: bool
) -> tuple[list[Tensor], list[tuple[str | int, ...]], list[str]]:
    """Return the inputs for tracing: the tensors, their axes and their names."""
    arrays: dict[str, Any] = dict(maker.make(np.random.default_rng(0), TRACED[BATCH], TRACED[TIME]))
    for spec in plan.states:
        arrays[spec.input] = np.zeros(state_shape(spec, TRACED[BATCH]), np.float32)
    full = np.full((TRACED[BATCH],), TRACED[TIME])
    # Where forward takes lengths itself they must be possible ones; where the graph masks, shorter ones show more.
    arrays |= {plan.lengths: full} if plan.lengths else {LENGTHS: full - 2} if added else {}
    axes: dict[str, tuple[str | int, ...]] = {spec.name: spec.axes for spec in plan.inputs}
    axes |= {spec.input: spec.axes for spec in states} | ({LENGTHS: (BATCH,)} if added else {})
    return [torch.from_numpy(np.asarray(arrays[name])) for name in axes], list(axes.values()), list(axes)


def _dynamic(axes: Sequence[str | int], *, frozen: bool) -> dict[int, str]:
    """The named axes; time stays as traced where a loop over it has to be unrolled first."""
    return {i: axis for i, axis in enumerate(axes) if isinstance(axis, str) and not (frozen and axis == TIME)}


def _layers(plan: Plan, *, ragged: bool) -> tuple[Layer, ...]:
    first = {item.module: item for item in reversed(plan.passes)}  # further passes share the first one's weights
    return tuple(
        Layer(
            name=f"{name}.{index}",
            cell=layer.cell,
            peephole=layer.peephole,
            input_size=layer.input_size,
            hidden_size=layer.hidden_size,
            projection_size=layer.projection_size,
            directions=len(layer.directions),
            operator=operator_of(
                layer,
                ragged=item.packed or (ragged and not item.fresh and not (plan.takes_lengths and item.needs_all_steps)),
            ),
            reset_after=layer.reset_after if layer.cell == "gru" else None,
            activation=layer.activation if layer.cell == "rnn" else None,
        )
        for name, item in reversed(first.items())
        for index, layer in enumerate(item.recurrence.layers)
        if layer.cell != "step"  # the card describes cells by name; a Scan's body is the description of this one
    )


def _free_time(
    model: ir.Model, inputs: Mapping[str, Sequence[str | int]], outputs: Mapping[str, Sequence[str | int]]
) -> None:
    """Make the time axis of inputs and outputs dynamic again: it was fixed while loops were unrolled."""
    for value in (*model.graph.inputs, *model.graph.outputs):
        axes = {**inputs, **outputs}.get(value.name or "")
        if axes is not None and value.shape is not None:
            value.shape = ir.Shape([TIME if axis == TIME else value.shape[i] for i, axis in enumerate(axes)])


def _export(wrapper: _Wrapper, arguments: Any, dynamic: Any, inputs: list[str], outputs: list[str]) -> ir.Model:
    with _quiet():
        try:
            program = torch.onnx.export(
                wrapper,
                arguments,
                dynamo=True,
                dynamic_shapes=dynamic,
                opset_version=OPSET,
                input_names=inputs,
                output_names=outputs,
                verbose=False,
            )
        except LstmEdgeError:
            raise
        except Exception as error:
            cause = _cause(error)
            if isinstance(cause, LstmEdgeError):
                raise cause from error
            advice = (
                "forward takes the numbers out of a tensor of lengths (tolist(), numpy(), a loop over it), which a "
                "graph has for pack_padded_sequence only: compute with the tensor"
                if wrapper.packing is not None and wrapper.packing.listed.used
                else "look for control flow that depends on data, and for a dynamic axis whose size the module fixes"
            )
            raise CaptureError(
                f"torch.export cannot capture the module{_where(error)}: {_reason(cause)}; {advice}"
            ) from error
    if program is None:
        raise CaptureError("torch.onnx.export returned no program")
    model: ir.Model = program.model
    return model


def _cause(error: BaseException) -> BaseException:
    """Return our own error where torch wrapped one, else what torch.onnx says was the cause."""
    below = error.__cause__ or error.__context__
    seen = below
    while seen is not None:
        if isinstance(seen, LstmEdgeError):
            return seen
        seen = seen.__cause__ or seen.__context__
    return below or error


def _where(error: BaseException) -> str:
    """Return the line of the user's code where torch failed, if any: the innermost outside torch and this package."""
    seen: BaseException | None = error
    found = ""
    while seen is not None and not found:
        found = users_line(traceback.extract_tb(seen.__traceback__))
        seen = seen.__cause__ or seen.__context__
    return f" at {found}" if found else ""


def _reason(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300] if lines else 'no message'}"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence torch's progress messages, warnings and graph dumps on the user's terminal."""
    names = ("torch.onnx", "torch.export", "torch.fx.experimental.symbolic_shapes", "onnxscript", "onnx_ir")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
