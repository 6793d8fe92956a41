"""Sparse matrices: the bits of the dense operator with the same weights, and every malformed index refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import INT4, INT8, STATE, answers, assert_bits, cell, feeds_of, one_node, one_state
from support.stored_weights import GATES

from lstm_edge_exporters.functions import CellVariant, GruVariant, Places, RnnVariant, gather_blocks, scatter_blocks
from lstm_edge_exporters.functions.names import all_cells, all_grus, all_rnns
from lstm_edge_runtime.errors import ArtifactError
from lstm_edge_runtime.providers import open_session
from lstm_edge_runtime.session import Session

SPARSE = CellVariant(storage="sparse_int8")
# One operator of each cell and storage with a sparse matrix beside one in another storage or none.
PAIRS = [v for v in (*all_cells(), *all_grus(), *all_rnns()) if "sparse_int8" in (v.storage, v.w_storage)]
# (I, H, P), (T, B): below a block, whole blocks, and sizes that cut the last block both ways.
SIZES = (((3, 1, 1), (2, 1)), ((32, 64, 16), (9, 1)), ((70, 100, 37), (5, 7)), ((130, 33, 9), (3, 20)))


def dense_twin(operator):
    """The operator's weights with every sparse matrix as a dense one, and the model that runs them."""
    variant, weights = operator.variant, dict(operator.weights)
    gates = GATES[type(variant)]
    for name in ("w", "r"):
        if variant.storage_of(name) != "sparse_int8":
            continue
        places = Places(int(weights.pop(f"{name}_rows")[0]), gates, len(weights["b"]) // gates)
        weights[name] = scatter_blocks(weights[name], weights.pop(f"{name}_index"), places)
    dense = {"sparse_int8": "int8"}
    pair = [dense.get(variant.storage_of(name), variant.storage_of(name)) for name in "wr"]
    flags = {key: value for key, value in vars(variant).items() if key not in ("storage", "w_storage")}
    twin = type(variant)(w_storage=pair[0], storage=pair[1], **flags)
    return one_node(twin.name, twin.inputs, operator.outputs, weights)


def made(variant, sizes, seed):
    scheme = INT4[seed % 4] if "int4" in (variant.storage, variant.w_storage) else INT8
    if isinstance(variant, CellVariant):
        return cell(variant, *sizes, scheme, seed=seed)
    return one_state(variant, *sizes[:2], scheme, seed=seed)


@pytest.mark.parametrize("variant", PAIRS[::3], ids=lambda variant: variant.name)
def test_the_bits_of_the_dense_operator(kernel, variant):
    for seed, (sizes, (time, batch)) in enumerate(SIZES):
        operator = made(variant, sizes, seed)
        feeds = feeds_of(operator, time, batch, seed=seed)
        got = answers(kernel(operator.model), operator, feeds)
        assert_bits(got, answers(kernel(dense_twin(operator)), operator, feeds), f"{operator}")


@pytest.mark.parametrize("variant", [SPARSE, GruVariant(storage="sparse_int8"), RnnVariant(storage="sparse_int8")])
def test_the_body_gives_the_bits_of_the_dense_body(variant):
    for seed, (sizes, (time, batch)) in enumerate(SIZES[1:]):
        operator = made(variant, sizes, seed)
        feeds = feeds_of(operator, time, batch, seed=seed)
        got = answers(open_session(operator.model), operator, feeds)
        assert_bits(got, answers(open_session(dense_twin(operator)), operator, feeds), f"{operator}")


@given(st.integers(1, 40), st.integers(1, 4), st.integers(1, 50), st.integers(0, 2**32 - 1))
@settings(max_examples=200, deadline=None)
def test_blocks_go_back_to_their_places(rows, gates, cells, seed):
    rng = np.random.default_rng(seed)
    places = Places(rows, gates, cells)
    matrix = rng.integers(-127, 128, (rows, gates * cells)).astype(np.int8) * (rng.random((rows, 1)) < 0.3)
    blocks, index = gather_blocks(matrix.astype(np.int8), places)
    assert np.array_equal(scatter_blocks(blocks, index, places), matrix)
    assert len(index) >= 1
    assert (np.diff(index) > 0).all()
    assert index[-1] < places.total
    # The number of a block, spelled out: the first weight of block column q, block row g is M[4g, 16j of its gate].
    for block, number in zip(blocks, index.tolist(), strict=True):
        column, row = divmod(number, places.height)
        gate, j = divmod(column, places.per_gate)
        assert block[0, 0] == matrix[4 * row, gate * cells + 16 * j]


def remade(operator, **changed):
    weights = dict(operator.weights) | changed
    return one_node(operator.name, operator.variant.inputs, operator.outputs, weights, body=False)


@pytest.fixture(scope="module")
def sound():
    # 9 rows: 3 block rows; 20 cells: 2 block columns a gate, 8 in all: places 0..23.
    return cell(SPARSE, 9, 20, 20, INT8)


@pytest.mark.parametrize(
    ("index", "sentence"),
    [
        ([-1], "w_index has -1 after -1"),
        ([24], "w_index has 24 after -1: the numbers of blocks must increase and stay below 24"),
        ([3, 3], "w_index has 3 after 3"),
        ([5, 4], "w_index has 4 after 5"),
        ([2**31 - 1], "w_index has 2147483647"),
        ([-(2**31)], "w_index has -2147483648"),
    ],
)
def test_a_number_out_of_place_is_refused(kernel, sound, index, sentence):
    blocks = np.zeros((len(index), 4, 16), np.int8)
    with pytest.raises(ArtifactError, match=f"LstmSparseInt8V1: input {sentence}"):
        kernel(remade(sound, w=blocks, w_index=np.array(index, np.int32)))


def test_a_weight_outside_of_the_matrix_is_refused(kernel, sound):
    # Block row 2 has one row of the matrix; block column 1 of a gate has four cells.
    for number, row, lane in ((2, 1, 0), (3, 0, 4)):
        blocks = np.zeros((1, 4, 16), np.int8)
        index = np.array([number], np.int32)
        kernel(remade(sound, w=blocks, w_index=index))
        blocks[0, row, lane] = 1
        with pytest.raises(ArtifactError, match="input w has a weight outside of the matrix"):
            kernel(remade(sound, w=blocks, w_index=index))


@pytest.mark.parametrize(
    "changed",
    [
        {"w": np.zeros((0, 4, 16), np.int8), "w_index": np.zeros(0, np.int32)},
        {"w": np.zeros((2, 4, 16), np.int8), "w_index": np.zeros(1, np.int32)},
        {"w": np.zeros((1, 16, 4), np.int8), "w_index": np.zeros(1, np.int32)},
        {"w": np.zeros((1, 64), np.int8), "w_index": np.zeros(1, np.int32)},
        {"w_rows": np.array([0])},
        {"w_rows": np.array([-4])},
        {"w_rows": np.array([2**18 + 1])},
        {"w_rows": np.array([2**62])},
        {"w_rows": np.array([9, 9])},
        {"r_rows": np.array([21])},
        {"r_rows": np.array([19])},
        {"w_scale": np.ones(79, np.float32)},
        {"w": np.full((1, 4, 16), -128, np.int8), "w_index": np.zeros(1, np.int32)},
    ],
    ids=lambda changed: " ".join(f"{key}{list(array.shape)}" for key, array in changed.items()),
)
def test_other_sizes_are_refused(kernel, sound, changed):
    with pytest.raises(ArtifactError, match="LstmSparseInt8V1: "):
        kernel(remade(sound, **changed))


def test_columns_have_the_bound_of_dense_ones(kernel):
    rows = 1044
    matrix = np.zeros((rows, 4), np.int8)
    matrix[:1040, 2] = 127  # 132,080 of 132,104
    places = Places(rows, 4, 1)
    one = np.zeros((1, 4), np.int8)

    def model(last):
        matrix[1040, 2] = last
        weights = {"w_scale": np.ones(4, np.float32), "w_rows": np.array([rows])}
        weights["w"], weights["w_index"] = gather_blocks(matrix, places)
        weights |= {"r_scale": np.ones(4, np.float32), "r_rows": np.array([1]), "b": np.zeros(4, np.float32)}
        weights["r"], weights["r_index"] = gather_blocks(one, Places(1, 4, 1))
        return one_node(SPARSE.name, SPARSE.inputs, STATE, weights, body=False)

    kernel(model(24))
    with pytest.raises(ArtifactError, match="column 2 of input w sum to 132105, at most 132104"):
        kernel(model(25))


@pytest.mark.parametrize("index", [[3, 3], [5, 4], [-1, 2], [0, 24]])
@pytest.mark.parametrize("kernels", ["off", "required"])
def test_bodies_refuse_numbers_that_kernels_refuse(sound, tmp_path, kernels, index):
    weights = dict(sound.weights) | {"w": np.ones((2, 4, 16), np.int8), "w_index": np.array(index, np.int32)}
    path = tmp_path / "m.onnx"
    path.write_bytes(sound.model)
    Session(path, kernels=kernels)
    path.write_bytes(one_node(sound.name, sound.variant.inputs, STATE, weights))
    with pytest.raises(ArtifactError, match="LstmSparseInt8V1: "):
        Session(path, kernels=kernels)
