"""Make the small models whose streams keep steps: strides, look-ahead, padding at the end, several outputs per step.

Run as ``make_models.py``. Each convolution has a cache of fixed size and, where its first window starts elsewhere than
later ones, a counter ``stream.position`` that is 0 at the start. With ``end`` zeros are added after the last step.
"""

import dataclasses
from typing import Any

import numpy as np
from make_models import FOLDER, TOLERANCE, Graph, H, I, K, card, golden_vector, layers
from onnx import TensorProto, helper

from lstm_edge_runtime.artifact import GOLDEN_KEY, append_trailer
from lstm_edge_runtime.card import CARD_KEY, StateSpec, Streaming, TensorSpec, serialize_card
from lstm_edge_runtime.golden import Golden, GoldenVector, encode_golden
from lstm_edge_runtime.session import Session

MOST = np.iinfo(np.int64).max


def state(graph: Graph, name: str, *axes: str | int) -> str:
    """Declare a cache; its new value is the tensor ``<name>_out``."""
    graph.input(name, *axes)
    graph.output(f"{name}_out", *axes)
    module = name.rpartition(".")[0]
    graph.states.append(StateSpec(input=name, output=f"{name}_out", kind="cache", module=module, layer=0, axes=axes))
    return name


def position(graph: Graph) -> None:
    """Count the calls, and add the tensor ``later``: whether this is not the first."""
    state(graph, "stream.position", 1)
    graph.constant("one", np.ones(1, np.float32))
    graph.constant("none", np.zeros(1, np.float32))
    graph.node("Add", ["stream.position", "one"], "stream.counted")
    graph.node("Min", ["stream.counted", "one"], "stream.position_out")
    graph.node("Greater", ["stream.position", "none"], "later")


def joined(graph: Graph, x: str, name: str, cache: int, starts: tuple[int, int], right: int, channels: int) -> str:
    """Put the cache before x [batch, channels, time] and, at the end, zeros after it; start at the given column.

    ``starts`` are those of the first call and of later ones.
    """
    state(graph, f"{name}.cache", "batch", channels, cache)
    graph.constant(f"{name}.axis", np.array([2], np.int64))
    graph.constant(f"{name}.most", np.array([MOST], np.int64))
    graph.constant(f"{name}.last", np.array([-cache], np.int64))
    both = graph.node("Concat", [f"{name}.cache", x], f"{name}.joined", axis=2)
    graph.node("Slice", [both, f"{name}.last", f"{name}.most", f"{name}.axis"], f"{name}.cache_out")
    if right:
        graph.constant(f"{name}.pads", np.array([0, 0, 0, 0, 0, right], np.int64))
        graph.node("Mul", [f"{name}.pads", "end"], f"{name}.padding")
        both = graph.node("Pad", [both, f"{name}.padding"], f"{name}.padded")
    if starts == (0, 0):
        return both
    graph.constant(f"{name}.first", np.array([starts[0]], np.int64))
    graph.constant(f"{name}.then", np.array([starts[1]], np.int64))
    graph.node("Where", ["later", f"{name}.then", f"{name}.first"], f"{name}.start")
    return graph.node("Slice", [both, f"{name}.start", f"{name}.most", f"{name}.axis"], f"{name}.window")


def conv(graph: Graph, x: str, name: str, kernel: int, stride: int, channels: int) -> str:
    weights = [graph.weight(f"{name}.weight", channels, channels, kernel), graph.weight(f"{name}.bias", channels)]
    return graph.node("Conv", [x, *weights], f"{name}.y", kernel_shape=[kernel], strides=[stride])


def deconv(graph: Graph, x: str, name: str, times: int, channels: int) -> str:
    weights = [graph.weight(f"{name}.weight", channels, channels, times), graph.weight(f"{name}.bias", channels)]
    return graph.node("ConvTranspose", [x, *weights], f"{name}.y", kernel_shape=[times], strides=[times])


def body(graph: Graph, y: str, features: int = I, *, time: bool = True) -> None:
    """LSTM and head over y [batch, features, time]."""
    turned = graph.node("Transpose", [y], "turned", perm=[2, 0, 1])
    hidden, last = graph.lstm(turned, 0, features)
    graph.weight("head.weight", H, K)
    if time:
        graph.node("MatMul", [hidden, "head.weight"], "logits.turned")
        graph.node("Transpose", ["logits.turned"], "logits", perm=[1, 0, 2])
        graph.output("logits", "batch", "time_out", K)
    else:
        graph.constant("layers", np.array([0], np.int64))
        graph.node("Squeeze", [last, "layers"], "last")
        graph.node("MatMul", ["last", "head.weight"], "logits")
        graph.output("logits", "batch", K)


def channels_first(graph: Graph) -> str:
    graph.input("x", "batch", "time", I)
    return graph.node("Transpose", ["x"], "x.turned", perm=[0, 2, 1])


def save(name: str, graph: Graph, steps: int, streaming: Streaming, **changes: Any) -> None:
    """Write one model with golden vectors: a whole sequence, and the first ``steps`` steps of a longer one."""
    model = graph.model()
    # A file of an older version lacks later keys of the card; those of ``streaming`` are read where they are.
    document = card(graph, schema="1.3", streaming=streaming, layers=layers(1), **changes)
    helper.set_model_props(model, {CARD_KEY: serialize_card(document)})
    session = Session(model.SerializeToString(deterministic=True))
    vectors = []
    for ends, batch, seed in ((1, 2, 1), (0, 1, 2)):
        vector = golden_vector(session, batch, steps, seed=seed)
        inputs = {name: np.zeros_like(a) if "position" in name else a for name, a in vector.inputs.items()}
        if streaming.end is not None:
            inputs[streaming.end] = np.array([ends], np.int64)
        vectors.append(GoldenVector(inputs=inputs, outputs=session.run_graph(inputs)))
    golden = Golden(vectors=tuple(vectors), tolerance_bodies=TOLERANCE, tolerance_kernels=TOLERANCE)
    helper.set_model_props(model, {CARD_KEY: serialize_card(document), GOLDEN_KEY: encode_golden(golden)})
    (FOLDER / f"{name}.onnx").write_bytes(append_trailer(model.SerializeToString(deterministic=True)))


def make_strided() -> None:
    """A causal convolution of stride 2: outputs after 1, 3, 5 steps; nothing is left at the end."""
    graph = Graph(seed=21)
    position(graph)
    y = joined(graph, channels_first(graph), "conv", 2, (0, 1), 0, I)
    body(graph, conv(graph, y, "conv", 3, 2, I))
    save("kept_strided", graph, 5, Streaming(verdict="every-step", every=2))


def make_look_ahead() -> None:
    """A convolution that sees three later steps: the first output after four, three more at the end."""
    graph = Graph(seed=22)
    position(graph)
    graph.input("end", 1, kind=TensorProto.INT64)
    y = joined(graph, channels_first(graph), "conv", 3, (3, 0), 3, I)
    body(graph, conv(graph, y, "conv", 4, 1, I))
    save("kept_look_ahead", graph, 6, Streaming(verdict="every-step", latency_steps=3, first=4, end="end"))


def make_padded() -> None:
    """Kernel 4, stride 3, one zero before the first step and two after the last; the last state gives one answer.

    Two outputs: the hidden sequence's logits, and those of its last step.
    """
    graph = Graph(seed=23)
    graph.input("end", 1, kind=TensorProto.INT64)
    y = joined(graph, channels_first(graph), "conv", 1, (0, 0), 2, I)
    body(graph, conv(graph, y, "conv", 4, 3, I))
    graph.constant("layers", np.array([0], np.int64))
    graph.node("Squeeze", ["lstm.0.h_out", "layers"], "summary")
    graph.output("summary", "batch", H)
    outputs = (
        TensorSpec(name="logits", dtype="float32", axes=("batch", "time", K)),
        TensorSpec(name="summary", dtype="float32", axes=("batch", H)),
    )
    save("kept_padded", graph, 6, Streaming(verdict="last-step", first=3, every=3, end="end"), outputs=outputs)


def make_up() -> None:
    """Two output steps for each input step."""
    graph = Graph(seed=24)
    y = joined(graph, channels_first(graph), "conv", 2, (0, 0), 0, I)
    body(graph, deconv(graph, conv(graph, y, "conv", 3, 1, I), "up", 2, I))
    save("kept_up", graph, 3, Streaming(verdict="every-step", first_gives=2, gives=2))


def make_ragged() -> None:
    """Three columns for each step, and an output for every two of them: one, then three for two more steps.

    A single step at the end still completes two, although nothing is padded there.
    """
    graph = Graph(seed=25)
    position(graph)
    y = deconv(graph, channels_first(graph), "up", 3, I)
    y = joined(graph, y, "conv", 1, (1, 0), 0, I)
    body(graph, conv(graph, y, "conv", 2, 2, I))
    save("kept_ragged", graph, 5, Streaming(verdict="every-step", every=2, gives=3))


def make_last() -> None:
    """A classifier of the last hidden state behind a convolution of kernel and stride 2 without padding."""
    graph = Graph(seed=26)
    graph.input("x", "batch", "time", I)
    y = graph.node("Transpose", ["x"], "x.turned", perm=[0, 2, 1])
    body(graph, conv(graph, y, "conv", 2, 2, I), time=False)
    outputs = (TensorSpec(name="logits", dtype="float32", axes=("batch", K)),)
    streaming = Streaming(verdict="last-step", first=2, every=2)
    save("kept_last", graph, 4, streaming, outputs=outputs, task="classification")


def make_condition() -> None:
    """Time first, a condition without time, look-ahead of one and stride 2: four steps are the first two outputs."""
    graph = Graph(seed=27)
    position(graph)
    graph.input("end", 1, kind=TensorProto.INT64)
    graph.input("x", "time", "batch", I)
    graph.input("speaker", "batch", I)
    graph.node("Mul", ["x", "speaker"], "scaled")
    turned = graph.node("Transpose", ["scaled"], "x.turned", perm=[1, 2, 0])
    # Kernel 3: one column before, one after; windows start at every second column.
    y = joined(graph, turned, "conv", 1, (0, 0), 1, I)
    body(graph, conv(graph, y, "conv", 3, 2, I))
    axes: tuple[str | int, ...] = ("time", "batch", I)
    inputs = (
        TensorSpec(name="x", dtype="float32", axes=axes),
        TensorSpec(name="speaker", dtype="float32", axes=("batch", I)),
    )
    streaming = Streaming(verdict="every-step", latency_steps=1, first=2, every=2, end="end")
    save("kept_condition", graph, 4, dataclasses.replace(streaming), inputs=inputs)


def make_image() -> None:
    """No recurrent layer, time last, [batch, channels, frequency, time]: a pool of four steps."""
    graph = Graph(seed=28)
    graph.input("x", "batch", 2, I, "time")
    graph.node("AveragePool", ["x"], "y", kernel_shape=[1, 4], strides=[1, 4])
    graph.output("y", "batch", 2, I, "time_out")
    spec = TensorSpec(name="x", dtype="float32", axes=("batch", 2, I, "time"))
    outputs = (dataclasses.replace(spec, name="y"),)
    save("kept_image", graph, 8, Streaming(verdict="every-step", first=4, every=4), inputs=(spec,), outputs=outputs)


def make_ids() -> None:
    """Ids in, a mean of four steps out, plus what the lengths of the rows lack to the steps of the call: nothing."""
    graph = Graph(seed=29)
    graph.input("ids", "batch", "time", kind=TensorProto.INT64)
    graph.input("lengths", "batch", kind=TensorProto.INT64)
    for name, values in {"zero": 0, "one": 1, "two": 2}.items():
        graph.constant(name, np.array([values], np.int64))
    graph.node("Cast", ["ids"], "numbers", to=TensorProto.FLOAT)
    graph.node("Unsqueeze", ["numbers", "one"], "channel")
    graph.node("AveragePool", ["channel"], "means", kernel_shape=[4], strides=[4])
    graph.node("Shape", ["ids"], "steps", start=1, end=2)
    graph.node("Sub", ["lengths", "steps"], "lacking")
    graph.node("Cast", ["lacking"], "lacking.float", to=TensorProto.FLOAT)
    graph.constant("sides", np.array([1, 2], np.int64))
    graph.node("Unsqueeze", ["lacking.float", "sides"], "lacking.rows")
    graph.node("Add", ["means", "lacking.rows"], "y")
    graph.output("y", "batch", 1, "time_out")
    inputs = (TensorSpec(name="ids", dtype="int64", axes=("batch", "time")),)
    outputs = (TensorSpec(name="y", dtype="float32", axes=("batch", 1, "time")),)
    streaming = Streaming(verdict="every-step", first=4, every=4)
    save("kept_ids", graph, 8, streaming, inputs=inputs, outputs=outputs, lengths="lengths")


def main() -> None:
    """Make every model anew."""
    FOLDER.mkdir(exist_ok=True)
    make_strided()
    make_look_ahead()
    make_padded()
    make_up()
    make_ragged()
    make_last()
    make_condition()
    make_image()
    make_ids()


if __name__ == "__main__":
    main()
