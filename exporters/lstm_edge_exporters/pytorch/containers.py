"""Arguments of forward that hold tensors in dicts, tuples, named tuples and dataclasses: flattened, and put together.

A tensor in a container is called after its place: the argument's name and the keys, fields or indices below it, joined
by underscores. Where forward has one argument, a dict, a named tuple or a dataclass, the argument's name is left out.
"""

import copy
import dataclasses
import inspect
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from lstm_edge_runtime.errors import CaptureError

__all__ = ["Structure", "flat_forward", "from_examples", "from_names", "is_named_tuple", "parameters_of"]

LENGTHS = "lengths"
Build = Callable[[Sequence[Any]], Any]
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True)
class Structure:
    """How forward's arguments are made of tensors.

    Attributes:
        leaves: the tensors of the examples by name, in order; None for those that only a specification names.
        positional: makes each positional argument.
        keywords: makes each keyword argument, by name.
        constants: a sentence for each number or text in a container, which stays as it is in the examples.
    """

    leaves: Mapping[str, Tensor | None]
    positional: tuple[Build, ...]
    keywords: Mapping[str, Build]
    constants: tuple[str, ...] = ()


def is_named_tuple(value: Any) -> bool:
    """Say whether a value is a named tuple, and no packed sequence, which is torch's own."""
    return isinstance(value, tuple) and hasattr(value, "_fields") and not isinstance(value, PackedSequence)


def parameters_of(module: nn.Module) -> dict[str, inspect.Parameter]:
    """Return forward's parameters by name."""
    return dict(inspect.signature(module.forward).parameters)


def from_examples(module: nn.Module, arguments: Mapping[str, Any]) -> Structure:
    """Flatten example arguments, by the names of forward's parameters.

    Raises:
        CaptureError: something in a container is neither a tensor nor a container, or two tensors have one name.
    """
    found = _Leaves()
    alone = len(arguments) == 1
    builds = {
        name: found.builder(value, "" if alone and _has_names(value) else name, name)
        for name, value in arguments.items()
    }
    return _bound(module, dict(found.leaves), builds, tuple(found.constants))


def from_names(module: nn.Module, names: Sequence[str]) -> Structure | None:
    """Return the structure that the names of specifications say; None where each is an argument, in order.

    ``state.h`` is the key, field or index ``h`` of the argument ``state``; several names for a forward of one argument
    are its keys.
    """
    parameters = parameters_of(module)
    inputs = [name for name in names if name != LENGTHS or LENGTHS in parameters]
    leaves: dict[str, Tensor | None] = dict.fromkeys(inputs)
    indices = {name: index for index, name in enumerate(inputs)}
    dotted = [name.split(".") for name in inputs]
    if any(len(parts) > 1 for parts in dotted) and all(parts[0] in parameters for parts in dotted):
        tree: dict[str, Any] = {}
        for parts, name in zip(dotted, inputs, strict=True):
            below = tree
            for part in parts[:-1]:
                below = below.setdefault(part, {})
            below[parts[-1]] = indices[name]
        builds = {name: _planned(branch, _annotation(module, name)) for name, branch in tree.items()}
        return _bound(module, leaves, builds, ())
    own = [name for name, found in parameters.items() if found.kind in _POSITIONAL and name != LENGTHS]
    variadic = any(found.kind == inspect.Parameter.VAR_POSITIONAL for found in parameters.values())
    if len(own) == 1 and not variadic and own[0] not in inputs and _is_container(module, own[0], inputs):
        return _bound(module, leaves, {own[0]: _planned(dict(indices), _annotation(module, own[0]))}, ())
    named = all(name in parameters for name in inputs)
    keyword_only = any(n in parameters and parameters[n].kind == inspect.Parameter.KEYWORD_ONLY for n in inputs)
    if named and (keyword_only or inputs != list(parameters)[: len(inputs)]):
        return _bound(module, leaves, {name: _planned(indices[name], None) for name in inputs}, ())
    return None


def _is_container(module: nn.Module, parameter: str, names: Sequence[str]) -> bool:
    """Say whether the only argument holds these names: there are several, or its class has them as fields."""
    return len(names) > 1 or set(names) <= set(getattr(_annotation(module, parameter), "__annotations__", {}))


def _annotation(module: nn.Module, parameter: str) -> Any:
    try:
        return typing.get_type_hints(type(module).forward).get(parameter)
    except (NameError, TypeError, AttributeError):  # a forward reference that cannot be resolved says nothing
        return None


def _planned(branch: Any, kind: Any) -> Build:
    """Build what a specification names: a tensor, or a container of the class that forward's annotation says."""
    if isinstance(branch, int):
        return lambda tensors: tensors[branch]
    hints = getattr(kind, "__annotations__", {})
    parts = {key: _planned(child, hints.get(key)) for key, child in branch.items()}
    if all(key.isdecimal() for key in parts):
        ordered = [parts[key] for key in sorted(parts, key=int)]
        return lambda tensors: tuple(build(tensors) for build in ordered)
    made = inspect.isclass(kind) and (dataclasses.is_dataclass(kind) or hasattr(kind, "_fields"))
    return lambda tensors: (kind if made else dict)(**{key: build(tensors) for key, build in parts.items()})


def _bound(
    module: nn.Module, leaves: Mapping[str, Tensor | None], builds: Mapping[str, Build], constants: tuple[str, ...]
) -> Structure:
    """Give each argument by its place while the ones before it are there, else by its name."""
    positional: list[Build] = []
    keywords = dict(builds)
    for name, parameter in parameters_of(module).items():
        if parameter.kind not in _POSITIONAL or name not in keywords:
            break
        positional.append(keywords.pop(name))
    return Structure(leaves, tuple(positional), keywords, constants)


@contextmanager
def flat_forward(module: nn.Module, structure: Structure | None) -> Iterator[None]:
    """Let a module's forward take flat tensors; until the context ends its class is another one of the same name."""
    if structure is None:
        yield
        return
    kind = type(module)

    def forward(self: nn.Module, *tensors: Any, **keywords: Any) -> Any:
        arguments = [build(tensors) for build in structure.positional]
        named = {name: build(tensors) for name, build in structure.keywords.items()}
        return kind.forward(self, *arguments, **named, **keywords)

    parameters = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)]
    parameters += [
        inspect.Parameter(f"tensor_{index}", inspect.Parameter.POSITIONAL_ONLY)
        for index in range(len(structure.leaves))
    ]
    own = parameters_of(module).get(LENGTHS)
    if own is not None and LENGTHS not in structure.leaves:
        parameters.append(own.replace(kind=inspect.Parameter.KEYWORD_ONLY))
    forward.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what inspect looks for
    body = {"forward": forward, "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    module.__class__ = type(kind.__name__, (kind,), body)
    try:
        yield
    finally:
        module.__class__ = kind


def _has_names(value: Any) -> bool:
    dataclass_made = dataclasses.is_dataclass(value) and not isinstance(value, type)
    return isinstance(value, Mapping) or is_named_tuple(value) or dataclass_made


class _Leaves:
    """The tensors of the examples, found one by one."""

    def __init__(self) -> None:
        self.leaves: dict[str, Tensor] = {}
        self.constants: list[str] = []

    def builder(self, value: Any, path: str, where: str) -> Build:
        """Return what puts a value like this one together; ``where`` is how the user wrote it."""
        if isinstance(value, Tensor):
            return self._leaf(value, path, where)
        if isinstance(value, PackedSequence):
            raise CaptureError(f"example input {where} is a PackedSequence: give the padded tensor and its lengths")
        if _has_names(value) or isinstance(value, tuple | list):
            return self._container(value, path, where)
        if value is None:
            return lambda _tensors: None
        if where != path and isinstance(value, bool | int | float | str):
            self.constants.append(f"{where} stays the constant {value!r}")
            return lambda _tensors: value
        raise CaptureError(
            f"example input {where} is of type {type(value).__name__}, expected a torch.Tensor, or a dict, tuple, "
            "list, named tuple or dataclass of tensors"
        )

    def _container(self, value: Any, path: str, where: str) -> Build:
        items: dict[Any, Any]
        if isinstance(value, Mapping):
            items = dict(value)
        elif is_named_tuple(value):
            items = dict(zip(value._fields, value, strict=True))
        elif isinstance(value, tuple | list):
            items = dict(enumerate(value))
        else:
            items = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        parts = {key: self._below(items[key], path, key, where, place) for place, key in enumerate(items)}

        def build(tensors: Sequence[Any]) -> Any:
            return _like(value, {key: part(tensors) for key, part in parts.items()})

        return build

    def _leaf(self, value: Tensor, path: str, where: str) -> Build:
        if path in self.leaves:
            raise CaptureError(f"example input {where}: another tensor is called {path!r} already; rename a key")
        index = len(self.leaves)
        self.leaves[path] = value
        return lambda tensors: tensors[index]

    def _below(self, child: Any, path: str, key: Any, where: str, place: int) -> Build:
        name = str(key) or str(place)
        return self.builder(child, f"{path}_{name}" if path else name, f"{where}[{key!r}]")


def _like(value: Any, items: dict[Any, Any]) -> Any:
    """Return a container of the class and keys of ``value`` with other contents."""
    if type(value) is dict:
        return items
    if is_named_tuple(value):
        return type(value)(*items.values())
    if isinstance(value, tuple | list):
        return type(value)(items.values())
    copied = copy.copy(value)
    for key, item in items.items():
        if isinstance(value, Mapping):
            copied[key] = item
        else:
            object.__setattr__(copied, key, item)  # a frozen dataclass refuses setattr
    return copied
