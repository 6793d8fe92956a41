"""A graph of lstm_edge operators runs on its kernels without onnxruntime: the same bits, and the same refusals."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from support.c_build import ROOT, build_program, find_onnxruntime
from torch import nn

from lstm_edge import export, quantize
from lstm_edge.layers import LSTM

KERNELS = ROOT / "runtime" / "lstm_edge_runtime" / "kernels"
INPUTS, HIDDEN = 5, 9
# Rows and steps: one of each, an axis of one, and more rows than run together.
SIZES = ((1, 1), (3, 1), (1, 4), (19, 3))


@pytest.fixture(scope="module")
def program(c_build, tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("direct") / "direct"
    return build_program(ROOT / "tests" / "c" / "direct.cpp", c_build, target, f"-I{KERNELS}")


def compared(program: Path, model: Path, batch: int, steps: int, *length: int) -> dict[str, Any]:
    """Run both ways; ``direct`` is whether the first ran without onnxruntime, ``same`` whether the bits are equal."""
    command = [program, find_onnxruntime(), model, *map(str, (batch, steps, 7, *length))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert not found["other"]
    return found


class Standardized(nn.Module):
    """What exports put around a layer: standardized inputs, a batch axis first, a residual and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.LSTM(INPUTS, HIDDEN, batch_first=True), nn.GRU(HIDDEN, HIDDEN, batch_first=True)
        self.head = nn.Linear(HIDDEN, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [batch, time, inputs] to [batch, time, 4]."""
        x = (x - torch.tensor([0.1, -0.2, 0.3, 1.0, 2.0])) / torch.tensor([0.9, 1.1, 3.0, 0.7, 1.3])
        y = self.first(x)[0]
        return self.head(y + 0.5 * self.second(y)[0]) * 1.7


class Last(nn.Module):
    """An answer of the last step, as classifiers give it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.GRU(INPUTS, HIDDEN, batch_first=True), nn.Linear(HIDDEN, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [batch, time, inputs] to [batch, 4]."""
        return self.head(self.layer(x)[0][:, -1])


class Tokens(nn.Module):
    """A predictive keyboard: int64 tokens to logits."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.layer = nn.Embedding(11, 6), nn.LSTM(6, HIDDEN, batch_first=True)
        self.head = nn.Linear(HIDDEN, 11)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens int64 [batch, time] to [batch, time, 11]."""
        return self.head(self.layer(self.embedding(tokens))[0])


MODULES: dict[str, Callable[[], tuple[nn.Module, torch.Tensor]]] = {
    "lstm": lambda: (LSTM(INPUTS, HIDDEN, 2), torch.randn(5, 2, INPUTS)),
    "diagonal": lambda: (LSTM(INPUTS, HIDDEN, peephole="diagonal"), torch.randn(5, 2, INPUTS)),
    "full": lambda: (LSTM(INPUTS, HIDDEN, peephole="full"), torch.randn(5, 2, INPUTS)),
    "projected": lambda: (nn.LSTM(INPUTS, HIDDEN, proj_size=4), torch.randn(5, 2, INPUTS)),
    "gru": lambda: (nn.GRU(INPUTS, HIDDEN, 2), torch.randn(5, 2, INPUTS)),
    "last": lambda: (Last(), torch.randn(2, 5, INPUTS)),
    "standardized": lambda: (Standardized(), torch.randn(2, 5, INPUTS)),
}


@pytest.fixture(scope="module", params=MODULES)
def exported(request, tmp_path_factory) -> Path:
    torch.manual_seed(3)
    module, example = MODULES[request.param]()
    path = tmp_path_factory.mktemp("models") / "model.onnx"
    export(module.eval(), example, path)
    return path


@pytest.mark.parametrize("scheme", ["int8", "int4", "float32"])
def test_the_bits_are_those_of_onnxruntime(program, exported, scheme, tmp_path):
    path = tmp_path / "quantized.onnx"
    quantize(exported, path, scheme=scheme)
    for batch, steps in SIZES:
        found = compared(program, path, batch, steps)
        # A float32 linear layer is onnxruntime's.
        assert found["direct"] == (not {"MatMul", "Gemm"} & _operators(path)), (batch, steps)
        assert found["same"], (batch, steps)


@pytest.fixture(scope="module")
def language_model(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tokens")
    export(
        Tokens().eval(),
        torch.zeros(2, 5, dtype=torch.int64),
        folder / "model.onnx",
        inputs=["tokens: int64[batch, time]"],
    )
    quantize(folder / "model.onnx", folder / "int8.onnx")
    return folder / "int8.onnx"


def test_tokens(program, language_model):
    for batch, steps in SIZES:
        found = compared(program, language_model, batch, steps)
        assert (found["direct"], found["same"]) == (True, True), (batch, steps)


@pytest.mark.parametrize("token", [11, -12, 2**40])
def test_a_token_that_the_vocabulary_lacks_has_the_sentence_of_onnxruntime(program, language_model, token):
    found = compared(program, language_model, 1, 1, token)
    assert found["direct"]
    refusal, other = found["refusals"]
    assert "indices element out of data bounds" in other
    assert refusal == other


def test_rows_of_different_lengths(program, tmp_path):
    """A ragged layer alone: exports have operators around it that only onnxruntime runs."""
    torch.manual_seed(0)
    path, int8, alone = (tmp_path / f"{name}.onnx" for name in ("model", "int8", "alone"))
    export(LSTM(INPUTS, HIDDEN).eval(), torch.randn(5, 2, INPUTS), path, lengths=True)
    quantize(path, int8)
    whole = compared(program, int8, 6, 4)
    assert (whole["direct"], whole["same"]) == (False, True)
    model = onnx.load(int8)
    [node] = [node for node in model.graph.node if "Ragged" in node.op_type]
    stored = [tensor for tensor in model.graph.initializer if tensor.name in node.input]
    moving = {"x": ["time", "batch", INPUTS], "h": [1, "batch", HIDDEN], "c": [1, "batch", HIDDEN]}
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, axes) for name, axes in moving.items()]
    inputs.append(helper.make_tensor_value_info("lengths", TensorProto.INT64, ["batch"]))
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("y", "h_out", "c_out")]
    layer = helper.make_node(
        node.op_type, [*(value.name for value in inputs), *node.input[4:]], [value.name for value in outputs],
        name="layer", domain=node.domain,
    )  # fmt: skip
    graph = helper.make_graph([layer], "g", inputs, outputs, stored)
    made = helper.make_model(graph, ir_version=model.ir_version, opset_imports=model.opset_import)
    made.functions.extend(model.functions)
    onnx.save(made, alone)
    for batch, steps in SIZES:
        found = compared(program, alone, batch, steps)
        assert (found["direct"], found["same"]) == (True, True), (batch, steps)


def test_another_operator_leaves_the_graph_to_onnxruntime(program, tmp_path):
    found = compared(program, _graph(tmp_path, [helper.make_node("Tanh", ["a"], ["y"], name="n")]), 2, 3)
    assert found == {"direct": False, "other": False, "same": True, "refusals": ["", ""]}


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 0, 1), (0, 2, 1)])
def test_transpose(program, order, tmp_path):
    path = _graph(tmp_path, [helper.make_node("Transpose", ["a"], ["y"], name="n", perm=order)])
    for batch, steps in SIZES:
        found = compared(program, path, batch, steps)
        assert (found["direct"], found["same"]) == (True, True), (batch, steps)


@pytest.mark.parametrize(
    ("operator", "axes"), [("Squeeze", [0]), ("Squeeze", [-3]), ("Unsqueeze", [0, -1]), ("Unsqueeze", [4, 1])]
)
def test_axes_come_and_go(program, operator, axes, tmp_path):
    path = _graph(tmp_path, [helper.make_node(operator, ["a", "k"], ["y"], name="n")], k=np.array(axes, np.int64))
    found = compared(program, path, 1, 4)
    assert found["direct"]
    assert found["same"]


@pytest.mark.parametrize(("axis", "index"), [(1, -1), (1, [0, 0]), (0, [[1], [-2]]), (-1, [2, 0, 1])])
def test_gather(program, axis, index, tmp_path):
    nodes = [helper.make_node("Gather", ["a", "k"], ["y"], name="n", axis=axis)]
    found = compared(program, _graph(tmp_path, nodes, k=np.array(index, np.int64)), 2, 4)
    assert found["direct"]
    assert found["same"]


@pytest.mark.parametrize("operator", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize("shape", [(), (1,), (3,), (1, 3), (2, 1, 3), (2, 1, 1), (1, 1, 1, 1)])
@pytest.mark.parametrize("first", [True, False])
def test_arithmetic_broadcasts(program, operator, shape, first, tmp_path):
    constant = np.random.default_rng(5).normal(size=shape).astype(np.float32)
    names = ["k", "a"] if first else ["a", "k"]
    path = _graph(tmp_path, [helper.make_node(operator, names, ["y"], name="n")], k=constant)
    found = compared(program, path, 2, 4)
    assert found["direct"]
    assert found["same"]


def test_nodes_without_names_are_left_to_onnxruntime(program, tmp_path):
    torch.manual_seed(0)
    path, int8, renamed = (tmp_path / f"{name}.onnx" for name in ("model", "int8", "renamed"))
    export(LSTM(INPUTS, HIDDEN, 2).eval(), torch.randn(5, 2, INPUTS), path)
    quantize(path, int8)
    assert compared(program, int8, 1, 1)["direct"]
    model = onnx.load(int8)
    for node in model.graph.node:
        node.name = ""
    del model.metadata_props[:]
    onnx.save(model, renamed)
    found = compared(program, renamed, 2, 3)
    assert not found["direct"]
    assert found["same"]


def _operators(path: Path) -> set[str]:
    return {node.op_type for node in onnx.load(path).graph.node}


def _graph(folder: Path, nodes: list[onnx.NodeProto], **constants: np.ndarray[Any, Any]) -> Path:
    """Write a graph from a [batch, time, 3] to y."""
    a = helper.make_tensor_value_info("a", TensorProto.FLOAT, ["batch", "time", 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    stored = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", [a], [y], stored)
    path = folder / "graph.onnx"
    onnx.save(helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 18)]), path)
    return path
