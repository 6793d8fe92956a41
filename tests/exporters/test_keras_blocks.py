"""Transposed convolutions, EinsumDense, GroupNormalization and features first, against Keras itself on PyTorch."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from support.keras_blocks import BLOCKS
from support.keras_files import FEATURES, keras_file, layer, lstm, refusal, sequential
from support.keras_graph_run import examples, run_graphs
from support.keras_graphs import Graph
from support.networks import build

from lstm_edge_exporters.keras import load_keras
from lstm_edge_runtime.errors import CaptureError
from lstm_edge_runtime.session import Session

pytestmark = pytest.mark.slow
needs_keras = pytest.mark.skipif(importlib.util.find_spec("keras") is None, reason="Keras is not installed")

# float32 against float32: 2e-6 is seen; another step or another order of the kernel gives 1e-1.
CLOSE = 1e-5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Let Keras, on PyTorch and in its own process, write every model and its answers."""
    made = tmp_path_factory.mktemp("blocks")
    run_graphs(made, "blocks")
    return made


@needs_keras
@pytest.mark.parametrize("graph", BLOCKS, ids=lambda graph: graph.name)
def test_module_and_file_give_what_keras_gives(folder: Path, graph: Graph) -> None:
    module = load_keras(folder / f"{graph.name}.keras")
    artifact = build(module, None)
    session = Session(artifact.data)
    for inputs, expected in examples(folder, graph.name):
        with torch.no_grad():
            answers = [y.numpy() for y in module(*map(torch.from_numpy, inputs)).values()]
        outputs = list(session.run(*inputs)[0].values())
        for k, (value, read, file) in enumerate(zip(expected, answers, outputs, strict=True)):
            for got in (read, file):
                assert got.shape == value.shape, f"output {k}"
                np.testing.assert_allclose(got, value, atol=CLOSE, rtol=CLOSE, err_msg=f"output {k}")


@needs_keras
def test_an_einsum_over_the_features_is_quantized_as_a_linear_layer(folder: Path) -> None:
    from lstm_edge_exporters.quantize import quantize_bytes

    quantization = quantize_bytes(build(load_keras(folder / "einsum.keras"), None).data).card.quantization
    assert quantization is not None
    assert len([row for row in quantization.coverage if row.scheme == "int8"]) >= 4


EINSUM = {"equation": "abc,cd->abd", "output_shape": [None, 4], "bias_axes": "d"}
CONV = {"filters": 4, "kernel_size": [3], "strides": [2], "padding": "same", "dilation_rate": [1]}


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        (
            "EinsumDense",
            EINSUM | {"equation": "abc->ab"},
            "the equation 'abc->ab' is none of x,y->z, ...x,y->...z and x",
        ),
        ("EinsumDense", EINSUM | {"equation": "ab,bc->ac"}, "the equation 'ab,bc->ac' does not fit an input of 3 axes"),
        ("EinsumDense", EINSUM | {"equation": "abc,cd->abe"}, "has an axis whose size nothing says"),
        ("EinsumDense", EINSUM | {"equation": "abc,ccd->abd"}, "the equation 'abc,ccd->abd' names an axis twice"),
        ("EinsumDense", EINSUM | {"output_shape": [4]}, "the option 'output_shape' is [4], expected 2 sizes"),
        ("EinsumDense", EINSUM | {"bias_axes": "c"}, "the option 'bias_axes' is 'c', expected letters of 'abd'"),
        (
            "EinsumDense",
            EINSUM | {"equation": "abc,bd->adc", "output_shape": [4, FEATURES]},
            "the size of its axis 'b' is dynamic, so the model's input must fix it",
        ),
        ("GroupNormalization", {"groups": 2}, f"2 groups do not divide {FEATURES} features"),
        (
            "GroupNormalization",
            {"groups": 1, "axis": 0},
            "it normalizes groups along axis 0, expected one of its input",
        ),
        (
            "Conv1DTranspose",
            CONV | {"padding": "causal"},
            "the option 'padding' is 'causal', expected 'valid' or 'same'",
        ),
        ("Conv1DTranspose", CONV | {"output_padding": -1}, "the option 'output_padding' is -1, expected a number"),
        ("Conv1D", CONV | {"data_format": "anything"}, "the option 'data_format' is 'anything', expected"),
        ("Discretization", {}, "layers of this class are not exported; these are: "),
        ("StringLookup", {}, "layers of this class are not exported; these are: "),
    ],
)
def test_what_is_not_exported_is_named(tmp_path: Path, name: str, options: dict, sentence: str) -> None:
    file = keras_file(tmp_path, sequential(layer(name, "block", **options), lstm()))
    said = refusal(file, CaptureError)
    assert f"layer 'block' ({name}): " in said
    assert sentence in said
