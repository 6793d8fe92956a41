"""Runs a foreign model in a process of its own, where onnxruntime may end the process that runs it.

onnxruntime 1.32 ends with SIGABRT when a ``GRU`` runs over no steps or no rows, and an ``LSTM`` over no rows. A file of
another tool gets there at ordinary inputs: two steps through a convolution of width three leave none.
"""

import io
import json
import signal
import struct
import subprocess
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import onnx_ir as ir
import onnxruntime

from lstm_edge_exporters.onnx_graph.shapes import known_shapes, shape_of
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.errors import ArtifactError
from lstm_edge_runtime.fresh_python import python_command

__all__ = ["GuardedSession", "may_abort"]

# They give as many elements as they find, perhaps none.
_COUNTS = ("Compress", "NonMaxSuppression", "NonZero", "Unique")

_WORKER = """
import io, json, struct, sys
import numpy as np
from lstm_edge_runtime.errors import ArtifactError
from lstm_edge_runtime.providers import RUNTIME_ERRORS, open_session

source, sink = sys.stdin.buffer, sys.stdout.buffer

def take():
    head = source.read(8)
    return source.read(struct.unpack("<q", head)[0]) if len(head) == 8 else None

def give(failure, data=b""):
    for part in (failure.encode("utf-8", "replace"), data):
        sink.write(struct.pack("<q", len(part)) + part)
    sink.flush()

def run():
    names = json.loads(take())
    arrays = np.load(io.BytesIO(take()), allow_pickle=False)
    feeds = {name: arrays[f"arr_{place}"] for place, name in enumerate(names["feeds"])}
    stream = io.BytesIO()
    np.savez(stream, *session.run(names["outputs"], feeds))
    return stream.getvalue()

try:
    session = open_session(take(), basic=sys.argv[1] == "basic")
except ArtifactError as error:
    give(str(error))
    sys.exit()
outputs = [output.name for output in session.get_outputs()]
give("", json.dumps(outputs).encode())
while source.peek(1):
    try:
        data = run()
    except (*RUNTIME_ERRORS, TypeError) as error:
        give(str(error) or type(error).__name__)
    else:
        give("", data)
"""


class _Output(NamedTuple):
    name: str


class GuardedSession:
    """A session in a process of its own, which is started again after onnxruntime ended it."""

    def __init__(self, data: bytes, *, basic: bool = False) -> None:
        """Open a model.

        Raises:
            ArtifactError: onnxruntime cannot read it, or ends the process that opens it.
        """
        self._data, self._basic = data, basic
        self._process = self._start()

    def get_outputs(self) -> list[_Output]:
        """Return the model's outputs, by name."""
        return [_Output(name) for name in self._names]

    def run(self, names: Sequence[str] | None, feeds: Mapping[str, Array]) -> list[Any]:
        """Return outputs, as onnxruntime's session does.

        Raises:
            RuntimeError: onnxruntime refuses the inputs, or ended its process.
        """
        if self._process.poll() is not None:
            self._process = self._start()
        stream = io.BytesIO()
        np.savez(stream, *feeds.values())
        wanted = {"outputs": list(names or self._names), "feeds": list(feeds)}
        failure, answer = self._ask("runs the model on these inputs", json.dumps(wanted).encode(), stream.getvalue())
        if failure:
            raise RuntimeError(failure)
        arrays = np.load(io.BytesIO(answer), allow_pickle=False)
        return [arrays[f"arr_{place}"] for place in range(len(wanted["outputs"]))]

    def _start(self) -> "subprocess.Popen[bytes]":
        command = python_command(_WORKER, "basic" if self._basic else "all")
        process = subprocess.Popen(  # noqa: S603  # our own code
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        weakref.finalize(self, _end, process)
        self._process = process
        failure, answer = self._ask("opens the file", self._data)
        if failure:
            raise ArtifactError(failure)
        self._names: list[str] = json.loads(answer)
        return process

    def _ask(self, what: str, *parts: bytes) -> tuple[str, bytes]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            for part in parts:
                self._process.stdin.write(struct.pack("<q", len(part)) + part)
            self._process.stdin.flush()
            failure = _take(self._process.stdout)
            answer = _take(self._process.stdout)
        except (BrokenPipeError, EOFError):
            code = self._process.wait()
            name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            return f"onnxruntime {onnxruntime.__version__} ends with {name} when it {what}", b""
        return failure.decode(), answer


def _take(source: Any) -> bytes:
    stream: BinaryIO = source
    head = stream.read(8)
    if len(head) < 8:
        raise EOFError
    size = struct.unpack("<q", head)[0]
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Let a process end: its input does."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except BrokenPipeError:
                continue
    process.kill()
    process.wait()


def may_abort(model: ir.Model) -> bool:
    """Say whether a recurrent layer of a model may run over no steps or no rows at inputs that have some.

    The sizes of a layer's input are certain where they are numbers or axes of the graph's inputs.
    """
    nodes = [node for node in model.graph.all_nodes() if node.domain in ("", "ai.onnx")]
    counted = any(node.op_type in _COUNTS for node in nodes)
    layers = [node for node in nodes if node.op_type == "GRU" or (node.op_type == "LSTM" and counted)]
    if not layers:
        return False
    shapes = known_shapes(model)
    given = {axis for value in model.graph.inputs for axis in shape_of(value, shapes) or () if isinstance(axis, str)}
    for node in layers:
        shape = None if node.inputs[0] is None else shape_of(node.inputs[0], shapes)
        if shape is None or not all(axis in given if isinstance(axis, str) else axis for axis in shape[:2]):
            return True
    return False
