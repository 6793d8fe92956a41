"""What a Loop or a Scan carries from step to step and does not change, or does not need: taken out of it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from lstm_edge_exporters.onnx_graph.edit import append_node, owner
from lstm_edge_exporters.onnx_graph.names import name_in, unique_name, unique_names

__all__ = ["Slots", "carried_inputs", "free_carried", "past_identities", "slots_of"]

# Copies behind copies: exporters leave two at most.
LONGEST_CHAIN = 32
# A Loop in a Loop hands a value on once more for each level.
MOST_ROUNDS = 8


@dataclass(frozen=True, kw_only=True)
class Slots:
    """How a Loop or a Scan lines up with its body.

    ``carried`` values begin at ``inputs`` among the node's inputs, at ``entering`` and ``leaving`` among the body's
    inputs and outputs, and at 0 among the node's outputs.
    """

    body: ir.Graph
    carried: int
    inputs: int
    entering: int
    leaving: int


def slots_of(node: ir.Node) -> Slots | None:
    """Return how a node lines up with its body; None if it is not a Loop or a Scan (of opset 9 or later)."""
    if node.domain not in ("", "ai.onnx") or node.op_type not in ("Loop", "Scan") or "body" not in node.attributes:
        return None
    body = node.attributes["body"].as_graph()
    if node.op_type == "Loop":
        carried = len(node.inputs) - 2
        fits = carried >= 0 and len(body.inputs) == carried + 2 and len(body.outputs) > carried
        slots = Slots(body=body, carried=carried, inputs=2, entering=2, leaving=1)
    else:
        scanned = node.attributes["num_scan_inputs"].as_int() if "num_scan_inputs" in node.attributes else 0
        carried = len(node.inputs) - scanned
        fits = scanned > 0 and carried >= 0 and len(body.inputs) == len(node.inputs) and len(body.outputs) >= carried
        slots = Slots(body=body, carried=carried, inputs=0, entering=0, leaving=0)
    whole = len(node.outputs) == len(body.outputs) - slots.leaving
    return slots if fits and whole and None not in node.inputs[slots.inputs :] else None


def past_identities(value: ir.Value) -> ir.Value:
    """Return what a value is a copy of."""
    for _ in range(LONGEST_CHAIN):
        node = value.producer()
        if node is None or node.op_type != "Identity" or node.domain not in ("", "ai.onnx") or node.inputs[0] is None:
            break
        value = node.inputs[0]
    return value


def carried_inputs(nodes: Iterable[ir.Node]) -> dict[ir.Value | None, ir.Value]:
    """Return what the Loops and Scans among nodes carry: for each input of a body what it is in the first step."""
    found: dict[ir.Value | None, ir.Value] = {}
    for node in nodes:
        slots = slots_of(node)
        for index in range(0 if slots is None else slots.carried):
            start = node.inputs[slots.inputs + index] if slots is not None else None
            if slots is not None and start is not None:
                found[slots.body.inputs[slots.entering + index]] = start
    return found


def free_carried(model: ir.Model) -> None:
    """Take out of each Loop and Scan what it hands on unchanged, and what none of its outputs needs; in place.

    TensorFlow's converter hands the weights of a layer from step to step. The body then reads the value from outside.
    """
    with unique_names(model):
        for _ in range(MOST_ROUNDS):
            nodes = [node for node in model.graph.all_nodes() if slots_of(node) is not None]
            freed = [_free(node) for node in nodes]
            if not any(freed):
                break


def _free(node: ir.Node) -> bool:
    slots = slots_of(node)
    assert slots is not None
    freed = [index for index in range(slots.carried) if _is_handed_on(slots, index)]
    needed = _needed(node, slots)
    freed += [index for index in range(slots.carried) if index not in freed and index not in needed]
    if freed:
        _without(node, slots, sorted(freed))
    return bool(freed)


def _is_handed_on(slots: Slots, index: int) -> bool:
    leaving = slots.body.outputs[slots.leaving + index]
    return past_identities(leaving) is slots.body.inputs[slots.entering + index]


def _needed(node: ir.Node, slots: Slots) -> set[int]:
    """The carried values that an output of the node, or the condition, depends on."""
    used = [bool(value.uses()) or value.is_graph_output() for value in node.outputs]
    roots = [value for value, asked in zip(slots.body.outputs[slots.leaving :], used, strict=True) if asked]
    roots += slots.body.outputs[: slots.leaving]
    seen = set(roots)
    while roots:
        for value in _reads(roots.pop()):
            found = [value]
            if value in slots.body.inputs:
                index = list(slots.body.inputs).index(value) - slots.entering
                found += [slots.body.outputs[slots.leaving + index]] if 0 <= index < slots.carried else []
            roots += [value for value in found if value not in seen]
            seen.update(found)
    return {k for k in range(slots.carried) if slots.body.inputs[slots.entering + k] in seen or used[k]}


def _reads(value: ir.Value) -> Iterator[ir.Value]:
    """What the node of a value reads, in the graphs nested in it too; a body's input reads itself."""
    node = value.producer()
    if node is None:
        yield value
        return
    stack = [node]
    while stack:
        current = stack.pop()
        yield from (parent for parent in current.inputs if parent is not None)
        for attribute in current.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                yield from attribute.as_graph().outputs
                stack += list(attribute.as_graph())


def _without(node: ir.Node, slots: Slots, freed: Sequence[int]) -> None:
    """Remove carried values: the body reads what came in, and so do those who read what came out."""
    body = slots.body
    outer: list[ir.Value] = [value for value in node.inputs[slots.inputs :] if value is not None]
    inner = [body.inputs[slots.entering + index] for index in freed]
    for index in reversed(freed):
        del body.outputs[slots.leaving + index]
        body.inputs.pop(slots.entering + index)
    for value, index in zip(inner, freed, strict=True):
        ir.convenience.replace_all_uses_with(value, outer[index])
        for place, output in enumerate(body.outputs):
            if output is value:  # another output of the body hands it out too
                name = unique_name(body, f"{value.name}:copy")
                copied = append_node(body, "Identity", outer[index], name=name, output=f"{name}/out")
                copied.shape, copied.type = output.shape, output.type
                body.outputs[place] = copied
    kept = [index for index in range(len(node.outputs)) if index not in freed]
    inputs = [value for place, value in enumerate(node.inputs) if place - slots.inputs not in freed]
    new = ir.node(node.op_type, inputs, dict(node.attributes), num_outputs=len(kept), name=node.name)
    graph = owner(node)
    for index in freed:
        old = node.outputs[index]
        if old.is_graph_output():
            copied = _copy_before(node, outer[index], str(old.name))
            copied.shape, copied.type = old.shape, old.type
            ir.convenience.replace_all_uses_with(old, copied, replace_graph_outputs=True)
        else:
            ir.convenience.replace_all_uses_with(old, outer[index])
    for value, index in zip(new.outputs, kept, strict=True):
        old = node.outputs[index]
        value.name, value.type, value.shape = old.name, old.type, old.shape
        ir.convenience.replace_all_uses_with(old, value, replace_graph_outputs=True)
    graph.insert_before(node, new)
    name_in(graph, added=[new])
    name_in(graph, removed=[node])
    graph.remove(node, safe=True)


def _copy_before(node: ir.Node, value: ir.Value, name: str) -> ir.Value:
    """A copy of a value under the name of an output that goes."""
    graph = owner(node)
    copy = ir.node("Identity", [value], num_outputs=1, name=unique_name(graph, f"{name}/Identity"))
    copy.outputs[0].name = name
    graph.insert_before(node, copy)
    name_in(graph, added=[copy])
    return copy.outputs[0]
