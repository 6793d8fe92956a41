"""What a command refuses before it imports NumPy and onnxruntime, with the sentences of what reads the files."""

from collections.abc import Mapping
from typing import Any

from lstm_edge_runtime.commands.run_modes import check_modes
from lstm_edge_runtime.errors import ArtifactError, InputError
from lstm_edge_runtime.file_kinds import check_array_kind, check_open_kind
from lstm_edge_runtime.rate_range import check_rate
from lstm_edge_runtime.reading import open_file
from lstm_edge_runtime.signature import read_trust
from lstm_edge_runtime.text_files import check_text
from lstm_edge_runtime.writing import check_array_target, check_state_target

__all__ = ["refuse_bench", "refuse_check", "refuse_inspect", "refuse_run"]

_TRUST = ("signature", "signed_name", "minimum_version", "require_clock")


def refuse_inspect(model: str) -> None:
    """Refuse what ``inspect`` does not read: no file, or one that is neither a model nor a checkpoint.

    Raises:
        ArtifactError: it is refused.
    """
    _refuse_model(model, checkpoints=True)


def refuse_check(given: Mapping[str, Any]) -> None:
    """Refuse options of ``check`` about a signature without a key, and files that are missing or of another kind.

    Args:
        given: the options by name.

    Raises:
        InputError: a key is refused, or there is none.
        ArtifactError: the model is refused.
    """
    if given["format"] == "lstm-edge":
        _refuse_trust(given)
    else:
        _refuse_keys(given)
    _refuse_model(given["model"], signed=bool(given["trusted_keys"]))


def refuse_bench(given: Mapping[str, Any]) -> None:
    """Refuse a rate of ``bench`` that nothing keeps, options about a signature without a key, and wrong files.

    Args:
        given: the options by name.

    Raises:
        InputError: the rate is out of range, a key is refused, or there is none.
        ArtifactError: the model is refused.
    """
    if given["rate_hz"] is not None:
        check_rate(given["rate_hz"])
    _refuse_trust(given)
    _refuse_model(given["model"], signed=bool(given["trusted_keys"]))


def refuse_run(given: Mapping[str, Any]) -> None:
    """Refuse options of ``run`` that exclude one another, and files that are missing or cannot be written.

    Args:
        given: the options by name.

    Raises:
        InputError: not exactly one mode is given, an option belongs to another mode, or the input is not a file.
        ArtifactError: the model is refused.
        DataError: there is no such text.
        OutputError: a file cannot be written.
    """
    check_modes(given)
    _refuse_trust(given)
    _refuse_model(given["model"], signed=bool(given["trusted_keys"]))
    if given["score"] not in (None, "-"):
        check_text(given["score"])
    if given["output"] is not None:
        check_array_target(given["output"])
    if given["save_state"] is not None:
        check_state_target(given["save_state"])
    for name in ("load_state", "inputs"):
        if given[name] is not None:
            with open_file(given[name], InputError, expected="an .npy or .npz file") as file:
                check_array_kind(file, given[name])


def _refuse_trust(given: Mapping[str, Any]) -> None:
    """Read the trusted keys and rules, and say what is wrong with them."""
    read_trust(given["trusted_keys"], **{name: given[name] for name in _TRUST})


def _refuse_keys(given: Mapping[str, Any]) -> None:
    for key in given["trusted_keys"] or ():
        with open_file(key, InputError, expected="a public key"):
            pass


def _refuse_model(model: str, *, checkpoints: bool = False, signed: bool = False) -> None:
    with open_file(model, ArtifactError, expected="an .onnx file") as file:
        # Of a file that must be signed nothing is looked at before its signature.
        if not signed and not (checkpoints and model.lower().endswith(".safetensors")):
            check_open_kind(file, model, checkpoints=checkpoints)
