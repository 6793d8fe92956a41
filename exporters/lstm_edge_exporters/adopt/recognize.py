"""States that a foreign file already has as inputs and outputs: recognized by proof, not by name.

In a copy of the model every recurrent layer is replaced by one that hands its initial state on, plus a number that
belongs to this layer and kind alone. An output that is then, to the bit, some input plus such numbers, for any values
of that input, is where the state of this input leaves: each of its elements came from the same place of the same
layer's state. That holds for a layer's own h or c, for stacked layers, and for any packing in one tensor.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from lstm_edge_exporters.adopt.find import CELLS, STATES, layer_nodes
from lstm_edge_exporters.adopt.trial import Trial
from lstm_edge_exporters.onnx_graph.edit import add_constant, add_node, owner, replace_node
from lstm_edge_exporters.onnx_graph.names import unique_names
from lstm_edge_exporters.onnx_graph.nodes import attribute_of, inputs_of
from lstm_edge_exporters.onnx_graph.reading import parse_model
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import BATCH, TIME, StateSpec, TensorSpec
from lstm_edge_runtime.errors import InputError

__all__ = ["parse_pairs", "recognize_states"]


def parse_pairs(texts: Sequence[str]) -> dict[str, str]:
    """Read ``IN=OUT`` pairs of a state's input and output.

    Raises:
        InputError: a text is not of this form, or a name is given twice.
    """
    pairs: dict[str, str] = {}
    for text in texts:
        entering, sign, leaving = (part.strip() for part in text.partition("="))
        if not sign or not entering or not leaving:
            raise InputError(f'--state {text!r} must look like "h=hn": an input and the output that follows it')
        if entering in pairs or leaving in pairs.values():
            raise InputError(f"--state {text!r}: the input or the output is given twice")
        pairs[entering] = leaving
    return pairs


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
        InputError: a state that the user named does not exist, or its input and output differ in shape or dtype.
    """
    done = {spec.input for spec in known} | {spec.output for spec in known}
    open_inputs = [spec for spec in inputs if spec.name not in done]
    model = parse_model(data)
    with unique_names(model):
        layers = _hand_on(model)
    trial = Trial(ir.to_proto(model).SerializeToString(), scalars=scalars, ids_below=ids_below)
    runs = _runs(trial, inputs, [spec for spec in open_inputs if spec.dtype == "float32" and spec.axes])
    outputs = {} if runs is None else {name: a for name, a in runs[0][1].items() if name not in done}
    _check_named(named, open_inputs, outputs, [spec.output for spec in known])
    states, sentences = [], []
    for spec in open_inputs:
        if spec.name in named:
            layer = None if runs is None else _proof(runs, spec.name, named[spec.name])
            states.append(_state(spec, named[spec.name], layer, layers))
            continue
        if runs is None or spec.dtype != "float32" or not spec.axes or TIME in spec.axes:
            continue
        alike = [n for n, a in outputs.items() if a.shape == runs[0][0][spec.name].shape and n not in named.values()]
        alike = [name for name in alike if outputs[name].dtype == np.float32]
        proved = {name: proof for name in alike if (proof := _proof(runs, spec.name, name)) is not None}
        if len(proved) == 1:
            name, proof = next(iter(proved.items()))
            states.append(_state(spec, name, proof, layers))
        elif len(proved) > 1:
            sentences.append(
                f"input {spec.name!r} is a state that leaves by {', '.join(proved)}: "
                f"--state {spec.name}=OUTPUT says which"
            )
        elif alike:
            sentences.append(
                f"input {spec.name!r} may be a state (output {', '.join(alike)} has its shape), but the recurrent "
                f"layers do not prove it: --state {spec.name}=OUTPUT says so"
            )
    return _without_doubles(states, sentences)


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


def _runs(
    trial: Trial, inputs: Sequence[TensorSpec], candidates: Sequence[TensorSpec]
) -> list[tuple[dict[str, Array], dict[str, Array]]] | None:
    """Run twice with whole numbers in the inputs that may be states; returns those and the outputs."""
    sizes = {axis: 4 for spec in inputs for axis in spec.axes if isinstance(axis, str)} | {BATCH: 2, TIME: 5}
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


def _proof(runs: Sequence[tuple[dict[str, Array], dict[str, Array]]], entering: str, leaving: str) -> Array | None:
    """Return the layer number of each element when the output is the input handed on by layers, else None."""
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
