"""Infers a module's inputs from the examples and from its layers."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from lstm_edge_exporters.pytorch.calls import Layers
from lstm_edge_exporters.pytorch.unchanged import on_copies
from lstm_edge_exporters.verify.inputs import DTYPES
from lstm_edge_runtime.card import BATCH, TIME, TensorSpec
from lstm_edge_runtime.errors import CaptureError

__all__ = ["check_dtypes", "infer_specs", "looked_up", "moments_of", "smallest_embedding", "table_sizes"]

# Sizes of the axes in a trial; other axes are long enough for convolutions.
_TRIED = {BATCH: 3, TIME: 24}


def infer_specs(layers: Layers, examples: Mapping[str, torch.Tensor]) -> tuple[TensorSpec, ...]:
    """Infer each input's axes from an example: batch and time first, in the order that the recurrent layers have.

    Raises:
        CaptureError: the recurrent layers disagree about ``batch_first`` or are all cells of a single step, or an
            example has fewer than two axes.
    """
    found = [recurrence for _, recurrence in layers.values()]
    orders = {recurrence.batch_first for recurrence in found if not recurrence.single_step}
    if len(orders) > 1:
        raise CaptureError(
            "some recurrent layers are batch_first and some are not: give inputs=[...] to say which axis is which"
        )
    if found and not orders:
        raise CaptureError(
            "the module has cells only (nn.LSTMCell, nn.GRUCell, nn.RNNCell), which do not say where batch and time "
            "are: give inputs=[...] to say which axis is which"
        )
    leading = (TIME, BATCH) if orders == {False} else (BATCH, TIME)
    specs = []
    for name, example in examples.items():
        if example.ndim < 2:
            raise CaptureError(
                f"example input {name} has shape {tuple(example.shape)}: expected [{leading[0]}, {leading[1]}, ...]; "
                "give inputs=[...] to say which axis is which"
            )
        dtype = str(example.dtype).removeprefix("torch.")
        specs.append(TensorSpec(name=name, dtype=dtype, axes=(*leading, *example.shape[2:])))
    return tuple(specs)


def check_dtypes(examples: Mapping[str, torch.Tensor]) -> None:
    """Refuse an example of another type than an input may have.

    Raises:
        CaptureError: there is one.
    """
    for name, example in examples.items():
        dtype = str(example.dtype).removeprefix("torch.")
        if dtype not in DTYPES:
            raise CaptureError(f"example input {name} is {dtype}: expected one of {', '.join(DTYPES)}")


def table_sizes(module: torch.nn.Module, tensors: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """Return the rows of the smallest table that each integer input, or a part of it, looks up when forward runs.

    Args:
        module: the module.
        tensors: forward's positional arguments by name; the integers are 0 or 1. What forward raises passes through.
    """
    inputs = {name: tensor for name, tensor in tensors.items() if tensor.dtype in (torch.int64, torch.int32)}
    found: dict[str, int] = {}

    class Tables(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function is torch.nn.functional.embedding:
                ids, weight = args[0], args[1]
                for name, tensor in inputs.items():
                    if _is_part(ids, tensor):
                        found[name] = min(found.get(name, len(weight)), len(weight))
            return function(*args, **(kwargs or {}))

    with torch.no_grad(), on_copies(module), Tables():
        module(*tensors.values())
    return found


def looked_up(module: torch.nn.Module, specs: Sequence[TensorSpec]) -> set[str]:
    """Return the integer inputs that are ids of a table: a speaker's number, for one, has the shape of lengths.

    Every integer is 1 in this trial, which is an id of any table and a possible length.
    """
    if not any(isinstance(layer, torch.nn.Embedding) for layer in module.modules()):
        return set()
    shapes = {
        spec.name: [axis if isinstance(axis, int) else _TRIED.get(axis, 24) for axis in spec.axes] for spec in specs
    }
    tensors = {spec.name: torch.ones(shapes[spec.name], dtype=getattr(torch, spec.dtype)) for spec in specs}
    try:
        return set(table_sizes(module, tensors))
    except Exception:  # the user's own module: it does not take these sizes, so nothing is known
        return set()


def _is_part(ids: torch.Tensor, tensor: torch.Tensor) -> bool:
    """Say whether ids are a view of an input, or its values in another type."""
    if ids.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr():
        return True
    return ids.shape == tensor.shape and torch.equal(ids.long(), tensor.long())


def smallest_embedding(module: torch.nn.Module) -> int:
    """Return the rows of the module's smallest ``nn.Embedding``, or 2 where it has none."""
    sizes = [layer.num_embeddings for layer in module.modules() if isinstance(layer, torch.nn.Embedding)]
    return min(sizes, default=2)


def moments_of(examples: Mapping[str, torch.Tensor]) -> dict[str, tuple[float, float]]:
    """Return the mean and the standard deviation (at least 1e-3) of each float32 example of two elements or more."""
    return {
        name: (float(example.mean()), max(float(example.std()), 1e-3))
        for name, example in examples.items()
        if example.dtype == torch.float32 and example.numel() > 1
    }
