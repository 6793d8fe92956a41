"""Steps that are left out, picked or put together: Slice, Gather, Concat along time."""

import numpy as np
import onnx_ir as ir

from lstm_edge_exporters.onnx_graph.constants import constant_of
from lstm_edge_exporters.onnx_graph.nodes import attribute_of
from lstm_edge_exporters.streaming.errors import NotStreamable
from lstm_edge_exporters.streaming.flow import Flow, Table, input_flow
from lstm_edge_exporters.streaming.rewriter import Rewriter
from lstm_edge_exporters.streaming.titles import title_of

__all__ = ["cut", "dropped_behind", "parts_of", "pick", "put_together", "trimmed"]


def cut(rewriter: Rewriter, node: ir.Node, flow: Flow) -> Flow | None:
    """A Slice along time drops the first or the last elements, takes every n-th, or is the last step."""
    value, title = node.inputs[0], title_of(node)
    assert value is not None
    numbers = [None if v is None else constant_of(v) for v in [*node.inputs[1:], *[None] * 4][:4]]
    rank = len(rewriter.dims_of(value))
    axes = range(rank) if numbers[2] is None else [int(axis) % rank for axis in numbers[2]]
    if len(node.inputs) > 3 and node.inputs[3] is not None and numbers[2] is None:
        raise NotStreamable(f"{title} (Slice) has axes that are no constants")
    if flow.axis not in axes:
        return flow
    at = list(axes).index(flow.axis)
    step = 1 if numbers[3] is None else int(numbers[3][at])
    starts = numbers[0]
    if starts is None or step < 1:
        raise NotStreamable(f"{title} (Slice) begins at a step that is no constant, or runs backwards")
    start = int(starts[at])
    if rewriter.time_axis(node.outputs[0]) is None:
        if start != -1:
            raise NotStreamable(f"{title} (Slice) takes a fixed part of the sequence")
        rewriter.picked.append(flow)
        return None
    if len(axes) > 1:
        raise NotStreamable(f"{title} (Slice) cuts time and other axes at once")
    if start < 0:
        raise NotStreamable(f"{title} (Slice) begins {-start} steps before the end of the sequence")
    if step > 1:
        return _every(rewriter, node, flow, start, step)
    drops = _dropped(rewriter, node, flow, start)
    new, made = trimmed(rewriter, node, value, flow, start=start, drops=drops, title=title)
    rewriter.replace(node, [new])
    rewriter.flows[new] = made
    return made


def _dropped(rewriter: Rewriter, node: ir.Node, flow: Flow, start: int) -> Table:
    """How many elements are left out at the end, for each number of input steps.

    What was seen at two lengths is a fixed number, or what leaves as many elements as the input or another value has
    (``y[:, :x.shape[1]]``); pushes are compared with the whole afterwards.
    """
    after = rewriter.measured.steps[str(node.outputs[0].name)]
    counts = [int(flow.total[steps]) for steps in rewriter.measured.lengths]
    drops = {one - start - two for one, two in zip(counts, after, strict=True)}
    if len(drops) == 1 and min(drops) >= 0:
        return np.full_like(flow.total, drops.pop())
    for total in (input_flow(0).total, *(other.total for other in rewriter.flows.values() if not other.rows)):
        left = flow.total - start - total
        if [int(total[steps]) for steps in rewriter.measured.lengths] == list(after) and (left[1:] >= 0).all():
            return np.asarray(left)
    raise NotStreamable(f"{title_of(node)} ({node.op_type}) leaves out a number of steps that depends on the length")


def dropped_behind(rewriter: Rewriter, node: ir.Node, axis: int) -> int:
    """Return how many elements at the end a Slice leaves out that is a node's only reader, as a causal network does.

    Padding after the last step that is cut off again need not be made.
    """
    value = node.outputs[0]
    users = list(value.uses())
    if value.is_graph_output() or len(users) != 1 or users[0].node.op_type != "Slice" or users[0].idx != 0:
        return 0
    user = users[0].node
    starts, axes = (constant_of(user.inputs[at]) if len(user.inputs) > at else None for at in (1, 3))
    steps = constant_of(user.inputs[4]) if len(user.inputs) > 4 else None
    alone = starts is not None and starts.size == 1 and (steps is None or steps.tolist() == [1])
    rank = len(rewriter.dims_of(value))
    if not alone or starts is None or starts.tolist() != [0] or axes is None or int(axes[0]) % rank != axis:
        return 0
    after = rewriter.measured.steps.get(str(user.outputs[0].name))
    drops = {one - two for one, two in zip(rewriter.measured.steps[str(value.name)], after or (), strict=False)}
    return max(drops.pop(), 0) if len(drops) == 1 else 0


def trimmed(
    rewriter: Rewriter, node: ir.Node, value: ir.Value, flow: Flow, *, start: int, drops: Table | int, title: str
) -> tuple[ir.Value, Flow]:
    """Return a value without its first ``start`` and last ``drops`` elements.

    Elements that may turn out to be among the last ones are held back. ``drops`` may depend on the input steps.
    """
    drops = np.full_like(flow.total, drops) if isinstance(drops, int) else drops
    if not (start or drops.any()):
        return value, flow
    given = np.maximum(np.minimum(flow.given, flow.total - drops) - start, 0)
    given = np.minimum.accumulate(given[::-1])[::-1]  # what the next steps could take back is not given
    given[0] = 0
    held = flow.given - start - given
    queued = rewriter.queue(node, value, flow.axis, held, title)
    total = np.maximum(flow.total - drops - start, 0)
    made = Flow(axis=flow.axis, given=given, total=total, rate=flow.rate)
    if not drops.any():
        return queued, made
    # Before the first element is given no call is made, so what would be held then does not matter.
    begun = int(np.argmax(given > 0))
    back = held.copy()
    back[:begun] = back[begun]
    if np.array_equal(back, drops) and (back == back[0]).all():
        return rewriter.slice(node, queued, flow.axis, 0, -int(back[0])), made
    ended = rewriter.node(node, "Mul", [rewriter.by_end(node, drops - back), rewriter.ending()])
    out = rewriter.node(node, "Add", [rewriter.by_end(node, back), ended])
    steps = rewriter.steps_in(node, queued, flow.axis)
    return rewriter.slice(node, queued, flow.axis, 0, rewriter.node(node, "Sub", [steps, out])), made


def _every(rewriter: Rewriter, node: ir.Node, flow: Flow, start: int, step: int) -> Flow:
    """Every ``step``-th element; which one of a call's comes first depends on how many came before."""
    if _rest(rewriter, node, flow, start, step):
        raise NotStreamable(f"{title_of(node)} (Slice) ends before the end of the sequence")
    given = np.maximum((flow.given - 1 - start) // step + 1, 0)
    total = np.maximum((flow.total - 1 - start) // step + 1, 0)
    given[0] = total[0] = 0
    value = node.inputs[0]
    assert value is not None
    queued = rewriter.queue(node, value, flow.axis, flow.given - start - step * given, title_of(node))
    made = Flow(axis=flow.axis, given=given, total=total, rate=flow.rate * step)
    zero, end = rewriter.ints(node, "start", [0]), rewriter.ints(node, "end", [2**62])
    axis, steps = rewriter.ints(node, "axis", [flow.axis]), rewriter.ints(node, "step", [step])
    new = rewriter.node(node, "Slice", [queued, zero, end, axis, steps], like=value)
    rewriter.replace(node, [new])
    rewriter.flows[new] = made
    return made


def _rest(rewriter: Rewriter, node: ir.Node, flow: Flow, start: int, step: int) -> bool:
    after = rewriter.measured.steps[str(node.outputs[0].name)]
    expected = [max((int(flow.total[n]) - 1 - start) // step + 1, 0) for n in rewriter.measured.lengths]
    return list(after) != expected


def pick(rewriter: Rewriter, node: ir.Node, flow: Flow) -> Flow | None:
    """A Gather along time may take the last step; along another axis it takes the same of each step."""
    value, title = node.inputs[0], title_of(node)
    assert value is not None
    if rewriter.flow(node.inputs[1]) is not None:
        return _looked_up(rewriter, node)
    axis = attribute_of(node, "axis", 0) % len(rewriter.dims_of(value))
    if axis != flow.axis:
        found = rewriter.time_axis(node.outputs[0])
        return None if found is None else flow.at(found)
    index = constant_of(node.inputs[1])
    if index is None or index.size != 1 or int(index.reshape(-1)[0]) != -1:
        raise NotStreamable(f"{title} (Gather) picks steps of the whole sequence")
    rewriter.picked.append(flow)
    return None


def _looked_up(rewriter: Rewriter, node: ir.Node) -> Flow:
    """An embedding: the ids have steps, the table has none."""
    table, ids = node.inputs[0], node.inputs[1]
    if table is None or ids is None or rewriter.flow(table) is not None:
        raise NotStreamable(f"{title_of(node)} (Gather) picks steps by numbers that depend on the input")
    found = rewriter.time_axis(node.outputs[0])
    if found is None:
        raise NotStreamable(f"{title_of(node)} (Gather) has an unknown axis of time")
    return rewriter.flows[ids].at(found)


def put_together(node: ir.Node) -> ir.Value | None:
    """Return the value that a Concat of its first step and all others is; None for any other node.

    Keras files are exported so (``keras/windows.py``): a sequence without steps is then an error.
    """
    if node.op_type != "Concat" or len(node.inputs) != 2 or any(value is None for value in node.inputs):
        return None
    first, rest = (None if value is None else value.producer() for value in node.inputs)
    if first is None or rest is None or (first.op_type, rest.op_type) != ("Unsqueeze", "Slice"):
        return None
    gather = None if first.inputs[0] is None else first.inputs[0].producer()
    axis = attribute_of(node, "axis")
    if gather is None or gather.op_type != "Gather" or gather.inputs[0] is not rest.inputs[0]:
        return None
    numbers = [constant_of(value) for value in (gather.inputs[1], first.inputs[1], *rest.inputs[1:])]
    flat = [None if number is None else number.reshape(-1).tolist() for number in numbers]
    where = attribute_of(gather, "axis", 0)
    if where != axis or flat[:3] != [[0], [axis], [1]] or flat[4:] not in ([[axis]], [[axis], [1]]):
        return None
    end = flat[3]
    return gather.inputs[0] if end is not None and len(end) == 1 and end[0] >= 2**31 - 1 else None


def parts_of(node: ir.Node) -> frozenset[ir.Node]:
    """Return the nodes that take apart what ``node`` puts together again (``put_together``); none for any other node.

    Only those are meant that nothing else reads.
    """
    if put_together(node) is None:
        return frozenset()
    producers = [None if value is None else value.producer() for value in node.inputs]
    first = producers[0]
    gather = None if first is None or first.inputs[0] is None else first.inputs[0].producer()
    parts = frozenset(part for part in (*producers, gather) if part is not None)
    alone = all(len(list(part.outputs[0].uses())) == 1 and not part.outputs[0].is_graph_output() for part in parts)
    return parts if alone else frozenset()
