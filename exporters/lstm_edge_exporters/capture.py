"""From an ``nn.Module`` to an ONNX graph with its recurrent layers whole: the one place that exports from torch.

Each recurrent layer of a copy of the module is swapped for a stand-in; the graph that comes back has explicit
states as inputs and outputs, weights as initializers, and batch and time as symbolic axes.
"""

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn

from lstm_edge_exporters.functions.rounding import OPSET
from lstm_edge_exporters.inputs import InputMaker
from lstm_edge_exporters.probe import LENGTHS, TRACED
from lstm_edge_exporters.standin import StandIn, operator_of
from lstm_edge_exporters.tidy import tidy
from lstm_edge_exporters.witness import flatten_outputs, recurrent_modules, takes_lengths
from lstm_edge_runtime.card import BATCH, TIME, Layer, StateSpec, TensorSpec
from lstm_edge_runtime.errors import CaptureError, LstmEdgeError

__all__ = ["Captured", "capture", "state_specs"]


@dataclass(frozen=True, kw_only=True)
class Captured:
    """A captured module: the graph, and what the model card will say of it."""

    model: ir.Model
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    states: tuple[StateSpec, ...]
    layers: tuple[Layer, ...]
    lengths: str | None
    bidirectional: bool


class _Wrapper(nn.Module):
    """Feeds states and lengths to the stand-ins and hands their new states out as outputs."""

    def __init__(
        self, module: nn.Module, stand_ins: Sequence[StandIn], outputs: Sequence[TensorSpec], counts: tuple[int, int]
    ) -> None:
        super().__init__()
        self.module = module
        self.counts = counts  # how many inputs, how many states; what follows is lengths
        self.stand_ins = list(stand_ins)
        self.outputs = outputs
        self.pass_lengths = takes_lengths(module)

    def forward(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        inputs, states, lengths = self._grouped(tensors)
        rows = lengths[0] if lengths else None
        pending = list(states)
        for stand_in in self.stand_ins:
            stand_in.calls, stand_in.row_lengths = 0, rows
            layers = len(stand_in.recurrence.layers)
            stand_in.entering = [(pending.pop(0), pending.pop(0)) for _ in range(layers)] if states else None
        keywords = {LENGTHS: rows} if rows is not None and self.pass_lengths else {}
        result = self.module(*inputs, **keywords)
        returned = [tensor for stand_in in self.stand_ins for tensor in stand_in.returned] if states else []
        named = flatten_outputs(result, returned, [spec.name for spec in self.outputs])
        answers = [named[spec.name] if rows is None else _masked(named[spec.name], spec, rows) for spec in self.outputs]
        for stand_in in self.stand_ins:
            if stand_in.calls == 0:
                raise CaptureError(
                    f"{stand_in.name}: forward never calls this recurrent layer; remove it from the module"
                )
            if states:
                answers += [part for state in stand_in.leaving for part in state]
        return tuple(answers)

    def _grouped(self, tensors: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], ...]:
        inputs, states = self.counts
        return tensors[:inputs], tensors[inputs : inputs + states], tensors[inputs + states :]


def _masked(output: Tensor, spec: TensorSpec, rows: Tensor) -> Tensor:
    """Zero an output past each row's length, where it has both a batch and a time axis."""
    if TIME not in spec.axes or BATCH not in spec.axes:
        return output
    batch, time = spec.axes.index(BATCH), spec.axes.index(TIME)
    shape = [1] * output.ndim
    shape[time] = -1
    steps = torch.arange(output.shape[time]).reshape(shape)
    shape[time], shape[batch] = 1, -1
    return torch.where(steps < rows.reshape(shape), output, torch.zeros((), dtype=output.dtype))


def state_specs(module: nn.Module) -> tuple[StateSpec, ...]:
    """Return the explicit states of a module's recurrent layers, h before c, layer by layer."""
    specs = []
    for name, (_, recurrence) in recurrent_modules(module).items():
        for index, layer in enumerate(recurrence.layers):
            sizes = {"h": layer.output_size, "c": layer.hidden_size}
            for kind, size in sizes.items():
                path = f"{name}.{index}.{kind}"
                specs.append(
                    StateSpec(
                        input=path,
                        output=f"{path}_out",
                        kind="h" if kind == "h" else "c",
                        module=name,
                        layer=index,
                        axes=(len(layer.directions), BATCH, size),
                    )
                )
    return tuple(specs)


def capture(
    module: nn.Module,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    maker: InputMaker,
    *,
    explicit_state: bool = True,
    lengths: bool = False,
) -> Captured:
    """Capture a module in evaluation mode.

    Args:
        module: the module; it is copied, never changed.
        inputs: one specification for each positional argument of forward.
        outputs: what ``probe_outputs`` found.
        maker: makes the inputs that the graph is traced with.
        explicit_state: the recurrent layers' states become inputs and outputs; otherwise they start at zero inside.
        lengths: the graph gets an int64 ``[batch]`` input ``lengths``.

    Raises:
        CaptureError: a layer cannot be captured; the message names it.
    """
    found = recurrent_modules(module)
    if not found:
        raise CaptureError(
            "the module has no recurrent layer (nn.LSTM, lstm_edge.LSTM): there is nothing to keep whole"
        )
    stand_ins = {name: StandIn(name, recurrence) for name, (_, recurrence) in found.items()}
    swapped = _swap(module, stand_ins)
    states = state_specs(module) if explicit_state else ()
    if lengths and any(spec.name == LENGTHS for spec in inputs):
        raise CaptureError("an input is already called lengths: leave it out of the inputs, it is added by itself")
    arrays = maker.make(np.random.default_rng(0), TRACED[BATCH], TRACED[TIME])
    tensors = [torch.from_numpy(arrays[spec.name]) for spec in inputs]
    tensors += [torch.zeros([TRACED[BATCH] if axis == BATCH else int(axis) for axis in spec.axes]) for spec in states]
    tensors += [torch.full((TRACED[BATCH],), TRACED[TIME] - 2)] * lengths
    dynamic = [_dynamic(axes) for axes in [*(spec.axes for spec in inputs), *(spec.axes for spec in states)]]
    dynamic += [{0: BATCH}] * lengths
    input_names = [spec.name for spec in inputs] + [spec.input for spec in states] + [LENGTHS] * lengths
    output_names = [spec.name for spec in outputs] + [spec.output for spec in states]
    wrapper = _Wrapper(swapped, list(stand_ins.values()), outputs, (len(inputs), len(states))).eval()
    model = _export(wrapper, (tuple(tensors),), (tuple(dynamic),), input_names, output_names)
    tidy(model, prefix="module.", root="lstm")
    return Captured(
        model=model,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        states=states,
        layers=_layers(stand_ins, ragged=lengths),
        lengths=LENGTHS if lengths else None,
        bidirectional=any(len(layer.directions) == 2 for s in stand_ins.values() for layer in s.recurrence.layers),
    )


def _swap(module: nn.Module, stand_ins: Mapping[str, StandIn]) -> nn.Module:
    """Return a copy of the module in which each recurrent layer is its stand-in."""
    layers = {id(layer): stand_ins[name] for name, (layer, _) in recurrent_modules(module).items()}
    if id(module) in layers:
        return layers[id(module)]
    # deepcopy's memo makes the copy hold the stand-ins wherever the module holds the layers.
    return copy.deepcopy(module, dict(layers))


def _dynamic(axes: Sequence[str | int]) -> dict[int, str]:
    return {index: axis for index, axis in enumerate(axes) if isinstance(axis, str)}


def _layers(stand_ins: Mapping[str, StandIn], *, ragged: bool) -> tuple[Layer, ...]:
    return tuple(
        Layer(
            name=f"{name}.{index}",
            cell="lstm",
            peephole=layer.peephole,
            input_size=layer.input_size,
            hidden_size=layer.hidden_size,
            projection_size=layer.projection_size,
            directions=len(layer.directions),
            operator=operator_of(layer, ragged=ragged),
        )
        for name, stand_in in stand_ins.items()
        for index, layer in enumerate(stand_in.recurrence.layers)
    )


def _export(wrapper: nn.Module, arguments: Any, dynamic: Any, inputs: list[str], outputs: list[str]) -> ir.Model:
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
            raise CaptureError(
                f"torch.export cannot capture the module: {_reason(cause)}; look for control flow that depends on "
                "data, and for an axis that was asked to be dynamic but that the module fixes"
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


def _reason(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300] if lines else 'no message'}"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's own progress, its remarks about itself and its dumps of half a graph off the user's terminal."""
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
