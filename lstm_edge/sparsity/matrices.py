"""The recurrent layers of a module and their matrices, or why they cannot be pruned."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from lstm_edge_runtime.errors import InputError

__all__ = ["GATES", "Matrix", "find_matrices"]

# Order of the gates in PyTorch's matrices. An nn.RNN has one matrix without gates; its letter is h.
GATES: dict[type[nn.Module], str] = {
    nn.LSTM: "ifgo",
    nn.LSTMCell: "ifgo",
    nn.GRU: "rzn",
    nn.GRUCell: "rzn",
    nn.RNN: "h",
    nn.RNNCell: "h",
}
KNOWN = "nn.LSTM, nn.GRU, nn.RNN, one of their cells, or lstm_edge.LSTM"


@dataclass(frozen=True, kw_only=True, eq=False)
class Matrix:
    """One matrix of a recurrent layer.

    The parameter is read from its layer at every use, because ``load_state_dict(assign=True)`` replaces it.

    Attributes:
        layer: the layer.
        attribute: name of the parameter in the layer, such as ``weight_hh_l0``.
        path: name of the parameter in the module.
        kind: ``w`` (on the input) or ``r`` (on the previous output).
        gates: the letters of the gates in their order.
        hidden: cells, H.
        inputs: K.
    """

    layer: nn.Module
    attribute: str
    path: str
    kind: Literal["w", "r"]
    gates: str
    hidden: int
    inputs: int

    @property
    def weight(self) -> Tensor:
        """The parameter, [G * H, K].

        Raises:
            InputError: it is no longer there, or has another shape.
        """
        weight = self.layer._parameters.get(self.attribute)
        expected = [len(self.gates) * self.hidden, self.inputs]
        if weight is None:
            raise InputError(
                f"sparsity: {self.path} is not a parameter of its layer: weight norm, pruning or another "
                "parametrization computes it; remove that first (nn.utils.parametrize.remove_parametrizations, "
                "nn.utils.remove_weight_norm, nn.utils.prune.remove)"
            )
        if list(weight.shape) != expected:
            raise InputError(
                f"sparsity: {self.path} has the shape {list(weight.shape)}, expected {expected}; parameters that are "
                "sharded or flattened over processes cannot be pruned"
            )
        return weight


def find_matrices(module: nn.Module) -> tuple[Matrix, ...]:
    """Return the matrices W and R of all recurrent layers of a module; one that layers share is returned once.

    Projections and peepholes are not among them: the sparse operators store those densely.

    Raises:
        InputError: there is no recurrent layer, or a matrix is computed, frozen, on the meta device, or shared with a
            layer that uses it differently.
    """
    root = _unwrapped(module)
    layers = [(name, layer) for name, layer in root.named_modules() if _letters(layer) is not None]
    if not layers:
        raise InputError(f"sparsity: {type(root).__name__} contains no {KNOWN}{_own_equations(root)}")
    found: dict[int, Matrix] = {}
    for name, layer in layers:
        for matrix in _matrices_of(name, layer):
            _check(matrix)
            first = found.setdefault(id(matrix.weight), matrix)
            if (first.kind, first.gates, first.hidden) != (matrix.kind, matrix.gates, matrix.hidden):
                raise InputError(
                    f"sparsity: {first.path} and {matrix.path} are one parameter with two roles (W and R, or other "
                    "gates); give each role its own parameter"
                )
    _check_users(root, found)
    return tuple(found.values())


def _unwrapped(module: nn.Module) -> nn.Module:
    """Return the module inside ``DistributedDataParallel``, ``DataParallel`` and ``torch.compile``."""
    inner: Any = module
    while True:
        if isinstance(inner, nn.parallel.DistributedDataParallel | nn.DataParallel):
            inner = inner.module
        elif isinstance(getattr(inner, "_orig_mod", None), nn.Module):
            inner = inner._orig_mod
        else:
            found: nn.Module = inner
            return found


def _letters(layer: nn.Module) -> str | None:
    return next((letters for kind, letters in GATES.items() if isinstance(layer, kind)), None)


def _own_equations(root: nn.Module) -> str:
    own = next((type(layer).__name__ for layer in root.modules() if hasattr(layer, "describe_recurrence")), None)
    if own is None:
        return ""
    return f"; {own} has equations of its own, for which there is no sparse operator"


def _matrices_of(name: str, layer: Any) -> Iterator[Matrix]:
    """Yield W and R of every layer and direction of a module."""
    letters = _letters(layer)
    assert letters is not None
    prefix = f"{name}." if name else ""
    state = getattr(layer, "proj_size", 0) or layer.hidden_size
    directions = ("", "_reverse") if getattr(layer, "bidirectional", False) else ("",)
    for k in range(getattr(layer, "num_layers", 1)):
        width = layer.input_size if k == 0 else state * len(directions)
        for direction in directions:
            suffix = f"_l{k}{direction}" if isinstance(layer, nn.RNNBase) else ""
            for attribute, kind, inputs in ((f"weight_ih{suffix}", "w", width), (f"weight_hh{suffix}", "r", state)):
                yield Matrix(
                    layer=layer,
                    attribute=attribute,
                    path=prefix + attribute,
                    kind="w" if kind == "w" else "r",
                    gates=letters,
                    hidden=layer.hidden_size,
                    inputs=inputs,
                )


def _check(matrix: Matrix) -> None:
    weight = matrix.weight
    if weight.device.type == "meta":
        raise InputError(
            f"sparsity: {matrix.path} is on the meta device and has no values; move the module to a real device first"
        )
    if not weight.is_floating_point():
        raise InputError(f"sparsity: {matrix.path} is {weight.dtype}, expected a floating dtype")
    if not weight.requires_grad:
        raise InputError(
            f"sparsity: {matrix.path} is frozen (requires_grad is False), so the training cannot make up for pruned "
            "blocks; pass only the layers that are trained, for example in an nn.ModuleList"
        )


def _check_users(root: nn.Module, found: dict[int, Matrix]) -> None:
    """Refuse a matrix that is also a parameter of something else than a recurrent layer's W or R."""
    for name, module in root.named_modules():
        for attribute, parameter in module._parameters.items():
            if parameter is None or id(parameter) not in found:
                continue
            if _letters(module) is None or not attribute.startswith(("weight_ih", "weight_hh")):
                raise InputError(
                    f"sparsity: {found[id(parameter)].path} is also {f'{name}.' if name else ''}{attribute} of a "
                    f"{type(module).__name__}, which would be pruned too; give each its own parameter"
                )
