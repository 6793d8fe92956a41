"""Constant folding: fixed inputs, weights behind other nodes, and the branches that they choose."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from lstm_edge_exporters.onnx_graph.graph import add_constant, constant_of, drop_unused
from lstm_edge_exporters.onnx_graph.quiet import quiet
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.errors import ArtifactError, InputError

__all__ = ["fix_inputs", "fold", "forget_shapes", "parse_fixed"]


# Folding a branch away can make the next condition constant; exporters nest four deep (a published VAD).
MOST_ROUNDS = 8
# The largest constant that folding makes; weights of more cells than any published recurrent layer has.
LARGEST_CONSTANT_BYTES = 2**29

# Nodes that only move or convert elements: folding them changes no answer. Arithmetic on floats is left to
# onnxruntime, so that its sums stay what they are.
_MOVES = frozenset(
    (
        "Cast",
        "Concat",
        "ConstantOfShape",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "Reshape",
        "Shape",
        "Size",
        "Slice",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
        "Pad",
        "ReverseSequence",
        "Range",
    )
)


def parse_fixed(texts: Sequence[str]) -> dict[str, float]:
    """Read ``NAME=VALUE`` pairs, such as ``sr=16000``.

    Raises:
        InputError: a text is not of this form, or a name stands twice.
    """
    fixed: dict[str, float] = {}
    for text in texts:
        name, sign, value = text.rpartition("=")
        number = 0.0
        try:
            number = float({"true": "1", "false": "0"}.get(value.strip().lower(), value))
        except ValueError:
            sign = ""
        if not sign or not name.strip():
            raise InputError(f'--fix {text!r} must look like "sr=16000": an input of the file and a number')
        if name.strip() in fixed:
            raise InputError(f"--fix names {name.strip()!r} twice")
        fixed[name.strip()] = number
    return fixed


def fix_inputs(model: ir.Model, fixed: Mapping[str, float]) -> dict[str, Array]:
    """Make inputs of the graph constants; in place.

    Args:
        model: the model.
        fixed: a number for each input; every element of the input becomes that number.

    Returns:
        The constants, with the dtypes and shapes that the inputs had.

    Raises:
        InputError: there is no such input, it has a dynamic axis, or its dtype cannot hold the number.
    """
    arrays = {}
    for name, number in fixed.items():
        value = next((value for value in model.graph.inputs if value.name == name), None)
        if value is None:
            names = ", ".join(str(value.name) for value in model.graph.inputs)
            raise InputError(f"--fix {name}: the file has no such input; its inputs are {names or 'none'}")
        if value.dtype is None or value.shape is None or not all(isinstance(size, int) for size in value.shape):
            raise InputError(f"--fix {name}: the input has a dynamic axis; only inputs of a fixed shape can be fixed")
        try:
            array = np.full([int(size) for size in value.shape if isinstance(size, int)], number)
            constant = array.astype(value.dtype.numpy())
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(f"--fix {name}: {number:g} is no {value.dtype.name}") from error
        if not np.array_equal(constant.astype(np.float64), array):
            raise InputError(f"--fix {name}: {number:g} is no {value.dtype.name}")
        model.graph.inputs.remove(value)
        value.const_value = ir.tensor(constant, name=name)
        if name not in model.graph.initializers:
            model.graph.register_initializer(value)
        arrays[name] = constant
    return arrays


@quiet()
def fold(model: ir.Model) -> None:
    """Fold what depends on constants alone, and remove the branches that it chooses; in place.

    Weights behind Constant, Unsqueeze, Slice, Concat, Transpose or Cast become initializers of the outermost graph,
    of any size; nodes that ask for a shape that is known become constants too.

    Raises:
        ArtifactError: the graph cannot be folded.
    """
    from onnxscript.optimizer import fold_constants

    try:
        for _ in range(MOST_ROUNDS):
            forget_shapes(model)
            before = sum(1 for _ in model.graph.all_nodes())
            fold_constants(model, onnx_shape_inference=True, should_fold=_may_fold)
            _adopt_nested(model)
            drop_unused(model)
            if sum(1 for _ in model.graph.all_nodes()) == before:
                break
        _fold_weights(model)
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        common.LiftSubgraphInitializersToMainGraphPass()(model)
        drop_unused(model)
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError, IndexError, AssertionError) as error:
        reason = (str(error.__cause__ or error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ArtifactError(f"the graph's constants cannot be folded: {reason}") from error


def _may_fold(node: ir.Node) -> bool:
    """Say whether a node whose inputs are all constant is folded: it only moves elements, or it counts."""
    if node.domain not in ("", "ai.onnx"):
        return False
    arrays = [value.const_value for value in node.inputs if value is not None and value.const_value is not None]
    if node.op_type not in _MOVES and any(array.dtype.is_floating_point() for array in arrays):
        return False
    if node.op_type in ("ConstantOfShape", "Expand", "Tile", "Pad", "Range"):
        return _output_bytes(node) <= LARGEST_CONSTANT_BYTES
    return sum(array.nbytes for array in arrays) <= LARGEST_CONSTANT_BYTES


def _output_bytes(node: ir.Node) -> float:
    """An upper bound of what a node makes that can make much of little; its inputs are constant."""
    arrays = [None if v is None or v.const_value is None else v.const_value.numpy() for v in node.inputs]
    first = arrays[0]
    if first is None or any(array is not None and array.size > 2**20 for array in arrays[1:]):
        return float("inf")
    if node.op_type == "ConstantOfShape":
        return float(np.prod(first.astype(np.float64))) * 8
    if node.op_type == "Range":
        start, limit, delta = (float(array) if array is not None else 0.0 for array in arrays)
        return abs(limit - start) / max(abs(delta), 1e-9) * 8
    second = arrays[1]
    if second is None:
        return float("inf")
    if node.op_type == "Pad":
        grown = np.abs(second.astype(np.float64)).sum() + 1
        return float(first.nbytes + 8) * float(grown) ** max(first.ndim, 1)
    return float(first.nbytes + 8) * float(np.prod(np.abs(second.astype(np.float64)) + 1e-9))


def forget_shapes(model: ir.Model) -> None:
    """Drop the shapes noted on inner values, which may be older than an axis that was fixed since; in place.

    Outputs of graphs keep theirs: ONNX wants one there. Those of the outermost graph keep only their rank.
    """
    for node in model.graph.all_nodes():
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = None
    for value in model.graph.outputs:
        if value.shape is not None and not value.is_graph_input():
            value.shape = ir.Shape([None] * len(value.shape))


def _adopt_nested(model: ir.Model) -> None:
    """Tell nested graphs again what they are nested in, for names that must be unique in all of them."""
    for nested in model.graph.subgraphs():
        nested.meta["lstm_edge.root"] = model.graph


_INPUTS = ("X", "W", "R", "B", "rows", "h", "c", "P", "Ws", "Wz", "Rs", "Rz")
# Positions of the inputs that hold weights: W, R, B of the recurrent operators, P of LSTM, and the scales and zero
# points of DynamicQuantizeLSTM.
_WEIGHTS = {"LSTM": (1, 2, 3, 7), "GRU": (1, 2, 3), "RNN": (1, 2, 3), "DynamicQuantizeLSTM": (1, 2, 3, 7, 8, 9, 10, 11)}


def _fold_weights(model: ir.Model) -> None:
    """Weights that arithmetic stands before (a bias added up, a transposed gate) become initializers too."""
    for node in list(model.graph.all_nodes()):
        for index in _WEIGHTS.get(node.op_type, ()):
            value = node.inputs[index] if index < len(node.inputs) else None
            if value is None or value.is_initializer():
                continue
            array = constant_of(value)
            if array is not None:
                name = f"{node.name or node.op_type}.{_INPUTS[index]}"
                node.replace_input_with(index, add_constant(model.graph, name, array))
