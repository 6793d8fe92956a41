"""``lstm-edge run --calls``: answer calls of a model on standard input, each an ``.npz`` file of inputs.

The first line of the output is ``ready`` and the device's facts in JSON. A call is a line ``fresh BYTES`` (from the
initial state, or from the states among the inputs) or ``continue BYTES`` (from the state after the call before), and
then an ``.npz`` file of so many bytes. An answer is a line ``answer BYTES`` and an ``.npz`` file of the outputs, or a
line ``refused`` with a sentence in JSON; then the next call may come.
"""

import json
from collections.abc import Callable
from typing import BinaryIO

import onnxruntime

from lstm_edge_runtime.device_facts import device
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.files import decode_arrays, encode_arrays
from lstm_edge_runtime.reading import MOST_ARRAY_BYTES
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.state import State

__all__ = ["answer_calls"]

_LONGEST_HEADER = 64


def answer_calls(session: Session, calls: BinaryIO, on_answer: Callable[[bytes], None]) -> int:
    """Answer calls until the input ends; returns their number.

    Args:
        session: the model.
        calls: the calls, as the module describes them.
        on_answer: takes the bytes of each answer.

    Raises:
        InputError: a header is not one of a call, or the input ends within a call.
    """
    this = device()
    facts = {
        "lstm_edge": this.lstm_edge,
        "onnxruntime": onnxruntime.__version__,
        "machine": this.machine,
        "kernels": session.kernels,
    }
    on_answer(f"ready {json.dumps(facts)}\n".encode())
    state: State | None = None
    count = 0
    while header := calls.readline(_LONGEST_HEADER):
        count += 1
        where = f"call {count}"
        word, size = _parse_header(header, where)
        data = calls.read(size)
        if len(data) != size:
            raise InputError(f"{where}: the input ends after {len(data)} of {size} bytes")
        try:
            if word == "continue" and state is None:
                raise InputError(f"{where}: there is no call before it that it could continue")
            outputs, state = session.run(decode_arrays(data, where), state if word == "continue" else None)
        except InputError as error:
            state = None
            on_answer(f"refused {json.dumps(str(error))}\n".encode())
            continue
        body = encode_arrays(outputs)
        on_answer(f"answer {len(body)}\n".encode() + body)
    return count


def _parse_header(header: bytes, where: str) -> tuple[str, int]:
    word, _, size = header.decode("ascii", "replace").removesuffix("\n").partition(" ")
    if word not in ("fresh", "continue") or not size.isdecimal() or not header.endswith(b"\n"):
        raise InputError(f"{where}: its header is {header!r}, expected 'fresh BYTES' or 'continue BYTES'")
    if int(size) > MOST_ARRAY_BYTES:
        raise InputError(f"{where}: it has {int(size):,} bytes, at most {MOST_ARRAY_BYTES:,} are read")
    return word, int(size)
