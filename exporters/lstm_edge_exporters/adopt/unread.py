"""Inputs that no node reads: what feeds them changes nothing, and often another input is read in their place."""

from collections.abc import Iterable, Mapping

import onnx_ir as ir

from lstm_edge_runtime.errors import InputError

__all__ = ["check_read", "unread_inputs", "unread_sentences"]


def unread_inputs(model: ir.Model) -> dict[str, tuple[str, ...]]:
    """Return the inputs that no node reads and that are not outputs, and the read inputs of the same form."""
    unread = [value for value in model.graph.inputs if not value.uses() and not value.is_graph_output()]
    return {
        str(value.name): tuple(
            str(other.name)
            for other in model.graph.inputs
            if other not in unread and (other.dtype, other.shape) == (value.dtype, value.shape)
        )
        for value in unread
    }


def _why(name: str, alike: Iterable[str]) -> str:
    text = f"no node of the file reads the input {name!r}, so that what is fed to it changes nothing"
    names = " or ".join(repr(other) for other in alike)
    if not names:
        return text
    return (
        f"{text}. PyTorch's exporter merges example tensors that are equal, and {names} has its shape: export the "
        "model again with different numbers in the two examples (torch.randn for each)"
    )


def unread_sentences(unread: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """Return one sentence for each input that no node reads."""
    return tuple(_why(name, alike) for name, alike in unread.items())


def check_read(named: Mapping[str, str], unread: Mapping[str, Iterable[str]]) -> None:
    """Refuse a state that the user named and that nothing reads.

    Raises:
        InputError: no node reads the input of one.
    """
    for entering, leaving in named.items():
        if entering in unread:
            raise InputError(f"--state {entering}={leaving}: {_why(entering, unread[entering])}")
