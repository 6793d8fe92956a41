"""Make the small models that the device tests run; the tests themselves need neither torch nor onnx.

Run from the root of the repository, with the three package folders on PYTHONPATH:
``python tests/device/make_models.py``.
The same versions give the same bytes. Sizes differ on purpose: input 3, hidden 5, classes 4.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from lstm_edge_runtime.artifact import GOLDEN_KEY, append_trailer
from lstm_edge_runtime.card import (
    CARD_KEY,
    Coverage,
    Layer,
    ModelCard,
    Parity,
    Quantization,
    StateSpec,
    Streaming,
    TensorSpec,
    Text,
    serialize_card,
)
from lstm_edge_runtime.golden import Golden, GoldenVector, encode_golden
from lstm_edge_runtime.session import Session

FOLDER = Path(__file__).parent / "models"
I, H, K, VOCABULARY = 3, 5, 4, 11  # noqa: E741  # the equations' own letters
TOLERANCE = 1e-5


class Graph:
    """Collects the nodes, weights, inputs and outputs of one graph."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.states: list[StateSpec] = []

    def weight(self, name: str, *shape: int) -> str:
        return self.constant(name, self.random.uniform(-0.8, 0.8, shape).astype(np.float32))

    def constant(self, name: str, array: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def node(self, operator: str, inputs: list[str], *outputs: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, list(outputs), name=outputs[0], **attributes))
        return outputs[0]

    def input(self, name: str, *axes: str | int, kind: int = TensorProto.FLOAT) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, kind, axes))
        return name

    def output(self, name: str, *axes: str | int, kind: int = TensorProto.FLOAT) -> str:
        self.outputs.append(helper.make_tensor_value_info(name, kind, axes))
        return name

    def lstm(self, x: str, layer: int, features: int, *, directions: int = 1, lengths: str = "") -> tuple[str, str]:
        """Add one LSTM layer with explicit states; x and y are [time, batch, ...], y_h [directions, batch, H]."""
        name = f"lstm.{layer}"
        weights = [
            self.weight(f"{name}.W", directions, 4 * H, features),
            self.weight(f"{name}.R", directions, 4 * H, H),
            self.weight(f"{name}.B", directions, 8 * H),
        ]
        kinds = ("h", "c")
        for kind in kinds:
            axes = (directions, "batch", H)
            self.input(f"{name}.{kind}", *axes)
            self.output(f"{name}.{kind}_out", *axes)
            self.states.append(
                StateSpec(
                    input=f"{name}.{kind}",
                    output=f"{name}.{kind}_out",
                    kind=kind,
                    module="lstm",
                    layer=layer,
                    axes=axes,
                )
            )
        ends = [f"{name}.{kind}_{'end' if lengths else 'out'}" for kind in kinds]
        direction = "bidirectional" if directions == 2 else "forward"
        inputs = [x, *weights, f"{name}.lengths" if lengths else "", f"{name}.h", f"{name}.c"]
        if lengths:
            self.node("Cast", [lengths], f"{name}.lengths", to=TensorProto.INT32)
        self.node("LSTM", inputs, f"{name}.y", *ends, hidden_size=H, direction=direction)
        if lengths:
            # onnxruntime's LSTM gives zeros as the state of an empty row; the row keeps its initial state instead.
            self.constant(f"{name}.zero", np.array(0, np.int64))
            self.constant(f"{name}.axes", np.array([0, 2], np.int64))
            self.node("Equal", [lengths, f"{name}.zero"], f"{name}.is_empty")
            self.node("Unsqueeze", [f"{name}.is_empty", f"{name}.axes"], f"{name}.keep")
            for kind, end in zip(kinds, ends, strict=True):
                self.node("Where", [f"{name}.keep", f"{name}.{kind}", end], f"{name}.{kind}_out")
        if directions == 1:
            self.constant(f"{name}.one", np.array([1], np.int64))
            y = self.node("Squeeze", [f"{name}.y", f"{name}.one"], f"{name}.flat")
        else:
            self.constant(f"{name}.shape", np.array([0, 0, 2 * H], np.int64))
            self.node("Transpose", [f"{name}.y"], f"{name}.turned", perm=[0, 2, 1, 3])
            y = self.node("Reshape", [f"{name}.turned", f"{name}.shape"], f"{name}.flat")
        return y, f"{name}.h_out"

    def model(self) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, "model", self.inputs, self.outputs, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], producer_name="lstm-edge tests")
        model.ir_version = 8
        onnx.checker.check_model(model, full_check=True)
        return model


def to_time_first(graph: Graph, x: str) -> str:
    return graph.node("Transpose", [x], f"{x}.time_first", perm=[1, 0, 2])


def head(graph: Graph, y: str, features: int, name: str = "logits", *, time: bool = True) -> None:
    graph.weight("head.weight", features, K)
    graph.node("MatMul", [y, "head.weight"], f"{name}.time_first" if time else name)
    if time:
        graph.node("Transpose", [f"{name}.time_first"], name, perm=[1, 0, 2])
        graph.output(name, "batch", "time", K)
    else:
        graph.output(name, "batch", K)


def layers(count: int, directions: int = 1, features: int = I) -> tuple[Layer, ...]:
    return tuple(
        Layer(
            name=f"lstm.{index}",
            cell="lstm",
            peephole="none",
            input_size=features if index == 0 else H * directions,
            hidden_size=H,
            projection_size=0,
            directions=directions,
            operator="LSTM",
        )
        for index in range(count)
    )


X = TensorSpec(name="x", dtype="float32", axes=("batch", "time", I))
LOGITS = TensorSpec(name="logits", dtype="float32", axes=("batch", "time", K))
PARITY = Parity(
    against="onnxruntime", max_abs_difference=1.2e-7, tolerance=2e-6, shapes=("batch 2, time 3", "batch 1, time 1")
)


def card(graph: Graph, **changes: Any) -> ModelCard:
    return ModelCard(
        task="tagging",
        producer="lstm-edge tests",
        inputs=(X,),
        outputs=(LOGITS,),
        states=tuple(graph.states),
        streaming=Streaming(verdict="every-step"),
        layers=layers(len(graph.states) // 2),
        parity=PARITY,
        minimum_onnxruntime="1.18.0",
    ).replace(**changes)


def golden_vector(session: Session, batch: int, steps: int, seed: int) -> GoldenVector:
    """Random inputs and states of the given size, with the model's own answers."""
    random = np.random.default_rng(seed)
    sizes = {"batch": batch, "time": steps}
    inputs: dict[str, np.ndarray] = {}
    for node in session.onnxruntime_session.get_inputs():
        shape = [sizes.get(axis, axis) for axis in node.shape]
        if node.name == session.lengths:
            inputs[node.name] = random.integers(0, steps + 1, shape)
        elif node.type == "tensor(int64)":
            inputs[node.name] = random.integers(0, VOCABULARY, shape)
        else:
            inputs[node.name] = random.normal(size=shape).astype(np.float32)
    names = [node.name for node in session.onnxruntime_session.get_outputs()]
    answers = session.onnxruntime_session.run(names, inputs)
    return GoldenVector(inputs=inputs, outputs=dict(zip(names, answers, strict=True)))


def save(name: str, model: onnx.ModelProto, model_card: ModelCard | None) -> None:
    """Write one model; with a card come golden vectors and the trailer."""
    if model_card is not None:
        helper.set_model_props(model, {CARD_KEY: serialize_card(model_card)})
        session = Session(model.SerializeToString(deterministic=True))
        golden = Golden(
            vectors=(golden_vector(session, 2, 3, seed=1), golden_vector(session, 1, 1, seed=2)),
            tolerance_bodies=TOLERANCE,
            tolerance_kernels=TOLERANCE,
        )
        helper.set_model_props(model, {CARD_KEY: serialize_card(model_card), GOLDEN_KEY: encode_golden(golden)})
    data = model.SerializeToString(deterministic=True)
    (FOLDER / f"{name}.onnx").write_bytes(append_trailer(data) if model_card else data)


def make_tagger() -> None:
    """Two layers, logits at every step; once whole, once without a card, once as if quantized."""
    graph = Graph(seed=1)
    y, _ = graph.lstm(to_time_first(graph, graph.input("x", "batch", "time", I)), 0, I)
    y, _ = graph.lstm(y, 1, H)
    head(graph, y, H)
    save("no_card", graph.model(), None)
    save("tagger", graph.model(), card(graph, labels=("a", "b", "c", "d"), preprocessing=("none",)))
    coverage = Coverage(layer="lstm.0", operator="LSTM", scheme="int8", bytes_before=640, bytes_after=240)
    quantization = Quantization(scheme="int8", parent_sha256="0" * 64, coverage=(coverage,))
    save("quantized", graph.model(), card(graph, quantization=quantization))


def make_lengths() -> None:
    """One layer with a lengths input."""
    graph = Graph(seed=2)
    x = to_time_first(graph, graph.input("x", "batch", "time", I))
    y, _ = graph.lstm(x, 0, I, lengths=graph.input("lengths", "batch", kind=TensorProto.INT64))
    head(graph, y, H)
    save("lengths", graph.model(), card(graph, lengths="lengths"))


def make_bidirectional() -> None:
    """One layer in both directions: explicit states, no streaming."""
    graph = Graph(seed=3)
    y, _ = graph.lstm(to_time_first(graph, graph.input("x", "batch", "time", I)), 0, I, directions=2)
    head(graph, y, 2 * H)
    verdict = Streaming(verdict="none", reason="lstm is bidirectional: its reverse direction starts at the end")
    save("bidirectional", graph.model(), card(graph, streaming=verdict, layers=layers(1, 2)))


def make_two_inputs() -> None:
    """Features and token ids in, logits and the hidden sequence out."""
    graph = Graph(seed=4)
    graph.input("x", "batch", "time", I)
    graph.weight("embedding", VOCABULARY, 2)
    graph.node("Gather", ["embedding", graph.input("ids", "batch", "time", kind=TensorProto.INT64)], "embedded")
    graph.node("Concat", ["x", "embedded"], "joined", axis=2)
    y, _ = graph.lstm(to_time_first(graph, "joined"), 0, I + 2)
    head(graph, y, H)
    graph.node("Transpose", [y], "hidden", perm=[1, 0, 2])
    graph.output("hidden", "batch", "time", H)
    inputs = (X, TensorSpec(name="ids", dtype="int64", axes=("batch", "time")))
    outputs = (LOGITS, TensorSpec(name="hidden", dtype="float32", axes=("batch", "time", H)))
    save("two_inputs", graph.model(), card(graph, inputs=inputs, outputs=outputs, layers=layers(1, features=I + 2)))


def make_last_step() -> None:
    """A classifier: logits of the last hidden state."""
    graph = Graph(seed=5)
    _, h = graph.lstm(to_time_first(graph, graph.input("x", "batch", "time", I)), 0, I)
    graph.constant("first", np.array([0], np.int64))
    graph.node("Squeeze", [h, "first"], "last")
    head(graph, "last", H, time=False)
    outputs = (TensorSpec(name="logits", dtype="float32", axes=("batch", K)),)
    verdict = Streaming(verdict="last-step")
    save("last_step", graph.model(), card(graph, task="classification", outputs=outputs, streaming=verdict))


def make_each_call() -> None:
    """One frame a call, [batch, 3] without a time axis, and a number without axes that scales it; once whole too.

    ``each_call_whole`` is the same layers over a sequence, for the tests to compare with.
    """
    for name, whole in (("each_call", False), ("each_call_whole", True)):
        graph = Graph(seed=8)
        graph.input("x", *(("batch", "time", I) if whole else ("batch", I)))
        graph.node("Cast", [graph.input("gain", kind=TensorProto.INT64)], "factor", to=TensorProto.FLOAT)
        graph.node("Mul", ["x", "factor"], "scaled")
        if not whole:
            graph.constant("step", np.array([0], np.int64))
            graph.node("Unsqueeze", ["scaled", "step"], "frame")
        y, h = graph.lstm(to_time_first(graph, "scaled") if whole else "frame", 0, I)
        if not whole:
            y = graph.node("Squeeze", [h, "step"], "last")
        head(graph, y, H, time=whole)
        inputs: tuple[TensorSpec, ...] = (
            X if whole else TensorSpec(name="x", dtype="float32", axes=("batch", I)),
            TensorSpec(name="gain", dtype="int64", axes=()),
        )
        outputs = (LOGITS if whole else TensorSpec(name="logits", dtype="float32", axes=("batch", K)),)
        verdict = Streaming(verdict="every-step" if whole else "each-call")
        save(name, graph.model(), card(graph, inputs=inputs, outputs=outputs, streaming=verdict))


def make_accumulator() -> None:
    """The smallest streamable model: h_out = 1e20 h + sum of x; its state overflows in three steps."""
    graph = Graph(seed=6)
    graph.input("x", "batch", "time", 1)
    graph.input("cell.0.h", 1, "batch", 1)
    graph.constant("growth", np.array(1e20, np.float32))
    graph.constant("axes", np.array([1], np.int64))
    graph.node("ReduceSum", ["x", "axes"], "summed", keepdims=1)
    graph.node("Transpose", ["summed"], "turned", perm=[1, 0, 2])
    graph.node("Mul", ["cell.0.h", "growth"], "grown")
    graph.node("Add", ["grown", "turned"], "cell.0.h_out")
    graph.node("Neg", ["x"], "y")
    graph.output("y", "batch", "time", 1)
    graph.output("cell.0.h_out", 1, "batch", 1)
    graph.states.append(
        StateSpec(input="cell.0.h", output="cell.0.h_out", kind="h", module="cell", layer=0, axes=(1, "batch", 1))
    )
    inputs = (TensorSpec(name="x", dtype="float32", axes=("batch", "time", 1)),)
    outputs = (TensorSpec(name="y", dtype="float32", axes=("batch", "time", 1)),)
    model = graph.model()
    helper.set_model_props(model, {CARD_KEY: serialize_card(card(graph, inputs=inputs, outputs=outputs, layers=()))})
    (FOLDER / "accumulator.onnx").write_bytes(append_trailer(model.SerializeToString(deterministic=True)))


TOKENS = ("\N{REPLACEMENT CHARACTER}", "<end>", "\n", " ", ".", "a", "b", "c", "x", "é", "漢")


def make_language_model(name: str, *, time_first: bool) -> None:
    """Two layers over an embedding, logits of the next character; with one set of weights for both orders of axes."""
    graph = Graph(seed=7)
    axes: tuple[str, ...] = ("time", "batch") if time_first else ("batch", "time")
    graph.weight("embedding", VOCABULARY, I)
    graph.node("Gather", ["embedding", graph.input("ids", *axes, kind=TensorProto.INT64)], "embedded")
    y, _ = graph.lstm("embedded" if time_first else to_time_first(graph, "embedded"), 0, I)
    y, _ = graph.lstm(y, 1, H)
    # Three times as large as other weights: the next character is then neither certain nor equally likely.
    graph.constant("head.weight", graph.random.uniform(-2.4, 2.4, (H, VOCABULARY)).astype(np.float32))
    graph.node("MatMul", [y, "head.weight"], "logits" if time_first else "logits.time_first")
    if not time_first:
        graph.node("Transpose", ["logits.time_first"], "logits", perm=[1, 0, 2])
    graph.output("logits", *axes, VOCABULARY)
    model_card = card(
        graph,
        task="language-model",
        inputs=(TensorSpec(name="ids", dtype="int64", axes=axes),),
        outputs=(TensorSpec(name="logits", dtype="float32", axes=(*axes, VOCABULARY)),),
        vocabulary=TOKENS,
        text=Text(kind="character", unknown=TOKENS[0], end=TOKENS[1]),
    )
    save(name, graph.model(), model_card)


def main() -> None:
    """Make every model anew."""
    FOLDER.mkdir(exist_ok=True)
    make_tagger()
    make_lengths()
    make_bidirectional()
    make_two_inputs()
    make_last_step()
    make_accumulator()
    make_each_call()
    make_language_model("language_model", time_first=False)
    make_language_model("language_model_time_first", time_first=True)


if __name__ == "__main__":
    main()
