"""The frame around a command that prints less with ``--quiet`` and more with ``--verbose``."""

import logging
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version

from lstm_edge_runtime.cli.printing import progress
from lstm_edge_runtime.cli.verbosity import CURRENT, Verbosity
from lstm_edge_runtime.errors import InputError

__all__ = ["verbosity"]

# Loggers of the three packages; with --verbose their messages become lines on stderr.
_LOGGERS = ("lstm_edge_runtime", "lstm_edge_exporters", "lstm_edge")
_VERSIONS = ("lstm-edge", "lstm-edge-runtime", "onnxruntime", "onnxruntime-gpu", "numpy", "torch")


@contextmanager
def verbosity(*, quiet: bool, verbose: bool) -> Iterator[None]:
    """Print less or more while the block runs.

    With ``verbose`` the versions come first, an exception's traceback is printed before it leaves, and the time at the
    end.

    Raises:
        InputError: both are asked for.
    """
    if quiet and verbose:
        raise InputError("--quiet and --verbose exclude one another: give one of them")
    token = CURRENT.set(Verbosity(quiet=quiet, verbose=verbose, began_s=time.monotonic()))
    handler = _Lines()
    loggers = [(logging.getLogger(name), logging.getLogger(name).level) for name in _LOGGERS if verbose]
    for logger, _ in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
    try:
        if verbose:
            progress(f"{_versions()}, Python {sys.version.split()[0]}")
        yield
        if verbose:
            progress("done")
    except Exception:
        if verbose:
            traceback.print_exc()
        raise
    finally:
        for logger, level in loggers:
            logger.removeHandler(handler)
            logger.setLevel(level)
        CURRENT.reset(token)


class _Lines(logging.Handler):
    """Prints what the library logs as lines on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        progress(record.getMessage())


def _versions() -> str:
    found = []
    for name in _VERSIONS:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found) or "nothing is installed: a checkout on the path"
