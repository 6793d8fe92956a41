"""Sentences about facts of an open file that could not be verified or inferred: ``Session.notes``."""

from typing import TYPE_CHECKING

import onnxruntime

from lstm_edge_runtime.card import version_numbers
from lstm_edge_runtime.providers import PROVIDERS

if TYPE_CHECKING:
    from lstm_edge_runtime.session import Session

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


def collect_notes(session: "Session", why_bodies: str) -> tuple[str, ...]:
    """Return the notes about a session that is open otherwise.

    Args:
        session: the session, with all its attributes but ``notes``.
        why_bodies: why function bodies run in place of kernels, or an empty text.
    """
    # A signature covers the whole file, the trailer included.
    notes = [] if session.verified or session.signature is not None else [UNVERIFIED]
    if session.signature is not None and session.signature.note:
        notes.append(session.signature.note)
    if session.card is None:
        notes.append(NO_CARD)
    elif version_numbers(session.card.minimum_onnxruntime) > version_numbers(onnxruntime.__version__):
        notes.append(
            f"the model was made for onnxruntime {session.card.minimum_onnxruntime} or later, "
            f"this is {onnxruntime.__version__}: update onnxruntime"
        )
    if why_bodies and session.provider == "cpu":
        notes.append(f"function bodies run in place of kernels: {why_bodies}")
    if session.card is not None and session.card.quantization is not None and session.kernels is None:
        notes.append(FOLDED)
    on_cpu = [p for p in session.placement or () if p.provider == PROVIDERS["cpu"]]
    if on_cpu:
        names = ", ".join(f"{p.node} ({p.operator})" for p in on_cpu)
        notes.append(f"onnxruntime put {len(on_cpu)} nodes on the CPU under {session.provider}: {names}")
    return tuple(notes)
