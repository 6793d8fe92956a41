"""Cells that an exporter took apart, as files: written in the text form of onnx, folded and compared."""

from collections.abc import Callable, Iterable

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
from onnx import numpy_helper

from lstm_edge_exporters.adopt.cells import fold_cells
from lstm_edge_exporters.onnx_graph.edit import drop_unused
from lstm_edge_exporters.onnx_graph.reading import parse_model
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
    """Nothing changes except for the sentence."""
    model = parse_model(data)
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    assert fold_cells(model) == (sentence,)
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


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


def replaced(*pairs: tuple[str, str]) -> Callable[[str], str]:
    def change(text: str) -> str:
        for old, new in pairs:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        return text

    return change


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


def packed_stack(widths: int = 8, *, layers: int = 2, named: str = "s") -> bytes:
    """Stacked cells whose input is as wide as their state, all states packed in one tensor [1, layers, H, 2]."""
    arrays: dict[str, Array] = {}
    lines, x = [], "x"
    for k in range(layers):
        for q in (0, 1):
            arrays |= {f"k{k}": np.array(k), f"q{q}": np.array(q)}
            lines.append(f"s{k}{q}w = Gather<axis = 1>({named}, k{k}) s{k}{q} = Gather<axis = 2>(s{k}{q}w, q{q})")
        arrays |= {f"w{k}": random(widths, 4 * widths, seed=k), f"r{k}": random(widths, 4 * widths, seed=k + 9)}
        lines.append(
            f"xw{k} = MatMul({x}, w{k}) hr{k} = MatMul(s{k}0, r{k}) z{k} = Add(xw{k}, hr{k}) "
            f"i{k}, f{k}, g{k}, o{k} = Split<axis = 1, num_outputs = 4>(z{k}) si{k} = Sigmoid(i{k}) "
            f"sf{k} = Sigmoid(f{k}) tg{k} = Tanh(g{k}) so{k} = Sigmoid(o{k}) fc{k} = Mul(sf{k}, s{k}1) "
            f"ig{k} = Mul(si{k}, tg{k}) c{k} = Add(fc{k}, ig{k}) tc{k} = Tanh(c{k}) h{k} = Mul(so{k}, tc{k}) "
            f"hu{k} = Unsqueeze(h{k}, ends) cu{k} = Unsqueeze(c{k}, ends) hc{k} = Concat<axis = 3>(hu{k}, cu{k})"
        )
        x = f"h{k}"
    lines.append(f"s_out = Concat<axis = 1>({', '.join(f'hc{k}' for k in range(layers))}) y = Identity({x})")
    arrays["ends"] = np.array([1, 3])
    head = f"float[1, {widths}] x, float[1, {layers}, {widths}, 2] {named}"
    outs = f"float[1, {widths}] y, float[1, {layers}, {widths}, 2] s_out"
    source = f'<ir_version: 8, opset_import: ["" : 18]> other ({head}) => ({outs}) {{ {" ".join(lines)} }}'
    proto = onnx.parser.parse_model(source)
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    onnx.checker.check_model(proto)
    return proto.SerializeToString()
