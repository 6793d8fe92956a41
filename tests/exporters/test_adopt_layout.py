"""``layout=1`` becomes ``layout=0``: the answers are PyTorch's batch-first ones, in every graph of a file."""

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lstm_edge_exporters.adopt import adopt_bytes
from lstm_edge_exporters.gates import GRU_ONNX, GRU_PYTORCH, LSTM_ONNX, LSTM_PYTORCH, reorder_gates
from lstm_edge_exporters.onnx_graph.layout import rewrite_layout
from lstm_edge_exporters.onnx_graph.reading import parse_model
from lstm_edge_exporters.verify.compare import CLOSE, assert_close
from lstm_edge_runtime.errors import ArtifactError
from lstm_edge_runtime.providers import open_session

FLOAT = TensorProto.FLOAT
I, H = 3, 5  # noqa: E741  the equations' own letters
SHAPES = ((2, 7), (1, 1), (4, 3))
ORDERS = {"LSTM": (LSTM_PYTORCH, LSTM_ONNX), "GRU": (GRU_PYTORCH, GRU_ONNX), "RNN": ("i", "i")}
SENTENCE = "rnn ({}): layout 1 (batch first), which onnxruntime does not run, became layout 0 between Transpose nodes"


def torch_layer(kind: str, sides: int) -> torch.nn.RNNBase:
    torch.manual_seed(3)
    makers: dict[str, Any] = {"LSTM": torch.nn.LSTM, "GRU": torch.nn.GRU, "RNN": torch.nn.RNN}
    module: torch.nn.RNNBase = makers[kind](I, H, batch_first=True, bidirectional=sides == 2).eval()
    return module


def onnx_weights(kind: str, module: torch.nn.RNNBase, sides: int) -> dict[str, np.ndarray]:
    src, dst = ORDERS[kind]

    def read(part: str) -> list[np.ndarray]:
        names = [f"{part}_l0", f"{part}_l0_reverse"][:sides]
        return [reorder_gates(module.get_parameter(name).detach().numpy(), src=src, dst=dst) for name in names]

    biases = [np.concatenate(pair) for pair in zip(read("bias_ih"), read("bias_hh"), strict=True)]
    return {"W": np.stack(read("weight_ih")), "R": np.stack(read("weight_hh")), "B": np.stack(biases)}


def batch_first(kind: str, arrays: dict[str, np.ndarray], *, outputs: str = "yhc", lengths: bool = False) -> bytes:
    """A file with one node in layout 1, states given; axes other than the node's order would not fit each other."""
    sides = len(arrays["W"])
    names = ["x", "W", "R", "B", "rows" if lengths else "", "h0", *(["c0"] if kind == "LSTM" else [])]
    inputs = {"x": ["batch", "time", I], "h0": ["batch", sides, H], "c0": ["batch", sides, H]}
    shapes = {"y": ["batch", "time", sides, H], "h": ["batch", sides, H], "c": ["batch", sides, H]}
    found = [name if name in outputs else "" for name in ("yhc" if kind == "LSTM" else "yh")]
    attributes: dict[str, Any] = {"direction": "bidirectional"} if sides == 2 else {}
    if kind == "GRU":
        attributes["linear_before_reset"] = 1
    node = helper.make_node(kind, names, found, name="rnn", hidden_size=H, layout=1, **attributes)
    described = [helper.make_tensor_value_info(n, FLOAT, axes) for n, axes in inputs.items() if n in names]
    if lengths:
        described.append(helper.make_tensor_value_info("rows", TensorProto.INT32, ["batch"]))
    graph = helper.make_graph(
        [node],
        "other",
        described,
        [helper.make_tensor_value_info(name, FLOAT, shapes[name]) for name in found if name],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(proto)
    return proto.SerializeToString()


def rewritten(data: bytes) -> tuple[bytes, tuple[str, ...]]:
    model = parse_model(data)
    sentences = rewrite_layout(model)
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    return proto.SerializeToString(), sentences


def states(kind: str, batch: int, sides: int) -> list[np.ndarray]:
    rng = np.random.default_rng(batch)
    return [rng.standard_normal((batch, sides, H)).astype(np.float32) for _ in range(2 if kind == "LSTM" else 1)]


def expected(
    module: torch.nn.RNNBase, x: np.ndarray, given: list[np.ndarray], lengths: np.ndarray | None
) -> list[np.ndarray]:
    """PyTorch's answers, brought to layout 1: Y [B, T, D, H], Y_h and Y_c [B, D, H]."""
    turned = [torch.from_numpy(state.transpose(1, 0, 2).copy()) for state in given]
    state = tuple(turned) if len(turned) == 2 else turned[0]
    sequence: Any = torch.from_numpy(x)
    if lengths is not None:
        sequence = pack_padded_sequence(sequence, torch.from_numpy(lengths), batch_first=True, enforce_sorted=False)
    with torch.no_grad():
        y, last = module(sequence, state)
    if lengths is not None:
        y, _ = pad_packed_sequence(y, batch_first=True, total_length=x.shape[1])
    ends = last if isinstance(last, tuple) else (last,)
    answers = [y.numpy().reshape(*x.shape[:2], -1, H)]
    return answers + [end.numpy().transpose(1, 0, 2) for end in ends]


@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("sides", [1, 2])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_answers_are_pytorchs(kind: str, sides: int, lengths: bool) -> None:
    module = torch_layer(kind, sides)
    data = batch_first(kind, onnx_weights(kind, module, sides), lengths=lengths)
    with pytest.raises(ArtifactError, match="layout"):  # once onnxruntime learns it, nothing needs this rewrite
        open_session(data)
    changed, sentences = rewritten(data)
    assert sentences == (SENTENCE.format(kind),)
    session = open_session(changed)
    for batch, time in SHAPES:
        rng = np.random.default_rng(time)
        x = rng.standard_normal((batch, time, I)).astype(np.float32)
        given = states(kind, batch, sides)
        feeds = {"x": x, **dict(zip(("h0", "c0"), given, strict=False))}
        rows = rng.integers(1, time + 1, batch) if lengths else None
        if rows is not None:
            feeds["rows"] = rows.astype(np.int32)
        answers = [np.asarray(answer) for answer in session.run(None, feeds)]
        wanted = expected(module, x, given, rows)
        assert len(answers) == len(wanted)
        for name, got, want in zip("yhc", answers, wanted, strict=False):
            assert_close(name, got, want, CLOSE)


@pytest.mark.parametrize("lengths", [False, True])
def test_the_whole_adoption(lengths: bool) -> None:
    """onnx's reference evaluator would answer for the original, but not where rows have lengths: it ignores those."""
    module = torch_layer("LSTM", 2)
    found = adopt_bytes(batch_first("LSTM", onnx_weights("LSTM", module, 2), lengths=lengths))
    assert found.notes == (SENTENCE.format("LSTM"),)
    card = found.artifact.card
    assert card.parity is not None
    how = "the original file, its layout 1 rewritten" if lengths else "the original file in onnx's reference evaluator"
    assert card.parity.against == f"{how}, as onnxruntime does not run it"
    assert [(spec.input, spec.output) for spec in card.states] == [("h0", "h"), ("c0", "c")]
    x = np.random.default_rng(1).standard_normal((2, 9, I)).astype(np.float32)
    h0, c0 = states("LSTM", 2, 2)
    rows = np.array([4, 9]) if lengths else None
    feeds = {"x": x, "h0": h0, "c0": c0} | ({"rows": rows.astype(np.int32)} if rows is not None else {})
    answers = open_session(found.artifact.data).run(["y", "h", "c"], feeds)
    for name, got, want in zip("yhc", answers, expected(module, x, [h0, c0], rows), strict=True):
        assert_close(name, np.asarray(got), want, CLOSE)


@pytest.mark.parametrize("outputs", ["y", "h", "c", "yc"])
def test_absent_outputs_stay_absent(outputs: str) -> None:
    module = torch_layer("LSTM", 1)
    data = batch_first("LSTM", onnx_weights("LSTM", module, 1), outputs=outputs)
    changed, _ = rewritten(data)
    nodes = onnx.load_from_string(changed).graph.node
    node = next(node for node in nodes if node.op_type == "LSTM")
    assert node.name == "rnn"
    assert [bool(name) for name in node.output] == [name in outputs for name in "yhc"[: len(node.output)]]
    assert sum(node.op_type == "Transpose" for node in nodes) == 3 + len(outputs)
    x = np.random.default_rng(0).standard_normal((2, 6, I)).astype(np.float32)
    h0, c0 = states("LSTM", 2, 1)
    wanted = dict(zip("yhc", expected(module, x, [h0, c0], None), strict=True))
    session = open_session(changed)
    assert [output.name for output in session.get_outputs()] == list(outputs)
    for name, got in zip(outputs, map(np.asarray, session.run(None, {"x": x, "h0": h0, "c0": c0})), strict=True):
        assert_close(name, got, wanted[name], CLOSE)


def test_inside_a_branch() -> None:
    """The weights lie in the outer graph, the node in a branch of an If; the other branch has layout 0."""
    module = torch_layer("LSTM", 1)
    inner = onnx.load_from_string(batch_first("LSTM", onnx_weights("LSTM", module, 1), outputs="h"))
    graph = inner.graph
    branch = helper.make_graph(list(graph.node), "then", [], list(graph.output))
    states_out = helper.make_tensor_value_info("state", FLOAT, ["batch", 1, H])
    other = helper.make_graph([helper.make_node("Identity", ["h0"], ["state"])], "else", [], [states_out])
    node = helper.make_node("If", ["yes"], ["out"], name="if", then_branch=branch, else_branch=other)
    yes = helper.make_tensor_value_info("yes", TensorProto.BOOL, [])
    out = helper.make_tensor_value_info("out", FLOAT, ["batch", 1, H])
    outer = helper.make_graph([node], "outer", [yes, *graph.input], [out], list(graph.initializer))
    data = helper.make_model(outer, opset_imports=list(inner.opset_import), ir_version=8).SerializeToString()
    changed, sentences = rewritten(data)
    assert sentences == (SENTENCE.format("LSTM"),)
    x = np.random.default_rng(0).standard_normal((2, 6, I)).astype(np.float32)
    h0, c0 = states("LSTM", 2, 1)
    got = np.asarray(open_session(changed).run(None, {"yes": np.array(True), "x": x, "h0": h0, "c0": c0})[0])
    assert_close("h", got, expected(module, x, [h0, c0], None)[1], CLOSE)


def test_layout_0_is_left_alone() -> None:
    module = torch_layer("GRU", 1)
    proto = onnx.load_from_string(batch_first("GRU", onnx_weights("GRU", module, 1)))
    layout = next(attribute for attribute in proto.graph.node[0].attribute if attribute.name == "layout")
    layout.i = 0
    model = parse_model(proto.SerializeToString())
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    assert rewrite_layout(model) == ()
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


def test_inside_a_local_function_it_is_reported() -> None:
    node = helper.make_node("LSTM", ["x", "w", "r"], ["y"], name="inner", hidden_size=H, layout=1)
    imports = [helper.make_opsetid("", 18)]
    function = helper.make_function("other", "Batchwise", ["x", "w", "r"], ["y"], [node], imports)
    arrays = onnx_weights("LSTM", torch_layer("LSTM", 1), 1)
    graph = helper.make_graph(
        [helper.make_node("Batchwise", ["x", "W", "R"], ["y"], domain="other")],
        "other",
        [helper.make_tensor_value_info("x", FLOAT, ["batch", "time", I])],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        [numpy_helper.from_array(arrays[name], name) for name in "WR"],
    )
    imports = [*imports, helper.make_opsetid("other", 1)]
    model = helper.make_model(graph, functions=[function], opset_imports=imports, ir_version=8)
    assert rewrite_layout(parse_model(model.SerializeToString())) == (
        "Batchwise/inner (LSTM): layout is 1, which onnxruntime does not run, and is kept: the node is inside a local "
        "function; inline it first (onnx.inliner.inline_local_functions)",
    )
