"""Options that a command refuses before it imports torch or onnx: values that are malformed, or lack another option.

``refusals.py`` does the same with paths. What takes the options checks them too, with the same functions.
"""

import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lstm_edge.amounts import check_confidence, parse_drop
from lstm_edge_runtime.errors import InputError, OutputError
from lstm_edge_runtime.writing import check_target

__all__ = [
    "check_device_options",
    "check_export_options",
    "check_judged",
    "check_other_name",
    "check_report_name",
    "check_scheme",
]

# Options of ``quantize`` that have an effect with a fixed scheme, a search, calibration data, and data to draw from.
_FIXED_OPTIONS = (
    *("block", "zero_points", "allow_unquantized", "convolutions", "rounder", "calibration_sha256"),
    "reference_data",
)
_SEARCH_OPTIONS = (
    *("held_out_data", "metric", "max_drop", "confidence", "prefer", "gates", "max_evaluations", "threads"),
    *("workers", "storage", "report", "force", "resume"),
)
_DATA_OPTIONS = ("compensate", "scale_search", "clip", "convolutions")
_DRAWING_OPTIONS = ("targets", "columns", "step_every", "missing", "calibration_samples", "seed")


def check_judged(given: Mapping[str, Any]) -> None:
    """Refuse a budget or a confidence level that is malformed.

    Args:
        given: ``max_drop`` and ``confidence``; None, or no entry: not given.

    Raises:
        InputError: one of them is.
    """
    if given.get("max_drop") is not None:
        parse_drop(given["max_drop"])
    check_confidence(given.get("confidence"))


def check_device_options(given: Mapping[str, Any]) -> None:
    """Refuse options of ``validate`` about the connection to a device without ``--on``.

    Args:
        given: the options by name; None, or no entry: not given.

    Raises:
        InputError: one is given, and no device.
    """
    if given.get("on"):
        return
    for name in ("known_hosts", "identity", "device_command"):
        if given.get(name) is not None:
            raise InputError(f"--{name.replace('_', '-')} requires --on HOST")


def check_export_options(given: Mapping[str, Any]) -> None:
    """Refuse options of ``export`` that require another one, and a budget that is malformed.

    Args:
        given: the options by name; None, or no entry: not given.

    Raises:
        InputError: one of them is refused.
    """
    if given.get("scheme") is None:
        if given.get("data") is not None:
            raise InputError("--data validates what --scheme quantized: give --scheme int8 too, or leave --data out")
        if given.get("allow_unquantized"):
            raise InputError("--allow-unquantized requires --scheme: give --scheme int8 too, or leave it out")
    if given.get("data") is None:
        for name in ("metric", "max_drop", "confidence"):
            if given.get(name) is not None:
                flag = f"--{name.replace('_', '-')}"
                raise InputError(f"{flag} requires validation data: give --data, or leave it out")
    check_judged(given)
    for name in ("weights_key", "weights_prefix"):
        if given.get(name) is not None and given.get("weights") is None:
            flag = f"--{name.replace('_', '-')}"
            raise InputError(f"{flag} says where in a file the weights are: give --weights too, or leave it out")


def check_other_name(source: str | os.PathLike[str], output: str | os.PathLike[str]) -> None:
    """Refuse to write to the file that is read.

    Raises:
        OutputError: both are the same file.
    """
    target = Path(output)
    if target.exists() and Path(source).exists() and target.samefile(source):
        raise OutputError(f"{os.fspath(output)}: this is the file that is read; give the result another name")


def check_report_name(path: str | os.PathLike[str] | None, *, force: bool) -> None:
    """Refuse a report of ``quantize`` that cannot be written, or whose ``.json`` file already exists.

    Raises:
        InputError: ``force`` without a report.
        OutputError: the name or the folder is refused, or the figures' file exists and ``force`` is False.
    """
    if path is None:
        if force:
            raise InputError("--force requires --report; leave it out")
        return
    page = Path(path)
    if page.suffix != ".html":
        raise OutputError(f"{page}: the name of a report must end in .html")
    figures = page.with_suffix(".json")
    for target in (page, figures):
        check_target(target)
    if figures.exists() and not force:
        raise OutputError(
            f"{figures}: file exists, and --report would write the report's figures to it; give the report another "
            "name, or overwrite the file with --force"
        )


def check_scheme(given: Mapping[str, Any], command: Callable[..., Any]) -> None:
    """Refuse options of a search for a fixed scheme and the reverse, and those of calibration data without data.

    Args:
        given: the options by name, ``scheme`` among them; those that are left out have their defaults.
        command: the function whose parameters they are.

    Raises:
        InputError: an option would have no effect.
    """
    if given["scheme"] == "auto":
        reasons = dict.fromkeys(_FIXED_OPTIONS, "requires a fixed scheme, not --scheme auto")
    else:
        reasons = dict.fromkeys(_SEARCH_OPTIONS, "requires --scheme auto")
        if given.get("data") is None:
            drawn = _DRAWING_OPTIONS if given.get("reference_data") is None else ()
            reasons |= dict.fromkeys((*_DATA_OPTIONS, *drawn), "requires calibration data: give --data")
    defaults = inspect.signature(command).parameters
    for name, reason in reasons.items():
        default = defaults[name].default if name in defaults else None
        if given.get(name, default) != default:
            flag = f"no_{name}" if default is True else name
            raise InputError(f"--{flag.replace('_', '-')} {reason}; leave it out")
