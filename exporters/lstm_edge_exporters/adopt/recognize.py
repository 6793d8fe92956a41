"""States that a foreign file already has as inputs and outputs: recognized by proof, not by name.

In a copy of the model every recurrent layer is replaced by one that hands its initial state on, plus a number that
belongs to this layer and kind alone. An output that is then, to the bit, some input plus such numbers, for any values
of that input, is where the state of this input leaves: each of its elements came from the same place of the same
layer's state. That holds for a layer's own h or c, for stacked layers, and for any packing in one tensor.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import onnx_ir as ir

from lstm_edge_exporters.adopt.caches import find_caches, same_stem
from lstm_edge_exporters.adopt.find import CELLS, STATES, layer_nodes
from lstm_edge_exporters.adopt.trial import Trial
from lstm_edge_exporters.adopt.unread import check_read, unread_inputs, unread_sentences
from lstm_edge_exporters.onnx_graph.edit import add_constant, add_node, owner, replace_node
from lstm_edge_exporters.onnx_graph.names import unique_names
from lstm_edge_exporters.onnx_graph.nodes import attribute_of, inputs_of
from lstm_edge_exporters.onnx_graph.reading import parse_model
from lstm_edge_exporters.onnx_graph.writing import draft
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import BATCH, TIME, StateSpec, TensorSpec
from lstm_edge_runtime.errors import InputError

__all__ = ["recognize_states", "trial_sizes"]

_Run = tuple[dict[str, Array], dict[str, Array]]


def recognize_states(
    data: bytes,
    inputs: Sequence[TensorSpec],
    *,
    named: Mapping[str, str],
    known: Sequence[StateSpec],
    scalars: Mapping[str, Sequence[Array]],
    ids_below: int,
) -> tuple[tuple[StateSpec, ...], tuple[str, ...]]:
    """Find the states among a model's inputs and outputs.

    Args:
        data: the serialized model.
        inputs: its inputs, axes named.
        named: outputs by input that the user says are states.
        known: states that are known already (made explicit before).
        scalars: values to try for integer inputs.
        ids_below: bound of other integer inputs.

    Returns:
        The states in the order of the inputs (``known`` ones left out), and sentences on what remains uncertain.

    Raises:
        InputError: a state that the user named does not exist, is read by no node, or its input and output differ in
            shape or dtype.
    """
    done = {spec.input for spec in known} | {spec.output for spec in known}
    open_inputs = [spec for spec in inputs if spec.name not in done]
    model = parse_model(data)
    unread = unread_inputs(model)
    check_read(named, unread)
    with unique_names(model):
        layers = _hand_on(model)
    open_trial = partial(Trial, scalars=scalars, ids_below=ids_below)
    trial = open_trial(draft(model).SerializeToString(deterministic=True))
    runs = _runs(trial, inputs, [spec for spec in open_inputs if spec.dtype == "float32" and spec.axes]) or []
    outputs = {name: a for name, a in runs[0][1].items() if name not in done} if runs else {}
    _check_named(named, open_inputs, outputs, [spec.output for spec in known])
    alike = _alike([spec for spec in open_inputs if spec.name not in unread], runs, outputs, named)
    proofs = {
        (name, leaving): proof
        for name, leavings in (alike | {name: [leaving] for name, leaving in named.items()}).items()
        for leaving in leavings
        if (proof := _proof(runs, name, leaving)) is not None
    }
    proved = {name: [leaving for leaving in leavings if (name, leaving) in proofs] for name, leavings in alike.items()}
    taken = {leaving for leavings in proved.values() for leaving in leavings}
    free = {name: [leaving for leaving in alike[name] if leaving not in taken] for name in alike if not proved[name]}
    candidates = {name: leavings for name, leavings in free.items() if leavings}
    caches = find_caches(data, inputs, candidates, sizes=trial_sizes(inputs), open_trial=open_trial)
    ordinary = [spec.name for spec in open_inputs if spec.name not in named and not proved.get(spec.name)]
    proved |= _with_data_left(caches, len(ordinary)) | {name: [leaving] for name, leaving in named.items()}
    chosen = [(spec, proved[spec.name][0]) for spec in open_inputs if len(proved.get(spec.name, ())) == 1]
    states = [_state(spec, leaving, proofs.get((spec.name, leaving)), layers) for spec, leaving in chosen]
    found, sentences = _without_doubles(states, _open_sentences(open_inputs, alike, proved))
    return found, sentences + unread_sentences(unread)


def _alike(
    inputs: Sequence[TensorSpec], runs: Sequence[_Run], outputs: Mapping[str, Array], named: Mapping[str, str]
) -> dict[str, list[str]]:
    """For each input that may be a state, the outputs of its shape and dtype that the user named for no other."""
    found = {}
    for spec in inputs:
        if runs and spec.name not in named and spec.dtype == "float32" and spec.axes and TIME not in spec.axes:
            shape = runs[0][0][spec.name].shape
            fitting = [name for name, a in outputs.items() if a.shape == shape and a.dtype == np.float32]
            found[spec.name] = [name for name in fitting if name not in named.values()]
    return found


def _open_sentences(
    inputs: Sequence[TensorSpec], alike: Mapping[str, Sequence[str]], proved: Mapping[str, Sequence[str]]
) -> list[str]:
    """What remains uncertain. The only input that is left is what goes into the model, whatever shape it has."""
    sentences = []
    left = [spec.name for spec in inputs if not proved.get(spec.name)]
    for spec in inputs:
        name, leavings = spec.name, proved.get(spec.name, ())
        if len(leavings) > 1:
            sentences.append(
                f"input {name!r} is a state that leaves by {', '.join(leavings)}: --state {name}=OUTPUT says which"
            )
        elif not leavings and alike.get(name) and len(left) > 1:
            sentences.append(
                f"input {name!r} may be a state (output {', '.join(alike[name])} has its shape), but neither the "
                f"recurrent layers nor what becomes of its values prove it: --state {name}=OUTPUT says so"
            )
    return sentences


def _with_data_left(caches: Mapping[str, Sequence[str]], ordinary: int) -> dict[str, list[str]]:
    """The caches, where an ordinary input is left beside them; else those whose names agree, or none.

    ``ordinary`` counts the inputs that are not known to be states. Where nothing else enters, one cache is the data.
    An input of which several outputs are proved leaves by the one that has its name.
    """
    related = {name: [out for out in leavings if same_stem(name, out)] for name, leavings in caches.items()}
    if len(caches) < ordinary:
        return {name: related[name] if len(related[name]) == 1 else list(caches[name]) for name in caches}
    named = {name: leavings for name, leavings in related.items() if leavings}
    return named if len(named) < ordinary else {}


def _without_doubles(states: list[StateSpec], sentences: list[str]) -> tuple[tuple[StateSpec, ...], tuple[str, ...]]:
    """Reject an output that would be the state of two inputs."""
    leaving = [spec.output for spec in states]
    for spec in states:
        if leaving.count(spec.output) > 1:
            sentences.append(f"input {spec.input!r} shares its state's output {spec.output!r} with another input")
    kept = tuple(spec for spec in states if leaving.count(spec.output) == 1)
    return kept, tuple(dict.fromkeys(sentences))


def _check_named(
    named: Mapping[str, str], inputs: Sequence[TensorSpec], outputs: Mapping[str, Array], made: Sequence[str]
) -> None:
    known = {spec.name: spec for spec in inputs}
    for entering, leaving in named.items():
        if entering not in known:
            raise InputError(
                f"--state {entering}={leaving}: the file has no input {entering!r} (it has {', '.join(known)})"
            )
        if leaving not in outputs:
            names = ", ".join(name for name in outputs if name not in made)
            raise InputError(f"--state {entering}={leaving}: the file has no output {leaving!r} (it has {names})")
        spec, array = known[entering], outputs[leaving]
        expected = [2 if axis == BATCH else axis for axis in spec.axes]
        if spec.dtype != "float32" or array.dtype != np.float32 or list(array.shape) != expected:
            raise InputError(
                f"--state {entering}={leaving}: the input is {spec.dtype} {list(spec.axes)}, the output at batch 2 is "
                f"{array.dtype} {list(array.shape)}; a state is float32 and has one shape"
            )


def trial_sizes(inputs: Sequence[TensorSpec]) -> dict[str, int]:
    """Return a size for each named axis, to try the model at."""
    return {axis: 4 for spec in inputs for axis in spec.axes if isinstance(axis, str)} | {BATCH: 2, TIME: 5}


def _runs(trial: Trial, inputs: Sequence[TensorSpec], candidates: Sequence[TensorSpec]) -> list[_Run] | None:
    """Run twice with whole numbers in the inputs that may be states; returns those and the outputs."""
    sizes = trial_sizes(inputs)
    runs = []
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        given = {
            spec.name: rng.integers(-8, 9, [a if isinstance(a, int) else sizes[a] for a in spec.axes]).astype(
                np.float32
            )
            for spec in candidates
        }
        answers = trial.run(inputs, sizes, seed=seed, given=given)
        if answers is None:
            return None
        runs.append((given, answers))
    return runs


def _proof(runs: Sequence[_Run], entering: str, leaving: str) -> Array | None:
    """Return the layer number of each element when the output is the input handed on by layers, else None."""
    if not runs:
        return None
    added = []
    for given, answers in runs:
        if entering not in given or given[entering].shape != answers[leaving].shape:
            return None
        added.append(answers[leaving] - given[entering])
    same = np.array_equal(added[0], added[1]) and bool(np.all(added[0] > 0))
    return added[0] if same and np.array_equal(added[0], np.round(added[0])) else None


def _state(spec: TensorSpec, leaving: str, proof: Array | None, layers: Sequence[str]) -> StateSpec:
    """One layer's h or c where the proof says so and the form is [directions, batch, size], else packed."""
    numbers = set() if proof is None else {int(number) for number in np.unique(proof)}
    if len(numbers) == 1 and len(spec.axes) == 3:
        index, kind = divmod(numbers.pop() - 1, 2)
        return StateSpec(
            input=spec.name,
            output=leaving,
            kind="c" if kind else "h",
            module=layers[index],
            layer=0,
            axes=spec.axes,
        )
    return StateSpec(input=spec.name, output=leaving, kind="packed", module=spec.name, layer=0, axes=spec.axes)


def _hand_on(model: ir.Model) -> list[str]:
    """Replace each layer by one that adds 2n + 1 to its h and 2n + 2 to its c; returns the layers' names."""
    names = []
    for index, (where, node) in enumerate([*layer_nodes(model)]):
        names.append(node.name or node.op_type)
        if where.startswith("function "):
            continue
        graph, x = owner(node), node.inputs[0]
        hidden = attribute_of(node, "hidden_size")
        states = STATES[CELLS[node.op_type]]
        inputs = inputs_of(node, 12)
        replacements: list[ir.Value | None] = [None] * len(node.outputs)
        for kind, position in states.items():
            place = 1 if kind == "h" else 2
            if inputs[position] is None or place >= len(node.outputs):
                continue
            number = add_constant(graph, f"{node.name}.number", np.asarray(2 * index + place, np.float32))
            replacements[place] = add_node(node, "Add", [inputs[position], number])[0]
        both = attribute_of(node, "direction") == "bidirectional"
        if hidden is None:
            continue
        for place, value in enumerate(node.outputs):
            if replacements[place] is None and (value.uses() or value.is_graph_output()):
                replacements[place] = _zeros(node, x, place, 2 if both else 1, hidden)
        replace_node(node, replacements)
    return names


def _zeros(node: ir.Node, x: ir.Value | None, place: int, sides: int, hidden: int) -> ir.Value:
    """Zeros of the shape of a layer's output: Y [T, D, B, H], Y_h and Y_c [D, B, H]."""
    graph = owner(node)
    batch = add_node(node, "Shape", [x], attributes={"start": 1, "end": 2})[0]
    parts = [add_constant(graph, f"{node.name}.sides", np.array([sides])), batch]
    parts.append(add_constant(graph, f"{node.name}.cells", np.array([hidden])))
    if place == 0:
        parts.insert(0, add_node(node, "Shape", [x], attributes={"start": 0, "end": 1})[0])
    shape = add_node(node, "Concat", parts, attributes={"axis": 0})[0]
    return add_node(node, "ConstantOfShape", [shape])[0]
