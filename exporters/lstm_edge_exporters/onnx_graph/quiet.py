"""Silences other libraries' messages about a file: this project reports problems in its own error messages."""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

__all__ = ["quiet"]

# onnx_ir logs a failed shape inference with its whole traceback; what matters of it is refused later, in a sentence.
LOGGERS = ("onnx", "onnx_ir", "onnxscript", "torch.onnx", "torch.export")
# Of modules that a warning is attributed to; NumPy's own go to the code that called it, which may be ours.
_MODULES = r"(google|ml_dtypes|onnx|onnx_ir|onnxruntime|onnxscript|sympy|torch)(\.|$)"

_lock = threading.Lock()
_inside = 0
_restore = ExitStack()


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the loggers and warnings of the libraries that read and rewrite graphs; may be nested.

    Levels and filters belong to the process, so the first that enters changes them and the last that leaves puts them
    back, whatever threads they are in.
    """
    global _inside, _restore  # noqa: PLW0603  one state for the process, as the levels and filters are
    with _lock:
        if not _inside:
            _restore = _silence()
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                _restore.close()


def _silence() -> ExitStack:
    stack = ExitStack()
    for logger in map(logging.getLogger, LOGGERS):
        stack.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.CRITICAL)
    stack.enter_context(warnings.catch_warnings())
    warnings.filterwarnings("ignore", module=_MODULES)
    return stack
