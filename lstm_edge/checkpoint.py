"""Checkpoints: one ``.safetensors`` file with the weights, and the model's configuration as JSON in its metadata.

Nothing in it is ever unpickled. The metadata has one key, ``lstm_edge.checkpoint``; its value is an object with
``version`` (``"1"``), ``kind`` (``"sequence-classifier"``) and ``config``, the fields of ``ClassifierConfig``.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lstm_edge.models import ClassifierConfig, SequenceClassifier
from lstm_edge_runtime.artifact import write_atomically
from lstm_edge_runtime.errors import ArtifactError, InputError

__all__ = ["CHECKPOINT_KEY", "VERSION", "load_checkpoint", "save_checkpoint"]

CHECKPOINT_KEY = "lstm_edge.checkpoint"
VERSION = "1"
KIND = "sequence-classifier"


def save_checkpoint(model: SequenceClassifier, path: str | Path) -> None:
    """Write a model to one ``.safetensors`` file; equal models give equal bytes.

    The file appears under its name only when it is complete: it is written beside it, then renamed.

    Raises:
        InputError: ``model`` is not a ``SequenceClassifier``.
        OutputError: the file cannot be written.
    """
    if not isinstance(model, SequenceClassifier):
        raise InputError(f"checkpoint: got a {type(model).__name__}, expected a SequenceClassifier")
    description = {"version": VERSION, "kind": KIND, "config": model.config.to_json()}
    metadata = {CHECKPOINT_KEY: json.dumps(description, sort_keys=True, ensure_ascii=False, allow_nan=False)}
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    write_atomically(path, save(tensors, metadata=metadata))


def load_checkpoint(path: str | Path) -> SequenceClassifier:
    """Read a model that ``save_checkpoint`` wrote, in evaluation mode.

    Raises:
        ArtifactError: the file is missing or damaged, has an unknown version or kind, or its tensors are not
            those of its configuration.
    """
    path = Path(path)
    text, tensors = _read(path)
    config = _parse_config(path, text)
    # Built without memory behind it, so that sizes are compared with the file's before anything is allocated.
    with torch.device("meta"):
        model = SequenceClassifier(config)
    _check_tensors(path, model.state_dict(), tensors)
    model.load_state_dict(tensors, assign=True)
    # assign=True keeps the file's tensors; parameters lose nothing but must be marked as trainable again.
    model.requires_grad_(True)
    return model.eval()


def _read(path: Path) -> tuple[str, dict[str, Tensor]]:
    if not path.is_file():
        raise ArtifactError(f"checkpoint {path}: not a file" if path.exists() else f"checkpoint {path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError, ValueError, RuntimeError, AttributeError, KeyError) as error:
        # The last three come from torch for a dtype or a size in the header that it does not know.
        raise ArtifactError(f"checkpoint {path}: not a readable .safetensors file ({error})") from error
    if CHECKPOINT_KEY not in metadata:
        raise ArtifactError(
            f"checkpoint {path}: its metadata has no key {CHECKPOINT_KEY!r}; "
            "expected a file written by `lstm-edge train`"
        )
    return metadata[CHECKPOINT_KEY], tensors


def _parse_config(path: Path, text: str) -> ClassifierConfig:
    try:
        description: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"checkpoint {path}: {CHECKPOINT_KEY} is not JSON ({error})") from error
    if not isinstance(description, dict):
        raise ArtifactError(f"checkpoint {path}: {CHECKPOINT_KEY} must be an object, got {type(description).__name__}")
    for key, expected in (("version", VERSION), ("kind", KIND)):
        if description.get(key) != expected:
            raise ArtifactError(
                f"checkpoint {path}: {key} is {description.get(key)!r}, this version of lstm-edge reads {expected!r}"
            )
    config = description.get("config")
    if not isinstance(config, dict):
        raise ArtifactError(f"checkpoint {path}: config must be an object, got {type(config).__name__}")
    try:
        return ClassifierConfig.from_json(config)
    except InputError as error:
        raise ArtifactError(f"checkpoint {path}: {error}") from error


def _check_tensors(path: Path, expected: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    for name in sorted(expected.keys() ^ found.keys()):
        state = "missing" if name in expected else "not one of this model's"
        raise ArtifactError(f"checkpoint {path}: the tensor {name!r} is {state}")
    for name, value in found.items():
        wanted = expected[name]
        if value.shape != wanted.shape or value.dtype != wanted.dtype:
            raise ArtifactError(
                f"checkpoint {path}: the tensor {name!r} is {value.dtype} {list(value.shape)}, "
                f"its configuration asks for {wanted.dtype} {list(wanted.shape)}"
            )
        if not bool(torch.isfinite(value).all()):
            raise ArtifactError(f"checkpoint {path}: the tensor {name!r} holds NaN or infinity")
