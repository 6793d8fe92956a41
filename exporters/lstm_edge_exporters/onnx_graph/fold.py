"""Constant folding: fixed inputs, weights behind other nodes, and the branches that they choose."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from lstm_edge_exporters.onnx_graph.carried import free_carried
from lstm_edge_exporters.onnx_graph.constants import constant_of, output_bytes, room_for
from lstm_edge_exporters.onnx_graph.edit import add_constant, drop_unused
from lstm_edge_exporters.onnx_graph.names import nest, unique_names
from lstm_edge_exporters.onnx_graph.quiet import quiet
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.errors import ArtifactError, InputError

__all__ = ["fix_inputs", "fold", "forget_shapes", "parse_fixed"]


# Folding a branch away can make the next condition constant; exporters nest four deep (a published VAD).
MOST_ROUNDS = 8

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
        InputError: a text is not of this form, or a name is given twice.
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
            raise InputError(f"--fix {name}: {number:g} is not {value.dtype.name}") from error
        if not np.array_equal(constant.astype(np.float64), array):
            raise InputError(f"--fix {name}: {number:g} is not {value.dtype.name}")
        model.graph.inputs.remove(value)
        value.const_value = ir.tensor(constant, name=name)
        if name not in model.graph.initializers:
            model.graph.register_initializer(value)
        arrays[name] = constant
    return arrays


@quiet()
def fold(model: ir.Model) -> None:
    """Fold what depends on constants alone, and remove the branches that it chooses; in place.

    Weights behind Constant, Unsqueeze, Slice, Concat, Transpose or Cast become initializers of the outermost graph;
    nodes that ask for a shape that is known become constants too. What has no room (``room_for``) stays as it is.

    Raises:
        ArtifactError: the graph cannot be folded.
    """
    from onnxscript.optimizer import fold_constants

    opset = model.opset_imports.get("", 18)
    room = room_for(_stored(model))
    try:
        for _ in range(MOST_ROUNDS):
            forget_shapes(model)
            free_carried(model)
            before = sum(1 for _ in model.graph.all_nodes())
            fold_constants(model, onnx_shape_inference=True, should_fold=lambda node: _may_fold(node, room, opset))
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


def _stored(model: ir.Model) -> Iterator[ir.TensorProtocol]:
    """The constants that a file holds: initializers and ``Constant`` nodes."""
    values = [value for graph in (model.graph, *model.graph.subgraphs()) for value in graph.initializers.values()]
    values += [node.outputs[0] for node in model.graph.all_nodes() if node.op_type == "Constant"]
    tensors = (ir.convenience.get_const_tensor(value) for value in values)
    yield from (tensor for tensor in tensors if tensor is not None)


def _may_fold(node: ir.Node, room: int, opset: int) -> bool:
    """Say whether a node whose inputs are all constant is folded: it only moves elements, or it counts, and fits."""
    if node.domain not in ("", "ai.onnx"):
        return False
    tensors = {str(v.name): v.const_value for v in node.inputs if v is not None and v.const_value is not None}
    if node.op_type not in _MOVES and any(tensor.dtype.is_floating_point() for tensor in tensors.values()):
        return False
    size = output_bytes(node, {name: tensor.numpy() for name, tensor in tensors.items()}, opset)
    return size is not None and size <= room


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
        nest(nested, model.graph)


_INPUTS = ("X", "W", "R", "B", "rows", "h", "c", "P", "Ws", "Wz", "Rs", "Rz")
# Positions of the inputs that hold weights: W, R, B of the recurrent operators, P of LSTM, and the scales and zero
# points of DynamicQuantizeLSTM.
_WEIGHTS = {"LSTM": (1, 2, 3, 7), "GRU": (1, 2, 3), "RNN": (1, 2, 3), "DynamicQuantizeLSTM": (1, 2, 3, 7, 8, 9, 10, 11)}


def _fold_weights(model: ir.Model) -> None:
    """Make weights that are computed by arithmetic (a summed bias, a transposed gate) initializers too."""
    with unique_names(model):
        for node in list(model.graph.all_nodes()):
            for index in _WEIGHTS.get(node.op_type, ()):
                value = node.inputs[index] if index < len(node.inputs) else None
                array = None if value is None or value.is_initializer() else constant_of(value)
                if array is not None:
                    name = f"{node.name or node.op_type}.{_INPUTS[index]}"
                    node.replace_input_with(index, add_constant(model.graph, name, array))
