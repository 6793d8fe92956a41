"""Checkpoints: one ``.safetensors`` file with the weights, and the model's configuration as JSON in its metadata.

Nothing is unpickled. The metadata has one key, ``lstm_edge.checkpoint``; its value is an object with ``version``
(``"1"``), ``kind`` (one of ``KINDS``) and ``config``, the fields of the model's configuration.
"""

import json
import os
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from safetensors.torch import save
from torch import Tensor

from lstm_edge._tensors import read_safetensors
from lstm_edge.training.models import (
    ClassifierConfig,
    ForecasterConfig,
    LanguageModel,
    LanguageModelConfig,
    RecurrentConfig,
    SequenceClassifier,
    SequenceForecaster,
    SequenceTagger,
    TaggerConfig,
)
from lstm_edge_runtime.checkpoint_header import CHECKPOINT_KEY, VERSION, no_description, parse_description
from lstm_edge_runtime.errors import ArtifactError, InputError
from lstm_edge_runtime.reading import translated
from lstm_edge_runtime.writing import write_atomically

__all__ = [
    "CHECKPOINT_KEY",
    "KINDS",
    "VERSION",
    "Model",
    "checkpoint_bytes",
    "load_checkpoint",
    "load_checkpoint_of",
    "save_checkpoint",
]

Model = SequenceClassifier | SequenceTagger | SequenceForecaster | LanguageModel
M = TypeVar("M", SequenceClassifier, SequenceTagger, SequenceForecaster, LanguageModel)

KINDS: dict[str, tuple[type[Model], type[RecurrentConfig]]] = {
    "sequence-classifier": (SequenceClassifier, ClassifierConfig),
    "sequence-tagger": (SequenceTagger, TaggerConfig),
    "sequence-forecaster": (SequenceForecaster, ForecasterConfig),
    "language-model": (LanguageModel, LanguageModelConfig),
}


def save_checkpoint(model: Model, path: str | Path) -> None:
    """Write a model to one ``.safetensors`` file; equal models give equal bytes.

    The write is atomic: a temporary file in the same folder is renamed when complete.

    Raises:
        InputError: ``model`` is not a ready-made model.
        OutputError: the file cannot be written.
    """
    write_atomically(path, checkpoint_bytes(model))


def checkpoint_bytes(model: Model) -> bytes:
    """Return the file that ``save_checkpoint`` writes.

    Raises:
        InputError: ``model`` is not a ready-made model.
    """
    kind = _kind_of(model)
    description = {"version": VERSION, "kind": kind, "config": model.config.to_json()}
    metadata = {CHECKPOINT_KEY: json.dumps(description, sort_keys=True, ensure_ascii=False, allow_nan=False)}
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    return save(tensors, metadata=metadata)


def load_checkpoint(path: str | Path) -> Model:
    """Read a model that ``save_checkpoint`` wrote, in evaluation mode.

    Raises:
        ArtifactError: the file is missing or damaged, has an unknown version or kind, or its tensors do not fit its
            configuration.
    """
    path = Path(path)
    text, tensors = _read(path)
    make, config = _parse_description(path, text)
    # Built on the meta device, so that sizes are compared with the file's before memory is allocated.
    with translated(ArtifactError, f"checkpoint {path}: its configuration makes no model"), torch.device("meta"):
        model = make(cast(Any, config))  # KINDS pairs each model with its configuration
    _check_tensors(path, model.state_dict(), tensors)
    model.load_state_dict(tensors, assign=True)
    # assign=True keeps the file's tensors, so the parameters must be marked as trainable again.
    model.requires_grad_(True)
    return model.eval()


def load_checkpoint_of(expected: type[M], path: str | Path) -> M:
    """Read a model of one kind that ``save_checkpoint`` wrote.

    Raises:
        ArtifactError: the errors of ``load_checkpoint``, or the file is a checkpoint of another task.
    """
    model = load_checkpoint(path)
    if not isinstance(model, expected):
        raise ArtifactError(
            f"checkpoint {path}: it is a checkpoint of another task, a {type(model).__name__}; "
            f"expected a {expected.__name__}"
        )
    return model


def _kind_of(model: Any) -> str:
    for kind, (known, _) in KINDS.items():
        if isinstance(model, known):
            return kind
    names = ", ".join(known.__name__ for known, _ in KINDS.values())
    raise InputError(f"checkpoint: got a {type(model).__name__}, expected one of {names}")


def _read(path: Path) -> tuple[str, dict[str, Tensor]]:
    metadata, tensors = read_safetensors(path, where=f"checkpoint {path}")
    if CHECKPOINT_KEY not in metadata:
        raise no_description(f"checkpoint {path}", os.fspath(path))
    return metadata[CHECKPOINT_KEY], tensors


def _parse_description(path: Path, text: str) -> tuple[type[Model], RecurrentConfig]:
    kind, values = parse_description(f"checkpoint {path}", text)
    model, config = KINDS[kind]
    try:
        return model, config.from_json(values)
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
