"""Models with answers known by hand, to be judged: one matrix over features, of a sequence or of each step."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from lstm_edge.data import Dataset
from lstm_edge_runtime.card import BATCH, TIME, ModelCard, Streaming, TensorSpec, Text, serialize_card

__all__ = ["matrix_model", "tagged"]


def matrix_model(
    weight,
    *,
    per_step=True,
    time_first=False,
    decided=False,
    labels=None,
    vocabulary=None,
    kind="word",
    card=True,
    output_axes=None,
) -> bytes:
    """Return ``x @ weight`` (of sequences: of the sum over time); ``decided``: the largest one's number, int64."""
    weight = np.asarray(weight, np.float32)
    axes = (TIME, BATCH, len(weight)) if time_first else (BATCH, TIME, len(weight))
    answer = (*axes[:2], weight.shape[1]) if per_step else (BATCH, weight.shape[1])
    nodes = [] if per_step else [helper.make_node("ReduceSum", ["x", "axis"], ["sum"], keepdims=0)]
    out = "scores" if decided else "y"
    nodes.append(helper.make_node("MatMul", ["x" if per_step else "sum", "w"], [out]))
    if decided:
        nodes.append(helper.make_node("ArgMax", ["scores"], ["y"], axis=-1, keepdims=0))
        answer = answer[:-1]
    initializers = [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.array([1 - time_first]), "axis")]
    element = TensorProto.INT64 if decided else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, axes)],
        [helper.make_tensor_value_info("y", element, output_axes or answer)],
        initializers[: 1 if per_step else 2],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    if card:
        helper.set_model_props(
            model,
            {
                "lstm_edge": serialize_card(
                    ModelCard(
                        inputs=(TensorSpec(name="x", dtype="float32", axes=axes),),
                        outputs=(
                            TensorSpec(name="y", dtype="int64" if decided else "float32", axes=output_axes or answer),
                        ),
                        labels=labels,
                        vocabulary=vocabulary,
                        text=Text(kind=kind) if vocabulary else None,
                        streaming=Streaming(verdict="none", reason="made by hand"),
                        minimum_onnxruntime="1.18",
                    )
                )
            },
        )
    return model.SerializeToString()


def tagged(sequences=12, classes=3, *, seed=0, mistakes=0.3) -> Dataset:
    """Return sequences of different lengths of which each step's class is mostly its largest feature."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(2, 9, sequences)
    x = generator.normal(size=(int(lengths.sum()), classes)).astype(np.float32)
    y = x.argmax(axis=1)
    # Mistakes come in runs: whole sequences are labelled wrongly, so that steps of one sequence are not independent.
    wrong = np.repeat(generator.random(sequences) < mistakes, lengths)
    y[wrong] = (y[wrong] + 1) % classes
    return Dataset(name="tagged", x=x, lengths=lengths, y=y.astype(np.int64), per_step=True)
