"""Does onnxruntime survive a file? Tested in a separate process: some files end the process that opens them."""

import signal
import subprocess

import onnxruntime

from lstm_edge_runtime.errors import ArtifactError
from lstm_edge_runtime.fresh_python import python_command

__all__ = ["check_survives"]

# Opening a model of 100 MB takes seconds.
MOST_SECONDS = 600

_OPEN = """
import sys
import onnxruntime
from lstm_edge_runtime.providers import CPU_ARGUMENTS, RUNTIME_ERRORS, session_options
options = session_options()
if sys.argv[1] == "basic":
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
try:
    onnxruntime.InferenceSession(sys.stdin.buffer.read(), options, providers=["CPUExecutionProvider"], **CPU_ARGUMENTS)
except RUNTIME_ERRORS:
    pass
"""


def check_survives(data: bytes, *, advice: str, basic: bool = False) -> None:
    """Check that onnxruntime does not end the process that opens a model; that it refuses one is not looked at.

    onnxruntime 1.32 ends with SIGSEGV on float16 files of its own converter with an LSTM or a GRU.

    Args:
        data: a serialized model that another tool wrote.
        advice: what the user can do.
        basic: with onnxruntime's basic optimizations only.

    Raises:
        ArtifactError: the process ended by a signal, or did not end.
    """
    command = python_command(_OPEN, "basic" if basic else "all")
    try:
        done = subprocess.run(  # noqa: S603  # our own code
            command, input=data, capture_output=True, timeout=MOST_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ArtifactError(f"onnxruntime does not finish opening the file in {MOST_SECONDS} s") from error
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise ArtifactError(f"onnxruntime {onnxruntime.__version__} ends with {name} when it opens the file: {advice}")
