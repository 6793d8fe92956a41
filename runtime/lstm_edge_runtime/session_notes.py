"""Sentences about facts of an open file that could not be verified or inferred: ``Session.notes``."""

from collections.abc import Sequence

import onnxruntime

from lstm_edge_runtime.card import ModelCard, version_numbers
from lstm_edge_runtime.providers import PROVIDERS, NodePlacement
from lstm_edge_runtime.signature import Signed

__all__ = ["FOLDED", "NO_CARD", "UNVERIFIED", "collect_notes"]

UNVERIFIED = "unverified: the file has no integrity trailer, a damaged weight would go unnoticed"
NO_CARD = (
    "no model card: inputs and outputs are read from the graph; states, lengths, the batch and time axes and "
    "whether it can be streamed are unknown"
)
FOLDED = (
    "without the fused kernels onnxruntime folds int8 weights back to float32 in memory: "
    "int8 saves disk and transfer, not RAM or time"
)


def collect_notes(
    *,
    verified: bool,
    signature: Signed | None,
    card: ModelCard | None,
    provider: str,
    kernels: str | None,
    placement: Sequence[NodePlacement] | None,
    why_bodies: str,
) -> tuple[str, ...]:
    """Return the notes about an open file.

    Args:
        verified: whether its bytes agree with its integrity trailer.
        signature: what a trusted key signed about it, or None.
        card: its card, or None.
        provider: ``"cpu"`` or ``"cuda"``.
        kernels: the instruction set of the kernels, or None.
        placement: where each node ran; None on the CPU.
        why_bodies: why function bodies run in place of kernels, or an empty text.
    """
    # A signature covers the whole file, the trailer included.
    notes = [] if verified or signature is not None else [UNVERIFIED]
    if signature is not None and signature.note:
        notes.append(signature.note)
    if card is None:
        notes.append(NO_CARD)
    elif (needed := version_numbers(card.minimum_onnxruntime)) > version_numbers(onnxruntime.__version__):
        notes.append(
            f"the model was made for onnxruntime {'.'.join(map(str, needed))} or later, "
            f"this is {onnxruntime.__version__}: update onnxruntime"
        )
    if why_bodies and provider == "cpu":
        notes.append(f"function bodies run in place of kernels: {why_bodies}")
    if card is not None and card.quantization is not None and kernels is None:
        notes.append(FOLDED)
    on_cpu = [p for p in placement or () if p.provider == PROVIDERS["cpu"]]
    if on_cpu:
        names = ", ".join(f"{p.node} ({p.operator})" for p in on_cpu)
        notes.append(f"onnxruntime put {len(on_cpu)} nodes on the CPU under {provider}: {names}")
    return tuple(notes)
