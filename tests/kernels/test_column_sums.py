"""The bound on an int8 column's sum of magnitudes: exact at the limit, refused one above; int4 needs none."""

import numpy as np
import onnx
import pytest
from kernel_cases import STATE, answers, assert_bits, feeds_of, one_node
from kernel_cases import Operator as Case
from onnx import TensorProto, helper

from lstm_edge_exporters.functions.names import CellVariant, GruVariant, RnnVariant
from lstm_edge_exporters.quantize.rounding import LARGEST_COLUMN_SUM
from lstm_edge_runtime.errors import ArtifactError
from lstm_edge_runtime.session import Session

FULL = CellVariant(storage="int8", peephole="full", projected=True)
DIAGONAL = CellVariant(storage="int8", peephole="diagonal", ragged=True)
AFTER, BEFORE = GruVariant(reset_after=True, ragged=True), GruVariant()
# 1,040 weights of 127 and one of 24 reach the limit: the least number of rows that can.
ROWS = LARGEST_COLUMN_SUM // 127 + 1
REST = LARGEST_COLUMN_SUM - 127 * (ROWS - 1)

# Operator and each of its int8 matrices. A matrix of R, P, PO, V has as many rows as the layer is wide.
MATRICES = [
    *((FULL, name) for name in ("w", "r", "p", "po", "v")),
    *((DIAGONAL, name) for name in ("w", "r")),
    *((variant, name) for variant in (AFTER, BEFORE, RnnVariant(relu=True)) for name in ("w", "r")),
    (None, "w"),
]


def named(case):
    return case if isinstance(case, str) else "LinearInt8V1" if case is None else case.name


def wide(variant, matrix, last, signs, *, at, body=False):
    """An operator with 1,040 weights ±127 and one of ±``last`` in column ``at`` of one matrix, and zeros elsewhere."""
    cells = 5 if matrix == "w" else ROWS  # w has its own number of rows
    inputs = ROWS if matrix == "w" else 2
    name = named(variant)
    if variant is None:
        shapes = {"w": (ROWS, 5), "b": (5,)}
    elif isinstance(variant, GruVariant | RnnVariant):
        columns = cells if isinstance(variant, RnnVariant) else 3 * cells
        shapes = {"w": (inputs, columns), "r": (cells, columns), "b": (columns,), "rb": (cells,)}
    else:
        shapes = {"w": (inputs, 4 * cells), "r": (cells, 4 * cells), "b": (4 * cells,), "po": (cells, cells)}
        shapes |= {"p": (cells, 3 * cells) if variant.peephole == "full" else (3, cells), "v": (cells, cells)}
    weights = {}
    for key in ("w", "w_scale", "b") if variant is None else variant.weights:
        if key.endswith("_scale"):
            weights[key] = np.full(shapes[key[:-6]][1], 1 / LARGEST_COLUMN_SUM, np.float32)
        elif key == "b" or not (variant is None or variant.is_quantized(key)):
            weights[key] = np.full(shapes[key], 0.5, np.float32)
        else:
            weights[key] = np.zeros(shapes[key], np.int8)
    weights[matrix][:, at] = signs * 127
    weights[matrix][-1, at] = signs[-1] * last
    inputs_of = ("x", *weights) if variant is None else variant.inputs
    outputs = ("y",) if variant is None else STATE if isinstance(variant, CellVariant) else STATE[:2]
    model = one_node(name, inputs_of, outputs, weights, rank=2 if variant is None else 3, body=body)
    sizes = (shapes["w"][0], *((5, 5) if variant is None else (cells, cells)))
    return Case(name=name, sizes=sizes, weights=weights, variant=variant, model=model)


def largest_feeds(case, signs):
    """Inputs and states of one magnitude, so that each is rounded to 127 or -127; three rows of each sign, T = 2."""
    feeds = feeds_of(case, 2, 6)
    if case.variant is None:
        feeds["x"] = feeds["x"][0]
    for name, array in feeds.items():
        if name == "lengths":
            continue
        row = np.resize(signs, array.shape[-1]).astype(np.float32) * np.float32(0.8)
        feeds[name] = np.where(np.arange(6)[:, None] % 2, row, -row) * np.ones_like(array)
    return feeds


@pytest.mark.slow
@pytest.mark.parametrize("mixed", [False, True], ids=["one sign", "both signs"])
@pytest.mark.parametrize(("variant", "matrix"), MATRICES, ids=named)
def test_at_the_limit_the_answer_is_exact(kernel, variant, matrix, mixed):
    signs = np.where(np.arange(ROWS) % 3 == 1, -1, 1) if mixed else np.ones(ROWS, int)
    case = wide(variant, matrix, REST, signs, at=3)
    assert np.abs(case.weights[matrix].astype(int)).sum(axis=0).max() == LARGEST_COLUMN_SUM == 132_104
    feeds = largest_feeds(case, signs)
    assert_bits(answers(kernel(case.model), case, feeds), case.expected(feeds), f"{case.name} {matrix}")


@pytest.mark.parametrize(("variant", "matrix"), MATRICES, ids=named)
def test_one_above_the_limit_is_refused(kernel, variant, matrix):
    signs = np.where(np.arange(ROWS) % 2, -1, 1)
    for at in (0, 4):
        case = wide(variant, matrix, REST + 1, signs, at=at)
        said = f"{named(variant)}: the magnitudes of column {at} of input {matrix} sum to 132105, at most"
        with pytest.raises(ArtifactError, match=f"{said} 132104 is allowed: quantize the model again"):
            kernel(case.model)


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "matrix"), MATRICES, ids=named)
def test_bodies_refuse_what_kernels_refuse(variant, matrix):
    signs = np.where(np.arange(ROWS) % 2, -1, 1)
    Session(wide(variant, matrix, REST, signs, at=2, body=True).model, kernels="off")
    case = wide(variant, matrix, REST + 1, signs, at=2, body=True)
    said = f"{case.name}: the magnitudes of column 2 of '{matrix}' sum to 132105, at most 132104 is allowed: quantize"
    with pytest.raises(ArtifactError, match=said):
        Session(case.model, kernels="off")


@pytest.mark.parametrize("place", ["constant node", "branch"])
def test_bodies_find_a_matrix_wherever_it_is_stored(place):
    case = wide(None, "w", REST + 1, np.ones(ROWS, int), at=1, body=True)
    model = onnx.load_from_string(case.model)
    graph = model.graph
    if place == "constant node":
        tensor = next(tensor for tensor in graph.initializer if tensor.name == "w")
        graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=tensor))
        graph.initializer.remove(tensor)
    else:
        result = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
        branches = {key: helper.make_graph(list(graph.node), key, [], result) for key in ("then_branch", "else_branch")}
        graph.initializer.append(helper.make_tensor("yes", TensorProto.BOOL, [], [True]))
        del graph.node[:]
        graph.node.append(helper.make_node("If", ["yes"], ["y"], **branches))
    with pytest.raises(ArtifactError, match="LinearInt8V1: the magnitudes of column 1 of 'w' sum to 132105"):
        Session(model.SerializeToString(), kernels="off")


def test_bodies_read_packed_sizes_and_leave_torn_ones_to_onnxruntime():
    # dims 1041 and 5: protobuf's second version writes two fields, its third one field of packed numbers.
    model = wide(None, "w", REST + 1, np.ones(ROWS, int), at=1, body=True).model
    unpacked, packed, torn = b"\x08\x91\x08\x08\x05", b"\x0a\x03\x91\x08\x05", b"\x0a\x03\x91\x08\x85"
    assert model.count(unpacked) == 1
    with pytest.raises(ArtifactError, match="LinearInt8V1: the magnitudes of column 1 of 'w' sum to 132105"):
        Session(model.replace(unpacked, packed), kernels="off")
    with pytest.raises(ArtifactError, match="onnxruntime cannot read the model"):
        Session(model.replace(unpacked, torn), kernels="off")


def test_linear_at_the_limit_counts_by_ones(kernel):
    # Against 64-bit integers: the largest sum is 127 · 132,104, and its neighbours are other float32 numbers.
    signs = np.where(np.arange(ROWS) % 2, -1, 1)
    weights = {
        "w": np.repeat((signs * 127)[:, None], 3, axis=1).astype(np.int8),
        "w_scale": np.full(3, 1.0, np.float32),
        "b": np.zeros(3, np.float32),
    }
    weights["w"][-1] = signs[-1] * np.array([REST, REST - 1, REST - 2])
    session = kernel(one_node("LinearInt8V1", ("x", *weights), ("y",), weights, rank=2, body=False))
    x = np.stack([signs, -signs]).astype(np.float32) * np.float32(127)
    sums = (x.astype(np.int64) @ weights["w"].astype(np.int64)).tolist()
    assert sums[0] == [16_777_208, 16_777_081, 16_776_954]
    assert session.run(None, {"x": x})[0].tolist() == sums


@pytest.mark.parametrize("rows", [133_145, 140_000])
def test_a_sum_that_32_bits_do_not_hold_is_refused(kernel, rows):
    weights = {"w": np.full((rows, 1), 127, np.int8), "w_scale": np.ones(1, np.float32), "b": np.zeros(1, np.float32)}
    with pytest.raises(ArtifactError, match=f"column 0 of input w sum to {127 * rows}, at most 132104 is allowed"):
        kernel(one_node("LinearInt8V1", ("x", *weights), ("y",), weights, rank=2, body=False))


def test_many_rows_of_small_weights_are_allowed(kernel):
    # As many rows as there may be with a weight of 1 each.
    weights = {
        "w": np.ones((LARGEST_COLUMN_SUM, 1), np.int8),
        "w_scale": np.ones(1, np.float32),
        "b": np.zeros(1, np.float32),
    }
    session = kernel(one_node("LinearInt8V1", ("x", *weights), ("y",), weights, rank=2, body=False))
    for sign in (1, -1):
        x = np.full((2, LARGEST_COLUMN_SUM), 127 * sign, np.float32)
        assert session.run(None, {"x": x})[0].tolist() == [[sign * 16_777_208.0]] * 2


# (nibble, zero point): the extremes of nibbles that a quantizer writes, and of zero points that a file may hold.
EXTREMES = [(15, 0), (0, 15), (15, 255), (0, 255), (0, 8), (15, 8)]


@pytest.mark.parametrize("one_zero", [True, False], ids=["one zero point", "one each"])
@pytest.mark.parametrize(("nibble", "zero"), EXTREMES)
@pytest.mark.parametrize("rows", [128, 640, 300])
def test_int4_sums_of_the_largest_block_are_exact(kernel, rows, nibble, zero, one_zero):
    # 128 · 127 · 255 < 2**22: no column of nibbles is too large, however many blocks it has.
    blocks = -(-rows // 128)
    weights = {
        "w": np.full((rows, 2), nibble | nibble << 4, np.uint8),
        "w_scale": np.ones((blocks, 3), np.float32),
        "w_zero": np.full((1, 1) if one_zero else (blocks, 3), zero, np.uint8),
        "b": np.zeros(3, np.float32),
    }
    session = kernel(one_node("LinearInt4V1", ("x", *weights), ("y",), weights, rank=2, body=False))
    # Seven rows: every number of rows that a product takes at once.
    x = np.full((7, rows), 127, np.float32) * np.where(np.arange(7) % 2, -1, 1)[:, None].astype(np.float32)
    exact = x.astype(np.int64).sum(axis=1) * (nibble - zero)
    got = session.run(None, {"x": x})[0]
    assert got.astype(np.int64).tolist() == np.repeat(exact[:, None], 3, axis=1).tolist()
