"""Keras files made by hand, for tests that need no Keras."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from lstm_edge_exporters.keras import load_keras
from lstm_edge_runtime.errors import ArtifactError

UNITS, FEATURES = 4, 3


def layer(class_name: str, name: str, **options: Any) -> dict[str, Any]:
    return {"module": "keras.layers", "class_name": class_name, "config": {"name": name, **options}}


def entry(shape: Any = (None, None, FEATURES)) -> dict[str, Any]:
    return layer("InputLayer", "x", batch_shape=list(shape), dtype="float32", sparse=False)


def lstm(name: str = "lstm", **options: Any) -> dict[str, Any]:
    return layer("LSTM", name, **{"units": UNITS, "activation": "tanh", "recurrent_activation": "sigmoid"} | options)


def sequential(*layers: dict[str, Any]) -> dict[str, Any]:
    return {"class_name": "Sequential", "config": {"name": "model", "layers": [entry(), *layers]}}


def lstm_weights(file: Any, root: str = "layers/lstm/cell/vars") -> None:
    rng = np.random.default_rng(1)
    for index, shape in enumerate([(FEATURES, 4 * UNITS), (UNITS, 4 * UNITS), (4 * UNITS,)]):
        file[f"{root}/{index}"] = rng.standard_normal(shape).astype(np.float32)


def hdf5(fill: Callable[[Any], None]) -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        fill(file)
    return stream.getvalue()


def archive(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def keras_file(path: Path, model: Any, fill: Callable[[Any], None] = lstm_weights) -> Path:
    config = model if isinstance(model, bytes) else json.dumps(model).encode()
    return archive(path / "model.keras", {"config.json": config, "model.weights.h5": hdf5(fill)})


def legacy_file(path: Path, fill: Callable[[Any], None]) -> Path:
    target = path / "model.h5"
    target.write_bytes(hdf5(fill))
    return target


def refusal(path: Path, kind: type[Exception] = ArtifactError) -> str:
    with pytest.raises(kind) as caught:
        load_keras(path)
    message = str(caught.value)
    assert message.isprintable()
    return message.replace(f"{path}: ", "")


def functional(*layers: tuple[dict[str, Any], list[Any]], output: str = "lstm") -> dict[str, Any]:
    entries = [{**config, "name": config["config"]["name"], "inbound_nodes": nodes} for config, nodes in layers]
    return {"class_name": "Functional", "config": {"layers": entries, "output_layers": [[output, 0, 0]]}}


def called_on(*names: str, **keywords: Any) -> dict[str, Any]:
    tensors = [{"class_name": "__keras_tensor__", "config": {"keras_history": [name, 0, 0]}} for name in names]
    return {"args": tensors, "kwargs": keywords}
