"""ONNX files with convolutions in front of an LSTM, and what calibration gathers on data made for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto, helper

from lstm_edge_exporters.quantize.calibration import Calibration, collect
from support.onnx_files import FLOAT, model

__all__ = ["HIDDEN", "Stage", "calibrated", "file_of", "inputs_of"]

HIDDEN = 6


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A convolution [M, C / groups, kernel ...], and the operators behind it: ``BatchNormalization``, ``Relu``, ..."""

    weight: tuple[int, ...]
    behind: tuple[str, ...] = ()
    attributes: Mapping[str, object] | None = None


def file_of(stages: Sequence[Stage], *, width: int = 0, seed: int = 0) -> bytes:
    """Return a model: x [batch, channels, time], or with ``width`` [batch, channels, time, width], to y and the LSTM's.

    Behind the convolutions: the mean over ``width``, then an LSTM; outputs ``y`` [time, 1, batch, HIDDEN].
    """
    rng = np.random.default_rng(seed)
    nodes: list[NodeProto] = []
    arrays: dict[str, np.ndarray] = {}
    value, channels = "x", 0
    for number, stage in enumerate(stages):
        name = f"conv{number}"
        channels = stage.weight[0]
        fan = int(np.prod(stage.weight[1:]))
        arrays[f"{name}.w"] = (rng.standard_normal(stage.weight) * (2 / fan) ** 0.5).astype(np.float32)
        arrays[f"{name}.b"] = (rng.standard_normal(channels) * 0.3).astype(np.float32)
        nodes.append(
            helper.make_node(
                "Conv", [value, f"{name}.w", f"{name}.b"], [name], name=f"{name}/Conv", **(stage.attributes or {})
            )
        )
        value = name
        for operator in stage.behind:
            value = _behind(nodes, arrays, operator, value, rng, channels)
    if width:
        arrays["last"] = np.array([3])
        nodes.append(helper.make_node("ReduceMean", [value, "last"], ["mean"], keepdims=0))
        value = "mean"
    nodes.append(helper.make_node("Transpose", [value], ["steps"], perm=[2, 0, 1]))
    shapes = {"W": (1, 4 * HIDDEN, channels), "R": (1, 4 * HIDDEN, HIDDEN), "B": (1, 8 * HIDDEN)}
    for name, shape in shapes.items():
        arrays[name] = (rng.standard_normal(shape) * (shape[-1] ** -0.5 if len(shape) == 3 else 0.3)).astype(np.float32)
    nodes.append(helper.make_node("LSTM", ["steps", "W", "R", "B"], ["y"], name="lstm", hidden_size=HIDDEN))
    first = stages[0]
    inputs = first.weight[1] * int((first.attributes or {}).get("group", 1))  # type: ignore[call-overload]
    axes = ["batch", inputs, "time", *([width] if width else [])]
    return model(nodes, {"x": (FLOAT, axes)}, {"y": ["steps", 1, "batch", HIDDEN]}, arrays)


def _behind(
    nodes: list[NodeProto],
    arrays: dict[str, np.ndarray],
    operator: str,
    value: str,
    rng: np.random.Generator,
    channels: int,
) -> str:
    after = f"{value}.{operator}"
    inputs, attributes = [value], {}
    if operator == "BatchNormalization":
        for role, low in (("gamma", 0.5), ("beta", -0.5), ("mean", -0.5), ("variance", 0.5)):
            arrays[f"{value}.{role}"] = rng.uniform(low, low + 1, channels).astype(np.float32)
            inputs.append(f"{value}.{role}")
    elif operator == "Clip":
        arrays[f"{value}.low"], arrays[f"{value}.high"] = np.array(0, np.float32), np.array(6, np.float32)
        inputs += [f"{value}.low", f"{value}.high"]
    elif operator == "MaxPool":
        attributes = {"kernel_shape": [2], "strides": [2]}
    nodes.append(helper.make_node(operator, inputs, [after], name=f"{after}/node", **attributes))
    return after


def inputs_of(data: bytes, *, count: int = 12, steps: int = 40, batch: int = 1, seed: int = 1) -> list[np.ndarray]:
    """Return random inputs float32 [batch, channels, steps, ...], correlated over time as signals are."""
    import onnx

    axes = [d.dim_value for d in onnx.ModelProto.FromString(data).graph.input[0].type.tensor_type.shape.dim]
    rng = np.random.default_rng(seed)
    shape = (batch, axes[1], steps, *axes[3:])
    made = []
    for _ in range(count):
        noise = rng.standard_normal(shape)
        made.append((noise + np.roll(noise, 1, axis=2)).astype(np.float32))
    return made


def calibrated(data: bytes, inputs: Sequence[np.ndarray] | None = None) -> Calibration:
    """Return what calibration gathers on these inputs, or on ``inputs_of``."""
    return collect(data, [{"x": x} for x in (inputs_of(data) if inputs is None else inputs)])
