"""How a module's forward uses its recurrent layers, found by observing runs: which calls, from which states.

A *pass* is one run of a recurrent layer over a sequence, from an initial state to a final one. It may take several
calls, each of which starts from the state that the one before returned: a loop over time calls a cell once a step.
"""

import sysconfig
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from lstm_edge_exporters.pytorch.copying import tensors_in
from lstm_edge_exporters.pytorch.recurrent import Recurrence, describe
from lstm_edge_exporters.pytorch.unchanged import Changes, Watch, on_copies
from lstm_edge_exporters.pytorch.weights import UsedWeights
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import BATCH, batch_factor
from lstm_edge_runtime.errors import CaptureError

__all__ = [
    "Call",
    "Enter",
    "Folding",
    "Layers",
    "Pass",
    "Tracker",
    "call_in_place",
    "call_module",
    "check_passes",
    "numbered",
    "recurrent_modules",
    "same_memory",
    "state_parts",
    "users_line",
]

# zeros: none given, or zeros; input: inputs of forward as they are; carried: inputs of forward in another form, which
# come back as outputs in that form; computed: anything else.
Start = Literal["zeros", "input", "carried", "computed"]
# Where other axes are folded into the batch: inner has the rows of one row of the batch side by side, as
# reshape(batch * sensors, ...) makes them; outer has them the number of rows of the batch apart.
Folding = Literal["inner", "outer"]
Layers = Mapping[str, tuple[nn.Module, Recurrence]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Pass:
    """One pass of a recurrent layer, as it shows in the graph's states.

    ``name`` is the module's path, with ``_2``, ``_3`` behind it for its further passes; ``inputs`` and ``outputs`` are
    forward's own inputs and outputs that hold its states (h, then c for LSTM), if it starts from an input.
    ``line`` is the user's code that calls it first; ``packed``: it gets a packed sequence.

    ``rows`` is the axis of its states that holds the rows which the layer sees: a number, ``"batch"``, or a multiple
    such as ``"batch*3"``. ``fresh`` says that it starts from zeros in every call of forward, because the axis that it
    runs along is not time: a layer over the frequencies of each frame. ``folded``: other axes are folded into its rows;
    ``folding`` is how, where that is known.
    """

    module: str
    name: str
    recurrence: Recurrence
    start: Start
    batched: bool
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    line: str = ""
    packed: bool = False
    rows: str | int = BATCH
    fresh: bool = False
    folded: bool = False
    folding: Folding | None = None

    @property
    def needs_all_steps(self) -> bool:
        """Whether the layer runs over the padding too, where forward deals with lengths itself.

        The reverse direction starts at the end of the padded sequence unless forward packs it, so its answers depend on
        the padding; those of the forward direction do not. A layer whose rows are not the
        batch's has no lengths.
        """
        if self.packed:
            return False
        return self.fresh or self.folded or any(len(layer.directions) > 1 for layer in self.recurrence.layers)

    @property
    def explicit(self) -> bool:
        """Whether the exporter gives the pass its own states: it starts from zeros, and a later call can go on."""
        return self.start == "zeros" and not self.fresh

    def lengths(self, rows: Tensor | None) -> Tensor | None:
        """Return the lengths of the rows that the layer sees, from those of the batch, int64 [B]."""
        factor = batch_factor(self.rows)
        if rows is None or self.fresh:
            return None
        if not self.folded or factor is None:
            return rows
        if self.folding == "inner":
            return rows.unsqueeze(1).expand(-1, factor).reshape(-1)
        return rows.unsqueeze(0).expand(factor, -1).reshape(-1)

    def to_module(self, parts: Sequence[Tensor]) -> Any:
        """Bring states [layers * directions, B, size] into the form that the module takes."""
        if self.recurrence.single_step:
            parts = [part.squeeze(0) for part in parts]
        if not self.batched:
            parts = [part.squeeze(-2) for part in parts]
        return parts[0] if len(parts) == 1 else tuple(parts)

    def from_module(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """Bring a module's states into the form [layers * directions, B, size]."""
        if not self.batched:
            parts = [part.unsqueeze(-2) for part in parts]
        return [part.unsqueeze(0) if self.recurrence.single_step else part for part in parts]


@dataclass
class Call:
    """The pass that a call belongs to, by its place among the module's passes, and whether the call begins it.

    ``packed`` are the batch sizes of a packed input, by which its pack is known; else None.
    """

    index: int
    first: bool
    packed: Tensor | None = None


@dataclass
class Watched:
    """A tracker's record of one pass: how it started, its rows, how many calls and steps it had, and the last state.

    ``given``: forward passed an initial state, which may be zeros.
    """

    start: Start
    batched: bool
    inputs: tuple[str, ...]
    line: str
    packed: bool
    rows: int
    given: bool
    calls: int = 0
    steps: int = 0
    last: tuple[Tensor, ...] = ()


@dataclass
class Tracker:
    """Sorts the calls of one forward into passes; ``tensors`` are forward's inputs by name.

    Where they are asked for: ``weights`` of the recurrent layers, and ``changes``, the tensors that forward left
    changed in its module.
    """

    tensors: Mapping[str, Tensor]
    passes: dict[str, list[Watched]] = field(default_factory=dict)
    order: dict[str, list[int]] = field(default_factory=dict)
    weights: UsedWeights | None = None
    changes: Changes = field(default_factory=dict)

    def enter(self, name: str, recurrence: Recurrence, x: Any, hx: Any) -> Call:
        """Return the pass that a call with this input and state belongs to."""
        found = self.passes.setdefault(name, [])
        parts = state_parts(hx)
        index = next((i for i in reversed(range(len(found))) if _continues(found[i].last, parts)), len(found))
        first = index == len(found)
        batched = isinstance(x, PackedSequence) or x.ndim == (2 if recurrence.single_step else 3)
        rows, steps = _extent(x, recurrence, batched=batched)
        if first:
            start, inputs = self._start(parts)
            packed = isinstance(x, PackedSequence)
            line = users_line()
            found.append(
                Watched(
                    start=start, batched=batched, inputs=inputs, line=line, packed=packed, rows=rows, given=bool(parts)
                )
            )
        found[index].calls += 1
        found[index].steps += steps
        self.order.setdefault(name, []).append(index)
        return Call(index, first, x.batch_sizes if isinstance(x, PackedSequence) else None)

    def leave(self, name: str, state: tuple[Tensor, ...]) -> None:
        """Note the state that the latest call of a module returned."""
        self.passes[name][self.order[name][-1]].last = state

    def found(self, key: tuple[str, int]) -> Watched:
        """Return the record of a pass: its module's name, and its place among the module's passes."""
        module, index = key
        return self.passes[module][index]

    def final(self, key: tuple[str, int]) -> tuple[Tensor, ...]:
        """Return the last state of a pass, as of ``found``."""
        return self.found(key).last

    def _start(self, parts: tuple[Tensor, ...]) -> tuple[Start, tuple[str, ...]]:
        if all(not bool(part.any()) for part in parts):
            return "zeros", ()
        names = [
            next((name for name, tensor in self.tensors.items() if same_memory(tensor, part)), None) for part in parts
        ]
        inputs = tuple(name for name in names if name is not None)
        return ("input", inputs) if len(inputs) == len(parts) else ("computed", ())


def _extent(x: Any, recurrence: Recurrence, *, batched: bool) -> tuple[int, int]:
    """Return the rows and the steps that a call with this input has."""
    if isinstance(x, PackedSequence):
        return int(x.batch_sizes[0]), len(x.batch_sizes)
    if recurrence.single_step:
        return (x.shape[0] if batched else 1), 1
    if not batched:
        return 1, x.shape[0]
    return (x.shape[0], x.shape[1]) if recurrence.batch_first else (x.shape[1], x.shape[0])


# Given a module's name, the call and the state that forward gave, the state to use instead.
Enter = Callable[[str, Call, Any], Any]


def recurrent_modules(module: nn.Module) -> dict[str, tuple[nn.Module, Recurrence]]:
    """Return the recurrent layers by name, as ``named_modules`` has them; a bare one has its cell's name."""
    found: dict[str, tuple[nn.Module, Recurrence]] = {}
    for path, child in module.named_modules():
        recurrence = describe(child, called=False)
        if recurrence is not None:
            found[path or recurrence.layers[0].cell] = (child, recurrence)
    return found


def call_module(
    module: nn.Module,
    layers: Layers,
    arrays: Mapping[str, Array],
    lengths: Array | None,
    enter: Enter | None = None,
    *,
    note: bool = False,
) -> tuple[Any, Tracker]:
    """Call a module without gradients; returns what forward returned, and the passes of its recurrent layers.

    Args:
        module: the module; it works on copies of what it holds, which nothing sees afterwards.
        layers: its recurrent layers by name.
        arrays: forward's positional arguments by name, in order.
        lengths: for forward's keyword ``lengths``, int64 [batch]; None leaves it out.
        enter: may give a pass another initial state.
        note: note the weights that the recurrent layers use, and what forward changes in the module.
    """
    before = tensors_in(module) if note else {}
    with on_copies(module):
        watch = Watch(module, before) if note else None
        result, tracker = call_in_place(module, layers, arrays, lengths, enter, note=note)
        if watch is not None:
            tracker.changes = watch.changes()
    return result, tracker


def call_in_place(
    module: nn.Module,
    layers: Layers,
    arrays: Mapping[str, Array],
    lengths: Array | None,
    enter: Enter | None = None,
    *,
    note: bool = False,
) -> tuple[Any, Tracker]:
    """Call a module as ``call_module`` does, within the caller's ``on_copies``, where the module keeps its changes."""
    # Copies: forward may write into what it is given.
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    keywords = {} if lengths is None else {"lengths": torch.from_numpy(np.array(lengths))}
    tracker = Tracker(tensors, weights=UsedWeights() if note else None)
    with torch.no_grad(), _watched(layers, tracker, enter):
        return module(*tensors.values(), **keywords), tracker


def numbered(passes: Sequence[Pass]) -> Iterator[tuple[tuple[str, int], Pass]]:
    """Yield each pass with its module's name and its place among the module's passes."""
    seen: dict[str, int] = {}
    for item in passes:
        index = seen.get(item.module, 0)
        seen[item.module] = index + 1
        yield (item.module, index), item


def check_passes(passes: Sequence[Pass], tracker: Tracker) -> None:
    """Refuse a forward that runs a layer more or less often than the plan has it.

    Raises:
        CaptureError: the number of calls differs.
    """
    for name, planned in Counter(item.module for item in passes).items():
        found = len(tracker.passes.get(name, []))
        if found != planned:
            raise CaptureError(
                f"{name}: forward runs this layer {planned} times on one input and {found} times on another: "
                "the number of calls must not depend on the data or the shape"
            )


def state_parts(state: Any) -> tuple[Tensor, ...]:
    """Return a state as a tuple, whatever form its module has: None, h, or (h, c)."""
    if state is None:
        return ()
    return (state,) if isinstance(state, Tensor) else tuple(state)


@contextmanager
def _watched(layers: Layers, tracker: Tracker, enter: Enter | None) -> Iterator[None]:
    """Report every call of the recurrent layers to the tracker; ``enter`` may give a pass another initial state."""
    with ExitStack() as stack:
        for name, (layer, recurrence) in layers.items():
            before = layer.register_forward_pre_hook(_enter(name, recurrence, tracker, enter), with_kwargs=True)
            after = layer.register_forward_hook(_leave(name, tracker, recurrence))
            stack.callback(before.remove)
            stack.callback(after.remove)
        yield


def _enter(name: str, recurrence: Recurrence, tracker: Tracker, enter: Enter | None) -> Any:
    def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        x = args[0] if args else kwargs["input"]
        given = args[1] if len(args) > 1 else kwargs.get("hx")
        call = tracker.enter(name, recurrence, x, given)
        if enter is None:
            return None
        rest = {key: value for key, value in kwargs.items() if key not in ("input", "hx")}
        return (x, enter(name, call, given), *args[2:]), rest

    return hook


def _leave(name: str, tracker: Tracker, recurrence: Recurrence) -> Any:
    def hook(module: nn.Module, _args: Any, result: Any) -> None:
        if tracker.weights is not None:
            tracker.weights.read(name, module)
        tracker.leave(name, state_parts(result if recurrence.single_step else result[1]))

    return hook


def _continues(last: Sequence[Tensor], parts: Sequence[Tensor]) -> bool:
    """Say whether a state is the one that an earlier call returned, in whatever shape; by value: users clone."""
    return (
        bool(last)
        and len(last) == len(parts)
        and all(
            a.numel() == b.numel() and torch.equal(a.reshape(-1), b.reshape(-1))
            for a, b in zip(last, parts, strict=True)
        )
    )


def same_memory(a: Tensor, b: Tensor) -> bool:
    """Say whether two tensors are one, except for their shapes."""
    return a.data_ptr() == b.data_ptr() and a.numel() == b.numel() and a.dtype == b.dtype


def users_line(frames: Sequence[traceback.FrameSummary] | None = None) -> str:
    """The line of the user's code that runs now, or in ``frames``: the innermost within a called module's forward.

    Empty where there is none: torch's and this package's own lines are not the user's.
    """
    ours, torchs = str(Path(__file__).parent), str(Path(torch.__file__).parent)
    inside = False
    found = ""
    # Outermost first, to skip the user's code that called the module.
    for frame in traceback.extract_stack() if frames is None else frames:
        if frame.filename.startswith(torchs):
            inside = True
        elif inside and not frame.filename.startswith(ours) and not _is_standard(frame.filename):
            found = f'{Path(frame.filename).name}:{frame.lineno}: "{frame.line}"'
    return found


def _is_standard(filename: str) -> bool:
    """Say whether a file is Python's own; packages may be installed below it and are not."""
    return filename.startswith(sysconfig.get_paths()["stdlib"]) and "site-packages" not in filename
