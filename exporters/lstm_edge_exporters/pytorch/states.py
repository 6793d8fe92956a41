"""The explicit states of a graph: the exporter's own for layers that start from zeros, and forward's own."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from lstm_edge_exporters.pytorch.calls import Pass, Tracker, check_passes, numbered, same_memory
from lstm_edge_exporters.pytorch.outputs import LONGER, TRACED, WIDER
from lstm_edge_runtime.card import BATCH, TIME, StateSpec, TensorSpec
from lstm_edge_runtime.errors import CaptureError

__all__ = ["OTHER", "state_specs", "with_outputs", "with_sizes"]

# The second size at which a named axis is tried, besides the one that the graph is traced with.
_LARGER = {BATCH: WIDER, TIME: LONGER}
OTHER = 5


def with_sizes(
    passes: Sequence[Pass], base: Tracker, larger: Mapping[str, Tracker], *, timed: bool, explicit: bool
) -> list[Pass]:
    """Find which axis holds the rows of each recurrent call's states, and which start from zeros in every call.

    Args:
        passes: the recurrent calls.
        base: what was seen at the traced sizes.
        larger: what was seen with one named axis of the inputs larger, by the axis.
        timed: an input has a time axis.
        explicit: calls that start from zeros get their own states.

    Raises:
        CaptureError: forward runs a layer more or less often in one of the runs, or the rows of a layer that runs along
            time follow another axis than the batch.
    """
    for tracker in larger.values():
        check_passes(passes, tracker)
    takes_states = any(item.start in ("input", "carried") for item in passes)
    sized = []
    for key, item in numbered(passes):
        steps = base.found(key).steps
        # Without a time axis a call is one step: a layer that runs along several is not the one that keeps the state.
        across = larger[TIME].found(key).steps == steps if timed else steps > 1 and takes_states
        fresh = item.start == "zeros" and across
        rows = {axis: tracker.found(key).rows for axis, tracker in larger.items()}
        found = _rows(base.found(key).rows, rows)
        if found is None and item.start == "zeros" and explicit and not fresh:
            raise _not_carried(item, base.found(key).rows, rows)
        folded = found is None or "*" in str(found)
        sized.append(replace(item, fresh=fresh, folded=folded, rows=BATCH if found is None else found))
    return sized


def _rows(rows: int, larger: Mapping[str, int]) -> str | int | None:
    """Return the axis that has so many rows at the traced sizes and at larger ones; None where it is no multiple."""
    changed = [axis for axis, found in larger.items() if found != rows]
    if not changed:
        return rows
    factor, rest = divmod(rows, TRACED[BATCH])
    if changed == [BATCH] and not rest and larger[BATCH] == factor * WIDER:
        return BATCH if factor == 1 else f"{BATCH}*{factor}"
    return None


def _not_carried(item: Pass, rows: int, larger: Mapping[str, int]) -> CaptureError:
    changed = [axis for axis, found in larger.items() if found != rows]
    shown = ", ".join(f"{larger[axis]} at {axis} {_LARGER.get(axis, OTHER)}" for axis in changed)
    sizes = " and ".join(f"{axis} {TRACED.get(axis, 3)}" for axis in changed)
    return CaptureError(
        f"{item.name}: the layer gets {rows} rows at {sizes}, {shown} ({item.line}): a state is carried from call to "
        f"call only if its rows are a fixed number or a multiple of the axis {BATCH!r}. Give the other axes numbers "
        "instead of names, or export with states='hidden' (--states hidden)"
    )


def with_outputs(item: Pass, last: tuple[Tensor, ...], named: Mapping[str, Tensor]) -> Pass:
    """Find forward's outputs that hold a pass's final state, where it began from forward's inputs."""
    if item.start != "input":
        return item
    # The last of several: `return h, (h, c)` means the first as an answer and the second as the state.
    found = [next((n for n, t in reversed(list(named.items())) if same_memory(t, part)), None) for part in last]
    names = tuple(name for name in found if name is not None)
    if len(names) != len(found):
        return item
    return replace(item, outputs=names)


def state_specs(passes: Sequence[Pass], inputs: Sequence[TensorSpec]) -> tuple[StateSpec, ...]:
    """Return the explicit states of all passes, h before c, layer by layer; forward's own as forward has them."""
    specs: list[StateSpec] = []
    axes = {spec.name: spec.axes for spec in inputs}
    for item in passes:
        if item.outputs:
            specs += _own_states(item, axes)
        if not item.explicit:
            continue
        for index, layer in enumerate(item.recurrence.layers):
            for kind, size in layer.state_sizes.items():
                path = f"{item.name}.{index}.{kind}"
                specs.append(
                    StateSpec(
                        input=path,
                        output=f"{path}_out",
                        kind=kind,
                        module=item.name,
                        layer=index,
                        axes=(len(layer.directions), item.rows if item.batched else 1, size),
                    )
                )
    return tuple(specs)


def _own_states(item: Pass, axes: Mapping[str, tuple[str | int, ...]]) -> list[StateSpec]:
    kinds = list(item.recurrence.layers[0].state_sizes)
    single = len(item.recurrence.layers) == 1
    return [
        StateSpec(
            input=name,
            output=output,
            kind=kind if single else "packed",
            module=item.name if single else name,
            layer=0,
            axes=axes[name],
        )
        for name, output, kind in zip(item.inputs, item.outputs, kinds, strict=True)
    ]
