"""The stage of ``quantize`` that writes int8 convolutions, after all other layers are written."""

from collections.abc import Callable, Mapping, Sequence

import onnx_ir as ir

from lstm_edge_exporters.onnx_graph.names import unique_names
from lstm_edge_exporters.onnx_graph.writing import serialize
from lstm_edge_exporters.quantize.convolutions.choice import Choice, Convolutions, apply, choose
from lstm_edge_exporters.quantize.convolutions.reading import read_convolution, why_slower
from lstm_edge_exporters.quantize.feedforward import Conv
from lstm_edge_exporters.quantize.layer import Reader, Refusal
from lstm_edge_exporters.quantize.request import LayerRequest
from lstm_edge_exporters.quantize.rewrite import Row
from lstm_edge_exporters.quantize.schemes import STATIC_INT8
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import Coverage
from lstm_edge_runtime.errors import QuantizationError

__all__ = ["candidates", "say_without_data", "take_convolutions"]

Say = Callable[[str], None]


def candidates(
    readers: Sequence[Reader],
    requests: Sequence[LayerRequest],
    convolutions: Convolutions | None,
    *,
    by_default: bool,
) -> dict[Conv, bool]:
    """Return the convolutions of a request, and of each whether a part names it.

    ``by_default``: ``auto`` takes convolutions that no part names.

    Raises:
        QuantizationError: a part asks for fixed activation scales of another layer, or without calibration data.
    """
    found: dict[Conv, bool] = {}
    others = convolutions is not None and (
        convolutions.take == "required" or (convolutions.take == "auto" and by_default)
    )
    for reader, request in zip(readers, requests, strict=True):
        if request.scheme.static or any(scheme.static for scheme in request.gates.values()):
            if not isinstance(reader, Conv):
                raise QuantizationError(
                    f"{reader.name}: {STATIC_INT8.text} is for convolutions, and this is a {reader.kind} layer: "
                    "ask for int8"
                )
            if convolutions is None:
                raise QuantizationError(
                    f"{reader.name}: {STATIC_INT8.text} needs the scales of its activations: "
                    "give calibration data, --data"
                )
            found[reader] = True
        elif isinstance(reader, Conv) and not request.named and others:
            found[reader] = False
    return found


def say_without_data(graph: ir.Graph, readers: Sequence[Reader], say: Say) -> None:
    """Say which convolutions stay float32 for want of calibration data, and would be faster in int8."""
    fast = []
    for reader in readers:
        if isinstance(reader, Conv):
            try:
                slower = why_slower(read_convolution(reader, graph))
            except Refusal:
                continue
            fast += [] if slower else [reader.name]
    if fast:
        say(f"convolutions stay float32: {', '.join(fast)}; with calibration data, --data, they may become int8")


def take_convolutions(
    model: ir.Model,
    named: Mapping[Conv, bool],
    convolutions: Convolutions,
    reference: Callable[[Mapping[str, Array]], Mapping[str, Array]],
    say: Say,
) -> tuple[Row, ...]:
    """Write the chosen convolutions in place; say which are left, why, and what takes them.

    Args:
        model: all other layers are written.
        named: of ``candidates``.
        convolutions: the request.
        reference: the float32 model's answers to a feed.
        say: called with one line.
    """
    choices = choose(model.graph, named, convolutions, lambda: serialize(model), reference)
    before = {choice.key: choice.reader.size_bytes for choice in choices}
    with unique_names(model):
        apply(model, {choice.key: choice.rounded for choice in choices if choice.rounded is not None})
    left = [choice for choice in choices if choice.rounded is None]
    if left:
        names: dict[str, list[str]] = {}
        for choice in left:
            names.setdefault(choice.reason, []).append(choice.reader.name)
        reasons = "; ".join(f"{', '.join(same)} ({reason})" for reason, same in names.items())
        say(
            f"{len(choices) - len(left)} of {len(choices)} convolutions are int8. Left float32: {reasons}. "
            "--convolutions required takes all that can be, --part NAME=int8:static one"
        )
    elif choices:
        say(f"all convolutions ({len(choices)}) are int8; --convolutions off keeps them float32")
    return tuple(_row(choice, before[choice.key]) for choice in choices)


def _row(choice: Choice, before: int) -> Row:
    rounded = choice.rounded
    before = choice.size_bytes or before
    return Row(
        coverage=Coverage(
            layer=choice.reader.name,
            operator="Conv",
            scheme=str(STATIC_INT8) if rounded is not None else f"float32: {choice.reason}",
            bytes_before=before,
            bytes_after=before if rounded is None else rounded.size_bytes,
        ),
        parts={choice.reader.name: STATIC_INT8.text if rounded is not None else "float32"},
        recurrent=False,
        refused=rounded is None,
        named=choice.must,
    )
