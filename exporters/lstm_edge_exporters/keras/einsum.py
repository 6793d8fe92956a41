"""EinsumDense: a product of the input and a kernel by an equation such as ``...x,xy->...y``.

Letters: those of the equation; ``...`` stands for the axes that it leaves out.
"""

import re
import string
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lstm_edge_exporters.keras.activations import Activation, read_activation
from lstm_edge_exporters.keras.archive import Part
from lstm_edge_exporters.keras.dense import fill
from lstm_edge_exporters.keras.hdf5 import shown
from lstm_edge_exporters.keras.options import Options
from lstm_edge_exporters.keras.shapes import Built, Source
from lstm_edge_exporters.keras.values import Arguments, Shape, UnknownSizeError, Value

__all__ = ["build_einsum_dense"]

_FORMS = (
    re.compile(r"()([a-zA-Z]+)(),([a-zA-Z]+)->()([a-zA-Z]+)()"),
    re.compile(r"(\.{3})([a-zA-Z]+)(),([a-zA-Z]+)->(\.{3})([a-zA-Z]+)()"),
    re.compile(r"()([a-zA-Z]{2,})(\.{3}),([a-zA-Z]+)->()([a-zA-Z]+)(\.{3})"),
)


class _Equation(NamedTuple):
    """The letters of the input, the kernel and the output, none left out, and how many were at the output's ends."""

    given: str
    kernel: str
    result: str
    before: int
    behind: int


@dataclass(frozen=True, kw_only=True)
class _Product:
    """The module, then the activation; Keras hands no mask on."""

    activation: Activation

    def __call__(self, module: nn.Module, given: Arguments) -> Value:
        """Call the layer."""
        return Value(tensor=self.activation(module(given.first.tensor)))


class _Einsum(nn.Module):
    """The equation as it is, and a bias that broadcasts with its result."""

    def __init__(self, equation: str, kernel: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.equation = equation
        self.kernel = nn.Parameter(kernel)
        self.bias = None if bias is None else nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the product."""
        y = torch.einsum(self.equation, x, self.kernel)
        return y if self.bias is None else y + self.bias


class _Last(nn.Module):
    """A linear layer over the last axes, whose result has the kernel's last axes."""

    def __init__(self, kernel: Tensor, inputs: int, bias: Tensor | None) -> None:
        super().__init__()
        self.inputs, self.sizes = inputs, tuple(kernel.shape[inputs:])
        flat = kernel.reshape(kernel.shape[:inputs].numel(), -1)
        self.linear = nn.Linear(flat.shape[0], flat.shape[1], bias=bias is not None)
        fill(self.linear.weight, flat.T.numpy())
        if bias is not None:
            fill(self.linear.bias, bias.expand(self.sizes).reshape(-1).numpy())

    def forward(self, x: Tensor) -> Tensor:
        """Return [..., sizes] of x [..., inputs]."""
        y: Tensor = self.linear(x.flatten(-self.inputs) if self.inputs > 1 else x)
        return y.reshape(*y.shape[:-1], *self.sizes) if len(self.sizes) > 1 else y


def build_einsum_dense(options: Options, source: Source) -> Built:
    """Build an EinsumDense; one that contracts the last axes becomes a linear layer."""
    shape = source.shape(options)
    equation = _parse(options, len(shape))
    sizes = _sizes(options, equation, shape)
    bias_axes = options.get("bias_axes", None)
    activation = read_activation(options, source.version)
    options.finish()
    kernel_shape = tuple(_known(options, sizes, letter) for letter in equation.kernel)
    arrays = [("kernel", kernel_shape)]
    if bias_axes is not None:
        arrays.append(("bias", _bias_shape(options, equation, sizes, bias_axes)))
    [weights] = source.read([Part(path="", arrays=tuple(arrays))])
    kernel, *rest = (torch.from_numpy(array) for array in weights)
    bias = rest[0] if rest else None
    inputs = _contracted(equation)
    outputs = len(equation.kernel) - inputs
    module: nn.Module
    if inputs and outputs and (bias is None or bias.ndim <= outputs):
        module = _Last(kernel, inputs, bias)
    else:
        module = _Einsum(f"{equation.given},{equation.kernel}->{equation.result}", kernel, bias)
    return Built(module=module, call=_Product(activation=activation))


def _parse(options: Options, rank: int) -> _Equation:
    text = options.get("equation")
    found = [form.fullmatch(text) for form in _FORMS] if isinstance(text, str) else []
    match = next((match for match in found if match is not None), None)
    if match is None:
        raise options.refuse(f"the equation {shown(text)} is none of x,y->z, ...x,y->...z and x...,y->z...")
    left, given, right, kernel, _, result, _ = match.groups()
    missing = rank - len(given)
    if missing < 0 or (missing > 0 and not left and not right) or len(set(given)) != len(given):
        raise options.refuse(f"the equation {text!r} does not fit an input of {rank} axes")
    free = [letter for letter in string.ascii_letters if letter not in given + kernel + result][:missing]
    rest = "".join(free)
    if len(rest) < missing or len(set(kernel)) != len(kernel) or len(set(result)) != len(result):
        raise options.refuse(f"the equation {text!r} names an axis twice")
    if set(result) - set(given + kernel) or set(kernel) - set(given + result):
        raise options.refuse(f"the equation {text!r} has an axis whose size nothing says")
    if left:
        return _Equation(rest + given, kernel, rest + result, len(rest), 0)
    return _Equation(given + rest, kernel, result + rest, 0, len(rest))


def _sizes(options: Options, equation: _Equation, shape: Shape) -> dict[str, int | None]:
    """The size of each letter, from the input and the option ``output_shape``; None where it is dynamic."""
    value = options.get("output_shape")
    given = list(value) if isinstance(value, list | tuple) else [value]
    # Without the batch, which is the first letter, or among those that the equation leaves out.
    named = equation.result[max(equation.before, 1) : len(equation.result) - equation.behind]
    good = all(size is None or (isinstance(size, int) and not isinstance(size, bool) and size > 0) for size in given)
    if not good or len(given) != len(named):
        raise options.refuse(f"the option 'output_shape' is {shown(value)}, expected {len(named)} sizes")
    sizes: dict[str, int | None] = dict(zip(equation.given, shape, strict=True))
    for letter, size in zip(named, given, strict=True):
        before = sizes.get(letter)
        if size is not None and letter in sizes and before != size:
            raise options.refuse(
                f"the option 'output_shape' is {shown(value)}, but axis {letter!r} has {before} elements"
            )
        sizes[letter] = before if size is None else size
    return sizes


def _known(options: Options, sizes: dict[str, int | None], letter: str) -> int:
    size = sizes.get(letter)
    if size is None:
        raise UnknownSizeError(
            f"{options}: the size of its axis {letter!r} is dynamic, so the model's input must fix it"
        )
    return size


def _bias_shape(options: Options, equation: _Equation, sizes: dict[str, int | None], axes: object) -> tuple[int, ...]:
    """The shape of the bias, which begins at the first of its axes."""
    named = equation.result[equation.before : len(equation.result) - equation.behind]
    if not isinstance(axes, str) or not axes or set(axes) - set(named):
        raise options.refuse(f"the option 'bias_axes' is {shown(axes)}, expected letters of {named!r}")
    letters = named[min(named.index(letter) for letter in axes) :]
    shape = tuple(_known(options, sizes, letter) if letter in axes else 1 for letter in letters)
    return shape + (1,) * equation.behind


def _contracted(equation: _Equation) -> int:
    """How many axes a linear layer contracts: the last of the input, first in the kernel; 0 for other equations."""
    count = len([letter for letter in equation.kernel if letter not in equation.result])
    inner, outer = equation.kernel[:count], equation.kernel[count:]
    lead = equation.given[: len(equation.given) - count]
    plain = equation.given == lead + inner and equation.result == lead + outer
    return count if plain else 0
