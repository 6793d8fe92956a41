"""The C library reads the golden vectors and archives that Python reads, to the bit, and refuses the others alike."""

import base64
import dataclasses
import io
import json
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.c_golden_cases import ONE, damaged, documents, packed
from support.c_parts import answer_of, call_part

from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.files import read_arrays
from lstm_edge_runtime.golden import Golden, GoldenVector, decode_golden, encode_golden

SEEDS = st.integers(0, 2**32)
ARRAYS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "flags": np.array([True, False]),
    "half": np.zeros((0, 3), np.float16),
    "z": np.arange(100_000, dtype=np.uint16),
    "é b": np.int64(-4),  # in the order of the names
}


def shown(arrays: Any) -> dict[str, Any]:
    """Arrays as the C program writes them: the dtype and the shape, and the bytes in the order of this machine."""
    native = {name: np.ascontiguousarray(array, array.dtype.newbyteorder("=")) for name, array in arrays.items()}
    return {name: [f"{array.dtype}{list(arrays[name].shape)}", array.tobytes().hex()] for name, array in native.items()}


def python_golden(text: str) -> str:
    golden = decode_golden(text)
    vectors = [[shown(vector.inputs), shown(vector.outputs), dict(vector.strides)] for vector in golden.vectors]
    tolerances = (golden.tolerance_bodies, golden.tolerance_kernels, dict(golden.tolerance_outputs))
    return json.dumps([*vectors, *tolerances], sort_keys=True)


def assert_same(text: str) -> str:
    """Compare what both give for a text; return "ok" or the class of the refusal."""
    python = answer_of(lambda: python_golden(text))
    c = answer_of(lambda: json.dumps(json.loads(call_part("golden", text.encode())), sort_keys=True))
    if "float128" in python[1] and c[0] == "ArtifactError":
        assert "has dtype" in c[1]  # no model has such a tensor; Python refuses it when it runs the vector
        return c[0]
    assert c == python
    return python[0]


def test_made_golden_vectors_are_the_same() -> None:
    outputs = {"y": np.linspace(-1, 1, 10_000, dtype=np.float32), "hn": np.float32([[[np.inf, 1e-45]]])}
    vector = GoldenVector(inputs={"x": np.ones((2, 3), np.float32), "len": np.array([3, 1])}, outputs=outputs)
    golden = Golden(vectors=(vector, vector), tolerance_bodies=1e-5, tolerance_kernels=1e-6)
    assert assert_same(encode_golden(golden)) == "ok"
    assert assert_same(encode_golden(dataclasses.replace(golden, tolerance_outputs={"y": 1e-7, "hn": 0.0}))) == "ok"


def test_documents_good_and_damaged() -> None:
    texts = documents()
    answers = [assert_same(text) for text in texts]
    assert answers.count("ok") > 40
    assert answers.count("ArtifactError") > 250


def with_damage(seed: int) -> str:
    draw = random.Random(seed)
    document = json.loads(packed(ONE, draw.choice([0, 8])))
    document["npz"] = base64.b64encode(damaged(base64.b64decode(document["npz"]), draw)).decode()
    return json.dumps(document)


def test_damaged_archives() -> None:
    for seed in range(400):
        assert_same(with_damage(seed))


@pytest.mark.long
@settings(max_examples=20_000, deadline=None)
@given(SEEDS)
def test_many_damaged_archives(seed: int) -> None:
    assert_same(with_damage(seed))


def savez(arrays: dict[str, Any], save: Any = np.savez) -> bytes:
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_archive_of_arrays_is_read_and_written_as_numpy_does(save: Any) -> None:
    archive = savez(ARRAYS, save)
    assert json.loads(call_part("read npz", archive)) == shown(ARRAYS)
    written = call_part("write npz", archive)
    assert written == savez(ARRAYS)
    with np.load(io.BytesIO(written)) as loaded:
        assert shown(loaded) == shown(ARRAYS)


def test_other_archives_are_refused_as_read_arrays_does(tmp_path: Any) -> None:
    file = tmp_path / "x.npz"
    made = [
        savez({"a": np.array(["text"])}),
        savez({"a": np.array([1j])}),
        savez({"a": np.array([None])}),
        savez({"a": np.array([b"x"])}),
        *(damaged(savez({"a": np.float32([1, 2]), "b": np.int64(3)}), random.Random(seed)) for seed in range(200)),
    ]
    for archive in made:
        file.write_bytes(archive)
        if not archive.startswith(b"PK"):
            continue
        python = answer_of(lambda: json.dumps(shown(read_arrays(file)), sort_keys=True))
        c = answer_of(lambda archive=archive: call_part("read npz", archive).decode())  # type: ignore[misc]
        if python[0] == "ok" and "complex" not in python[1]:
            assert json.loads(c[1]) == json.loads(python[1])
        elif "Invalid argument" in python[1]:
            assert "negative seek value" in c[1]  # the same of a file and of bytes
        elif python[0] != "ok":
            assert c == (python[0], python[1].replace(f"{file}: not a readable .npy or .npz", "not a readable .npz"))
        else:
            assert c == (
                "InputError",
                "not a readable .npz file of numbers (it holds complex128, which is not a number)",
            )


def test_more_bytes_than_allowed_are_refused() -> None:
    with pytest.raises(InputError, match="more than 1,048,576 bytes of data, at most that many are read"):
        call_part("read npz", savez({"a": np.zeros(2**18, np.float32)}, np.savez_compressed))
