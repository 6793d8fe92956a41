"""``lstm-edge inspect``: print what a model file contains."""

import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from lstm_edge_runtime.cli.definition import CommandDefinition, OptionDefinition
from lstm_edge_runtime.cli.options import AS_JSON, PROVIDER
from lstm_edge_runtime.cli.printing import print_json, printable, say, shortened
from lstm_edge_runtime.cli.refusals import refuse_inspect
from lstm_edge_runtime.cli.tables import print_table

if TYPE_CHECKING:
    from lstm_edge_runtime.card import Coverage, ModelCard, Quantization, TensorSpec
    from lstm_edge_runtime.commands.checkpoint import CheckpointReport
    from lstm_edge_runtime.commands.device import InspectReport

__all__ = ["COMMAND", "density_of", "print_checkpoint", "print_notes", "print_session"]

INSPECTED = OptionDefinition(
    name="model", required=True, metavar="MODEL", help="The .onnx file, or a .safetensors checkpoint."
)


def inspect(model: str, *, provider: str, as_json: bool) -> None:
    """Print the model card: inputs, outputs, states, layers, streaming, quantization, parity, sizes.

    The file is opened as on the device, so its integrity and its card are checked. With --provider cuda the nodes that
    stay on the CPU are listed. Of a .safetensors checkpoint the task, the configuration and the tensors are printed.

    For example:

        lstm-edge inspect model.onnx

        lstm-edge inspect model.onnx --json

        lstm-edge inspect model.safetensors
    """
    refuse_inspect(model)
    from lstm_edge_runtime.commands.checkpoint import CheckpointReport
    from lstm_edge_runtime.commands.device import inspect as run

    report = run(model, provider=provider)
    if as_json:
        print_json(report.to_json())
    elif isinstance(report, CheckpointReport):
        print_checkpoint(report)
    else:
        print_session(report)


def print_session(session: "InspectReport") -> None:
    """Print everything about an open file as tables that fit 80 columns."""
    card = session.card
    _say(f"{session.path}: {session.size_bytes:,} bytes, {'verified' if session.verified else 'unverified'}")
    if card is not None:
        _say(f"task {card.task}, made by {card.producer or 'unknown'}, onnxruntime >= {card.minimum_onnxruntime}")
    tensors = list(_rows("input", session.inputs)) + list(_rows("output", session.outputs))
    if session.lengths is not None:
        tensors.append((session.lengths, "lengths", "int64", "[batch]"))
    if session.end is not None:
        tensors.append((session.end, "end of sequence", "int64", "[1]"))
    print_table(("tensor", "role", "dtype", "axes"), tensors)
    if session.states:
        states = [(s.input, s.output, s.kind, _axes(s.axes), s.initial) for s in session.states]
        print_table(("state", "output", "kind", "axes", "initial"), states)
    if card is not None:
        _print_card(card)
    if session.integer_layers:
        rows = [(layer.name, layer.operator, layer.activations) for layer in session.integer_layers]
        print_table(("integer layer", "operator", "activations"), rows)
    if session.operators:
        by = "function bodies" if session.kernels is None else f"kernels ({session.kernels})"
        _say(f"lstm_edge operators: {session.operators}, run by {by}")
    print_notes(session.notes)


def print_checkpoint(report: "CheckpointReport") -> None:
    """Print everything about a checkpoint as tables that fit 80 columns."""
    _say(f"{report.path}: {report.size_bytes:,} bytes, {report.parameters:,} parameters")
    if report.kind is not None:
        _say(f"task {report.task}: a {report.kind} that lstm-edge train wrote")
        print_table(("configuration", "value"), [(name, _shown(value)) for name, value in report.config.items()])
    names = shortened([tensor.name for tensor in report.tensors])
    rows: list[tuple[str, ...]] = [
        (name, tensor.dtype, _axes(tensor.shape)) for name, tensor in zip(names, report.tensors, strict=True)
    ]
    titles: tuple[str, ...] = ("tensor", "dtype", "shape")
    densities = ["" if tensor.density is None else f"{tensor.density:.3f}" for tensor in report.tensors]
    if any(tensor.density is not None and tensor.density < 1 for tensor in report.tensors):
        titles = (*titles, "density")
        rows = [(*row, density) for row, density in zip(rows, densities, strict=True)]
    print_table(titles, rows)
    if report.int8_bytes is not None:
        _say(f"weights of the int8 file (export --scheme int8): {report.int8_bytes:,} bytes, besides graph and card")
    print_notes(report.notes)


def _shown(value: object) -> str:
    """Return a value of a configuration: of a long list or text its begin."""
    if isinstance(value, list):
        shown = ", ".join(map(str, value[:8])) + (", ..." if len(value) > 8 else "")
        return f"{len(value)} ({shown})" if value else "none"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(item)}" for name, item in value.items())
    text = "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 48 else text[:45] + "..."


def print_notes(notes: Iterable[str]) -> None:
    """Print each note, wrapped to 80 columns."""
    for note in notes:
        _say(f"note: {note}")


def _print_card(card: "ModelCard") -> None:
    if card.layers:
        layers = [
            (
                name,
                layer.cell if layer.peephole == "none" else f"{layer.cell}, {layer.peephole} peephole",
                f"{layer.input_size} > {layer.hidden_size}"
                + (f" > {layer.projection_size}" if layer.projection_size else ""),
                "both" if layer.directions == 2 else "forward",
                layer.operator,
            )
            for name, layer in zip(shortened([layer.name for layer in card.layers]), card.layers, strict=True)
        ]
        print_table(("layer", "cell", "features", "direction", "operator"), layers)
    verdict = f"streaming: {card.streaming.verdict}"
    _say(f"{verdict} ({card.streaming.reason})" if card.streaming.reason else verdict)
    for line in _stepping(card):
        _say(line)
    for step in card.preprocessing:
        _say(f"preprocessing {step}")
    if card.trained_for is not None:
        _say(f"trained quantization-aware for {card.trained_for}")
    for name, values in (("labels", card.labels), ("vocabulary", card.vocabulary)):
        if values is not None:
            shown = ", ".join(values[:10]) + (", ..." if len(values) > 10 else "")
            _say(f"{name}: {len(values)} ({shown})")
    if card.parity is not None:
        parity = card.parity
        allowed = "" if parity.tolerance is None else f"tolerance {parity.tolerance:.3g}, "
        _say(
            f"parity: worst difference {parity.max_abs_difference:.3g} against {parity.against}, "
            f"{allowed}over {len(parity.shapes)} shapes"
        )
    if card.quantization is not None:
        _print_quantization(card.quantization)


def _stepping(card: "ModelCard") -> Iterable[str]:
    """Say how a stream counts its steps, where it is not one output step for each input step."""
    s = card.streaming
    if (s.first, s.first_gives, s.every, s.gives) != (1, 1, 1, 1):
        yield f"output steps: {s.first_gives} after {s.first} input steps, then {s.gives} after every {s.every}"
    if s.latency_steps:
        yield f"latency: an output step needs {s.latency_steps} later input steps"
    if s.end is not None:
        yield "end of a sequence: flush() gives the outputs that its padding completes"


def _print_quantization(quantization: "Quantization") -> None:
    _say(f"quantization: {quantization.scheme}, made from the file with SHA-256 {quantization.parent_sha256}")
    titles: tuple[str, ...] = ("layer", "operator", "scheme", "bytes before", "after", "share")
    rows: list[tuple[str, ...]] = [
        (
            name,
            c.operator,
            c.scheme,
            f"{c.bytes_before:,}",
            f"{c.bytes_after:,}",
            _share(c.bytes_after, c.bytes_before),
        )
        for name, c in zip(shortened([c.layer for c in quantization.coverage]), quantization.coverage, strict=True)
    ]
    before = sum(c.bytes_before for c in quantization.coverage)
    after = sum(c.bytes_after for c in quantization.coverage)
    rows.append(("all", "", "", f"{before:,}", f"{after:,}", _share(after, before)))
    densities = [*map(density_of, quantization.coverage), ""]
    if any(densities):
        titles = (*titles[:3], "density", *titles[3:])
        rows = [(*row[:3], density, *row[3:]) for row, density in zip(rows, densities, strict=True)]
    print_table(titles, rows)
    _print_inexact(quantization)
    if quantization.calibration_sha256 is not None:
        _say(f"calibrated on data with SHA-256 {quantization.calibration_sha256}")
    if quantization.metric is not None:
        metric = quantization.metric
        interval = f"{metric.low:.4g} to {metric.high:.4g} at confidence {metric.confidence:g}"
        _say(f"{metric.name} {metric.value:.4g} ({interval}) on {metric.data}")


def _print_inexact(quantization: "Quantization") -> None:
    if quantization.inexact is None:
        return
    if not quantization.inexact:
        _say("every answer of a row is the same to the bit in any batch, any chunks and on any number of threads")
    for name, nodes in quantization.inexact.items():
        shown = ", ".join(nodes[:8]) + (f" and {len(nodes) - 8} more" if len(nodes) > 8 else "")
        _say(f"{name} may differ in its last bits with batch, chunks and processor: onnxruntime computes {shown}")


def _say(text: str) -> None:
    """Print text wrapped to 80 columns; paths and digests are not broken."""
    text = textwrap.fill(printable(text), 80, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    say(text)


def density_of(row: "Coverage") -> str:
    """Return the densities of a layer's matrices as tables show them, or nothing if it has no zero blocks."""
    # A card's keys are sorted: R comes before W.
    return ", ".join(f"{matrix} {row.density[matrix]:.3f}" for matrix in sorted(row.density, reverse=True))


def _share(after: int, before: int) -> str:
    return f"{after / before:.2f}" if before else "-"


def _rows(role: str, specs: "Iterable[TensorSpec]") -> Iterable[tuple[str, str, str, str]]:
    return ((spec.name, role, spec.dtype, _axes(spec.axes)) for spec in specs)


def _axes(axes: "Sequence[str | int]") -> str:
    return "[" + ", ".join(map(str, axes)) + "]"


COMMAND = CommandDefinition(name="inspect", run=inspect, options=(INSPECTED, PROVIDER, AS_JSON))
