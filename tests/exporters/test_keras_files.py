"""Keras files where Keras is not installed: two committed ones, and files that are damaged or mean harm."""

import json
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from support.keras_files import (
    FEATURES,
    UNITS,
    archive,
    called_on,
    entry,
    functional,
    keras_file,
    layer,
    legacy_file,
    lstm,
    lstm_weights,
    refusal,
    sequential,
)
from support.keras_files import hdf5 as make_hdf5
from support.networks import build

from lstm_edge_exporters.keras import hdf5, load_keras
from lstm_edge_runtime.errors import ArtifactError, CaptureError
from lstm_edge_runtime.session import Session

pytestmark = pytest.mark.slow

FIXTURES = Path(__file__).parents[1] / "fixtures"
# float32 against float32; 1e-7 is seen.
CLOSE = 1e-6


@pytest.mark.parametrize(("name", "key"), [("keras2.h5", "2"), ("keras3.keras", "3")])
def test_committed_files_give_keras_own_answers(name: str, key: str) -> None:
    with np.load(FIXTURES / "keras_answers.npz") as answers:
        x, expected = answers[f"x{key}"], answers[f"y{key}"]
    with torch.no_grad():
        [got] = load_keras(FIXTURES / name)(torch.from_numpy(x)).values()
    np.testing.assert_allclose(got.numpy(), expected, atol=CLOSE, rtol=CLOSE)


def test_the_plain_file_is_read(tmp_path: Path) -> None:
    """What the refusals below change is otherwise fine."""
    module = load_keras(keras_file(tmp_path, sequential(lstm())))
    assert module(torch.zeros(2, 6, FEATURES))["lstm"].shape == (2, UNITS)
    assert module.describe_model()["inputs"] == ["x: float32[batch, time, 3]"]


@pytest.mark.parametrize(
    ("fill", "sentence"),
    [
        (lambda file: None, "kernel of layer 'lstm' is missing: expected float32 [3, 16]"),
        (
            lambda file: file.create_dataset("layers/lstm/cell/vars/0", data=np.zeros((3, 12), np.float32)),
            "kernel of layer 'lstm' is float32 [3, 12], expected float32 [3, 16]",
        ),
        (
            lambda file: file.create_dataset("layers/lstm/cell/vars/0", data=np.zeros((3, 16))),
            "kernel of layer 'lstm' is float64 [3, 16], expected float32 [3, 16]",
        ),
        (
            lambda file: file.create_dataset("layers/lstm/cell/vars/0", data=np.full((3, 16), np.nan, np.float32)),
            "kernel of layer 'lstm' holds NaN or infinity",
        ),
        (
            lambda file: [lstm_weights(file), file.create_dataset("layers/lstm/cell/vars/3", data=0.0)],
            "layer 'lstm' has 4 arrays under layers/lstm/cell/vars, expected 3",
        ),
        (
            lambda file: [lstm_weights(file), file.create_group("layers/lstm/vars").attrs.create("name", "other")],
            "the weights under layers/lstm are those of layer 'other', expected 'lstm'",
        ),
        (
            lambda file: file.create_dataset("layers/lstm/cell/vars/0", (3, 16), np.float32, compression="gzip"),
            "kernel of layer 'lstm' is compressed or filtered, which Keras never writes",
        ),
        (
            lambda file: file.create_dataset("layers/lstm/cell/vars/0", (3, 16), np.float32, external="/etc/passwd"),
            "kernel of layer 'lstm' lies in another file, which is not followed",
        ),
        (
            lambda file: file.create_virtual_dataset(
                "layers/lstm/cell/vars/0", h5py.VirtualLayout((3, 16), np.float32)
            ),
            "kernel of layer 'lstm' lies in another file, which is not followed",
        ),
        (
            lambda file: file.create_group("layers/lstm").__setitem__("cell", h5py.ExternalLink("/tmp/x.h5", "/")),
            "is a soft or external link, which is not followed",
        ),
        (
            lambda file: [lstm_weights(file, "real"), file.__setitem__("layers", h5py.SoftLink("/real"))],
            "is a soft or external link, which is not followed",
        ),
    ],
)
def test_weights_that_are_not_those_of_the_model(tmp_path: Path, fill: Callable[[Any], None], sentence: str) -> None:
    assert sentence in refusal(keras_file(tmp_path, sequential(lstm()), fill))


def test_chunks_that_begin_with_a_masked_step_give_what_the_whole_gives(tmp_path: Path) -> None:
    """The output of such a step is the one before it, which was in the chunk before: the state has it."""
    model = sequential(layer("Masking", "masking"), lstm(return_sequences=True))
    session = Session(build(load_keras(keras_file(tmp_path, model)), None).data)
    assert session.card.streaming.verdict == "every-step"
    x = np.random.default_rng(4).standard_normal((2, 7, FEATURES)).astype(np.float32)
    x[0, 3:5], x[1, :2], x[1, 6] = 0.0, 0.0, 0.0
    whole, end = session.run(x)
    state, pieces = None, []
    for start, stop in ((0, 3), (3, 4), (4, 6), (6, 7)):
        outputs, state = session.run(x[:, start:stop], state=state)
        pieces.append(outputs["lstm"])
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), whole["lstm"], atol=CLOSE, rtol=0)
    assert np.array_equal(whole["lstm"][0, 4], whole["lstm"][0, 2])
    assert not whole["lstm"][1, :2].any()
    assert state is not None
    for name, value in end.items():
        np.testing.assert_allclose(state[name], value, atol=CLOSE, rtol=0)


def test_a_huge_declared_shape_is_not_allocated(tmp_path: Path) -> None:
    """4 GB declared, never written, as config and weights agree on: HDF5 would give 4 GB of zeros."""
    units = 2**18

    def fill(file: Any) -> None:
        file.create_dataset("layers/lstm/cell/vars/0", (FEATURES * 2**8, 4 * units), np.float32)

    model = sequential(lstm(units=units))
    model["config"]["layers"][0] = entry((None, None, FEATURES * 2**8))
    path = keras_file(tmp_path, model, fill)
    assert path.stat().st_size < 2**16
    (tmp_path / "plain").mkdir()
    load_keras(keras_file(tmp_path / "plain", sequential(lstm())))  # what torch imports on first use is not the file's
    tracemalloc.start()
    message = refusal(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "kernel of layer 'lstm' declares 3221225472 bytes, but the file stores" in message
    assert peak < 2**23


def test_zip_bombs(tmp_path: Path) -> None:
    zeros = bytes(50 * 2**20)
    config = json.dumps(sequential(lstm())).encode()
    tracemalloc.start()
    path = archive(tmp_path / "config.keras", {"config.json": zeros, "model.weights.h5": b""}, zipfile.ZIP_DEFLATED)
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    assert "the member config.json declares 52428800 bytes from" in refusal(path)
    path = archive(tmp_path / "weights.keras", {"config.json": config, "model.weights.h5": zeros}, zipfile.ZIP_DEFLATED)
    tracemalloc.reset_peak()
    assert "the member model.weights.h5 declares 52428800 bytes from" in refusal(path)
    assert tracemalloc.get_traced_memory()[1] - before < 2**23
    tracemalloc.stop()


def test_a_member_that_goes_on_after_its_declared_size(tmp_path: Path) -> None:
    """The sizes in the archive's directory are the file's own word."""
    zeros = bytes(20 * 2**20)
    path = archive(tmp_path / "liar.keras", {"config.json": zeros, "model.weights.h5": b""}, zipfile.ZIP_DEFLATED)
    data = bytearray(path.read_bytes())
    directory = data.rfind(b"PK\x01\x02", 0, data.rfind(b"PK\x01\x02"))
    data[directory + 24 : directory + 28] = struct.pack("<L", 100)
    path.write_bytes(data)
    assert refusal(path).startswith("the archive is damaged (")


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        (["config.json", "../evil"], "the archive has a member called '../evil', a path outside the archive"),
        (["config.json", "/etc/passwd"], "the archive has a member called '/etc/passwd', a path outside the archive"),
        (["a\x1b[2J"], "the archive has a member called 'a\\x1b[2J', a path outside the archive"),
        ([f"assets/{index}" for index in range(200)], "the archive lists more members than the 100 allowed"),
        ([f"assets/{index}" for index in range(3000)], "the archive lists more members than the 100 allowed"),
        (["metadata.json"], "holds no model (no config.json): save the whole model with model.save(...)"),
        (["config.json"], "holds no weights (no model.weights.h5): save the whole model"),
    ],
)
def test_archives_with_other_members(tmp_path: Path, members: list[str], sentence: str) -> None:
    path = archive(tmp_path / "model.keras", dict.fromkeys(members, b"{}"))
    assert refusal(path).startswith(sentence)


def nested(depth: int) -> bytes:
    return b'{"class_name": "Sequential", "config": ' + b"[" * depth + b"]" * depth + b"}"


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (b"not json", "config.json is not readable JSON"),
        (nested(100_000), "config.json is not readable JSON (maximum recursion depth exceeded"),
        (b"[]", "the model's config is not of the form that Keras writes: it has no class_name"),
        (sequential(*[lstm(f"l{index}") for index in range(1000)]), "the model has 1001 layers, more than 1000"),
        (sequential(lstm(), lstm()), "two layers are called 'lstm'"),
        (
            sequential(lstm("a\x1b[31mb")),
            "the name 'a\\x1b[31mb' of layer 1 is empty, too long or has control characters",
        ),
        (sequential(lstm("")), "the name '' of layer 1 is empty"),
        (sequential(lstm("n" * 300)), "is empty, too long or has control characters"),
        (sequential({"class_name": "LSTM"}), "layer 1 is not of the form that Keras writes: it has no config"),
        ({"class_name": "Sequential", "config": {"layers": []}}, "the model's config has no list of layers"),
        (sequential(layer("Sequential", "inner", layers=[])), "layer 'inner' (Sequential): the model's config has no"),
        (functional((entry(), []), (lstm(), [called_on("lstm")])), "takes a tensor that depends on its own result"),
        (functional((entry(), []), (lstm(), [called_on("nowhere")])), "expected [layer, call, tensor] of a layer"),
    ],
)
def test_configs_that_keras_does_not_write(tmp_path: Path, model: Any, sentence: str) -> None:
    assert sentence in refusal(keras_file(tmp_path, model))


def test_deep_nesting_that_json_still_reads(tmp_path: Path) -> None:
    depth = 700
    options = json.loads("[" * depth + "]" * depth)
    with pytest.raises((ArtifactError, CaptureError)):
        load_keras(keras_file(tmp_path, sequential(lstm(units=options))))


def test_legacy_files_without_model_or_weights(tmp_path: Path) -> None:
    path = legacy_file(tmp_path, lstm_weights)
    assert refusal(path) == (
        "holds weights but no model (no model_config): save the whole model with model.save(...), not only its weights"
    )
    path = legacy_file(tmp_path, lambda file: file.attrs.create("model_config", json.dumps(sequential(lstm()))))
    assert refusal(path).startswith("holds a model but no weights (no model_weights)")


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["lstm/kernel:0"], "layer 'lstm' has 1 weights in the file, expected 3"),
        (
            ["lstm/recurrent_kernel:0", "lstm/kernel:0", "lstm/bias:0"],
            "layer 'lstm' has the weight 'lstm/recurrent_kernel:0' where kernel is expected",
        ),
        (["lstm/kernel:0", "lstm/recurrent_kernel:0", "lstm/bias:0"], "kernel of layer 'lstm' is missing"),
    ],
)
def test_legacy_weights_that_are_not_the_models(tmp_path: Path, names: list[str], sentence: str) -> None:
    def fill(file: Any) -> None:
        file.attrs["model_config"] = json.dumps(sequential(lstm()))
        file.create_group("model_weights/lstm").attrs["weight_names"] = np.asarray([name.encode() for name in names])

    assert refusal(legacy_file(tmp_path, fill)).startswith(sentence)


def test_files_that_are_something_else(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.keras") == "no such file"
    path = tmp_path / "text.h5"
    path.write_text("not a model")
    assert refusal(path) == "is neither a .keras archive nor an HDF5 file"
    path.write_bytes(b"PK\x03\x04")
    assert refusal(path) == "the archive is damaged (it has no end record)"


@pytest.mark.long
@pytest.mark.parametrize("name", ["keras2.h5", "keras3.keras"])
def test_damaged_files_are_refused(tmp_path: Path, name: str) -> None:
    """Cut short, and with single bytes changed: an error of ours or a model, never anything else."""
    whole = (FIXTURES / name).read_bytes()
    path = tmp_path / name
    for length in range(0, len(whole) - 1, len(whole) // 23):
        path.write_bytes(whole[:length])
        with pytest.raises(ArtifactError):
            load_keras(path)
    rng = np.random.default_rng(3)
    refused, printable = 0, True
    for _ in range(150):
        changed = bytearray(whole)
        changed[rng.integers(len(whole))] ^= int(rng.integers(1, 256))
        path.write_bytes(changed)
        try:
            load_keras(path)
        except (ArtifactError, CaptureError) as error:
            refused += 1
            printable = printable and str(error).isprintable()
    assert printable
    assert refused > 10


@pytest.mark.long
def test_a_file_that_the_library_does_not_come_back_from_is_refused(tmp_path: Path) -> None:
    # One bit of the size of a text in the file's heap of texts: HDF5 then goes through the heap without end.
    data = bytearray((FIXTURES / "keras2.h5").read_bytes())
    assert data[3864] == 0o12
    data[3864] ^= 8
    path = tmp_path / "endless.h5"
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match=r"endless\.h5: .* of the heap at byte"):
        load_keras(path)
    # What the check of the heaps does not know of ends in the trial's process.
    with pytest.raises(ArtifactError, match=r"x: damaged: the HDF5 library does not finish .*\(SIGXCPU\)"):
        hdf5.try_in_child(bytes(data), "x")


def boxed(inner: dict[str, Any], name: str, *, calls: int = 1) -> dict[str, Any]:
    """Return a functional model that calls a layer or model on its own input, several times one after the other."""
    inside = [({**entry((None, None, FEATURES))}, [])]
    label = inner["config"]["name"]
    nodes = [called_on("x")]
    nodes += [
        {"args": [{"class_name": "__keras_tensor__", "config": {"keras_history": [label, k, 0]}}], "kwargs": {}}
        for k in range(calls - 1)
    ]
    model = functional(*inside, (inner, nodes), output=label)
    model["config"] |= {"name": name, "output_layers": [[label, calls - (inner["class_name"] != "Functional"), 0]]}
    return model


@pytest.mark.long
def test_models_that_multiply_or_are_nested_too_deep(tmp_path: Path) -> None:
    """A model that calls a model that calls a model: few bytes would be any number of calls."""
    deep = layer("ReLU", "relu")
    for depth in range(30):
        deep = boxed(deep, f"box{depth}")
    assert refusal(keras_file(tmp_path, deep)).endswith("models are nested more than 20 deep")
    many = layer("ReLU", "relu")
    for depth in range(5):
        many = boxed(many, f"box{depth}", calls=50)
    assert refusal(keras_file(tmp_path, many)).endswith("the model calls its layers more than 10000 times")


def test_huge_tensors_are_not_allocated(tmp_path: Path) -> None:
    """While a model is put together, its tensors have no numbers."""
    big = [layer("UpSampling1D", f"up{k}", size=2**10) for k in range(2)]
    load_keras(keras_file(tmp_path, sequential(lstm())))  # what torch imports on first use is not the file's
    tracemalloc.start()
    load_keras(keras_file(tmp_path, sequential(*big, lstm())))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24


def test_a_config_with_its_weights_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(json.dumps(sequential(lstm())))
    assert refusal(path).startswith(
        "holds a model but no weights, and there is no model.weights.h5 beside it: save them"
    )
    weights = tmp_path / "model.weights.h5"
    weights.write_bytes(make_hdf5(lstm_weights))
    assert load_keras(path)(torch.zeros(2, 6, FEATURES))["lstm"].shape == (2, UNITS)
    assert refusal(weights).startswith(
        "holds weights but no model: give the model.json of model.to_json() with this file"
    )


def test_folders_are_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path).startswith(
        "this is a directory: load it with the version of Keras that wrote it, and save it"
    )
    (tmp_path / "saved_model.pb").write_bytes(b"")
    assert refusal(tmp_path).startswith(
        "this is a TensorFlow SavedModel, which holds a program and not a model of layers"
    )
