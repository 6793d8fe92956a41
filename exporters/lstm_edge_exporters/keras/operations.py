"""Functions of keras.ops and operators in a functional model, such as ``x * 2``, ``x[:, -1]`` or ``ops.mean(x)``.

Keras 3 writes them between the layers: tensors as arguments of the call, the rest as config. A mask
ends at each of them, as in Keras. Each function here takes the call's arguments, then the config by Keras's names.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lstm_edge_exporters.keras import moves
from lstm_edge_exporters.keras.activations import BY_NAME, relu
from lstm_edge_exporters.keras.hdf5 import shown
from lstm_edge_exporters.keras.options import Options
from lstm_edge_exporters.keras.shapes import Built, Source
from lstm_edge_exporters.keras.values import Arguments, Value, any_feature, differs, leaves, mapped
from lstm_edge_runtime.errors import CaptureError

__all__ = ["ARGUMENTS", "OPERATIONS", "build_operation"]

Function = Callable[..., Any]


def _tensor(value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float32)


def _pair(function: Function) -> Function:
    """Let a function of two tensors take numbers too, and refuse ids, which Keras computes in other types."""

    def apply(first: Any, second: Any) -> Tensor:
        tensors = [value for value in (first, second) if isinstance(value, Tensor)]
        if any(not tensor.is_floating_point() for tensor in tensors):
            raise ValueError("it computes with whole numbers or truth values")
        answer: Tensor = function(_tensor(first), _tensor(second))
        return answer

    return apply


def _comparison(function: Function) -> Function:
    def apply(first: Any, second: Any) -> Tensor:
        other = first if isinstance(first, Tensor) else second
        tensors = [
            v if isinstance(v, Tensor) else torch.tensor(v, dtype=_comparable(v, other)) for v in (first, second)
        ]
        answer: Tensor = function(*tensors)
        return answer

    return apply


def _comparable(number: Any, other: Tensor) -> torch.dtype:
    """Ids are compared with whole numbers as they are, all else in float32."""
    return torch.int64 if isinstance(number, int) and not other.is_floating_point() else torch.float32


def _reduction(function: Function, *, several: bool = True) -> Function:
    def apply(x: Tensor, *, axis: Any = None, keepdims: bool = False) -> Tensor:
        axes = list(range(x.ndim)) if axis is None else list(axis) if isinstance(axis, list | tuple) else [axis]
        if not axes:
            raise ValueError("it reduces over no axis")
        if several:
            answer: Tensor = function(x, dim=axes, keepdim=keepdims)
            return answer
        for entry in sorted((entry % x.ndim for entry in axes), reverse=True):
            x = function(x, dim=entry, keepdim=keepdims)
        return x

    return apply


def _floats(function: Function) -> Function:
    """Refuse ids and truth values where Keras computes in another type."""

    def apply(x: Any, *rest: Any, **config: Any) -> Any:
        for value in leaves(x):
            if not isinstance(value, Tensor) or not value.is_floating_point():
                raise ValueError("it computes with whole numbers, truth values or plain numbers")
        return function(x, *rest, **config)

    return apply


def _cast(x: Tensor, *, dtype: str) -> Tensor:
    if dtype != "float32":
        raise ValueError(f"it casts to {dtype}, expected float32")
    return x.to(torch.float32)


def _like(function: Function, x: Tensor, *, dtype: Any = None) -> Tensor:
    if dtype not in (None, "float32", "bool") or (dtype is None and not x.is_floating_point()):
        raise ValueError(f"it makes a tensor of type {shown(dtype)}")
    answer: Tensor = function(x, dtype=torch.bool if dtype == "bool" else torch.float32)
    return answer


def _convert(x: Tensor, *, dtype: Any = None, sparse: Any = None, ragged: Any = None) -> Tensor:
    if sparse or ragged or dtype not in (None, str(x.dtype).removeprefix("torch.")):
        raise ValueError(f"it converts to {shown(dtype)}")
    return x


def _concatenate(x: Any, *, axis: int = -1) -> Tensor:
    if len({tensor.dtype for tensor in x}) > 1:
        raise ValueError("it joins tensors of several types")
    return torch.cat(list(x), dim=axis)


def _raised(first: Any, second: Any) -> Tensor:
    if not isinstance(second, Tensor) and second == 2 and isinstance(first, Tensor) and first.is_floating_point():
        return first * first
    answer: Tensor = _pair(torch.pow)(first, second)
    return answer


def _where(condition: Tensor, first: Any, second: Any) -> Tensor:
    if condition.dtype != torch.bool or not all(_tensor(v).is_floating_point() for v in (first, second)):
        raise ValueError("its arguments are not a truth value and two float32 tensors")
    return torch.where(condition, _tensor(first), _tensor(second))


def _clip(x: Tensor, *, x_min: Any, x_max: Any) -> Tensor:
    return torch.clamp(x, min=float(x_min), max=float(x_max))


def _softmax(x: Tensor, *, axis: int = -1, function: Function = torch.softmax) -> Tensor:
    answer: Tensor = function(x, dim=int(axis))
    return answer


def _normalize(x: Tensor, *, axis: int = -1, order: int = 2, epsilon: float | None = None) -> Tensor:
    if order != 2:
        raise ValueError(f"its order is {order}, expected 2")
    return functional.normalize(x, dim=axis, eps=1e-7 if epsilon is None else float(epsilon))


def _elu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    return functional.elu(x, alpha=float(alpha))


def _gelu(x: Tensor, *, approximate: bool = True) -> Tensor:
    return functional.gelu(x, approximate="tanh" if approximate else "none")


def _leaky(x: Tensor, *, negative_slope: float = 0.2) -> Tensor:
    return functional.leaky_relu(x, negative_slope=float(negative_slope))


def _relu(x: Tensor, *, negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0) -> Tensor:
    return relu(x, negative_slope=negative_slope, max_value=max_value, threshold=threshold)


def _extreme(function: Function) -> Function:
    def apply(x: Tensor, *, axis: Any = None, keepdims: bool = False, initial: Any = None) -> Tensor:
        if initial is not None:
            raise ValueError("it has an initial value")
        answer: Tensor = _reduction(function)(x, axis=axis, keepdims=keepdims)
        return answer

    return apply


def _cumsum(x: Tensor, *, axis: int | None = None, dtype: Any = None) -> Tensor:
    if axis is None or dtype not in (None, "float32"):
        raise ValueError("it adds up along no axis, or in another type than float32")
    return torch.cumsum(x, axis)


def _einsum(*operands: Tensor, subscripts: str) -> Tensor:
    answer: Tensor = torch.einsum(subscripts, *operands)
    return answer


def _any(x: Tensor, *, axis: Any = None, keepdims: bool = False) -> Tensor:
    answer: Tensor = _reduction(torch.any, several=False)(x, axis=axis, keepdims=keepdims)
    return answer


ELEMENTWISE: dict[str, Function] = {
    "Absolute": torch.abs,
    "Abs": torch.abs,
    "Exp": torch.exp,
    "Log": torch.log,
    "Log1p": torch.log1p,
    "Expm1": torch.expm1,
    "Negative": torch.neg,
    "Sqrt": torch.sqrt,
    "Rsqrt": torch.rsqrt,
    "Square": torch.square,
    "Reciprocal": torch.reciprocal,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Cos": torch.cos,
    "Tanh": torch.tanh,
    "Sigmoid": torch.sigmoid,
    "Erf": torch.erf,
    "Floor": torch.floor,
    "Ceil": torch.ceil,
    "Softplus": BY_NAME["softplus"],
    "Softsign": BY_NAME["softsign"],
    "Silu": BY_NAME["silu"],
    "Relu6": BY_NAME["relu6"],
    "HardSigmoid": BY_NAME["hard_sigmoid"],
    "HardSilu": BY_NAME["hard_silu"],
    "HardTanh": BY_NAME["hard_tanh"],
    "LogSigmoid": BY_NAME["log_sigmoid"],
    "Selu": BY_NAME["selu"],
    "Mish": BY_NAME["mish"],
    "Identity": BY_NAME["linear"],
}
OPERATIONS: dict[str, Function] = {
    **{name: _floats(function) for name, function in ELEMENTWISE.items()},
    "Add": _pair(torch.add),
    "Subtract": _pair(torch.sub),
    "Multiply": _pair(torch.mul),
    "Divide": _pair(torch.div),
    "TrueDivide": _pair(torch.div),
    "Power": _raised,
    "Maximum": _pair(torch.maximum),
    "Minimum": _pair(torch.minimum),
    "Matmul": _pair(torch.matmul),
    "Equal": _comparison(torch.eq),
    "NotEqual": _comparison(torch.ne),
    "Greater": _comparison(torch.gt),
    "GreaterEqual": _comparison(torch.ge),
    "Less": _comparison(torch.lt),
    "LessEqual": _comparison(torch.le),
    "LogicalAnd": torch.logical_and,
    "LogicalOr": torch.logical_or,
    "LogicalNot": torch.logical_not,
    "Any": _any,
    "Where": _where,
    "GetItem": moves.take,
    "Cast": _cast,
    "Mean": _floats(_reduction(torch.mean)),
    "Sum": _floats(_reduction(torch.sum)),
    "Var": _floats(_reduction(partial(torch.var, correction=0))),
    "Std": _floats(_reduction(partial(torch.std, correction=0))),
    "Max": _floats(_extreme(torch.amax)),
    "Min": _floats(_extreme(torch.amin)),
    "Amax": _floats(_extreme(torch.amax)),
    "Amin": _floats(_extreme(torch.amin)),
    "Logsumexp": _floats(_reduction(torch.logsumexp)),
    "ZerosLike": partial(_like, torch.zeros_like),
    "OnesLike": partial(_like, torch.ones_like),
    "ConvertToTensor": _convert,
    "Concatenate": _concatenate,
    "Stack": _floats(lambda x, *, axis=0: torch.stack(list(x), dim=axis)),
    "Split": _floats(moves.split),
    "Reshape": _floats(moves.reshape),
    "Transpose": _floats(moves.transpose),
    "Swapaxes": _floats(lambda x, *, axis1, axis2: x.transpose(axis1, axis2)),
    "Moveaxis": _floats(lambda x, *, source, destination: x.movedim(source, destination)),
    "ExpandDims": moves.expand,
    "Squeeze": moves.squeeze,
    "Repeat": _floats(moves.repeat),
    "Tile": _floats(lambda x, *, repeats: x.repeat(tuple(repeats))),
    "Flip": _floats(lambda x, *, axis: x.flip(tuple(axis) if isinstance(axis, list | tuple) else (axis,))),
    "Pad": _floats(moves.pad),
    "Clip": _floats(_clip),
    "Cumsum": _floats(_cumsum),
    "Einsum": _floats(_einsum),
    "Normalize": _floats(_normalize),
    "Softmax": _floats(_softmax),
    "LogSoftmax": _floats(partial(_softmax, function=torch.log_softmax)),
    "Relu": _floats(_relu),
    "LeakyRelu": _floats(_leaky),
    "Elu": _floats(_elu),
    "Gelu": _floats(_gelu),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class _Operation:
    """A function of keras.ops with its config; ``options`` name it in errors."""

    options: Options
    config: dict[str, Any]

    def __call__(self, _module: nn.Module, given: Arguments) -> Any:
        """Call the function."""
        args = [given.named[name] for name in NAMES if name in given.named]
        known = self._known(args)
        if known is not None:
            return known
        function = OPERATIONS[self.options.class_name]
        keywords = {key: value for key, value in given.named.items() if key not in NAMES}
        tensors = mapped(lambda value: value.tensor if isinstance(value, Value) else value, args)
        try:
            answer = function(*tensors, **keywords, **self.config)
        except (ValueError, TypeError, IndexError, AttributeError) as error:
            raise self.options.refuse(f"{error}, which is not exported") from error
        if isinstance(answer, tuple):
            return tuple(Value(tensor=tensor) for tensor in answer)
        # Keras returns the very tensor where nothing is computed, with its mask.
        return next((v for v in leaves(args) if isinstance(v, Value) and v.tensor is answer), Value(tensor=answer))

    def _known(self, args: list[Any]) -> Value | None:
        """Return the mask of an Embedding or Masking, where the graph computes it a second time."""
        kind = self.options.class_name
        if kind == "NotEqual" and len(args) == 2 and isinstance(args[0], Value) and isinstance(args[1], int | float):
            return differs(args[0], args[1])
        if kind == "Any" and self.config.get("axis") in (-1, [-1]) and not self.config.get("keepdims"):
            return any_feature(args[0]) if isinstance(args[0], Value) else None
        return None


# Names for the arguments by their place, as Keras's own are not needed, and those that Keras gives by name.
NAMES = tuple(f"argument {index}" for index in range(256))
ARGUMENTS = (*NAMES, "constant_values")


def build_operation(options: Options, _source: Source) -> Built:
    """Build an operation.

    Raises:
        CaptureError: it is none of ``OPERATIONS``.
    """
    if options.class_name not in OPERATIONS:
        raise CaptureError(
            f"{options}: this function of keras.ops is not exported; these are: {', '.join(sorted(OPERATIONS))}"
        )
    config = {key: value for key, value in options.values.items() if key != "name"}
    return Built(module=None, call=_Operation(options=options, config=config))
