"""Golden vectors: a few inputs with their expected outputs, as text in the metadata of a model file.

The text is JSON: ``{"tolerance": {"bodies": float, "kernels": float}, "npz": base64}``, at most 64 KiB; ``tolerance``
may hold ``"outputs": {output: float}``, the smaller tolerances of single outputs. The archive holds one array for each
``"<vector>.in.<graph input>"`` and ``"<vector>.out.<graph output>"``. An output of more than 4,096 elements is stored
as a flat sample of every ``stride``-th element as ``"<vector>.out.<name>@<stride>"``.
"""

import base64
import binascii
import io
import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from lstm_edge_runtime._npy import read_header
from lstm_edge_runtime.archive import open_archive
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.errors import ArtifactError
from lstm_edge_runtime.reading import Budget, parse_json, translated

__all__ = ["MOST_TEXT_BYTES", "Golden", "GoldenVector", "decode_golden", "encode_golden", "sample"]

MOST_TEXT_BYTES = 64 * 1024
# Outputs with more elements are sampled: 16 KiB of float32 leave room for inputs and states.
_MOST_ELEMENTS = 4096
# Limit of the unpacked archive: 64 KiB of text can hold about 48 MB of zeros.
_MOST_UNPACKED_BYTES = 16 * 2**20
# More than the .npy header of one member has.
_HEADERS_BYTES = 1024
# Equal to INT8_TOLERANCE of lstm_edge_exporters.verify.golden, the larger of the two tolerances in files.
LARGEST_TOLERANCE = 1e-2
_SAMPLES_MAY_MISS = 10.0
# An integer of JSON may be larger than any float.
_LARGEST_FLOAT = sys.float_info.max
# NumPy's kinds of booleans, integers and floats, which cannot hold a pickle.
_KINDS = "biuf"


@dataclass(frozen=True, kw_only=True)
class GoldenVector:
    """One set of inputs and its expected outputs, by the names in the graph (states and lengths included).

    ``strides`` holds the stride of each output that is a flat sample (see ``sample``); other outputs have the graph's
    shape. A missing state input is zeros, a missing lengths input is the full length.
    """

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    strides: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Golden:
    """The golden vectors of a file and the largest allowed absolute difference, in the outputs' unit.

    ``tolerance_bodies`` applies if onnxruntime runs the function bodies, ``tolerance_kernels`` if fused kernels run.
    ``tolerance_outputs`` has the smaller tolerance, with both, of outputs whose magnitudes are smaller than others'.
    None may be above ``LARGEST_TOLERANCE`` times the largest magnitude among the expected outputs, or of that output
    (times 1 if that is below 1). This is the largest tolerance that an export writes, for a quantized model; with a
    larger one, a self-test would not detect wrong weights. If an output is a sample, ten times this limit is accepted,
    because the sample may lack the largest magnitude.
    """

    vectors: tuple[GoldenVector, ...]
    tolerance_bodies: float
    tolerance_kernels: float
    tolerance_outputs: Mapping[str, float] = field(default_factory=dict)

    def tolerance(self, output: str, *, kernels: bool) -> float:
        """Return the largest allowed absolute difference of an output, with fused kernels or without."""
        whole = self.tolerance_kernels if kernels else self.tolerance_bodies
        return min(whole, self.tolerance_outputs.get(output, whole))


def sample(array: Array, most: int = _MOST_ELEMENTS) -> tuple[Array, int]:
    """Return at most ``most`` (4,096) evenly spaced elements.

    Args:
        array: any shape, read in C order.
        most: the largest number of elements.

    Returns:
        The flat sample ``array.ravel()[::stride]`` and the stride, which is 1 up to ``most`` elements. The stride
        and the number of elements are coprime, so that the sample covers every column of the last axis.
    """
    stride = max(1, math.ceil(array.size / most))
    while stride > 1 and math.gcd(stride, array.size) != 1:
        stride += 1
    return array.reshape(-1)[::stride], stride


def encode_golden(golden: Golden) -> str:
    """Return the golden vectors as the text of the metadata entry; large outputs are sampled.

    Equal vectors give equal text: NumPy stamps every member of its archives with the same constant date.

    Raises:
        ArtifactError: the text is over 64 KiB, the arrays are over 16 MiB, a tolerance is not a finite number of at
            least 0 or is larger than ``Golden`` allows, or an array holds something other than numbers.
    """
    members: dict[str, Array] = {}
    stored = []
    for index, vector in enumerate(golden.vectors):
        outputs: dict[str, Array] = {}
        strides: dict[str, int] = {}
        members |= {f"{index}.in.{name}": np.asarray(array) for name, array in sorted(vector.inputs.items())}
        for name, array in sorted(vector.outputs.items()):
            flat, stride = (array, vector.strides[name]) if name in vector.strides else sample(np.asarray(array))
            outputs[name], strides[name] = np.asarray(flat), stride
            # A name that ends like the name of a sample always gets its stride, so that it stays unambiguous.
            if stride == 1 and not _SAMPLED.fullmatch(name):
                members[f"{index}.out.{name}"] = np.asarray(array)
            else:
                members[f"{index}.out.{name}@{stride}"] = flat
        stored.append(GoldenVector(inputs=vector.inputs, outputs=outputs, strides=strides))
    tolerance: dict[str, Any] = {"bodies": golden.tolerance_bodies, "kernels": golden.tolerance_kernels}
    if golden.tolerance_outputs:
        tolerance["outputs"] = dict(golden.tolerance_outputs)
    for name, array in members.items():
        if array.dtype.kind not in _KINDS:
            raise ArtifactError(
                f"golden vectors: {name} has dtype {array.dtype}; only numbers and booleans are allowed"
            )
    _check_tolerances(tolerance, stored)
    unpacked_bytes = sum(array.nbytes for array in members.values())
    if unpacked_bytes > _MOST_UNPACKED_BYTES - _HEADERS_BYTES * len(members):
        raise ArtifactError(
            f"the golden vectors have {unpacked_bytes:,} bytes of inputs and outputs, at most "
            f"{_MOST_UNPACKED_BYTES:,} are allowed: use fewer or shorter sequences"
        )
    archive = io.BytesIO()
    np.savez_compressed(archive, **cast(Any, members))  # the stub gives the arrays the type of a flag
    npz = base64.b64encode(archive.getvalue()).decode()
    text = json.dumps({"tolerance": tolerance, "npz": npz}, sort_keys=True)
    if len(text) > MOST_TEXT_BYTES:
        raise ArtifactError(
            f"the golden vectors take {len(text)} bytes, at most {MOST_TEXT_BYTES} are allowed: "
            "use fewer or shorter sequences"
        )
    return text


_SAMPLED = re.compile(r"(.*)@([1-9][0-9]{0,15})", re.DOTALL)
_MEMBER = re.compile(r"(0|[1-9][0-9]{0,5})\.(in|out)\.(.+)\.npy", re.DOTALL)
_DAMAGED = "the golden vectors are damaged"


def decode_golden(text: str) -> Golden:
    """Read golden vectors from the text of the metadata entry; large outputs stay flat samples.

    Raises:
        ArtifactError: the text has another form than ``encode_golden`` writes, or unpacks to more than 16 MiB.
    """
    if len(text) > MOST_TEXT_BYTES:
        raise ArtifactError(f"{_DAMAGED}: {len(text)} bytes of text, at most {MOST_TEXT_BYTES} are allowed")
    try:
        document = parse_json(text)
        tolerance = document["tolerance"]
        bodies, kernels = tolerance["bodies"], tolerance["kernels"]
        packed = base64.b64decode(document["npz"], validate=True)
    except (ValueError, TypeError, KeyError, binascii.Error) as error:
        raise ArtifactError(f"{_DAMAGED}: the text is not the JSON that was expected ({error!r})") from error
    vectors = _group(_unpack(packed))
    _check_tolerances(tolerance, vectors)
    outputs = {name: float(value) for name, value in tolerance.get("outputs", {}).items()}
    return Golden(
        vectors=vectors, tolerance_bodies=float(bodies), tolerance_kernels=float(kernels), tolerance_outputs=outputs
    )


def _check_tolerances(tolerance: Mapping[str, Any], vectors: Sequence[GoldenVector]) -> None:
    """Refuse a value that is not a tolerance, and a tolerance that other weights would also meet; see ``Golden``."""
    largest: dict[str, float] = {}
    sampled = {name for vector in vectors for name, stride in vector.strides.items() if stride > 1}
    for name, array in (pair for vector in vectors for pair in vector.outputs.items()):
        finite = np.abs(array[np.isfinite(array)].astype(np.float64))
        largest[name] = max(largest.get(name, 0.0), float(finite.max()) if finite.size else 0.0)
    overall = max(largest.values(), default=0.0)
    for kind in ("bodies", "kernels"):
        _check_tolerance(f"tolerance.{kind}", tolerance[kind], overall, "expected outputs", sampled=bool(sampled))
    outputs = tolerance.get("outputs", {})
    if not isinstance(outputs, Mapping):
        raise ArtifactError(f"golden vectors: tolerance.outputs must be an object, got {repr(outputs)[:40]}")
    for name, value in outputs.items():
        if name not in largest:
            raise ArtifactError(f"golden vectors: tolerance.outputs has {name!r}, which is not among the outputs")
        what = f"expected values of {name!r}"
        _check_tolerance(f"tolerance.outputs[{name!r}]", value, largest[name], what, sampled=name in sampled)


def _check_tolerance(path: str, value: object, largest: float, what: str, *, sampled: bool) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not (0 <= value <= _LARGEST_FLOAT):
        raise ArtifactError(f"golden vectors: {path} must be a finite number of at least 0, got {repr(value)[:40]}")
    most = LARGEST_TOLERANCE * max(1.0, largest) * (_SAMPLES_MAY_MISS if sampled else 1.0)
    if value > most:
        raise ArtifactError(
            f"golden vectors: {path} is {repr(value)[:40]}, at most {most:.3g} is allowed for {what} of up to "
            f"{largest:.3g}: other weights would also pass with it; export the model again"
        )


def _unpack(packed: bytes) -> dict[str, Array]:
    with (
        translated(ArtifactError, f"{_DAMAGED}: the archive cannot be read"),
        open_archive(io.BytesIO(packed), Budget(_MOST_UNPACKED_BYTES)) as members,
    ):
        unpacked_bytes = sum(member.declared_bytes for member in members.values())
        if unpacked_bytes > _MOST_UNPACKED_BYTES:
            raise ArtifactError(
                f"{_DAMAGED}: they unpack to {unpacked_bytes} bytes, at most {_MOST_UNPACKED_BYTES} are allowed"
            )
        return {name: _read_array(member.read()) for name, member in members.items()}


def _read_array(data: bytes) -> Array:
    """Read one .npy member; its size must equal the size in its header, so a wrong header allocates nothing."""
    header, size = read_header(io.BytesIO(data))
    if header.dtype.kind not in _KINDS or header.size_bytes != len(data) - size:
        raise ValueError(f"an array declares {header}, but {len(data) - size} bytes follow")
    array = np.frombuffer(data, header.dtype, offset=size) if header.size_bytes else np.empty(0, header.dtype)
    return array.reshape(header.shape, order="F" if header.fortran_order else "C")


def _group(members: Mapping[str, Array]) -> tuple[GoldenVector, ...]:
    inputs: dict[int, dict[str, Array]] = {}
    outputs: dict[int, dict[str, Array]] = {}
    strides: dict[int, dict[str, int]] = {}
    for member, array in members.items():
        parts = _MEMBER.fullmatch(member)
        if parts is None:
            raise ArtifactError(f"{_DAMAGED}: unexpected member {member!r}")
        index, name = int(parts[1]), parts[3]
        sampled = _SAMPLED.fullmatch(name) if parts[2] == "out" else None
        if sampled:
            name = sampled[1]
            strides.setdefault(index, {})[name] = int(sampled[2])
        (inputs if parts[2] == "in" else outputs).setdefault(index, {})[name] = array
    if set(inputs) != set(outputs) or set(inputs) != set(range(len(inputs))):
        raise ArtifactError(f"{_DAMAGED}: a vector lacks its inputs or its outputs")
    return tuple(
        GoldenVector(inputs=inputs[index], outputs=outputs[index], strides=strides.get(index, {}))
        for index in sorted(inputs)
    )
