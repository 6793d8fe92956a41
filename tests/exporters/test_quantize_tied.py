"""A table that an embedding and the output layer share is stored once, however the output layer reads it."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.networks import build, operators, seeded, snr_db
from support.onnx_files import FLOAT, LEAST_SNR_DB, model
from torch import Tensor, nn

from lstm_edge_exporters.quantize import Scheme, quantize_bytes
from lstm_edge_exporters.quantize.rounding import round_rows
from lstm_edge_runtime.session import Session

V, E = 70, 24
INT64 = TensorProto.INT64
IDS = np.random.default_rng(3).integers(0, V, (2, 5))


def table(seed: int = 0) -> np.ndarray:
    scales = np.linspace(0.2, 3.0, V)[:, None]
    return (np.random.default_rng(seed).standard_normal((V, E)) * scales).astype(np.float32)


def forms(weight: np.ndarray) -> dict[str, tuple[list[onnx.NodeProto], dict[str, np.ndarray]]]:
    """Nodes that make ``rows`` of ``ids`` and ``logits`` of ``x`` from one table [V, E], and their constants."""
    look = helper.make_node("Gather", ["w", "ids"], ["rows"], name="embedding/Gather")
    turned = helper.make_node("Transpose", ["w"], ["turned"], name="turn", perm=[1, 0])
    product = helper.make_node("MatMul", ["x", "turned"], ["logits"], name="head/MatMul")
    copied = helper.make_node("Gemm", ["flat", "w", "bias"], ["logits"], name="head/Gemm", transB=1)
    flat = helper.make_node("Flatten", ["x"], ["flat"], name="flatten", axis=1)
    bias = np.linspace(-1, 1, V).astype(np.float32)
    rows = helper.make_node("Gather", ["turned", "ids"], ["rows"], name="embedding/Gather")
    direct = helper.make_node("MatMul", ["x", "w"], ["logits"], name="head/MatMul")
    squeeze = helper.make_node("Squeeze", ["wide", "zero"], ["w"], name="squeeze")
    shape = helper.make_node("Reshape", ["long", "sizes"], ["w"], name="shape")
    return {
        "through Transpose": ([look, turned, product], {"w": weight}),
        "Gemm, transB": ([look, flat, copied], {"w": weight, "bias": bias}),
        "embedding through Transpose": ([turned, rows, direct], {"w": weight.T.copy()}),
        "a turned copy": ([look, product], {"w": weight, "turned": weight.T.copy()}),
        "Squeeze and Transpose": (
            [squeeze, look, turned, product],
            {"wide": weight[None], "zero": np.array([0])},
        ),
        "Reshape and Transpose": (
            [shape, turned, product, look],
            {"long": weight.reshape(-1), "sizes": np.array([V, E])},
        ),
    }


def file_of(nodes: list[onnx.NodeProto], arrays: dict[str, np.ndarray], ids: list[Any] | None = None) -> bytes:
    inputs = {"ids": (INT64, ["batch", "time"] if ids is None else ids), "x": (FLOAT, ["batch", E])}
    return model(nodes, inputs, {"rows": [None] * (3 if ids is None else len(ids) + 1), "logits": ["batch", V]}, arrays)


def stored(data: bytes) -> dict[str, int]:
    """Elements of large constants by the name of their type."""
    found: dict[str, int] = {}
    for tensor in onnx.load_from_string(data).graph.initializer:
        if np.prod(tensor.dims) >= E * V:
            name = TensorProto.DataType.Name(tensor.data_type)
            found[name] = found.get(name, 0) + int(np.prod(tensor.dims))
    return found


def answers(data: bytes, ids: np.ndarray = IDS, *, kernels: str = "off") -> dict[str, np.ndarray]:
    x = np.random.default_rng(5).standard_normal((len(IDS), E)).astype(np.float32)
    return Session(data, kernels=kernels).run({"ids": ids, "x": x})[0]


@pytest.mark.parametrize("form", forms(table()))
def test_one_int8_table(form: str) -> None:
    data = file_of(*forms(table())[form])
    int8 = quantize_bytes(data).data
    assert stored(int8) == {"INT8": V * E}
    rounded, scale = round_rows("table", table())
    whole, got = answers(data), answers(int8)
    np.testing.assert_array_equal(got["rows"], (rounded * scale)[IDS])
    assert snr_db(whole["logits"], got["logits"]) > LEAST_SNR_DB
    for name, array in answers(int8, kernels="auto").items():
        np.testing.assert_array_equal(array, got[name])


@pytest.mark.parametrize("form", forms(table()))
def test_one_float16_table(form: str) -> None:
    data = file_of(*forms(table())[form])
    half = quantize_bytes(data, scheme="float16").data
    assert stored(half) == {"FLOAT16": V * E}
    rounded = table().astype(np.float16).astype(np.float32)
    got = answers(half)
    np.testing.assert_array_equal(got["rows"], rounded[IDS])
    whole = answers(file_of(*forms(rounded)[form]))
    np.testing.assert_allclose(got["logits"], whole["logits"], atol=1e-5)


@pytest.mark.parametrize("ids", [[], ["batch"], [2, 5, "n"]], ids=str)
def test_rows_of_ids_of_any_rank(ids: list[Any]) -> None:
    data = file_of(*forms(table())["through Transpose"], ids=ids)
    given = np.random.default_rng(4).integers(0, V, [2, 5, 3][: len(ids)])
    rounded, scale = round_rows("table", table())
    int8 = quantize_bytes(data).data
    assert stored(int8) == {"INT8": V * E}
    np.testing.assert_array_equal(answers(int8, given)["rows"], (rounded * scale)[given])


def test_rows_of_ids_whose_rank_nothing_says() -> None:
    nodes, arrays = forms(table())["through Transpose"]
    nodes = [helper.make_node("Reshape", ["ids", "form"], ["shaped"], name="again"), *nodes]
    nodes[1] = helper.make_node("Gather", ["w", "shaped"], ["rows"], name="embedding/Gather")
    double = helper.make_node("Shape", ["ids"], ["form"], name="shape")
    data = file_of([double, *nodes], arrays)
    int8 = quantize_bytes(data).data
    assert stored(int8) == {"INT8": V * E}
    rounded, scale = round_rows("table", table())
    np.testing.assert_array_equal(answers(int8)["rows"], (rounded * scale)[IDS])
    assert operators(int8).count("Reshape") == 3


def test_what_is_not_shared() -> None:
    """Other numbers, another scheme, or a scaled product: each layer stores its own."""
    nodes, arrays = forms(table())["a turned copy"]
    apart = quantize_bytes(file_of(nodes, arrays | {"turned": table(1).T.copy()})).data
    assert stored(apart) == {"INT8": 2 * V * E}
    mixed = quantize_bytes(file_of(nodes, arrays), parts={"head": Scheme(kind="float16")}).data
    assert stored(mixed) == {"INT8": V * E, "FLOAT16": V * E}
    nodes, arrays = forms(table())["Gemm, transB"]
    nodes[2].attribute.append(helper.make_attribute("alpha", 0.5))
    scaled = quantize_bytes(file_of(nodes, arrays)).data
    assert stored(scaled) == {"INT8": V * E, "FLOAT": V * E}


def test_two_linear_layers_with_one_matrix_in_float16() -> None:
    """An autoencoder's decoder multiplies the encoder's matrix, transposed."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["code"], name="encoder/MatMul"),
        helper.make_node("Transpose", ["w"], ["turned"], name="turn", perm=[1, 0]),
        helper.make_node("MatMul", ["code", "turned"], ["y"], name="decoder/MatMul"),
    ]
    weight = table().T.copy()
    data = model(nodes, {"x": (FLOAT, ["batch", E])}, {"y": ["batch", E]}, {"w": weight})
    half = quantize_bytes(data, scheme="float16").data
    assert stored(half) == {"FLOAT16": V * E}
    x, rounded = np.eye(E, dtype=np.float32), weight.astype(np.float16).astype(np.float32)
    np.testing.assert_allclose(Session(half).run(x)[0]["y"], rounded @ rounded.T, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("axis", [1, 2, -1])
def test_a_table_that_is_read_along_another_axis_is_stored_as_float16(axis: int) -> None:
    whole = np.moveaxis(np.random.default_rng(0).standard_normal((V, 3, E)).astype(np.float32), 0, axis)
    nodes = [helper.make_node("Gather", ["w", "ids"], ["rows"], name="table/Gather", axis=axis)]
    nodes += [helper.make_node("MatMul", ["x", "head"], ["logits"], name="head/MatMul")]
    arrays = {"w": np.ascontiguousarray(whole), "head": table().T.copy()}
    inputs = {"ids": (INT64, ["n"]), "x": (FLOAT, ["batch", E])}
    data = model(nodes, inputs, {"rows": [None] * 3, "logits": ["batch", V]}, arrays)
    artifact = quantize_bytes(data, scheme="float16")
    assert artifact.card.quantization is not None
    assert artifact.card.quantization.parts["table"] == "float16"
    assert "FLOAT" not in stored(artifact.data)
    got = answers(artifact.data, IDS[0])["rows"]
    np.testing.assert_array_equal(got, np.take(whole.astype(np.float16).astype(np.float32), IDS[0], axis))
    # int8 has no form for it: it stays, and is no layer that the table of coverage would count.
    int8 = quantize_bytes(data)
    assert int8.card.quantization is not None
    assert [row.layer for row in int8.card.quantization.coverage] == ["head"]
    assert stored(int8.data) == {"INT8": V * E, "FLOAT": 3 * V * E}


class Tied(nn.Module):
    """A language model whose output layer has the embedding's matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.gru = nn.Embedding(V, E), nn.GRU(E, E, batch_first=True)
        self.head = nn.Linear(E, V)
        self.head.weight = self.embedding.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.gru(self.embedding(ids))[0])


def test_an_exported_language_model() -> None:
    data = build(seeded(Tied()), None, inputs=["ids: int64[batch, time] in [0, 69]"]).data
    whole = Session(data).run(IDS)[0]["output"]
    sizes = {}
    for scheme, kind in (("int8", "INT8"), ("float16", "FLOAT16")):
        artifact = quantize_bytes(data, scheme=scheme)
        tensors = [t for t in onnx.load_from_string(artifact.data).graph.initializer if sorted(t.dims) == [E, V]]
        assert [TensorProto.DataType.Name(t.data_type) for t in tensors] == [kind]
        sizes[scheme] = sum(
            numpy_helper.to_array(t).nbytes for t in onnx.load_from_string(artifact.data).graph.initializer
        )
        assert snr_db(whole, Session(artifact.data).run(IDS)[0]["output"]) > LEAST_SNR_DB
        assert artifact.card.quantization is not None
        assert {row.layer: row.scheme for row in artifact.card.quantization.coverage}["embedding"] == scheme
    before = sum(numpy_helper.to_array(t).nbytes for t in onnx.load_from_string(data).graph.initializer)
    assert sizes["float16"] < 0.56 * before
    assert sizes["int8"] < 0.33 * before
