"""Weights for the module of a factory: read from a file without running what is in it, and loaded."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from lstm_edge._tensors import read_pt, read_safetensors
from lstm_edge.state_dicts import difference, find_weights, shapes_of
from lstm_edge_runtime.errors import CaptureError, first_line

__all__ = ["load_weights"]


def load_weights(
    module: nn.Module,
    path: Path,
    *,
    source: str,
    key: str | None = None,
    prefix: str | None = None,
    say: Callable[[str], None] = lambda _line: None,
) -> None:
    """Load the weights of a file into a module.

    Args:
        module: the module, changed in place.
        path: a ``.safetensors`` file, or a file of ``torch.save`` (``.pt``, ``.pth``, ``.ckpt``, ``.bin``).
        source: the factory, for messages.
        key: the key of the dict that holds the weights, dotted where it is nested; None: it is looked for.
        prefix: what is taken off the names; None: it is looked for.
        say: called with one line that says what was unwrapped, if anything was.

    Raises:
        ArtifactError: the file is missing, damaged, or holds a pickle of more than tensors.
        InputError: there is no such key or prefix.
        CaptureError: no weights in the file fit the module, or several do.
    """
    found = find_weights(_read(path), module, where=str(path), key=key, prefix=prefix)
    line = found.line(str(path))
    if line is not None:
        say(line)
    try:
        module.load_state_dict(dict(found.weights))
    except RuntimeError as error:
        reason = difference(found.weights, shapes_of(module)) or first_line(error)
        raise CaptureError(f"{path}: the weights do not fit {source}: {reason}") from error


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return read_safetensors(path, damaged="not a safetensors file")[1]
    return read_pt(path)
