"""Are a file's ``lstm_edge`` functions the ones that docs/operators.md fixes, and is it whole? Read without onnx.

A kernel takes over a node by its operator's name, so a file with another body under that name would mean something
else on a device with kernels than on one without. Such a file is refused.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import TypeVar

from lstm_edge_runtime._function_digests import DIGESTS
from lstm_edge_runtime.errors import ArtifactError
from lstm_edge_runtime.model_reading import ModelReading, Operator, identifier, read_model

__all__ = ["called_operators", "check_calls", "check_functions", "check_inlining", "check_whole"]

DOMAIN = "lstm_edge"

# The end of a serialized function: FunctionProto.opset_import (domain "", version), and its domain.
_IMPORT, _END = b"\x4a\x04\x0a\x00\x10", b"\x52\x09" + DOMAIN.encode()
# onnxruntime stops at calls of 100 functions in one another, but 40 functions that each call the next one twice keep
# it inlining for hours.
_DEEPEST_CALLS, _MOST_INLINED_NODES = 100, 1_000_000
# onnxruntime takes 0.2 to 0.4 ms a node: a file of 2 kB may not keep it busy for minutes. A file that has as many nodes
# itself, or a tenth of them, is as large as it looks.
_MOST_GROWN_NODES, _MOST_GROWTH = 25_000, 10

_Name = TypeVar("_Name", bound=tuple[str, ...])


def check_functions(model: bytes | ModelReading) -> None:
    """Compare each function of the domain ``lstm_edge`` with the SHA-256 of the one that its name stands for.

    Args:
        model: a serialized ModelProto, or what was read of it.

    Raises:
        ArtifactError: a name that this version does not know, or another body than the name's; functions of any
            domain whose inlining would not end; or what ``read_model`` refuses.
    """
    reading = _reading(model)
    check_inlining(reading)
    for function in reading.functions:
        _check_overload(function.operator)
        for operator in function.calls:
            _check_overload(operator)
        if not identifier(function.operator).startswith(f"{DOMAIN}:"):
            continue
        name = identifier(function.operator).removeprefix(f"{DOMAIN}:")
        if name not in DIGESTS:
            raise ArtifactError(
                f"the file uses lstm_edge::{name[:80]}, which this version does not know: update lstm-edge"
            )
        if hashlib.sha256(_at_opset_18(function.data)).hexdigest() != DIGESTS[name]:
            raise ArtifactError(
                f"the file's body of lstm_edge::{name} differs from docs/operators.md: export the model again"
            )
    for operator in dict.fromkeys(reading.calls):
        _check_overload(operator)


def check_inlining(reading: ModelReading) -> None:
    """Refuse a model whose functions, put in the place of their calls, would not end: see ``check_calls``."""
    check_calls({function.operator: function.calls for function in reading.functions}, Counter(reading.calls))


def _check_overload(operator: Operator) -> None:
    """Refuse a second meaning of one of our names: an overload has its own body, and the name's kernel."""
    domain, name, overload = operator
    if domain == DOMAIN and overload:
        raise ArtifactError(
            f"the file uses the overload {overload[:40]!r} of lstm_edge::{name[:80]}, and these operators have none: "
            "export the model again"
        )


def _at_opset_18(function: bytes) -> bytes:
    """Return the function as a file of opset 18 has it.

    A function imports the opset of its file, and the bodies mean the same from 18 on; digests are of 18. It stands
    in field 9 (domain "", version), right before field 10, the function's domain, which ends a serialized function.
    """
    version = len(function) - len(_END) - 1
    known = function.endswith(_END) and function[:version].endswith(_IMPORT) and 18 <= function[version] < 128
    return function[:version] + b"\x12" + _END if known else function


def check_whole(model: bytes | ModelReading) -> None:
    """Refuse a model with weights in another file: onnxruntime would look for that in the current folder.

    Args:
        model: a serialized ModelProto, or what was read of it.

    Raises:
        ArtifactError: a weight lies in another file; or what ``read_model`` refuses.
    """
    if _reading(model).external:
        raise ArtifactError(
            "its weights lie in another file: make it one file first, on a machine that has onnx, with "
            'onnx.save(onnx.load("model.onnx"), "whole.onnx")'
        )


def called_operators(model: bytes | ModelReading) -> tuple[str, ...]:
    """Return the name of each ``lstm_edge`` operator that a model calls, once for each call.

    Those of the graph come first, in order; then those in bodies of functions of other domains, which onnxruntime
    puts in the place of their calls.

    Args:
        model: a serialized ModelProto, or what was read of it.

    Raises:
        ArtifactError: what ``read_model`` refuses.
    """
    reading = _reading(model)
    inside = [
        operator
        for function in reading.functions
        if function.operator[0] != DOMAIN
        for operator in function.calls.elements()
    ]
    return tuple(name for domain, name, _overload in (*reading.calls, *inside) if domain == DOMAIN)


def _reading(model: bytes | ModelReading) -> ModelReading:
    return model if isinstance(model, ModelReading) else read_model(model)


def check_calls(bodies: Mapping[_Name, Mapping[_Name, int]], top: Mapping[_Name, int]) -> None:
    """Refuse functions that call each other in a circle, too deeply or too often: inlining them would not end.

    Args:
        bodies: for each function, as (domain, name, overload), how often its body calls each operator or function.
        top: the same for the graph.

    Raises:
        ArtifactError: a function calls itself, directly or through others; calls are more than 100 deep; or, once each
            call is replaced by the function's body, over a million nodes are left, or over 25,000 and ten times as many
            as the file has.
    """
    inlined: dict[_Name, int] = {}  # nodes of a function once every call in it is replaced by its body
    for start in bodies:
        # Each call of a body is looked at once: looking from the start again takes minutes for a body with 100,000.
        path = {start: iter(bodies[start])}
        while path:
            function, calls = next(reversed(path.items()))
            callee = next((name for name in calls if name in bodies and name not in inlined), None)
            if callee is None:
                del path[function]
                inlined[function] = sum(count * inlined.get(name, 1) for name, count in bodies[function].items())
                continue
            if callee in path:
                raise ArtifactError(
                    f"function {'::'.join(filter(None, callee))[:80]!r} calls itself, directly or through others"
                )
            path[callee] = iter(bodies[callee])
            if len(path) > _DEEPEST_CALLS:
                raise ArtifactError(f"functions call each other more than {_DEEPEST_CALLS} deep")
    total = sum(count * inlined.get(name, 1) for name, count in top.items())
    if total > _MOST_INLINED_NODES:
        raise ArtifactError(f"with its functions inlined the model has over {_MOST_INLINED_NODES} nodes")
    written = sum(top.values()) + sum(sum(calls.values()) for calls in bodies.values())
    if total > max(_MOST_GROWN_NODES, _MOST_GROWTH * written):
        raise ArtifactError(
            f"with its functions inlined the model has {total} nodes, and the file has {written}: expected at most "
            f"{_MOST_GROWTH} times as many above {_MOST_GROWN_NODES}; inline the functions when you export it"
        )
