"""The explicit states of a graph: the exporter's own for layers that start from zeros, and forward's own."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from lstm_edge_exporters.pytorch.calls import Pass, same_memory
from lstm_edge_runtime.card import BATCH, StateSpec, TensorSpec

__all__ = ["state_specs", "with_outputs"]


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
                        axes=(len(layer.directions), BATCH if item.batched else 1, size),
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
