"""What the user says of the inputs: examples, specifications, or both; which axis is batch and which is time."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from lstm_edge_exporters.pytorch.calls import Layers
from lstm_edge_exporters.pytorch.example_axes import specs_of_examples
from lstm_edge_exporters.pytorch.inputs import moments_of, smallest_embedding
from lstm_edge_exporters.pytorch.options import ExportOptions
from lstm_edge_exporters.pytorch.roles import find_roles
from lstm_edge_exporters.verify.inputs import InputMaker, named_roles, parse_input
from lstm_edge_runtime.card import TensorSpec
from lstm_edge_runtime.errors import CaptureError

__all__ = ["Examples", "Given", "input_specs", "read_inputs"]

Examples = Tensor | Sequence[Tensor] | Mapping[str, Tensor]
LENGTHS = "lengths"


@dataclass(frozen=True, kw_only=True)
class Given:
    """What the user gave: the specifications as they were written, and the example tensors by name."""

    specs: tuple[TensorSpec, ...]
    examples: Mapping[str, Tensor]

    def maker(self, module: nn.Module, specs: Sequence[TensorSpec], lengths: Sequence[str] = ()) -> InputMaker:
        """Return what makes inputs like the examples, for these specifications."""
        return InputMaker(
            specs, ids_below=smallest_embedding(module), moments=moments_of(self.examples), lengths=lengths
        )


def input_specs(module: nn.Module, layers: Layers, given: Given, options: ExportOptions) -> tuple[TensorSpec, ...]:
    """Return forward's positional arguments; the axes that are batch and time are called ``batch`` and ``time``.

    Raises:
        CaptureError: which axes those are cannot be told, or the module fails; the message says what to give.
        InputError: an option names an axis that no input has.
    """
    if not given.specs:
        return specs_of_examples(module, layers, given.examples)
    specs = named_roles(given.specs, batch_axis=options.batch_axis, time_axis=options.time_axis)
    return find_roles(module, layers, specs, given.maker(module, specs))


def read_inputs(module: nn.Module, example_inputs: Examples | None, wanted: Sequence[str | TensorSpec]) -> Given:
    """Read what the user says of the inputs.

    Raises:
        CaptureError: nothing is said, or other inputs than forward takes.
        InputError: a specification cannot be read.
    """
    specs = tuple(parse_input(spec) if isinstance(spec, str) else spec for spec in wanted)
    _check_count(module, [spec.name for spec in specs if spec.name != LENGTHS])
    examples = _named(module, example_inputs, [spec.name for spec in specs])
    if not specs and not examples:
        raise CaptureError(
            'the inputs are not described: give an example input, or inputs=["x: float32[batch, time, 40]"]'
        )
    return Given(specs=specs, examples=examples)


def _check_count(module: nn.Module, names: Sequence[str]) -> None:
    signature = inspect.signature(module.forward)
    try:
        signature.bind_partial(*names)
    except TypeError as error:
        arguments = ", ".join(signature.parameters)
        raise CaptureError(
            f"{type(module).__name__}: {len(names)} inputs ({', '.join(names)}) for forward({arguments}): give one for "
            "each argument, in order; let forward take the tensors of a tuple one by one, as in forward(x, h, c)"
        ) from error


def _named(module: nn.Module, examples: Examples | None, names: Sequence[str]) -> dict[str, Tensor]:
    if examples is None:
        return {}
    if isinstance(examples, Mapping):
        return dict(examples)
    tensors = (examples,) if isinstance(examples, Tensor) else tuple(examples)
    if not names:
        code = type(module).forward.__code__
        names = code.co_varnames[1 : code.co_argcount]
    if len(tensors) > len(names):
        raise CaptureError(f"{len(tensors)} example inputs for forward({', '.join(names)})")
    for name, tensor in zip(names, tensors, strict=False):
        if not isinstance(tensor, Tensor):
            raise CaptureError(
                f"example input {name} is of type {type(tensor).__name__}, expected a torch.Tensor; let forward take "
                "the tensors of a tuple one by one, as in forward(x, h, c)"
            )
    return dict(zip(names, tensors, strict=False))
