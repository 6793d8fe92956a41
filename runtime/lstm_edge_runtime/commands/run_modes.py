"""Which options of ``lstm-edge run`` exclude one another; checked before NumPy and onnxruntime are imported."""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, TextIO

from lstm_edge_runtime.drawing import Drawing
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.metrics_format import format_of

__all__ = ["DRAWING", "check_modes", "parse_lengths", "standard_input"]

AnyPath = str | os.PathLike[str]
# Options of --prompt.
DRAWING = ("tokens", "temperature", "top_k", "top_p", "seed")


def check_modes(given: Mapping[str, Any]) -> None:
    """Require exactly one of the five modes, and refuse options of the other modes.

    Args:
        given: the options by the names that ``commands.run.run`` has; ``stream`` and ``calls`` are true if given.

    Raises:
        InputError: no mode, two modes, an option that another mode has, one of ``--prompt`` out of its range, lengths
            of rows that are no integers, or a file of metrics with an unknown ending.
    """
    streamed = bool(given["stream"])
    if given["on_bad_line"] != "stop" and not streamed:
        raise InputError("--on-bad-line requires --stream")
    if given["show_labels"] and not streamed and given["inputs"] is None:
        raise InputError("--show-labels requires --stream or an array input")
    _check_watching(given["metrics"], given["metrics_every"], given["metrics_format"], streamed=streamed)
    modes = {
        "INPUT": given["inputs"],
        "--stream": given["stream"] or None,
        "--calls": given["calls"] or None,
        "--prompt": given["prompt"],
        "--score": given["score"],
    }
    arrays = {
        "-o": given["output"],
        "--row-lengths": given["row_lengths"],
        "--load-state": given["load_state"],
        "--save-state": given["save_state"],
    }
    drawing = {name: given[name] for name in DRAWING if given[name] is not None}
    _check_one(modes, drawing, arrays)
    parse_lengths(given["row_lengths"])
    Drawing(**drawing)


def _check_one(modes: Mapping[str, Any], drawing: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Require exactly one of the five modes, and refuse options of the other modes."""
    chosen = [name for name, value in modes.items() if value is not None]
    if len(chosen) > 1:
        raise InputError(f"{' and '.join(chosen)} exclude one another: give one of {', '.join(modes)}")
    if not chosen:
        raise InputError(
            "give an INPUT.npy or INPUT.npz, or --stream to read JSON lines from standard input; for a language model "
            "--prompt TEXT or --score FILE"
        )
    [mode] = chosen
    if drawing and mode != "--prompt":
        raise InputError(f"--{next(iter(drawing)).replace('_', '-')} requires --prompt")
    misplaced = [name for name, value in arrays.items() if value is not None]
    if mode == "--calls" and misplaced:
        raise InputError(f"--calls reads standard input and writes standard output: leave out {misplaced[0]}")
    if mode in ("--prompt", "--score") and misplaced:
        raise InputError(f"{misplaced[0]} requires an array input, but {mode} takes text: leave it out")
    if mode == "--stream" and (arrays["-o"] is not None or arrays["--row-lengths"] is not None):
        raise InputError("--stream reads standard input and writes standard output: leave out -o and --row-lengths")


def _check_watching(path: AnyPath | None, every: int | None, form: str | None, *, streamed: bool) -> None:
    """Refuse metrics without a stream, and their options without metrics."""
    if path is not None and not streamed:
        raise InputError("--metrics requires --stream")
    if path is None and (every, form) != (None, None):
        raise InputError("--metrics-every and --metrics-format require --metrics FILE")
    format_of(path, form)


def standard_input() -> BinaryIO:
    """Return standard input.

    Raises:
        InputError: it is closed.
    """
    # Python has None in place of a file that is closed when it starts; type checkers do not know that.
    given: TextIO | None = sys.stdin
    if given is None:
        raise InputError("standard input is closed; the option reads it: open it, or give it < /dev/null")
    return given.buffer


def parse_lengths(given: Sequence[int] | str | None) -> list[int] | None:
    """Return the valid steps of each row, given as numbers or as text with commas; None stays None.

    Raises:
        InputError: a part of the text is no integer.
    """
    if given is None:
        return None
    try:
        return [int(part) for part in (given.split(",") if isinstance(given, str) else given)]
    except ValueError as error:
        raise InputError(f"--row-lengths is {given!r}, expected integers separated by commas, such as 5,3") from error
