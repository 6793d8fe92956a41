"""Cells that an exporter took apart: folded where everything is certain, else left alone, and the reason given."""

import io
import itertools
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from lstm_edge_exporters.adopt import adopt_bytes
from lstm_edge_exporters.adopt.cells import fold_cells
from lstm_edge_exporters.onnx_graph.graph import drop_unused, parse_model
from lstm_edge_exporters.quantize import quantize_bytes
from lstm_edge_exporters.verify.compare import Tolerance, assert_close
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.providers import open_session

FOLDED = Tolerance(
    name="FOLDED",
    absolute=1e-6,
    reason="the same sums of float32 products in another order: a rounding is 6e-8; the worst seen was 2.4e-7",
)
I, H = 3, 5  # noqa: E741  the equations' own letters
BATCHES = (1, 2, 5)


def random(*shape: int, seed: int = 0) -> Array:
    rng = np.random.default_rng([seed, *shape])
    return (rng.standard_normal(shape) * 0.6).astype(np.float32)


def file(text: str, arrays: dict[str, Array], *, opset: int = 18, states: str = "h, c") -> bytes:
    """A file from onnx's own text form; its inputs are x [b, I] and the states [b, H], its outputs have the same."""
    head = ", ".join(f"float[b, {H}] {name}" for name in states.split(", "))
    outs = ", ".join(f"float[b, {H}] {name}_out" for name in states.split(", "))
    source = f'<ir_version: 8, opset_import: ["" : {opset}]> other (float[b, {I}] x, {head}) => ({outs}) {{ {text} }}'
    proto = onnx.parser.parse_model(source)
    for count, node in enumerate(proto.graph.node):
        node.name = f"{node.op_type}_{node.output[0]}_{count}"
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    onnx.checker.check_model(proto)
    return proto.SerializeToString()


GATES = """
  zx = Gemm<transB = 1>(x, wx, bx)
  zh = Gemm<transB = 1>(h, wh, bh)
  z = Add(zx, zh)
  za, zb, zc, zd = Split<axis = 1, num_outputs = 4>(z)
"""
STATE = """
  i = Sigmoid(z{i}) f = Sigmoid(z{f}) g = Tanh(z{g}) o = Sigmoid(z{o})
  fc = Mul(f, c) ig = Mul(i, g) c_out = Add(fc, ig)
  t = Tanh(c_out) h_out = Mul(o, t)
"""
STATE_IFGO = STATE.format(i="a", f="b", g="c", o="d")


def lstm_arrays() -> dict[str, Array]:
    return {"wx": random(4 * H, I), "wh": random(4 * H, H), "bx": random(4 * H), "bh": random(4 * H, seed=1)}


def lstm_equations(arrays: dict[str, Array], order: str, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    """The cell in float64, the gates in the given order: the witness that knows nothing of onnxruntime."""
    wide = {name: array.astype(np.float64) for name, array in arrays.items()}
    z = x @ wide["wx"].T + wide["bx"] + h @ wide["wh"].T + wide["bh"]
    gate = dict(zip(order, np.split(z, 4, axis=1), strict=True))

    def sigmoid(value: Array) -> Array:
        return 1 / (1 + np.exp(-value))

    new = sigmoid(gate["f"]) * c + sigmoid(gate["i"]) * np.tanh(gate["g"])
    return sigmoid(gate["o"]) * np.tanh(new), new


def fold(data: bytes) -> tuple[bytes, tuple[str, ...]]:
    model = parse_model(data)
    sentences = fold_cells(model)
    drop_unused(model)
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    return proto.SerializeToString(), sentences


def operators(data: bytes) -> list[str]:
    return [node.op_type for node in parse_model(data).graph.all_nodes()]


def feeds_of(data: bytes, batch: int) -> dict[str, Array]:
    session = open_session(data)
    return {
        value.name: random(*(axis if isinstance(axis, int) else batch for axis in value.shape), seed=batch + position)
        for position, value in enumerate(session.get_inputs())
    }


def assert_equal_answers(data: bytes, folded: bytes, batches: Iterable[int] = BATCHES) -> None:
    sessions = [open_session(data), open_session(folded)]
    names = [output.name for output in sessions[0].get_outputs()]
    assert [output.name for output in sessions[1].get_outputs()] == names
    for batch in batches:
        feeds = feeds_of(data, batch)
        answers = [[np.asarray(a) for a in session.run(None, feeds)] for session in sessions]
        for name, want, got in zip(names, *answers, strict=True):
            assert_close(name, got, want, FOLDED)


def assert_folded(data: bytes, kinds: list[str]) -> tuple[bytes, tuple[str, ...]]:
    folded, sentences = fold(data)
    found = operators(folded)
    assert [op for op in found if op in ("LSTM", "GRU")] == kinds, sentences
    assert not {"Gemm", "MatMul", "Sigmoid", "Tanh", "Split", "Mul"} & set(found), found
    assert_equal_answers(data, folded)
    return folded, sentences


def assert_left(data: bytes, sentence: str) -> None:
    """Nothing changes but for the sentence."""
    model = parse_model(data)
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    assert fold_cells(model) == (sentence,)
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("order", ["".join(order) for order in itertools.permutations("ifgo")])
def test_every_gate_order(order: str) -> None:
    arrays = lstm_arrays()
    places = {gate: "abcd"[order.index(gate)] for gate in order}
    data = file(GATES + STATE.format(**places), arrays)
    folded, sentences = assert_folded(data, ["LSTM"])
    assert sentences == ("lstm_cell: LSTM cell of single operators, folded into one LSTM node with one time step",)
    feeds = feeds_of(data, 4)
    wanted = lstm_equations(arrays, order, feeds["x"], feeds["h"], feeds["c"])
    for name, got, want in zip("hc", open_session(folded).run(None, feeds), wanted, strict=True):
        assert_close(name, np.asarray(got), want.astype(np.float32), FOLDED)


FORMS = {
    "MatMul and Add": (
        "wxt = Transpose(wx) wht = Transpose(wh) zx = MatMul(x, wxt) zh = MatMul(h, wht) zs = Add(zx, zh) "
        "both = Add(bx, bh) z = Add(both, zs) za, zb, zc, zd = Split<axis = -1, num_outputs = 4>(z)"
    ),
    "one product of x and h together": (
        "w = Concat<axis = 1>(wx, wh) xh = Concat<axis = 1>(x, h) z0 = Gemm<transB = 1>(xh, w, bx) z = Add(z0, bh) "
        "za, zb, zc, zd = Split<axis = 1, num_outputs = 4>(z)"
    ),
    "h before x": (
        "w = Concat<axis = 1>(wh, wx) hx = Concat<axis = -1>(h, x) z0 = Gemm<transB = 1, alpha = 0.5, beta = 2.0>"
        "(hx, w, bx) z = Add(z0, bh) za, zb, zc, zd = Split<axis = 1>(z, sizes)"
    ),
    "slices": (
        "zx = Gemm<transB = 1>(x, wx, bx) zh = Gemm<transB = 1>(h, wh, bh) z = Add(zx, zh) "
        "za = Slice(z, k0, k5, one) zb = Slice(z, k5, k10, one, one) zc = Slice(z, k10, k15, minus) "
        "zd = Slice(z, k15, far, one)"
    ),
    "a product for each gate": " ".join(
        f"w{g}x = Slice(wx, k{start}, k{start + H}, zero) w{g}h = Slice(wh, k{start}, k{start + H}, zero) "
        f"b{g}x = Slice(bx, k{start}, k{start + H}, zero) b{g}h = Slice(bh, k{start}, k{start + H}, zero) "
        f"z{g}x = Gemm<transB = 1>(x, w{g}x, b{g}x) z{g}h = Gemm<transB = 1>(h, w{g}h, b{g}h) z{g} = Add(z{g}h, z{g}x)"
        for g, start in (("a", 0), ("b", 5), ("c", 10), ("d", 15))
    ),
    "bounds from a shape": (
        "zx = Gemm<transB = 1>(x, wx, bx) zh = Gemm<transB = 1>(h, wh, bh) z = Add(zx, zh) s = Shape(z) "
        "n = Gather<axis = 0>(s, one) m = Add(n, three) q = Div(m, four) q2 = Mul(q, two) q3 = Mul(q, three) "
        "q4 = Mul(q, four) "
        "za = Slice(z, k0, q, one) zb = Slice(z, q, q2, one) zc = Slice(z, q2, q3, one) zd = Slice(z, q3, q4, one)"
    ),
}
NUMBERS = {f"k{n}": np.array([n]) for n in (0, 5, 10, 15, 20)} | {
    "zero": np.array([0]),
    "one": np.array([1]),
    "two": np.array([2]),
    "three": np.array([3]),
    "four": np.array([4]),
    "minus": np.array([-1]),
    "far": np.array([2**31]),
    "sizes": np.array([H] * 4),
}


@pytest.mark.parametrize("form", list(FORMS))
def test_forms_of_the_product(form: str) -> None:
    assert_folded(file(FORMS[form] + STATE_IFGO, lstm_arrays() | NUMBERS), ["LSTM"])


def test_operands_in_any_order() -> None:
    for fc, ig, new, out in itertools.product(
        ("f, c", "c, f"), ("i, g", "g, i"), ("fc, ig", "ig, fc"), ("o, t", "t, o")
    ):
        state = STATE_IFGO.replace("f, c", fc).replace("i, g", ig).replace("fc, ig", new).replace("o, t", out)
        assert_folded(file(GATES + state, lstm_arrays()), ["LSTM"])


@pytest.mark.parametrize("opset", [11, 13])
def test_older_opsets(opset: int) -> None:
    split = "Split<axis = 1, split = [5, 5, 5, 5]>(z)" if opset < 13 else "Split<axis = 1>(z)"
    gates = GATES.replace("Split<axis = 1, num_outputs = 4>(z)", split)
    assert_folded(file(gates + STATE_IFGO, lstm_arrays(), opset=opset), ["LSTM"])


def test_several_inputs_beside_the_state() -> None:
    """Gates of x, of h and of the cell state's own copy: what is not h becomes the node's input."""
    gates = GATES.replace("z = Add(zx, zh)", "ze = MatMul(extra, we) zy = Add(ze, zx) z = Add(zy, zh)")
    arrays = lstm_arrays() | {"we": random(2, 4 * H), "half": np.full((1,), 0.5, np.float32), "k2": np.array([2])}
    text = "extra = Slice(x, k0, k2, one)" + gates + STATE_IFGO
    folded, _ = fold(file(text, arrays | NUMBERS))
    assert operators(folded).count("LSTM") == 1
    assert "Concat" in operators(folded)
    assert_equal_answers(file(text, arrays | NUMBERS), folded)


class Single(torch.nn.Module):
    def __init__(self, cell: torch.nn.RNNCellBase) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor | None = None) -> Any:
        return self.cell(x, h) if c is None else self.cell(x, (h, c))


class Loop(torch.nn.Module):
    """Both cells in a Python loop over three steps, the second fed by the first."""

    def __init__(self) -> None:
        super().__init__()
        self.lower = torch.nn.LSTMCell(I, H)
        self.upper = torch.nn.GRUCell(H, 4)

    def forward(self, x: torch.Tensor) -> Any:
        h = c = x.new_zeros(x.shape[0], H)
        u = x.new_zeros(x.shape[0], 4)
        steps = []
        for t in range(3):
            h, c = self.lower(x[:, t], (h, c))
            u = self.upper(h, u)
            steps.append(u)
        return torch.stack(steps, 1), h, c


def export(module: torch.nn.Module, args: tuple[torch.Tensor, ...], *, dynamo: bool) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's remarks on its own names and on its older exporter
        return _export(module, args, dynamo=dynamo)


def _export(module: torch.nn.Module, args: tuple[torch.Tensor, ...], *, dynamo: bool) -> bytes:
    names = ["x", "h", "c"][: len(args)]
    if dynamo:
        shapes = tuple({0: torch.export.Dim("b")} for _ in args)
        program = torch.onnx.export(module, args, dynamo=True, dynamic_shapes=shapes, input_names=names, verbose=False)
        assert program is not None
        return bytes(program.model_proto.SerializeToString())
    stream = io.BytesIO()
    axes = {name: {0: "b"} for name in names}
    torch.onnx.export(module, args, stream, dynamo=False, dynamic_axes=axes, input_names=names, opset_version=18)  # type: ignore[arg-type]
    return stream.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dynamo", [True, False])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_torchs_cells(kind: str, dynamo: bool, bias: bool) -> None:
    torch.manual_seed(0)
    cell = {"LSTM": torch.nn.LSTMCell, "GRU": torch.nn.GRUCell}[kind](I, H, bias=bias)
    module = Single(cell).eval()
    args = tuple(torch.randn(3, size) for size in (I, H, H)[: 3 if kind == "LSTM" else 2])
    data = export(module, args, dynamo=dynamo)
    folded, sentences = assert_folded(data, [kind])
    assert sentences == (f"cell: {kind} cell of single operators, folded into one {kind} node with one time step",)
    for batch in BATCHES:
        feeds = feeds_of(data, batch)
        with torch.no_grad():
            wanted = module(*(torch.from_numpy(array) for array in feeds.values()))
        wanted = wanted if isinstance(wanted, tuple) else (wanted,)
        for want, got in zip(wanted, open_session(folded).run(None, feeds), strict=True):
            assert_close(kind, np.asarray(got), want.numpy(), FOLDED)


@pytest.mark.slow
@pytest.mark.parametrize("dynamo", [True, False])
def test_a_loop_that_was_unrolled(dynamo: bool) -> None:
    torch.manual_seed(0)
    data = export(Loop().eval(), (torch.randn(2, 3, I),), dynamo=dynamo)
    folded, sentences = assert_folded(data, ["LSTM", "GRU"] * 3)
    assert sentences == (
        "lower: LSTM cell of single operators with the same weights 3 times, a loop unrolled over time, folded step by "
        "step into 3 LSTM nodes with one time step: lower, lower_1, lower_2",
        "upper: GRU cell of single operators with the same weights 3 times, a loop unrolled over time, folded step by "
        "step into 3 GRU nodes with one time step: upper, upper_1, upper_2",
    )
    # The steps share their weights: W, R and B of each layer once.
    sizes = [tensor.ByteSize() for tensor in onnx.load_from_string(folded).graph.initializer]
    assert sum(size > 4 * H * 4 for size in sizes) == 6


def test_the_state_of_an_unrolled_loop_leaves_by_its_last_step() -> None:
    """Two calls of three steps, the state handed on, are the loop over six steps."""
    torch.manual_seed(0)
    module = Loop().eval()
    found = adopt_bytes(export(module, (torch.randn(2, 3, I),), dynamo=False), stateful=True)
    names = [f"{layer}.{kind}" for layer, kind in (("lower", "h"), ("lower", "c"), ("upper", "h"))]
    assert [spec.input for spec in found.artifact.card.states] == names
    session = open_session(found.artifact.data)
    x = torch.randn(2, 6, I)
    feeds = {spec.input: np.zeros((1, 2, int(spec.axes[2])), np.float32) for spec in found.artifact.card.states}
    outputs = [found.artifact.card.outputs[0].name, *(spec.output for spec in found.artifact.card.states)]
    pieces = []
    for part in x.split(3, dim=1):
        y, *left = (np.asarray(array) for array in session.run(outputs, {"x": part.numpy(), **feeds}))
        feeds = dict(zip(feeds, left, strict=True))
        pieces.append(y)
    h = c = torch.zeros(2, H)
    u = torch.zeros(2, 4)
    steps = []
    for t in range(6):
        with torch.no_grad():
            h, c = module.lower(x[:, t], (h, c))
            u = module.upper(h, u)
        steps.append(u)
    assert_close("y", np.concatenate(pieces, axis=1), torch.stack(steps, 1).numpy(), FOLDED)
    for name, want in zip(names, (h, c, u), strict=True):
        assert_close(name, feeds[name][0], want.numpy(), FOLDED)


def test_a_folded_cell_is_quantized() -> None:
    folded, _ = fold(file(GATES + STATE_IFGO, lstm_arrays()))
    artifact = quantize_bytes(folded)
    assert artifact.card.quantization is not None
    assert [(row.layer, row.scheme) for row in artifact.card.quantization.coverage] == [("lstm_cell", "int8")]


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_a_single_cell_is_adopted(kind: str) -> None:
    """All outputs are states: h' leaves a second time as the answer; steps one by one are the loop over the cell."""
    torch.manual_seed(0)
    cell = {"LSTM": torch.nn.LSTMCell, "GRU": torch.nn.GRUCell}[kind](I, H)
    args = tuple(torch.randn(3, size) for size in (I, H, H)[: 3 if kind == "LSTM" else 2])
    found = adopt_bytes(export(Single(cell).eval(), args, dynamo=False))
    card = found.artifact.card
    assert [spec.name for spec in card.outputs] == ["y"]
    assert [spec.input for spec in card.states] == ["h", "c"][: len(args) - 1]
    assert [(layer.name, layer.operator) for layer in card.layers] == [("cell", kind)]
    first = card.states[0].output
    sentence = f"which output is the answer: all are states, so {first!r} leaves a second time, as 'y'"
    assert sentence in card.undetermined
    session = open_session(found.artifact.data)
    state = [torch.zeros(2, H) for _ in card.states]
    feeds = {spec.input: np.zeros((2, H), np.float32) for spec in card.states}
    for x in torch.randn(4, 2, I):
        with torch.no_grad():
            new = cell(x, tuple(state) if kind == "LSTM" else state[0])
        state = list(new) if kind == "LSTM" else [new]
        names = ["y", *(spec.output for spec in card.states)]
        y, *left = (np.asarray(array) for array in session.run(names, {"x": x.numpy(), **feeds}))
        feeds = dict(zip(feeds, left, strict=True))
        for got, want in zip([y, *left], [state[0], *state], strict=True):
            assert_close(kind, got, want.numpy(), FOLDED)


def test_two_branches_of_one_graph() -> None:
    """Each branch of an If has its cell, over weights in the outer graph; the states are packed."""
    one = onnx.load_from_string(file(GATES + STATE_IFGO, lstm_arrays()))
    branches = []
    for name in ("then", "else"):
        nodes = [
            helper.make_node("Gather", ["state", "k0"], [f"{name}_h"], axis=0),
            helper.make_node("Gather", ["state", "k1"], [f"{name}_c"], axis=0),
        ]
        for node in one.graph.node:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            renamed = {"h": f"{name}_h", "c": f"{name}_c"}
            local = {output for other in one.graph.node for output in other.output}
            copy.input[:] = [renamed.get(n, f"{name}_{n}" if n in local else n) for n in node.input]
            copy.output[:] = [f"{name}_{n}" for n in node.output]
            nodes.append(copy)
        outs = [helper.make_tensor_value_info(f"{name}_{n}_out", TensorProto.FLOAT, ["b", H]) for n in "hc"]
        branches.append(helper.make_graph(nodes, name, [], outs))
    chosen = helper.make_node("If", ["yes"], ["h_out", "c_out"], then_branch=branches[0], else_branch=branches[1])
    yes = helper.make_node("ReduceMax", ["positive"], ["yes_int"], keepdims=0)
    nodes = [
        helper.make_node("Greater", ["x", "zero"], ["greater"]),
        helper.make_node("Cast", ["greater"], ["positive"], to=6),
    ]
    nodes += [yes, helper.make_node("Cast", ["yes_int"], ["yes"], to=9), chosen]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", I]),
        helper.make_tensor_value_info("state", TensorProto.FLOAT, [2, "b", H]),
    ]
    extra = {"k0": np.array(0), "k1": np.array(1), "zero": np.float32(0)}
    tensors = [*one.graph.initializer, *(numpy_helper.from_array(np.asarray(a), n) for n, a in extra.items())]
    graph = helper.make_graph(nodes, "other", inputs, list(one.graph.output), tensors)
    data = helper.make_model(graph, opset_imports=list(one.opset_import), ir_version=8).SerializeToString()
    folded, sentences = fold(data)
    assert len(sentences) == 2
    assert operators(folded).count("LSTM") == 2
    assert "Sigmoid" not in operators(folded)
    assert_equal_answers(data, folded)


GRU = """
  ax = Gemm<transB = 1>(x, wx, bx)
  ah = Gemm<transB = 1>(h, wh, bh)
  rx, zx, nx = Split<axis = 1, num_outputs = 3>(ax)
  rh, zh, nh = Split<axis = 1, num_outputs = 3>(ah)
  rs = Add(rx, rh) r = Sigmoid(rs) zs = Add(zx, zh) z = Sigmoid(zs)
  rn = Mul(r, nh) ns = Add(nx, rn) n = Tanh(ns)
"""
GRU_AFTER = """
  xh = Concat<axis = 1>(x, h) a = Gemm<transB = 1>(xh, wrz, brz) rs, zs = Split<axis = 1, num_outputs = 2>(a)
  r = Sigmoid(rs) z = Sigmoid(zs) rh = Mul(r, h) xrh = Concat<axis = 1>(x, rh) ns = Gemm<transB = 1>(xrh, wn, bn)
  n = Tanh(ns)
"""
UPDATES = {
    "n + z (h - n)": "d = Sub(h, n) m = Mul(d, z) h_out = Add(m, n)",
    "(1 - z) n + z h": "y = Sub(unit, z) m = Mul(y, n) k = Mul(z, h) h_out = Add(m, k)",
    "(1 - z) h + z n": "y = Sub(unit, z) m = Mul(h, y) k = Mul(n, z) h_out = Add(k, m)",
    "h + z (n - h)": "d = Sub(n, h) m = Mul(z, d) h_out = Add(h, m)",
}


def gru_arrays() -> dict[str, Array]:
    arrays = {"wx": random(3 * H, I), "wh": random(3 * H, H), "bx": random(3 * H), "bh": random(3 * H, seed=1)}
    arrays |= {"wrz": random(2 * H, I + H), "brz": random(2 * H), "wn": random(H, I + H), "bn": random(H)}
    return arrays | {"unit": np.ones((), np.float32)}


def gru_file(text: str) -> bytes:
    arrays = {
        name: array for name, array in gru_arrays().items() if f"{name}" in text.replace(",", " ").replace(")", " ")
    }
    return file(text, arrays, states="h")


@pytest.mark.parametrize("update", list(UPDATES))
@pytest.mark.parametrize("gates", [GRU, GRU_AFTER], ids=["linear_before_reset", "linear_after_reset"])
def test_forms_of_a_gru(gates: str, update: str) -> None:
    data = gru_file(gates + UPDATES[update])
    folded, sentences = assert_folded(data, ["GRU"])
    assert sentences == ("gru_cell: GRU cell of single operators, folded into one GRU node with one time step",)
    node = next(node for node in parse_model(folded).graph.all_nodes() if node.op_type == "GRU")
    assert node.attributes["linear_before_reset"].as_int() == (gates is GRU)


def replaced(*pairs: tuple[str, str]) -> Callable[[str], str]:
    def change(text: str) -> str:
        for old, new in pairs:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        return text

    return change


LSTM_MUTATIONS = {
    "another activation of i": (
        replaced(("i = Sigmoid(za)", "i = HardSigmoid(za)")),
        "a gate goes through HardSigmoid node 'HardSigmoid_i_4', expected Sigmoid for i and f, Tanh for g",
    ),
    "another activation of g": (
        replaced(("g = Tanh(zc)", "g = Relu(zc)")),
        "a gate goes through Relu node 'Relu_g_6', expected Sigmoid for i and f, Tanh for g",
    ),
    "g through Sigmoid": (
        replaced(("g = Tanh(zc)", "g = Sigmoid(zc)")),
        "its activations are Sigmoid node 'Sigmoid_f_5', Sigmoid node 'Sigmoid_i_4', Sigmoid node 'Sigmoid_g_6', "
        "expected Sigmoid for i and f, Tanh for g",
    ),
    "another activation of o": (
        replaced(("o = Sigmoid(zd)", "o = HardSigmoid(zd)")),
        "gate o goes through HardSigmoid node 'HardSigmoid_o_7', expected Sigmoid",
    ),
    "another activation of c'": (
        replaced(("t = Tanh(c_out)", "t = Relu(c_out)")),
        "h' goes through Relu node 'Relu_t_11', expected Tanh",
    ),
    "a gate is an output": (
        replaced(("f = Sigmoid(zb)", "f = Sigmoid(zb) extra_out = Identity(f)")),
        "'f', inside the cell, is used by Identity node 'Identity_extra_out_6' too",
    ),
    "the gates are used elsewhere": (
        replaced(("t = Tanh(c_out)", "t = Tanh(c_out) extra_out = Relu(zc)")),
        "'zc', inside the cell, is used by Relu node 'Relu_extra_out_12' too",
    ),
    "weights that depend on an input": (
        replaced(("zh = Gemm<transB = 1>(h, wh, bh)", "dw = Mul(wh, c) zh = Gemm<transB = 1>(h, dw, bh)")),
        "Gemm node 'Gemm_zh_2' multiplies with 'dw', which is not constant",
    ),
    "a peephole": (
        replaced(("i = Sigmoid(za)", "p = Mul(c, peep) zp = Add(za, p) i = Sigmoid(zp)")),
        "a gate is fed by Mul node 'Mul_p_4', which is no product with constant weights",
    ),
    "a bias for each row": (
        replaced(("z = Add(zx, zh)", "zy = Add(zx, rows) z = Add(zy, zh)")),
        "Add node 'Add_zy_2' adds float32 [2, 20], expected float32 [20]",
    ),
    "a gate of x alone": (
        replaced(("o = Sigmoid(zd)", "only, k1, k2, k3 = Split<axis = 1, num_outputs = 4>(zx) o = Sigmoid(only)")),
        "gate o reads other values than gate i (Sigmoid node 'Sigmoid_o_8')",
    ),
    "no recurrence": (
        replaced(("zh = Gemm<transB = 1>(h, wh, bh)", "zh = Gemm<transB = 1>(x, wx, bh)")),
        "no recurrent product: expected one of a hidden state with 5 columns",
    ),
    "unequal gates": (
        replaced(
            ("za, zb, zc, zd = Split<axis = 1, num_outputs = 4>(z)", "za, zb, zc, zd, ze = Split<axis = 1>(z, odd)")
        ),
        "gate f has 1 columns, gate i has 5",
    ),
    "split along the batch": (
        replaced(("Split<axis = 1, num_outputs = 4>", "Split<axis = 0, num_outputs = 4>")),
        "Split node 'Split_za_3' splits along axis 0, expected 1",
    ),
    "gates that are transposed": (
        replaced(("zx = Gemm<transB = 1>", "zx = Gemm<transA = 1, transB = 1>")),
        "Gemm node 'Gemm_zx_0' has transA = 1, expected 0",
    ),
    "half precision": (
        replaced(("(x, wx, bx)", "(x, wx16, bx)")),
        "Gemm node 'Gemm_zx_0' has float16 weights, expected float32",
    ),
}


def unchecked(text: str, *, states: str = "h, c", arrays: dict[str, Array] | None = None) -> bytes:
    """As ``file``, with one more output where the text has one, and without the checker: mutants need not run."""
    outs = ", extra" if "extra_out" in text else ""
    head = ", ".join(f"float[b, {H}] {name}" for name in states.split(", "))
    results = ", ".join(f"float[b, {H}] {name}_out" for name in (states + outs).split(", "))
    source = f'<ir_version: 8, opset_import: ["" : 18]> other (float[b, {I}] x, {head}) => ({results}) {{ {text} }}'
    proto = onnx.parser.parse_model(source)
    for count, node in enumerate(proto.graph.node):
        node.name = f"{node.op_type}_{node.output[0]}_{count}"
    extra = {"peep": random(H), "rows": random(2, 4 * H), "odd": np.array([5, 1, 5, 5, 4])}
    extra |= {"wx16": random(4 * H, I).astype(np.float16)}
    for name, array in ((arrays or lstm_arrays()) | extra).items():
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    return proto.SerializeToString()


@pytest.mark.parametrize("mutation", list(LSTM_MUTATIONS))
def test_an_lstm_that_is_not_certain_is_left_alone(mutation: str) -> None:
    change, reason = LSTM_MUTATIONS[mutation]
    text = change(GATES + STATE_IFGO)
    data = unchecked(text)
    state = next(node.name for node in parse_model(data).graph.all_nodes() if node.outputs[0].name == "c_out")
    assert_left(data, f"LSTM cell at Add node '{state}': recognized, but not folded: {reason}")


def test_an_output_inside_the_cell() -> None:
    text = GATES + STATE_IFGO.replace("f = Sigmoid(zb)", "extra_out = Sigmoid(zb)").replace("f, c", "extra_out, c")
    assert_left(
        unchecked(text),
        "LSTM cell at Add node 'Add_c_out_10': recognized, but not folded: 'extra_out', inside the cell, is an output "
        "of the graph (Sigmoid node 'Sigmoid_extra_out_5')",
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("h_out = Mul(o, t)", "h_out = Mul(o, c_out)"),
        ("t = Tanh(c_out)", "t = Tanh(c)"),
        ("c_out = Add(fc, ig)", "c_out = Sub(fc, ig)"),
        ("c_out = Add(fc, ig)", "c_out = Add(fc, g)"),
        ("ig = Mul(i, g)", "ig = Div(i, g)"),
    ],
)
def test_what_is_no_lstm_is_not_mentioned(old: str, new: str) -> None:
    model = parse_model(unchecked(replaced((old, new))(GATES + STATE_IFGO)))
    assert fold_cells(model) == ()


def test_the_state_that_is_forgotten_may_be_any_value() -> None:
    """c is an input of ONNX's LSTM: a cell that forgets another state than the file's own is still a cell."""
    text = "other = Relu(c)" + GATES + STATE_IFGO.replace("f, c", "f, other")
    assert_folded(file(text, lstm_arrays()), ["LSTM"])


def test_rows_that_are_broadcast() -> None:
    """A state of one row meets a batch: Add and Mul broadcast it, an LSTM node would not."""
    proto = onnx.load_from_string(file(GATES + STATE_IFGO, lstm_arrays()))
    proto.graph.input[1].type.tensor_type.shape.dim[0].dim_value = 1
    assert_left(
        proto.SerializeToString(),
        "LSTM cell at Add node 'Add_c_out_10': recognized, but not folded: the batch axes of 'x' and 'h' are not "
        "known to be equal",
    )


def test_sequences_are_no_rows() -> None:
    """MatMul and Add work on three axes too; an LSTM node would take the first for time."""
    arrays = lstm_arrays()
    proto = onnx.load_from_string(file(FORMS["MatMul and Add"] + STATE_IFGO, arrays))
    for value in (*proto.graph.input, *proto.graph.output):
        sizes = [axis.dim_value or axis.dim_param for axis in value.type.tensor_type.shape.dim]
        value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, ["b", 4, *sizes[1:]]))
    assert_left(
        proto.SerializeToString(),
        "LSTM cell at Add node 'Add_c_out_14': recognized, but not folded: the shape of 'x' has 3 axes, expected "
        "[batch, features]",
    )


def square(first: str, second: str, *, packed: bool = False) -> bytes:
    """x as wide as the states: which of two sources is h must come from elsewhere than widths."""
    gates = GATES.replace("wx, bx", f"{first}, bx").replace("wh, bh", f"{second}, bh")
    arrays = {first: random(4 * H, H), second: random(4 * H, H, seed=1), "bx": random(4 * H), "bh": random(4 * H)}
    proto = onnx.load_from_string(unchecked(gates + STATE_IFGO, arrays=arrays))
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value = H
    if packed:
        del proto.graph.input[1:]
        proto.graph.input.append(helper.make_tensor_value_info("state", TensorProto.FLOAT, [2, "b", H]))
        for index, name in enumerate("hc"):
            proto.graph.initializer.append(numpy_helper.from_array(np.array(index), f"index_{name}"))
            proto.graph.node.insert(0, helper.make_node("Gather", ["state", f"index_{name}"], [name], axis=0))
    return proto.SerializeToString()


@pytest.mark.parametrize("data", [square("rnn_weight_ih", "rnn_weight_hh"), square("a", "b", packed=True)])
def test_an_input_as_wide_as_the_state(data: bytes) -> None:
    folded, _ = fold(data)
    model = parse_model(folded)
    node = next(node for node in model.graph.all_nodes() if node.op_type == "LSTM")
    unsqueeze = node.inputs[5].producer() if node.inputs[5] is not None else None
    assert unsqueeze is not None
    assert unsqueeze.inputs[0] is not None
    assert unsqueeze.inputs[0].name == "h"
    assert_equal_answers(data, folded)


def test_an_input_as_wide_as_the_state_that_nothing_tells_apart() -> None:
    assert_left(
        square("a", "b"),
        "LSTM cell at Add node 'Add_c_out_10': recognized, but not folded: 'x' and 'h' both have 5 columns, and "
        "nothing says which of them is the hidden state",
    )


GRU_MUTATIONS = {
    "another activation of z": (
        replaced(("z = Sigmoid(zs)", "z = HardSigmoid(zs)")),
        "gate z goes through HardSigmoid node 'HardSigmoid_z_7', expected Sigmoid",
    ),
    "another activation of n": (
        replaced(("n = Tanh(ns)", "n = Relu(ns)")),
        "gate n goes through Relu node 'Relu_n_10', expected Tanh",
    ),
    "the reset gate is used elsewhere": (
        replaced(("n = Tanh(ns)", "n = Tanh(ns) extra_out = Relu(r)")),
        "'r', inside the cell, is used by Relu node 'Relu_extra_out_11' too",
    ),
    "what is reset has a part of x": (
        replaced(("rn = Mul(r, nh)", "no = Add(nh, nx) rn = Mul(r, no)")),
        "what Mul node 'Mul_rn_9' resets is not computed from 'h', the hidden state, alone",
    ),
    "the state that is kept is another one": (
        replaced(("d = Sub(h, n)", "e = Relu(h) d = Sub(e, n)")),
        "what Mul node 'Mul_rn_8' resets is not computed from 'e', the hidden state, alone",
    ),
}


@pytest.mark.parametrize("mutation", list(GRU_MUTATIONS))
def test_a_gru_that_is_not_certain_is_left_alone(mutation: str) -> None:
    change, reason = GRU_MUTATIONS[mutation]
    data = unchecked(change(GRU + UPDATES["n + z (h - n)"]), states="h", arrays=gru_arrays())
    state = next(node.name for node in parse_model(data).graph.all_nodes() if node.outputs[0].name == "h_out")
    assert_left(data, f"GRU cell at Add node '{state}': recognized, but not folded: {reason}")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("h_out = Add(m, n)", "h_out = Add(m, h)"),  # z (h - n) + h
        ("h_out = Add(m, n)", "h_out = Sub(m, n)"),
        ("rn = Mul(r, nh)", "rn = Add(r, nh)"),
        ("rn = Mul(r, nh)", "rn = Relu(nh)"),  # a highway layer
    ],
)
def test_what_is_no_gru_is_not_mentioned(old: str, new: str) -> None:
    text = replaced((old, new))(GRU + UPDATES["n + z (h - n)"])
    assert fold_cells(parse_model(unchecked(text, states="h", arrays=gru_arrays()))) == ()


def test_a_file_without_cells() -> None:
    assert fold_cells(parse_model(file("h_out = Relu(h) c_out = Add(c, h)", {}))) == ()


def test_bounds_that_double_take_no_time() -> None:
    """A chain in which each number is the sum of the last one twice: read once each, not 2^30 times."""
    chain = " ".join(f"n{i + 1} = Sub(n{i}, q{i}) q{i + 1} = Add(n{i}, q{i})" for i in range(28))
    gates = (
        "zx = Gemm<transB = 1>(x, wx, bx) zh = Gemm<transB = 1>(h, wh, bh) z = Add(zx, zh) s = Shape(z) "
        f"n0 = Gather<axis = 0>(s, one) q0 = Gather<axis = 0>(s, one) {chain} za = Slice(z, k0, n28, one) "
        "zb, zc, zd, ze = Split<axis = 1, num_outputs = 4>(z)"
    )
    model = parse_model(unchecked(gates + STATE_IFGO, arrays=lstm_arrays() | NUMBERS))
    (sentence,) = fold_cells(model)
    assert "recognized, but not folded" in sentence
