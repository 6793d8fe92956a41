"""The program on a device that answers calls: ``lstm-edge run --calls``, or ``lstm-edge-device run`` by JSON lines."""

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import numpy as np

from lstm_edge.fleet.connection import Pipe
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import BATCH, TensorSpec
from lstm_edge_runtime.errors import DeployError, InputError
from lstm_edge_runtime.files import decode_arrays, encode_arrays

__all__ = ["CallsProgram", "LinesProgram", "Program"]

# Starts `run` with these options and returns its pipe.
Start = Callable[[str], Coroutine[Any, Any, Pipe]]
# Longest line of a program's answer to a call that it refuses, and of its facts.
_LONGEST_END_SECONDS = 5


class Program:
    """A running program. ``seconds``: how long an answer may take."""

    def __init__(self, start: Start, seconds: float) -> None:
        self._start, self._seconds = start, seconds
        self._pipe: Pipe | None = None
        self.facts: dict[str, Any] = {}

    async def call(self, arrays: Mapping[str, Array], *, continued: bool) -> dict[str, Array]:
        """Run the model on named arrays, from the initial state or from the state after the last call.

        Raises:
            InputError: the model refuses the arrays.
            DeployError: the program or the connection ended, or the answer takes too long.
        """
        raise NotImplementedError

    async def _within(self, work: Coroutine[Any, Any, Any]) -> Any:
        try:
            async with asyncio.timeout(self._seconds):
                return await work
        except TimeoutError as error:
            raise DeployError(f"the device gave no answer within {self._seconds:g} s") from error
        except (BrokenPipeError, ConnectionError) as error:
            raise await self._ended() from error

    async def _ended(self) -> DeployError:
        """Return the error of a program that ended before its answer."""
        status, reason = (None, "") if self._pipe is None else await self._pipe.why(_LONGEST_END_SECONDS)
        if status is None:
            return DeployError("the connection was lost")
        return DeployError(f"run ended with exit code {status}: {reason or 'no message'}")

    def close(self) -> None:
        """End the program."""
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None


class CallsProgram(Program):
    """``lstm-edge run --calls``: see ``lstm_edge_runtime.commands.calls``."""

    async def begin(self) -> None:
        """Start the program and read its facts.

        Raises:
            DeployError: it does not open the model.
        """
        self._pipe = await self._start("--calls")
        self.facts = json.loads(await self._within(self._answer("ready")))

    async def call(self, arrays: Mapping[str, Array], *, continued: bool) -> dict[str, Array]:
        """Run the model; see ``Program.call``."""
        body = encode_arrays(arrays)
        header = f"{'continue' if continued else 'fresh'} {len(body)}\n".encode()
        data: bytes = await self._within(self._exchange(header + body))
        return decode_arrays(data, "the device's answer")

    async def _exchange(self, request: bytes) -> bytes:
        assert self._pipe is not None
        await self._pipe.write(request)
        size = int(await self._answer("answer"))
        data = await self._pipe.read_bytes(size)
        if len(data) != size:
            raise await self._ended()
        return data

    async def _answer(self, expected: str) -> str:
        """Return what follows the expected word."""
        assert self._pipe is not None
        line = await self._pipe.read_line()
        word, _, rest = line.decode("utf-8", "replace").partition(" ")
        if word == "refused":
            raise InputError(str(json.loads(rest)))
        if word != expected:
            if not line:
                raise await self._ended()
            raise DeployError(f"run printed {line[:80]!r}, expected {expected!r}: is it lstm-edge?")
        return rest


class LinesProgram(Program):
    """``lstm-edge-device run``: JSON lines, for a model that gives one output step for each input step."""

    def __init__(self, start: Start, seconds: float, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]):
        super().__init__(start, seconds)
        self._inputs, self._outputs = {spec.name: spec for spec in inputs}, tuple(outputs)
        self._rows = 0

    async def call(self, arrays: Mapping[str, Array], *, continued: bool) -> dict[str, Array]:
        """Run the model; see ``Program.call``. Each number of rows starts the program again."""
        if given := [name for name in arrays if name not in self._inputs]:
            raise InputError(f"lstm-edge-device takes no initial state, and the data have {given[0]!r}")
        rows = self._rows_of(arrays)
        if rows != self._rows or self._pipe is None:
            self.close()
            self._pipe, self._rows = await self._start(f"--batch-size {rows} --on-bad-line skip"), rows
        request = b"" if continued else b'{"reset": true}\n'
        request += json.dumps({name: array.tolist() for name, array in arrays.items()}).encode() + b"\n"
        values = json.loads(await self._within(self._exchange(request)))
        if isinstance(values, dict) and "error" in values and "line" in values:
            raise InputError(str(values["error"]))
        named = values if isinstance(values, dict) else {self._outputs[0].name: values}
        # NaN and infinity are null in JSON; the judge refuses both.
        return {
            spec.name: np.array(named[spec.name], np.float64 if spec.dtype.startswith("float") else spec.dtype).astype(
                spec.dtype
            )
            for spec in self._outputs
        }

    def _rows_of(self, arrays: Mapping[str, Array]) -> int:
        for name, array in arrays.items():
            axes = self._inputs[name].axes
            if BATCH in axes:
                return int(array.shape[axes.index(BATCH)])
        return 1

    async def _exchange(self, request: bytes) -> bytes:
        assert self._pipe is not None
        await self._pipe.write(request)
        line = await self._pipe.read_line()
        if not line:
            raise await self._ended()
        return line
