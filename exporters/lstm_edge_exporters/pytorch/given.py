"""What the user says of the inputs: examples, specifications, or both; which axis is batch and which is time."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lstm_edge_exporters.pytorch.calls import Layers
from lstm_edge_exporters.pytorch.containers import (
    Structure,
    from_examples,
    from_names,
    is_named_tuple,
    parameters_of,
)
from lstm_edge_exporters.pytorch.example_axes import specs_of_examples
from lstm_edge_exporters.pytorch.inputs import moments_of, smallest_embedding, table_sizes
from lstm_edge_exporters.pytorch.options import ExportOptions
from lstm_edge_exporters.pytorch.roles import find_roles
from lstm_edge_exporters.pytorch.unchanged import on_copies
from lstm_edge_exporters.verify.inputs import InputMaker, named_roles, parse_input, ranges_of, with_ranges
from lstm_edge_runtime.card import TensorSpec
from lstm_edge_runtime.errors import CaptureError

__all__ = ["Examples", "Given", "input_specs", "read_inputs"]

# A tensor, a sequence or a mapping of tensors, or containers of them.
Examples = Any
POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
LENGTHS = "lengths"
EACH = 'give one for each argument, in order, or name the parts of an argument, as in "state.0" and "state.1"'


@dataclass(frozen=True, kw_only=True)
class Given:
    """What the user gave: the specifications as they were written, and the example tensors by name.

    ``structure`` says how forward's arguments are made of them; None where each is a positional argument.
    """

    specs: tuple[TensorSpec, ...]
    examples: Mapping[str, Tensor]
    structure: Structure | None = None

    def maker(self, module: nn.Module, specs: Sequence[TensorSpec], lengths: Sequence[str] = ()) -> InputMaker:
        """Return what makes inputs like the examples, for these specifications."""
        maker = InputMaker(
            specs, ids_below=smallest_embedding(module), moments=moments_of(self.examples), lengths=lengths
        )
        return maker.with_below(_bounds(module, specs, maker))


def _bounds(module: nn.Module, specs: Sequence[TensorSpec], maker: InputMaker) -> dict[str, int]:
    """The rows of the table that each of several integer inputs looks up: tables may have different sizes."""
    if sum(spec.dtype.startswith("int") for spec in specs) < 2:
        return {}
    rng = np.random.default_rng(0)
    arrays = maker.make(rng, 3, 7)
    for name, array in arrays.items():
        if array.dtype.kind == "i" and array.ndim > 1:
            arrays[name] = np.asarray(rng.integers(0, 2, array.shape), array.dtype)
    try:
        return table_sizes(module, {name: torch.from_numpy(np.asarray(array)) for name, array in arrays.items()})
    except Exception:  # the user's own module: it does not take these sizes; the smallest table bounds all ids
        return {}


def input_specs(module: nn.Module, layers: Layers, given: Given, options: ExportOptions) -> tuple[TensorSpec, ...]:
    """Return forward's positional arguments; the axes that are batch and time are called ``batch`` and ``time``.

    Raises:
        CaptureError: which axes those are cannot be told, or the module fails; the message says what to give.
        InputError: an option names an axis that no input has.
    """
    known = {spec.name for spec in given.specs}
    arrays = {name: example.detach().numpy() for name, example in given.examples.items() if not known or name in known}
    ranges = ranges_of(arrays)
    if not given.specs:
        return with_ranges(specs_of_examples(module, layers, given.examples), ranges)
    specs = named_roles(with_ranges(given.specs, ranges), batch_axis=options.batch_axis, time_axis=options.time_axis)
    return find_roles(module, layers, specs, given.maker(module, specs))


def read_inputs(module: nn.Module, example_inputs: Any, wanted: Sequence[str | TensorSpec]) -> Given:
    """Read what the user says of the inputs.

    Raises:
        CaptureError: nothing is said, or other inputs than forward takes.
        InputError: a specification cannot be read.
    """
    specs = tuple(parse_input(spec) if isinstance(spec, str) else spec for spec in wanted)
    names = [spec.name for spec in specs]
    if example_inputs is None:
        if not specs:
            raise CaptureError(
                'the inputs are not described: give an example input, or inputs=["x: float32[batch, time, 40]"]'
            )
        structure = from_names(module, names)
        if structure is None:
            _check_count(module, [name for name in names if name != LENGTHS])
        _check_required(module, names, structure)
        return Given(specs=specs, examples={}, structure=structure)
    arguments = _arguments(module, example_inputs, names)
    if arguments is None:
        tensors = {str(name): tensor for name, tensor in example_inputs.items()}
        _check_count(module, [name for name in names or tensors if name != LENGTHS])
        return Given(specs=specs, examples=tensors, structure=None)
    structure = from_examples(module, arguments)
    examples = {name: tensor for name, tensor in structure.leaves.items() if tensor is not None}
    if not examples:
        raise CaptureError("the example inputs hold no tensor: give what forward takes")
    if specs and len(specs) == len(examples):
        examples = dict(zip(names, examples.values(), strict=True))
    elif specs and (len(specs) < len(examples) or structure.keywords):
        raise CaptureError(
            f"{len(examples)} example inputs ({', '.join(examples)}) for {_inputs(names)}: give one for each; "
            "targets are not inputs"
        )
    plain = all(isinstance(value, Tensor) for value in arguments.values()) and not structure.keywords
    if plain:
        _check_count(module, [name for name in names if name != LENGTHS])
    return Given(specs=specs, examples=examples, structure=None if plain else structure)


def _arguments(module: nn.Module, given: Any, names: Sequence[str]) -> dict[str, Any] | None:
    """Return the example of each argument by its name; None where a mapping names the tensors otherwise, in order."""
    parameters = parameters_of(module)
    own = [name for name, found in parameters.items() if found.kind in POSITIONAL]
    if isinstance(given, Mapping):
        if given and all(name in parameters for name in given):
            return dict(given)
        several = len(given) > 1 or not all(isinstance(value, Tensor) for value in given.values())
        if len([name for name in own if name != LENGTHS]) == 1 and (several or _takes(module, dict(given))):
            return {own[0]: given}
        return None
    values = list(given) if isinstance(given, tuple | list) and not is_named_tuple(given) else [given]
    variadic = next((n for n, found in parameters.items() if found.kind == inspect.Parameter.VAR_POSITIONAL), None)
    if variadic is not None and len(values) > len(own):
        own += [*names[len(own) :]] or [f"{variadic}_{index}" for index in range(len(values) - len(own))]
    if len(values) > len(own):
        raise CaptureError(f"{len(values)} example inputs for forward({', '.join(own)})")
    return dict(zip(own, values, strict=False))


def _takes(module: nn.Module, argument: Mapping[str, Tensor]) -> bool:
    """Say whether forward runs on this one argument, and not on the tensor in it."""
    return not _runs(module, *argument.values()) and _runs(module, argument)


def _runs(module: nn.Module, *arguments: Any) -> bool:
    with torch.no_grad(), on_copies(module):
        try:
            module(*arguments)
        except Exception:  # the user's own module: whatever it raises, it does not take this
            return False
        return True


def _check_count(module: nn.Module, names: Sequence[str]) -> None:
    signature = inspect.signature(module.forward)
    try:
        signature.bind_partial(*names)
    except TypeError as error:
        raise CaptureError(
            f"{type(module).__name__}: {_inputs(names)} for forward({', '.join(signature.parameters)}): {EACH}"
        ) from error


def _check_required(module: nn.Module, names: Sequence[str], structure: Structure | None) -> None:
    """Refuse specifications that leave out an argument which forward requires."""
    parameters = parameters_of(module)
    # Lengths may be added by an option.
    own = [name for name, found in parameters.items() if found.kind in POSITIONAL and name != LENGTHS]
    places = len([name for name in names if name != LENGTHS]) if structure is None else len(structure.positional)
    keywords = {} if structure is None else structure.keywords
    missing = [name for name in own[places:] if name not in keywords and not _has_default(parameters[name])]
    if missing:
        raise CaptureError(
            f"{type(module).__name__}: {_inputs(names)} for forward({', '.join(parameters)}), which also requires "
            f"{', '.join(missing)}: {EACH}"
        )


def _has_default(parameter: inspect.Parameter) -> bool:
    return parameter.default is not inspect.Parameter.empty


def _inputs(names: Sequence[str]) -> str:
    return f"{len(names)} input{'s' * (len(names) != 1)} ({', '.join(names)})"
