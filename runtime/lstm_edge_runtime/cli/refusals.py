"""What a command refuses before it imports NumPy and onnxruntime, with the sentences of what reads the files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lstm_edge_runtime.commands.run_modes import check_modes
from lstm_edge_runtime.errors import ArtifactError, InputError
from lstm_edge_runtime.reading import open_file

__all__ = ["refuse_model", "refuse_run"]


def refuse_model(model: str, trusted_keys: Sequence[Path] | None = None) -> None:
    """Refuse a model or a key that is not a file.

    Raises:
        ArtifactError, InputError: there is no such file, or it cannot be opened.
    """
    with open_file(model, ArtifactError, expected="an .onnx file"):
        pass
    for key in trusted_keys or ():
        with open_file(key, InputError, expected="a public key"):
            pass


def refuse_run(given: Mapping[str, Any]) -> None:
    """Refuse options of ``run`` that exclude one another, and files that are missing.

    Args:
        given: the options by name.

    Raises:
        InputError: not exactly one mode is given, an option belongs to another mode, or the input is not a file.
        ArtifactError: the model is not a file.
    """
    check_modes(given)
    refuse_model(given["model"], given["trusted_keys"])
    if given["inputs"] is not None:
        with open_file(given["inputs"], InputError, expected="an .npy or .npz file"):
            pass
