"""ONNX files made by somebody who means harm: each builder returns the bytes of one."""

import json
from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from lstm_edge_runtime.card import CARD_KEY
from support.onnx_files import FLOAT, H, I, weights

__all__ = ["BOMBS", "FILES", "NAMES"]

INT64 = TensorProto.INT64
ESCAPE = "\x1b]0;owned\x07\x1b[2J"
# Names that a terminal would obey, or that show something else than they are.
NAMES = {
    "terminal-escape": f"x{ESCAPE}",
    "newline": "x\nerror: all is well",
    "nul": "x\x00y",
    "c1-control": "x\x9b2J",
    "right-to-left": "x\u202egnp.exe",
    "line-separator": "x\u2028y",
    "carriage-return": "x\rverified",
}


def layer(*, x: str = "x", name: str = "rnn", w: str = "W") -> onnx.NodeProto:
    return helper.make_node("LSTM", [x, w, "R"], ["Y", "", ""], name=name, hidden_size=H)


def proto(
    nodes: list[onnx.NodeProto],
    initializers: list[TensorProto] | None = None,
    *,
    drop: tuple[str, ...] = (),
    x: str = "x",
    y: str = "Y",
    functions: list[onnx.FunctionProto] | None = None,
    domains: tuple[str, ...] = (),
) -> onnx.ModelProto:
    """A model with an LSTM's weights beside these nodes; unlike ``onnx_files.model`` it is not checked."""
    arrays = {name: weights(1)[name] for name in ("W", "R") if name not in drop}
    graph = helper.make_graph(
        nodes,
        "hostile",
        [helper.make_tensor_value_info(x, FLOAT, ["time", "batch", I])],
        [helper.make_tensor_value_info(y, FLOAT, ["time", 1, "batch", H])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()] + (initializers or []),
    )
    imports = [helper.make_opsetid("", 18), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=imports, functions=functions or [], ir_version=8)


def external(location: str, *, name: str = "W", length: int | None = None, offset: int | None = None) -> TensorProto:
    tensor = TensorProto(name=name, data_type=FLOAT, dims=[1, 4 * H, I], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    for key, value in (("length", length), ("offset", offset)):
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))
    return tensor


def outside(location: str) -> Callable[[], bytes]:
    return lambda: proto([layer()], [external(location)], drop=("W",)).SerializeToString()


def external_in_branch() -> bytes:
    constant = helper.make_node("Constant", [], ["W_in"], value=external("/etc/passwd"))
    branch = [
        helper.make_graph(
            [constant, helper.make_node("LSTM", ["x", "W_in", "R"], [f"Y{i}", "", ""], hidden_size=H)],
            f"branch{i}",
            [],
            [helper.make_tensor_value_info(f"Y{i}", FLOAT, None)],
        )
        for i in range(2)
    ]
    choose = numpy_helper.from_array(np.array(True), "choose")
    node = helper.make_node("If", ["choose"], ["Y"], then_branch=branch[0], else_branch=branch[1])
    return proto([node], [choose], drop=("W",)).SerializeToString()


def external_in_function() -> bytes:
    nodes = [
        helper.make_node("Constant", [], ["w"], value=external("/etc/passwd")),
        helper.make_node("LSTM", ["x", "w", "r"], ["y", "", ""], hidden_size=H),
    ]
    function = helper.make_function("other", "Layer", ["x", "r"], ["y"], nodes, [helper.make_opsetid("", 18)])
    call = helper.make_node("Layer", ["x", "R"], ["Y"], domain="other")
    return proto([call], drop=("W",), functions=[function], domains=("other",)).SerializeToString()


def external_sparse() -> bytes:
    built = proto([layer()], drop=("W",))
    sparse = built.graph.sparse_initializer.add()
    sparse.values.CopyFrom(external("/etc/passwd"))
    sparse.values.dims[:] = [2]
    sparse.indices.CopyFrom(numpy_helper.from_array(np.array([0, 1]), "indices"))
    sparse.dims.extend([1, 4 * H, I])
    return built.SerializeToString()


def declared(dims: list[int], data: bytes = b"1234", kind: int = FLOAT) -> Callable[[], bytes]:
    def build() -> bytes:
        tensor = TensorProto(name="W", data_type=kind, dims=dims, raw_data=data)
        return proto([layer()], [tensor], drop=("W",)).SerializeToString()

    return build


def chain(*nodes: onnx.NodeProto, arrays: dict[str, np.ndarray] | None = None) -> Callable[[], bytes]:
    """Constant nodes that end in ``big``, of which the LSTM takes a slice as its weights."""

    def build() -> bytes:
        stored = {"start": np.array([0]), "stop": np.array([I * 4 * H]), "axis": np.array([0])}
        stored |= {"shape": np.array([1, 4 * H, I]), "flat": np.array([-1])} | (arrays or {})
        tail = [
            helper.make_node("Reshape", ["big", "flat"], ["line"], name="line"),
            helper.make_node("Slice", ["line", "start", "stop", "axis"], ["part"], name="part"),
            helper.make_node("Reshape", ["part", "shape"], ["W"], name="w"),
        ]
        initializers = [numpy_helper.from_array(array, name) for name, array in stored.items()]
        return proto([*nodes, *tail, layer()], initializers, drop=("W",)).SerializeToString()

    return build


def doubling(op_type: str, count: int = 40) -> Callable[[], bytes]:
    attributes = {"axis": 0} if op_type == "Concat" else {}
    names = [*(f"d{i}" for i in range(count)), "big"]
    nodes = [
        helper.make_node(op_type, [names[i], names[i]], [names[i + 1]], name=f"double{i}", **attributes)
        for i in range(count)
    ]
    return chain(*nodes, arrays={"d0": np.ones(1024, np.float32)})


def cyclic_functions() -> bytes:
    functions = [
        helper.make_function(
            "other", one, ["x"], ["y"], [helper.make_node(two, ["x"], ["y"], domain="other")],
            [helper.make_opsetid("", 18), helper.make_opsetid("other", 1)],
        )
        for one, two in (("A", "B"), ("B", "A"))
    ]  # fmt: skip
    nodes = [helper.make_node("A", ["x"], ["x2"], domain="other"), layer(x="x2")]
    return proto(nodes, functions=functions, domains=("other",)).SerializeToString()


def deep_functions(count: int, fan: int = 1) -> Callable[[], bytes]:
    """Functions that call the next one, ``fan`` times each: with two calls the inlined graph has 2**count nodes."""

    def build() -> bytes:
        functions = []
        for i in range(count):
            calls = []
            values = ["x", *(f"v{k}" for k in range(fan - 1)), "y"]
            for k in range(fan):
                last = i == count - 1
                calls.append(
                    helper.make_node(
                        "Relu" if last else f"F{i + 1}", [values[k]], [values[k + 1]], domain="" if last else "other"
                    )
                )
            functions.append(
                helper.make_function(
                    "other",
                    f"F{i}",
                    ["x"],
                    ["y"],
                    calls,
                    [helper.make_opsetid("", 18), helper.make_opsetid("other", 1)],
                )
            )
        nodes = [helper.make_node("F0", ["x"], ["x2"], domain="other"), layer(x="x2")]
        return proto(nodes, functions=functions, domains=("other",)).SerializeToString()

    return build


def _field(number: int, payload: bytes) -> bytes:
    size, digits = len(payload), b""
    while size > 127:
        digits, size = digits + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + digits + bytes([size]) + payload


def deep_graphs(depth: int) -> Callable[[], bytes]:
    """If in If in If, encoded by hand: protobuf's own writer refuses such a depth."""

    def build() -> bytes:
        graph = b""
        for _ in range(depth):
            attribute = _field(1, b"then_branch") + b"\xa0\x01\x05" + _field(6, graph)
            graph = _field(1, _field(4, b"If") + _field(5, attribute))
        return b"\x08\x08" + _field(7, graph) + _field(8, b"\x0a\x00\x10\x12")

    return build


def named(name: str, where: str) -> Callable[[], bytes]:
    def build() -> bytes:
        if where == "input":
            return proto([layer(x=name)], x=name).SerializeToString()
        if where == "output":
            node = layer()
            node.output[0] = name
            return proto([node], y=name).SerializeToString()
        if where == "weight":
            return proto(
                [layer(w=name)], [numpy_helper.from_array(weights(1)["W"], name)], drop=("W",)
            ).SerializeToString()
        if where == "axis":
            built = proto([layer()])
            built.graph.input[0].type.tensor_type.shape.dim[1].dim_param = name
            return built.SerializeToString()
        return proto([layer(name=name)]).SerializeToString()

    return build


def duplicate(what: str) -> Callable[[], bytes]:
    def build() -> bytes:
        built = proto([layer()])
        if what == "value":
            built.graph.node.append(layer(name="again"))
        elif what == "weight":
            built.graph.initializer.append(numpy_helper.from_array(weights(1)["W"] * 2, "W"))
        elif what == "input":
            built.graph.input.append(built.graph.input[0])
        elif what == "cycle":
            built.graph.node[0].input[0] = "loop"
            built.graph.node.append(helper.make_node("Squeeze", ["Y", "one"], ["loop"]))
            built.graph.initializer.append(numpy_helper.from_array(np.array([1]), "one"))
        return built.SerializeToString()

    return build


def custom_domain() -> bytes:
    nodes = [helper.make_node("Shell", ["x"], ["x2"], domain="com.evil", command="touch /tmp/owned"), layer(x="x2")]
    built = proto(nodes, domains=("com.evil",))
    built.metadata_props.add(key="custom_ops_library", value="./evil.so")
    return built.SerializeToString()


def with_card(text: str, key: str = CARD_KEY) -> Callable[[], bytes]:
    def build() -> bytes:
        built = proto([layer()])
        built.metadata_props.add(key=key, value=text)
        return built.SerializeToString()

    return build


def lying_card() -> str:
    """A card that is well formed and speaks of states that the graph does not have."""
    tensors = [{"name": name, "dtype": "float32", "axes": axes} for name, axes in (
        ("x", ["time", "batch", I]), ("Y", ["time", 1, "batch", H])
    )]  # fmt: skip
    state = {"input": "h", "output": "h_out", "kind": "h", "module": "rnn", "layer": 0, "axes": [1, "batch", H]}
    card = {"schema": "1.0", "task": "generic", "producer": "", "inputs": tensors[:1], "outputs": tensors[1:]}
    card |= {"states": [state | {"initial": "zeros"}], "lengths": None, "layers": [], "labels": None}
    card |= {"vocabulary": None, "preprocessing": [], "quantization": None, "parity": None}
    return json.dumps(card | {"streaming": {"verdict": "every-step", "reason": ""}, "minimum_onnxruntime": "1.18"})


HUGE = 2**33
BOMBS: dict[str, Callable[[], bytes]] = {
    "ConstantOfShape": chain(
        helper.make_node("ConstantOfShape", ["n"], ["big"], name="big"), arrays={"n": np.array([HUGE])}
    ),
    "Expand": chain(
        helper.make_node("Expand", ["one", "n"], ["big"], name="big"),
        arrays={"n": np.array([HUGE]), "one": np.ones(1, np.float32)},
    ),
    "Tile": chain(
        helper.make_node("Tile", ["one", "n"], ["big"], name="big"),
        arrays={"n": np.array([HUGE]), "one": np.ones(1, np.float32)},
    ),
    "Range": chain(
        helper.make_node("Range", ["from", "n", "by"], ["big"], name="big"),
        arrays={"from": np.float32(0), "n": np.float32(1e10), "by": np.float32(1)},  # type: ignore[dict-item]
    ),
    "Pad": chain(
        helper.make_node("Pad", ["one", "n"], ["big"], name="big"),
        arrays={"n": np.array([0, HUGE]), "one": np.ones(1, np.float32)},
    ),
    "outer product": chain(
        helper.make_node("Mul", ["column", "row"], ["big"], name="big"),
        arrays={"column": np.ones((2**17, 1), np.float32), "row": np.ones((1, 2**17), np.float32)},
    ),
    "MatMul": chain(
        helper.make_node("MatMul", ["column", "row"], ["big"], name="big"),
        arrays={"column": np.ones((2**17, 1), np.float32), "row": np.ones((1, 2**17), np.float32)},
    ),
    "Einsum": chain(
        helper.make_node("Einsum", ["row", "row_2"], ["big"], name="big", equation="i,j->ij"),
        arrays={"row": np.ones(2**17, np.float32), "row_2": np.ones(2**17, np.float32)},
    ),
    "Gather": chain(
        helper.make_node("Gather", ["wide", "many"], ["big"], name="big"),
        arrays={"wide": np.ones((1, 2**16), np.float32), "many": np.zeros(2**18, np.int64)},
    ),
    "OneHot": chain(
        helper.make_node("OneHot", ["many", "n", "pair"], ["big"], name="big"),
        arrays={"many": np.zeros(16, np.int64), "n": np.array(HUGE), "pair": np.array([0, 1], np.float32)},
    ),
    "Resize": chain(
        helper.make_node("Resize", ["image", "", "", "sizes"], ["big"], name="big", mode="nearest"),
        arrays={"image": np.ones((1, 1, 1, 1), np.float32), "sizes": np.array([1, 1, 2**17, 2**16])},
    ),
    "integers": chain(
        helper.make_node("Mul", ["column", "row"], ["product"], name="product"),
        helper.make_node("Cast", ["product"], ["big"], name="big", to=1),
        arrays={"column": np.ones((2**17, 1), np.int64), "row": np.ones((1, 2**17), np.int64)},
    ),
    "computed shape": chain(
        helper.make_node("Mul", ["n", "n"], ["square"], name="square"),
        helper.make_node("ConstantOfShape", ["square"], ["big"], name="big"),
        arrays={"n": np.array([2**17])},
    ),
    "Concat of itself": doubling("Concat"),
}

FILES: dict[str, Callable[[], bytes]] = {
    "external absolute": outside("/etc/passwd"),
    "external parent": outside("../secret.bin"),
    "external dotted": outside("sub/../../secret.bin"),
    "external symlink": outside("link.bin"),
    "external folder symlink": outside("linked/secret.bin"),
    "external device": outside("/dev/zero"),
    "external pipe": outside("pipe"),
    "external folder": outside("."),
    "external nul": outside("a\x00b"),
    "external huge length": lambda: proto(
        [layer()], [external("weights.bin", length=2**62)], drop=("W",)
    ).SerializeToString(),
    "external negative offset": lambda: proto(
        [layer()], [external("weights.bin", offset=-5)], drop=("W",)
    ).SerializeToString(),
    "external offset no number": lambda: proto(
        [layer()],
        [external("weights.bin", offset="x")],
        drop=("W",),  # type: ignore[arg-type]
    ).SerializeToString(),
    "external in a branch": external_in_branch,
    "external in a function": external_in_function,
    "external sparse": external_sparse,
    "declared 2**40": declared([2**40]),
    "declared overflow": declared([2**62, 4]),
    "declared to zero": declared([2**32, 2**32], b""),
    "declared negative": declared([-1, 4 * H, I]),
    "declared 100,000 axes": declared([1] * 100_000),
    "declared no such type": declared([1, 4 * H, I], bytes(4 * 4 * H * I), 999),
    "declared short": declared([1, 4 * H, I], b"12345"),
    "cyclic functions": cyclic_functions,
    "10,000 functions deep": deep_functions(10_000),
    "functions that double": deep_functions(40, 2),
    "graphs 30 deep": deep_graphs(30),
    "graphs 1,000 deep": deep_graphs(1000),
    "graphs 20,000 deep": deep_graphs(20_000),
    "two values of a name": duplicate("value"),
    "two weights of a name": duplicate("weight"),
    "two inputs of a name": duplicate("input"),
    "a cycle of nodes": duplicate("cycle"),
    "custom domain": custom_domain,
    "card of 100 MB": with_card('{"schema": "1.1", "x": "' + "a" * 100_000_000 + '"}'),
    "card of states that are not there": with_card(lying_card()),
    "card of many brackets": with_card("[" * 1_000_000),
    "golden of 100 MB": with_card("A" * 100_000_000, "lstm_edge.golden"),
    **{f"constant {name}": build for name, build in BOMBS.items()},
    **{f"name {title} input": named(name, "input") for title, name in NAMES.items()},
    **{f"name {where}": named(NAMES["terminal-escape"], where) for where in ("output", "node", "weight", "axis")},
}
