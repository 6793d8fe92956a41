"""The rows of the tables: which peers run which forms of a model."""

from dataclasses import dataclass

__all__ = ["ENTRIES", "OURS", "PUBLISHED", "STEPS_ALONE", "Entry", "key"]

OURS = "lstm-edge"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One form of a model, run by one peer.

    Attributes:
        peer: name that the table prints.
        precision: form that the table prints.
        module: the peer's file.
        environment: the peer's environment; "" is that of the project.
        form: name of the form in the peer's file.
        bits: 32, 8 or 4, for the check of its answers.
        reference: ``dense``, or ``sparse`` for the pruned model.
    """

    peer: str
    precision: str
    module: str
    environment: str
    form: str
    bits: int
    reference: str = "dense"


def key(entry: Entry) -> str:
    """Return a name of the entry that is unique among the entries of a table."""
    return f"{entry.module}:{entry.form}"


def _entries(peer: str, module: str, environment: str, forms: dict[str, tuple[str, int]]) -> tuple[Entry, ...]:
    return tuple(
        Entry(
            peer=peer, precision=precision, module=module, environment=environment, form=form, bits=bits,
            reference="sparse" if form == "sparse" else "dense",
        )
        for form, (precision, bits) in forms.items()
    )  # fmt: skip


ENTRIES: tuple[Entry, ...] = (
    *_entries(OURS, "peer_ours", "", {
        "float32": ("float32, ONNX node", 32),
        "float32 kernel": ("float32, own kernel", 32),
        "int8": ("int8", 8),
        "int8 run": ("int8, `Session.run`", 8),
        "int4": ("int4", 4),
        "sparse": ("int8, sparse 1/3", 8),
    }),
    *_entries(OURS, "peer_c", "", {"int8": ("int8, C library", 8)}),
    *_entries("LiteRT", "peer_litert", "litert", {
        "float32": ("float32", 32), "int8": ("int8", 8), "int4": ("int4", 4),
    }),
    *_entries("OpenVINO", "peer_openvino", "openvino", {
        "float32": ("float32, ONNX node", 32),
        "cells": ("float32, cells", 32),
        "int8": ("int8 weights", 8),
        "int4": ("int4 weights", 4),
    }),
    *_entries("ExecuTorch", "peer_executorch", "executorch", {
        "float32": ("float32", 32), "int8": ("int8", 8), "int4": ("int4", 4),
    }),
    *_entries("tract", "peer_tract", "tract", {"float32": ("float32", 32), "int8": ("int8", 8)}),
    *_entries("onnxruntime", "peer_onnxruntime", "onnxruntime", {
        "float32": ("float32", 32), "int8": ("int8, `quantize_dynamic`", 8),
    }),
    *_entries("PyTorch", "peer_torch", "torch", {
        "eager": ("float32, eager", 32),
        "compile": ("float32, `torch.compile`", 32),
        "int8": ("int8, `quantize_dynamic`", 8),
    }),
)  # fmt: skip

# For a run that compares single steps alone: the converter takes minutes for a sequence.
STEPS_ALONE = _entries("LiteRT", "peer_litert", "litert", {"int8 step": ("int8", 8)})

# Forms that say something new about a recurrent layer only; published models do without.
RECURRENT = {
    "peer_c:int8", "peer_ours:float32 kernel", "peer_ours:int8 run", "peer_ours:sparse", "peer_openvino:cells",
    "peer_torch:int8",
}  # fmt: skip
PUBLISHED = tuple(entry for entry in ENTRIES if key(entry) not in RECURRENT)
