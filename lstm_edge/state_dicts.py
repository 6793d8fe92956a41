"""Weights within a checkpoint of a training loop: which of its dicts holds them, and the prefix of their names.

Training loops save a dict with the weights under a key, beside an optimizer's state and numbers. Wrappers put a prefix
before each name: ``module.`` (data parallel), ``model.`` (Lightning), ``_orig_mod.`` (torch.compile).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lstm_edge_runtime.errors import ArtifactError, CaptureError, InputError

__all__ = ["Found", "difference", "find_weights", "shapes_of"]

COMPILED = "_orig_mod."
DEEPEST = 4
SHOWN = 5
MOST_PREFIXES = 64


@dataclass(frozen=True, kw_only=True)
class Found:
    """The weights of a module in a checkpoint.

    Attributes:
        weights: by the module's own names.
        key: the key of their dict, dotted where it is nested; empty: the checkpoint itself.
        prefix: what was taken off each name.
        left_out: keys and names of the checkpoint that are not used.
        compiled: ``_orig_mod.`` was removed within some names.
    """

    weights: Mapping[str, Any]
    key: str = ""
    prefix: str = ""
    left_out: tuple[str, ...] = ()
    compiled: bool = False

    def line(self, where: str) -> str | None:
        """Return what was unwrapped as one line; None where the file is the weights and nothing else."""
        said = []
        if self.key:
            said.append(f"the weights are under {self.key!r}")
        if self.prefix:
            said.append(f"the prefix {self.prefix!r} is removed")
        if self.compiled:
            said.append(f"{COMPILED!r} within names is removed")
        if self.left_out:
            said.append(f"left out: {_listed(self.left_out)}")
        return f"{where}: {'; '.join(said)}" if said else None


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    """One dict and one prefix: the weights by their names without it, and what is left out."""

    key: str
    prefix: str
    weights: Mapping[str, Any]
    others: tuple[str, ...]
    compiled: bool

    @property
    def options(self) -> str:
        return f'--weights-key "{self.key}" --weights-prefix "{self.prefix}"'


def find_weights(
    checkpoint: Any, module: nn.Module, *, where: str, key: str | None = None, prefix: str | None = None
) -> Found:
    """Find the weights that fit a module.

    Args:
        checkpoint: what the file holds.
        module: gives the names and shapes.
        where: the file, for messages.
        key: the key of the dict that holds the weights, dotted where it is nested; None: it is looked for.
        prefix: what is taken off the names; None: it is looked for.

    Raises:
        ArtifactError: the file holds no weights.
        InputError: there is no such key or prefix.
        CaptureError: no weights fit, or several do; the message lists them.
    """
    if not isinstance(checkpoint, Mapping):
        raise ArtifactError(f"{where}: holds a {type(checkpoint).__name__}, expected a state dict: names to tensors")
    dicts = dict(_dicts(checkpoint))
    if not dicts:
        raise ArtifactError(
            f"{where}: holds {_contents(checkpoint)}, expected a state dict: names to tensors. Save it with "
            "torch.save(module.state_dict(), path)"
        )
    if key is not None:
        if key not in dicts:
            keys = [repr(known) if known else "no key" for known in dicts]
            raise InputError(f"{where}: no weights are under the key {key!r}; they are under {_listed(keys)}")
        dicts = {key: dicts[key]}
    expected = shapes_of(module)
    candidates = [one for name, weights in dicts.items() for one in _candidates(name, weights, expected, prefix)]
    if not candidates:
        names = [name for weights in dicts.values() for name in weights]
        raise InputError(f"{where}: no name begins with the prefix {prefix!r}; the names are {_listed(names)}")
    fitting = _distinct([one for one in candidates if difference(one.weights, expected) is None])
    if len(fitting) > 1:
        places = "; ".join(one.options for one in fitting[:SHOWN])
        raise CaptureError(
            f"{where}: several weights fit the module; choose one with these options (weights_key, weights_prefix in "
            f"Python): {places}"
        )
    if not fitting:
        return _unproved(candidates, expected, where=where)
    (chosen,) = fitting
    left = [*(name for name in checkpoint if chosen.key and str(name) != chosen.key.partition(".")[0]), *chosen.others]
    return Found(
        weights=chosen.weights,
        key=chosen.key,
        prefix=chosen.prefix,
        left_out=tuple(str(name) for name in left),
        compiled=chosen.compiled,
    )


def _distinct(fitting: Sequence[_Candidate]) -> list[_Candidate]:
    """Leave out weights that are the same as earlier ones: a checkpoint may hold one state dict under two keys."""
    kept: list[_Candidate] = []
    for one in fitting:
        if not any(_same(one.weights, other.weights) for other in kept):
            kept.append(one)
    return kept


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items() if isinstance(value, Tensor))


def _unproved(candidates: Sequence[_Candidate], expected: Mapping[str, Any], *, where: str) -> Found:
    """Return weights that only the module itself can judge, as one that converts older names when it loads them."""
    best = max(candidates, key=lambda one: (len(one.weights.keys() & expected.keys()), -len(one.prefix)))
    if len(candidates) == 1:
        return Found(weights=best.weights, key=best.key, prefix=best.prefix, left_out=best.others)
    others = "; ".join(one.options for one in candidates if one is not best)
    raise CaptureError(
        f"{where}: no weights fit the module. The nearest are those with {best.options}: "
        f"{difference(best.weights, expected)}. Others can be chosen with {others}"
    )


def _dicts(checkpoint: Mapping[Any, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each dict of names to tensors by its dotted key, and none twice: an untrusted file nests them at will."""
    seen: set[int] = set()
    waiting: list[tuple[str, Mapping[Any, Any], int]] = [("", checkpoint, 0)]
    for path, item, depth in waiting:
        if id(item) in seen:
            continue
        seen.add(id(item))
        if any(isinstance(value, Tensor) for value in item.values()) and all(isinstance(name, str) for name in item):
            yield path, item
        if depth < DEEPEST:
            waiting += [
                (f"{path}.{name}" if path else name, child, depth + 1)
                for name, child in item.items()
                if isinstance(child, Mapping) and isinstance(name, str)
            ]


def _candidates(
    key: str, weights: Mapping[str, Any], expected: Mapping[str, Any], prefix: str | None
) -> Iterator[_Candidate]:
    # A compiled module's names have one more part, at the front or in the middle.
    keeps = any(COMPILED in own for own in expected)
    plain = {name: name if keeps else name.replace(COMPILED, "") for name in weights}
    prefixes = _prefixes(plain.values(), expected)
    if prefix is not None:
        dotted = prefix if prefix.endswith(".") or not prefix else f"{prefix}."
        prefixes = [dotted if keeps else dotted.replace(COMPILED, "")]
    for start in prefixes:
        inside = {name: short.removeprefix(start) for name, short in plain.items() if short.startswith(start)}
        kept = {short: weights[name] for name, short in inside.items() if _belongs(name, weights[name])}
        if kept:
            removed = {name.removesuffix(short) for name, short in inside.items() if short in kept}
            others = tuple(name for name in weights if inside.get(name) not in kept)
            # A compiled submodule has it within its own names only.
            common = removed.pop() if len(removed) == 1 else start
            inner = any(COMPILED in name.removeprefix(common) for name in inside)
            yield _Candidate(key=key, prefix=common, weights=kept, others=others, compiled=inner and not keeps)


def _prefixes(names: Iterable[str], expected: Mapping[str, Any]) -> list[str]:
    """Return the prefixes under which most names of the module are there, and none."""
    found: Counter[str] = Counter()
    for name in names:
        dots = [index for index, letter in enumerate(name) if letter == "."]
        found.update(name[: dot + 1] for dot in dots if name[dot + 1 :] in expected)
    return ["", *(start for start, _ in found.most_common(MOST_PREFIXES))]


def _belongs(name: str, value: Any) -> bool:
    return isinstance(value, Tensor) or name.rpartition(".")[2] == "_extra_state"


def difference(weights: Mapping[str, Any], expected: Mapping[str, tuple[int, ...]]) -> str | None:
    """Say how weights differ from the names and shapes of a module; None where they do not."""
    found = {name: tuple(value.shape) for name, value in weights.items() if isinstance(value, Tensor)}
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    said = [f"missing: {_listed(missing)}"] if missing else []
    said += [f"not in the module: {_listed(unexpected)}"] if unexpected else []
    wrong = [name for name, shape in expected.items() if found.get(name, shape) != shape]
    said += [f"{name} is {list(found[name])}, expected {list(expected[name])}" for name in wrong[:SHOWN]]
    return "; ".join(said) or None


def shapes_of(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor in a module's state dict by name."""
    return {name: tuple(value.shape) for name, value in module.state_dict().items() if isinstance(value, Tensor)}


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:SHOWN])
    return shown + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _contents(checkpoint: Mapping[Any, Any]) -> str:
    if not checkpoint:
        return "an empty dict"
    name, value = next(iter(checkpoint.items()))
    return f"a {type(value).__name__} under {name!r}"
