"""Which axis of a foreign file's inputs is batch, which is time: traced from the recurrent layers, else by trying."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from lstm_edge_exporters.adopt.find import layer_nodes
from lstm_edge_exporters.adopt.trial import Trial
from lstm_edge_exporters.onnx_graph.edit import append_node
from lstm_edge_exporters.onnx_graph.fold import forget_shapes
from lstm_edge_exporters.onnx_graph.nodes import inputs_of
from lstm_edge_exporters.onnx_graph.reading import parse_model
from lstm_edge_exporters.onnx_graph.writing import draft
from lstm_edge_exporters.verify.inputs import named_roles, parse_input, renamed, with_ranges
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import BATCH, TIME, TensorSpec
from lstm_edge_runtime.errors import ArtifactError, InputError

__all__ = [
    "Axes",
    "apply_axes",
    "check_dtypes",
    "find_axes",
    "measure_outputs",
    "name_roles",
    "parse_axes",
    "parse_inputs",
    "read_specs",
]


# Roles of at most so many axes are tried: 3 ** 5 runs of a small model.
MOST_UNKNOWN = 5
FREE_SIZE = 4


@dataclass(frozen=True, kw_only=True)
class Axes:
    """The inputs with their axes named, and a sentence for each axis whose meaning could not be found."""

    inputs: tuple[TensorSpec, ...]
    undetermined: tuple[str, ...]


def parse_axes(texts: Sequence[str]) -> dict[str, tuple[str | int, ...]]:
    """Read ``NAME=AXIS,AXIS,...``, such as ``x=batch,time,64``: names are dynamic axes, numbers fixed ones.

    Raises:
        InputError: a text is not of this form, or an input is given twice.
    """
    given: dict[str, tuple[str | int, ...]] = {}
    for text in texts:
        name, sign, rest = text.rpartition("=")
        axes = [axis.strip() for axis in rest.split(",")] if rest.strip() else []
        good = all(axis.isidentifier() or (axis.isdecimal() and int(axis) > 0) for axis in axes)
        names = [axis for axis in axes if axis.isidentifier()]
        if not sign or not name.strip() or not good or len(names) != len(set(names)):
            raise InputError(f'--axes {text!r} must look like "x=batch,time,64": names are dynamic, numbers fixed')
        if name.strip() in given:
            raise InputError(f"--axes names {name.strip()!r} twice")
        given[name.strip()] = tuple(int(axis) if axis.isdecimal() else axis for axis in axes)
    return given


def parse_inputs(texts: Sequence[str]) -> tuple[TensorSpec, ...]:
    """Read ``x: float32[batch, time, 64]`` for each input.

    Raises:
        InputError: a text is not of this form, or an input is given twice.
    """
    specs = tuple(parse_input(text) for text in texts)
    names = [spec.name for spec in specs]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"--input names {name!r} twice")
    return specs


def check_dtypes(model: ir.Model, specs: Sequence[TensorSpec]) -> None:
    """Check the dtypes of the inputs.

    Raises:
        InputError: an input has a different dtype in the file.
    """
    known = {str(value.name): value.dtype for value in model.graph.inputs}
    for spec in specs:
        dtype = known.get(spec.name)
        if dtype is not None and dtype.numpy() != np.dtype(spec.dtype):
            raise InputError(f"--input {spec.name}: the file's input is {dtype.numpy()}, got {spec.dtype}")


def apply_axes(model: ir.Model, given: Mapping[str, tuple[str | int, ...]]) -> None:
    """Give every dynamic axis of the inputs its own name, and those that the user named theirs; in place.

    An axis that has the same name in several inputs of the file keeps one name in all of them.

    Raises:
        InputError: there is no such input, or its rank or its fixed sizes differ.
    """
    known = {str(value.name): value for value in model.graph.inputs}
    renamed: dict[str, str | int] = {}
    for name, axes in given.items():
        if name not in known:
            raise InputError(f"--input {name}: the file has no such input; its inputs are {', '.join(known) or 'none'}")
        found = _dims(known[name])
        if found is not None and (
            len(found) != len(axes)
            or any(isinstance(old, int) and old != new for old, new in zip(found, axes, strict=True))
        ):
            raise InputError(f"--input {name}: the file's input has the axes {found}, got {list(axes)}")
        for old, new in zip(found or (), axes, strict=False):
            if isinstance(old, str):
                renamed[old] = new
    for name, value in known.items():
        dims = given.get(name) or _dims(value)
        if dims is None:
            raise ArtifactError(
                f'input {name!r} has an unknown number of axes: give them with --input "{name}: float32[batch, ...]"'
            )
        value.shape = ir.Shape([renamed.get(dim, dim) if isinstance(dim, str) else dim for dim in dims])


def name_roles(model: ir.Model, *, batch_axis: str | None, time_axis: str | None) -> None:
    """Call the axes of the inputs that the user names ``batch`` and ``time``; in place.

    Raises:
        InputError: no input has such an axis, both options name one axis, or another axis has the role's name.
    """
    specs = read_specs(model)
    for value, spec in zip(
        model.graph.inputs, named_roles(specs, batch_axis=batch_axis, time_axis=time_axis), strict=True
    ):
        if value.shape is not None:
            value.shape = ir.Shape(list(spec.axes))


def _dims(value: ir.Value) -> list[str | int] | None:
    """The axes of an input: sizes, the file's names, or a name made up; a size of 0 stands for an unknown one."""
    if value.shape is None:
        return None
    dims: list[str | int] = []
    for index, dim in enumerate(value.shape):
        if isinstance(dim, int) and dim > 0:
            dims.append(dim)
        else:
            named = None if isinstance(dim, int) else dim.value
            dims.append(named or f"{value.name}.{index}")
    return dims


def read_specs(model: ir.Model) -> tuple[TensorSpec, ...]:
    """Return the graph's inputs as specifications.

    Raises:
        ArtifactError: an input is not a tensor of numbers.
    """
    specs = []
    for value in model.graph.inputs:
        try:
            dtype = str(np.dtype(value.dtype.numpy())) if value.dtype is not None else ""
        except TypeError:
            dtype = ""
        if not dtype or dtype == "object" or not isinstance(value.type, ir.TensorType):
            raise ArtifactError(f"input {value.name!r} is not a tensor of numbers, which alone are supported")
        specs.append(TensorSpec(name=str(value.name), dtype=dtype, axes=tuple(_dims(value) or ())))
    return tuple(specs)


def find_axes(
    model: ir.Model,
    *,
    scalars: Mapping[str, Sequence[Array]],
    ids_below: int,
    ranges: Mapping[str, tuple[float, ...]] | None = None,
) -> Axes:
    """Find which dynamic axes of the inputs are batch and time, and name them so in the graph; in place.

    The axes of each recurrent layer's input [time, batch, features] and initial state [directions, batch, size] are
    traced back by shape inference. An axis that this does not reach is given each role in turn and the model is run at
    two sizes; the role that alone runs, and alone moves the layers' time or batch with it, is taken.

    Raises:
        ArtifactError: the model runs with no choice of roles.
    """
    specs = with_ranges(read_specs(model), ranges or {})
    roles = {BATCH: BATCH, TIME: TIME} | _traced(model, specs)
    unknown = [axis for axis in _dynamic(specs) if axis not in roles]
    trial = _instrumented(model, scalars, ids_below)
    undetermined: list[str] = []
    if unknown:
        found, undetermined = _tried(trial, specs, roles, unknown)
        roles |= found
    named = renamed(specs, roles)
    for value, spec in zip(model.graph.inputs, named, strict=True):
        value.shape = ir.Shape(list(spec.axes))
    return Axes(inputs=named, undetermined=tuple(undetermined))


def _dynamic(specs: Sequence[TensorSpec]) -> list[str]:
    return list(dict.fromkeys(axis for spec in specs for axis in spec.axes if isinstance(axis, str)))


def _traced(model: ir.Model, specs: Sequence[TensorSpec]) -> dict[str, str]:
    """Roles of axes by shape inference: an axis that reaches the layers in two roles has none."""
    forget_shapes(model)
    # Data propagation writes out what ConstantOfShape declares: 70 bytes of memory for each element.
    common.ShapeInferencePass(data_prop=False)(model)
    dynamic, roles, torn = set(_dynamic(specs)), dict[str, str](), set()
    for _where, node in layer_nodes(model):
        inputs = inputs_of(node, 12)
        places = [(inputs[0], 0, TIME), (inputs[0], 1, BATCH), (inputs[4], 0, BATCH)]
        places += [(inputs[5], 1, BATCH), (inputs[6], 1, BATCH)]
        for value, index, role in places:
            if value is None or value.shape is None or index >= len(value.shape):
                continue
            dim = value.shape[index]
            name = None if isinstance(dim, int) else dim.value
            if name in dynamic and name is not None and roles.setdefault(name, role) != role:
                torn.add(name)
    return {name: role for name, role in roles.items() if name not in torn}


def _instrumented(model: ir.Model, scalars: Mapping[str, Sequence[Array]], ids_below: int) -> Trial:
    """The model with the sizes [time, batch] of each top-level layer's input as further outputs."""
    copy = parse_model(draft(model).SerializeToString(deterministic=True))
    for index, (where, node) in enumerate(layer_nodes(copy)):
        if where or node.inputs[0] is None:
            continue
        name = f"lstm_edge.probe.{index}"
        sizes = append_node(copy.graph, "Shape", node.inputs[0], name=name, output=name)
        sizes.type, sizes.shape = ir.TensorType(ir.DataType.INT64), ir.Shape([3])
        copy.graph.outputs.append(sizes)
    try:
        return Trial(draft(copy).SerializeToString(deterministic=True), scalars=scalars, ids_below=ids_below)
    except ArtifactError as error:
        raise ArtifactError(
            f"with these axes the rewritten graph cannot run ({error}); where an input chooses between branches that "
            "take different sizes, fix it with --fix NAME=VALUE"
        ) from error


def _tried(
    trial: Trial, specs: Sequence[TensorSpec], roles: Mapping[str, str], unknown: Sequence[str]
) -> tuple[dict[str, str], list[str]]:
    if len(unknown) > MOST_UNKNOWN:
        raise ArtifactError(
            f"the meaning of {len(unknown)} input axes is unknown ({', '.join(unknown)}): name them with "
            '--input "NAME: float32[batch, time, 64]"'
        )
    accepted = []
    for choice in itertools.product((BATCH, TIME, ""), repeat=len(unknown)):
        tried = dict(zip(unknown, choice, strict=True))
        if not _is_double(specs, dict(roles) | tried) and _fits(trial, specs, dict(roles) | tried):
            accepted.append(tried)
    if not accepted:
        shown = ", ".join(f"{spec.name}[{', '.join(map(str, spec.axes))}]" for spec in specs)
        raise ArtifactError(
            f"the model runs at none of the tried sizes of {shown}: {trial.failure}; give the axes with "
            '--input "NAME: float32[batch, time, 64]", and integers that it needs with --fix NAME=VALUE'
        )
    found, sentences = {}, []
    for axis in unknown:
        seen = {choice[axis] for choice in accepted}
        if len(seen) == 1 and "" not in seen:
            found[axis] = seen.pop()
        else:
            where = ", ".join(f"{spec.name} axis {spec.axes.index(axis)}" for spec in specs if axis in spec.axes)
            sentences.append(
                f"the meaning of the axis {axis!r} ({where}): --input names it"
                if seen != {""}
                else f"the axis {axis!r} ({where}) is neither batch nor time"
            )
    return found, sentences


def _is_double(specs: Sequence[TensorSpec], roles: Mapping[str, str]) -> bool:
    """Say whether an input would have two axes that are batch, or two that are time."""
    named = [dict.fromkeys(axis for axis in spec.axes if isinstance(axis, str)) for spec in specs]
    given = [[roles.get(axis, "") for axis in axes] for axes in named]
    return any(axes.count(role) > 1 for axes in given for role in (BATCH, TIME))


def _fits(trial: Trial, specs: Sequence[TensorSpec], roles: Mapping[str, str]) -> bool:
    """Say whether the model runs at two sizes with these roles, and its layers' time and batch move with them alone."""
    sizes = [(3, 7, FREE_SIZE), (2, 12, FREE_SIZE), (3, 7, FREE_SIZE + 2)]
    moved: list[list[tuple[int, ...]]] = []
    free = any(not role for role in roles.values())
    used = {roles.get(axis, "") for axis in _dynamic(specs)}
    for batch, time, other in sizes if free else sizes[:2]:
        given = {axis: {BATCH: batch, TIME: time}.get(roles.get(axis, ""), other) for axis in _dynamic(specs)}
        answers = trial.run(specs, given)
        if answers is None:
            return False
        probes = [tuple(array.tolist()) for name, array in answers.items() if name.startswith("lstm_edge.probe.")]
        moved.append(probes)
    # A layer whose steps are the same at both lengths runs over another axis; others may be folded into its batch.
    timed = [TIME not in used or a[0] != b[0] for a, b in zip(moved[0], moved[1], strict=True)]
    if BATCH in used and any(
        probe[1] % batch if not in_time else probe[1] != batch
        for (batch, _time, _other), probes in zip(sizes, moved, strict=False)
        for probe, in_time in zip(probes, timed, strict=True)
    ):
        return False
    if TIME in used and moved[0] and all(a[0] == b[0] for a, b in zip(moved[0], moved[1], strict=True)):
        return False
    return not (free and moved[0] != moved[2])


def measure_outputs(
    trial: Trial, specs: Sequence[TensorSpec], names: Sequence[str]
) -> tuple[tuple[TensorSpec, ...], tuple[str, ...]]:
    """Run at three sizes and say which axis of each output is batch, time, another dynamic one, or fixed.

    Raises:
        ArtifactError: the model does not run at these sizes; the message says at which and why.
    """
    free = dict.fromkeys(_dynamic(specs), FREE_SIZE - 1)
    reasons = []
    for batch, time in ((3, 7), (3, 24)):  # the longer one is for convolutions over time without padding
        sizes = [free | {BATCH: b, TIME: t} for b, t in ((batch, time), (batch + 2, time), (batch, time + 4))]
        answers = [trial.run(specs, size) for size in sizes]
        runs = [answer for answer in answers if answer is not None]
        if len(runs) == len(answers):
            return tuple(_output_spec(name, [run[name] for run in runs], batch, time) for name in names), ()
        reasons.append(f"batch {batch}, time {time}: {trial.failure}")
    single = trial.run(specs, free | {BATCH: 1, TIME: 1})
    if single is None:
        raise ArtifactError(
            f"the model runs on none of the inputs made from its description ({'; '.join(reasons)}); give the axes "
            'with --input "NAME: float32[batch, time, 64]", and required integers with --fix NAME=VALUE'
        )
    fixed = tuple(TensorSpec(name=n, dtype=str(single[n].dtype), axes=tuple(single[n].shape)) for n in names)
    return fixed, (f"the axes of the outputs: the model runs at batch 1 and time 1 only ({reasons[0]})",)


def _output_spec(name: str, arrays: Sequence[Array], batch: int, time: int) -> TensorSpec:
    axes: list[str | int] = []
    first, wider, longer = (array.shape for array in arrays)
    for index, (size, wide, long) in enumerate(zip(first, wider, longer, strict=True)):
        if size == batch and wide == batch + 2 and long == size:
            axes.append(BATCH)
        elif size == time and long == time + 4 and wide == size:
            axes.append(TIME)
        else:
            axes.append(size if size == wide == long else f"{name}.{index}")
    return TensorSpec(name=name, dtype=str(arrays[0].dtype), axes=tuple(axes))
