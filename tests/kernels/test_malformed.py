"""A malformed node is an error that onnxruntime reports with the kernel's sentence, never a read past a buffer."""

import numpy as np
import pytest
from kernel_cases import INT4, INT8, STATE, cell, feeds_of, linear, one_node, resized, with_scheme

from lstm_edge_exporters.functions.names import CellVariant
from lstm_edge_runtime.errors import ArtifactError
from lstm_edge_runtime.providers import RUNTIME_ERRORS

FULL = CellVariant(storage="int8", peephole="full", projected=True, ragged=True)
FULL4 = CellVariant(storage="int4", peephole="full", projected=True)
FLOAT = CellVariant(peephole="full", projected=True)
DIAGONAL = CellVariant(storage="int8", peephole="diagonal")


def remade(operator, weights):
    """A model of the operator with other weights; without its function, so that only a kernel can run it."""
    inputs = ("x", *weights) if operator.variant is None else operator.variant.inputs
    return one_node(operator.name, inputs, operator.outputs, weights, body=False)


@pytest.mark.slow
@pytest.mark.parametrize("variant", [FULL, FULL4, FLOAT, DIAGONAL], ids=lambda variant: variant.name)
def test_a_constant_of_any_other_shape_is_refused(kernel, variant):
    # Sizes in which no changed axis can be mistaken for another valid operator, nor an odd column for padding.
    operator = cell(variant, 66, 20, 10, with_scheme(variant)[-1])
    kernel(remade(operator, operator.weights))  # as it is, it opens
    refused = 0
    for name, array in operator.weights.items():
        for axis in range(array.ndim):
            for by in (-1, 1):
                if name == "w" and axis == 0 and variant.storage != "int4":
                    continue  # the number of inputs is whatever w says
                weights = dict(operator.weights) | {name: resized(array, axis, by)}
                if (name, axis) in {("w", 0), ("r", 0), ("v", 0)} and variant.storage == "int4":
                    continue  # below, where blocks decide
                with pytest.raises(ArtifactError, match=rf"{variant.name}: (input \w+ has shape|[a-z ]+)"):
                    kernel(remade(operator, weights))
                refused += 1
        for changed in (array[None], array.reshape(-1)[0].reshape(())):
            with pytest.raises(ArtifactError, match=rf"{variant.name}: input {name} has shape"):
                kernel(remade(operator, dict(operator.weights) | {name: changed}))
    assert refused >= 8


def test_the_sentence_names_operator_input_and_shape(kernel):
    operator = cell(CellVariant(storage="int8"), 5, 7, 7, INT8)
    weights = dict(operator.weights) | {"r": operator.weights["r"][:, :-4]}
    with pytest.raises(ArtifactError, match=r"LstmInt8V1: input r has shape \[7, 24\]"):
        kernel(remade(operator, weights))


def test_recurrent_rows_must_be_the_cells(kernel):
    operator = cell(CellVariant(storage="int8"), 5, 7, 7, INT8)
    weights = dict(operator.weights) | {"r": operator.weights["r"][:-1]}
    with pytest.raises(ArtifactError, match="LstmInt8V1: "):
        kernel(remade(operator, weights))


def test_columns_must_divide_into_gates(kernel):
    operator = cell(CellVariant(storage="int8"), 5, 7, 7, INT8)
    cut = {"w": (..., slice(0, 26)), "w_scale": (slice(0, 26),)}
    weights = {name: array[cut[name]] if name in cut else array for name, array in operator.weights.items()}
    with pytest.raises(ArtifactError, match="LstmInt8V1: the columns do not divide into gates"):
        kernel(remade(operator, weights))


def test_empty_constants_are_refused(kernel):
    operator = linear("LinearInt8V1", 5, 7, INT8)
    for name, empty in (("w", np.zeros((0, 7), np.int8)), ("w", np.zeros((5, 0), np.int8))):
        with pytest.raises(ArtifactError, match="LinearInt8V1: input w has shape"):
            kernel(remade(operator, dict(operator.weights) | {name: empty}))


def test_a_weight_of_minus_128_is_refused(kernel):
    for operator in (cell(CellVariant(storage="int8"), 5, 7, 7, INT8), linear("LinearInt8V1", 5, 7, INT8)):
        broken = operator.weights["w"].copy()
        broken[-1, -1] = -128
        with pytest.raises(
            ArtifactError, match=f"{operator.name}: a weight is -128, which the operator does not allow"
        ):
            kernel(remade(operator, dict(operator.weights) | {"w": broken}))


def test_blocks_of_another_size_are_refused(kernel):
    operator = linear("LinearInt4V1", 200, 6, INT4[2])
    for blocks in (1, 3, 6, 8, 200):
        scale = np.ones((blocks, 6), np.float32)
        zero = np.full((blocks, 6), 7, np.uint8)
        with pytest.raises(ArtifactError, match="LinearInt4V1: "):
            kernel(remade(operator, dict(operator.weights) | {"w_scale": scale, "w_zero": zero}))
    with pytest.raises(ArtifactError, match="LinearInt4V1: zero points must be one, or one for each scale"):
        kernel(remade(operator, dict(operator.weights) | {"w_zero": np.full((7, 1), 8, np.uint8)}))


@pytest.mark.parametrize("name", ["w", "w_scale", "r", "r_scale", "b"])
def test_a_weight_that_is_no_constant_is_refused(kernel, name):
    variant = CellVariant(storage="int8")
    operator = cell(variant, 5, 7, 7, INT8)
    weights = {key: array for key, array in operator.weights.items() if key != name}
    # The graph's own input, of the operator's type, takes the constant's place.
    types = {name: operator.weights[name].dtype}
    model = one_node(variant.name, variant.inputs, STATE, weights, body=False, types=types)
    with pytest.raises(ArtifactError, match=f"input {name} must be a constant"):
        kernel(model)


@pytest.mark.parametrize("missing", ["w", "w_scale", "b", "p", "po_scale", "v"])
def test_a_missing_constant_is_refused(kernel, missing):
    operator = cell(FULL, 5, 7, 4, INT8)
    inputs = tuple("" if name == missing else name for name in FULL.inputs)
    weights = {name: array for name, array in operator.weights.items() if name != missing}
    with pytest.raises(ArtifactError, match="onnxruntime cannot read the model"):
        kernel(one_node(FULL.name, inputs, STATE, weights, body=False))


def test_too_few_inputs_are_refused(kernel):
    operator = cell(FULL, 5, 7, 4, INT8)
    with pytest.raises(ArtifactError, match="onnxruntime cannot read the model"):
        kernel(one_node(FULL.name, FULL.inputs[:5], STATE, operator.weights, body=False))


@pytest.mark.parametrize("variant", [FULL, FULL4, FLOAT, DIAGONAL], ids=lambda variant: variant.name)
def test_inputs_of_other_shapes_are_refused_at_each_run(kernel, variant):
    operator = cell(variant, 6, 11, 5, with_scheme(variant)[0])
    session, feeds = kernel(operator.model), feeds_of(operator, 4, 3)
    good = session.run(None, feeds)
    for name, array in feeds.items():
        for axis in range(array.ndim):
            for by in (-1, 1):
                if name == "x" and axis == 0:
                    continue  # any number of steps
                with pytest.raises(RUNTIME_ERRORS, match=f"{variant.name}: "):
                    session.run(None, feeds | {name: resized(array, axis, by)})
    # No steps and no rows are refused too; and the kernel is as good as new afterwards.
    none = {name: array[:0] if name == "lengths" else array[:, :0] for name, array in feeds.items()}
    for empty in (feeds | {"x": feeds["x"][:0]}, none):
        with pytest.raises(RUNTIME_ERRORS, match=f"{variant.name}: x has shape"):
            session.run(None, empty)
    for before, after in zip(good, session.run(None, feeds), strict=True):
        assert before.tobytes() == after.tobytes()


@pytest.mark.parametrize("rank", [1, 2, 4, 5])
def test_inputs_of_other_ranks_are_refused(kernel, rank):
    variant = CellVariant(storage="int8")
    operator = cell(variant, 6, 11, 11, INT8)
    # A graph that declares no ranks would be needed to reach the kernel; declare them as they will be given.
    model = one_node(variant.name, variant.inputs, STATE, operator.weights, rank=rank, body=False)
    session = kernel(model)
    feeds = {name: np.zeros((1,) * (rank - 1) + (size,), np.float32) for name, size in (("x", 6), ("h", 11), ("c", 11))}
    with pytest.raises(RUNTIME_ERRORS, match=r"LstmInt8V1: x has shape \[.*\], expected \[time, batch, 6\]"):
        session.run(None, feeds)


def test_linear_refuses_another_last_axis(kernel):
    operator = linear("LinearInt8V1", 6, 4, INT8, rank=2)
    session = kernel(operator.model)
    for shape in ((3, 5), (3, 7), (3, 0)):
        with pytest.raises(RUNTIME_ERRORS, match="LinearInt8V1: the last axis of x is not 6"):
            session.run(None, {"x": np.zeros(shape, np.float32)})


@pytest.mark.parametrize("variant", [FULL, FULL4], ids=lambda variant: variant.name)
@pytest.mark.parametrize("wrong", [0.0, -1e-3, np.nan, np.inf], ids=str)
def test_a_scale_must_be_positive_and_finite(kernel, variant, wrong):
    operator = cell(variant, 66, 20, 10, with_scheme(variant)[-1])
    scales = [name for name in operator.weights if name.endswith("_scale")]
    assert len(scales) == 5
    for name in scales:
        scale = operator.weights[name].copy()
        scale.flat[-1] = wrong
        with pytest.raises(ArtifactError, match=f"{variant.name}: input {name} holds a scale that is not positive"):
            kernel(remade(operator, dict(operator.weights) | {name: scale}))
