"""The format of a file of metrics: what its ending says, or the option; imports nothing heavy."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

from lstm_edge_runtime.errors import InputError

__all__ = ["MetricsFormat", "format_of"]

MetricsFormat = Literal["prometheus", "jsonl"]
_BY_ENDING: Mapping[str, MetricsFormat] = {".prom": "prometheus", ".jsonl": "jsonl"}


def format_of(path: str | os.PathLike[str] | None, given: str | None) -> MetricsFormat:
    """Return the format of a file of metrics.

    Args:
        path: the file; None: there is none.
        given: the format that is asked for; None: what the file's ending says.

    Raises:
        InputError: the format is unknown, or the ending says none.
    """
    if given is not None:
        if given not in get_args(MetricsFormat):
            raise InputError(
                f"the format of metrics must be one of {', '.join(get_args(MetricsFormat))}, got {given!r}"
            )
        return "jsonl" if given == "jsonl" else "prometheus"
    if path is None:
        return "prometheus"
    found = _BY_ENDING.get(Path(path).suffix.lower())
    if found is None:
        raise InputError(
            f"{os.fspath(path)}: the name of a metrics file must end in {' or '.join(_BY_ENDING)}, or give the format: "
            "prometheus or jsonl"
        )
    return found
