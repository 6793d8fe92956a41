"""The outputs of forward: its tensors by name, and which axis of each is batch, time, another dynamic one, or fixed."""

import dataclasses
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import onnx
from torch import Tensor

from lstm_edge_exporters.pytorch.containers import is_named_tuple
from lstm_edge_runtime.card import BATCH, TIME, TensorSpec
from lstm_edge_runtime.errors import CaptureError

__all__ = ["LONGER", "TRACED", "WIDER", "axes_of_graph", "check_names", "flatten_outputs", "output_specs"]

# The sizes that a dynamic axis has while the graph is traced: distinct, and neither 0 nor 1, which torch.export
# takes for constants. What depends on the number of rows or steps shows at a second one.
TRACED = {BATCH: 3, TIME: 7}
WIDER = TRACED[BATCH] + 2
LONGER = TRACED[TIME] + 4


def flatten_outputs(
    value: Any,
    returned: Sequence[Tensor],
    names: Sequence[str] | None = None,
    *,
    keep_one: bool = False,
    taken: Container[str] = (),
) -> dict[str, Tensor]:
    """Name what forward returned; tensors in ``returned`` (a layer's own h_n, c_n) are states, not outputs.

    ``names`` are given to the outputs in order; without them they are called after their place in the result.
    ``taken``: names of inputs; an output of that name gets ``_out`` behind it, as a state ``h`` leaves as ``h_out``.
    ``keep_one``: where all of them are states, the first is an output too: what a cell computes is its state.

    Raises:
        CaptureError: something in the result is neither a tensor nor a container of tensors, there are more or
            fewer outputs than names, or two outputs have one name.
    """
    everything = list(_leaves("", value))
    leaves = [(path, tensor) for path, tensor in everything if not any(tensor is state for state in returned)]
    if not leaves and keep_one:
        leaves = everything[:1]
    if not leaves:
        raise CaptureError("forward returned no tensor besides recurrent states: return what the model computes")
    if names is not None:
        if len(names) != len(leaves):
            found = ", ".join(path or "output" for path, _ in leaves)
            raise CaptureError(f"got {len(names)} output names for {len(leaves)} outputs: {found}")
        return {name: tensor for name, (_, tensor) in zip(names, leaves, strict=True)}
    if len(leaves) == 1 and _unnamed(leaves[0][0]):
        return {"output": leaves[0][1]}
    named: dict[str, Tensor] = {}
    for path, tensor in leaves:
        name = f"{path}_out" if path in taken else path
        if name in named:
            raise CaptureError(f"two outputs of forward are called {name!r}: give output_names")
        named[name] = tensor
    return named


def _leaves(path: str, item: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors in what forward returned, each with its place: keys and indices joined by underscores."""
    if isinstance(item, Tensor):
        yield path, item
        return
    if is_named_tuple(item):
        item = dict(zip(item._fields, item, strict=True))
    elif dataclasses.is_dataclass(item) and not isinstance(item, type):
        item = {field.name: getattr(item, field.name) for field in dataclasses.fields(item)}
    if isinstance(item, Mapping):
        for place, (key, child) in enumerate(item.items()):
            # An empty key is replaced by its place.
            name = str(key) or (str(place) if path else f"output_{place}")
            yield from _leaves(f"{path}_{name}" if path else name, child)
    elif isinstance(item, tuple | list):
        for index, child in enumerate(item):
            yield from _leaves(f"{path}_{index}" if path else f"output_{index}", child)
    elif item is not None:
        raise CaptureError(
            f"forward returned a {type(item).__name__}: expected tensors, or tuples, lists, dicts, named tuples or "
            "dataclasses of them"
        )


def _unnamed(path: str) -> bool:
    return not path or path.startswith("output_")


def output_specs(
    base: Mapping[str, Tensor], wider: Mapping[str, Tensor], longer: Mapping[str, Tensor]
) -> tuple[TensorSpec, ...]:
    """Say which axis of each output is batch or time: it grows as the rows or the steps do.

    An axis that changes otherwise is dynamic and gets its own name.

    Args:
        base: the outputs of ``TRACED`` rows and steps, by name.
        wider: those of ``WIDER`` rows.
        longer: those of ``LONGER`` steps.

    Raises:
        CaptureError: an output's elements are of a type that NumPy lacks, such as bfloat16, or what forward returns
            depends on the shape.
    """
    ranks = [{name: tensor.ndim for name, tensor in run.items()} for run in (base, wider, longer)]
    if ranks[0] != ranks[1] or ranks[0] != ranks[2]:
        shown = "; ".join(", ".join(f"{name} of {rank} axes" for name, rank in run.items()) for run in ranks)
        raise CaptureError(
            f"forward returns different tensors for {WIDER} rows or {LONGER} steps and for {TRACED[BATCH]} rows and "
            f"{TRACED[TIME]} steps ({shown}): return the same ones for every shape"
        )
    specs = []
    for name, tensor in base.items():
        axes: list[str | int] = []
        sizes = zip(tensor.shape, wider[name].shape, longer[name].shape, strict=True)
        for index, (size, with_rows, with_steps) in enumerate(sizes):
            if with_rows - size == WIDER - TRACED[BATCH] and with_steps == size:
                axes.append(BATCH)
            elif with_steps == LONGER and size == TRACED[TIME] and with_rows == size:
                axes.append(TIME)
            else:
                axes.append(size if size == with_rows == with_steps else f"{name}_{index}")
        specs.append(TensorSpec(name=name, dtype=_dtype(name, tensor), axes=tuple(axes)))
    return tuple(specs)


def _dtype(name: str, tensor: Tensor) -> str:
    try:
        return str(tensor.detach().numpy().dtype)
    except TypeError as error:
        dtype = str(tensor.dtype).removeprefix("torch.")
        raise CaptureError(f"output {name} is {dtype}, which NumPy does not have: return float32") from error


def axes_of_graph(specs: Sequence[TensorSpec], graph: onnx.GraphProto) -> tuple[TensorSpec, ...]:
    """Name the axes of outputs that seemed fixed at the sizes that were tried, and are dynamic in the graph.

    An axis that is one of an input has its name there; one that is computed, as behind a stride, gets its own.
    """
    known = {dim.dim_param for value in graph.input for dim in value.type.tensor_type.shape.dim} - {""}
    dims = {value.name: value.type.tensor_type.shape.dim for value in graph.output}

    def name_axis(spec: TensorSpec, index: int, axis: str | int) -> str | int:
        found = dims[spec.name][index].dim_param if index < len(dims.get(spec.name, ())) else ""
        if isinstance(axis, str) or not found:
            return axis
        return found if found in known else f"{spec.name}_{index}"

    return tuple(
        replace(spec, axes=tuple(name_axis(spec, index, axis) for index, axis in enumerate(spec.axes)))
        for spec in specs
    )


def check_names(outputs: Sequence[TensorSpec], names: Sequence[str] | None, *, own: set[str], taken: set[str]) -> None:
    """Refuse an output name that the graph already has: names of values are unique.

    Args:
        outputs: what forward returns besides states.
        names: the names that were asked for, if any.
        own: forward's own outputs that are states.
        taken: names of inputs and states.

    Raises:
        CaptureError: a name is used twice.
    """
    taken = taken - own
    for name in names or [*(spec.name for spec in outputs), *own]:
        if name in taken:
            raise CaptureError(
                f"the output name {name!r} is given twice, or is the name of an input or a state too: give output_names"
            )
        taken.add(name)
