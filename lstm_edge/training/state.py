"""The state of an unfinished training in one ``.safetensors`` file; a resumed training gives the same bits.

Tensors: ``model.*``, ``best.*`` (the weights of the best epoch so far), ``optimizer.<number>.<name>``, ``pruning.*``
(the kept blocks of a sparse training, see ``lstm_edge.training.pruning``) and ``generator`` (PyTorch's random state).
The metadata key ``lstm_edge.training`` holds an object with ``version``, ``identity`` (task, data and options: another
training is refused), ``history`` and ``seconds``. Nothing is unpickled.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from lstm_edge._tensors import read_safetensors
from lstm_edge.refusals import check_resume
from lstm_edge.training.record import Epoch
from lstm_edge_runtime.errors import ArtifactError
from lstm_edge_runtime.reading import parse_json, translated
from lstm_edge_runtime.writing import write_atomically

__all__ = ["TRAINING_KEY", "Checkpoint", "Past", "check_checkpoint", "restore", "store"]

TRAINING_KEY = "lstm_edge.training"
VERSION = "1"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The file of the training state after every epoch, and whether to resume from it."""

    path: Path
    resume: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Past:
    """The past of a training: the epochs, the weights of the best one, the seconds spent, the state of the pruning."""

    history: tuple[Epoch, ...]
    best_weights: Mapping[str, Tensor]
    seconds: float
    pruning: Mapping[str, Tensor] = field(default_factory=dict)


def check_checkpoint(checkpoint: Checkpoint) -> None:
    """Refuse to overwrite an interrupted training or to resume a missing one, before any work is done.

    Raises:
        OutputError: the path cannot be written, or has an interrupted training and ``resume`` is False.
        InputError: there is nothing to resume.
    """
    check_resume(checkpoint.path, resume=checkpoint.resume)


def store(
    path: Path, *, identity: Mapping[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer, past: Past
) -> None:
    """Write the state after an epoch; the file is replaced in one step.

    Raises:
        OutputError: the file cannot be written.
    """
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in past.best_weights.items()}
    for number, entries in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": value for name, value in entries.items() if value is not None}
    tensors |= {f"pruning.{name}": value for name, value in past.pruning.items()}
    tensors["generator"] = torch.get_rng_state()
    description = {
        "version": VERSION,
        "identity": identity,
        "history": [dataclasses.asdict(epoch) for epoch in past.history],
        "seconds": past.seconds,
    }
    metadata = {TRAINING_KEY: json.dumps(description, sort_keys=True, ensure_ascii=False, allow_nan=False)}
    # Copies, because safetensors refuses tensors that share memory.
    write_atomically(path, save({name: value.detach().clone() for name, value in tensors.items()}, metadata=metadata))


def restore(path: Path, *, identity: Mapping[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer) -> Past:
    """Load the state that ``store`` wrote into the model, the optimizer and PyTorch's generator.

    Raises:
        ArtifactError: the file is damaged, or has the state of another training.
    """
    text, tensors = _read(path)
    with translated(ArtifactError, f"{path}: not a training state that this version of lstm-edge reads"):
        description = parse_json(text)
        history = tuple(Epoch(**epoch) for epoch in description["history"])
        found, seconds = description["identity"], float(description["seconds"])
        version = description["version"]
    if version != VERSION:
        raise ArtifactError(f"{path}: version is {_short(version)}, this version of lstm-edge reads {VERSION!r}")
    _check_identity(path, found, identity)
    with translated(ArtifactError, f"{path}: the state is not complete"):
        model.load_state_dict(_part(tensors, "model."))
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in _part(tensors, "optimizer.").items():
            number, _, key = name.partition(".")
            state.setdefault(int(number), {})[key] = value
        optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
        torch.set_rng_state(tensors["generator"])
    best, pruning = _part(tensors, "best."), _part(tensors, "pruning.")
    return Past(history=history, best_weights=best, seconds=seconds, pruning=pruning)


def _read(path: Path) -> tuple[str, dict[str, Tensor]]:
    metadata, tensors = read_safetensors(path)
    if TRAINING_KEY not in metadata:
        raise ArtifactError(f"{path}: its metadata has no key {TRAINING_KEY!r}; expected the state of a training")
    return metadata[TRAINING_KEY], tensors


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _check_identity(path: Path, found: Any, expected: Mapping[str, Any]) -> None:
    """Refuse the state of another training; the message names the difference."""
    known = found if isinstance(found, dict) else {}
    if known.get("task") != expected["task"]:
        raise ArtifactError(
            f"{path}: it is a checkpoint of another task, {known.get('task')}; this training is {expected['task']}"
        )
    for place, mine, theirs in _differences("", json.loads(json.dumps(expected)), known):
        raise ArtifactError(
            f"{path}: it is the state of another training: {place} was {_short(theirs)}, now it is {_short(mine)}; "
            "give the same options and data, or delete the file"
        )


def _differences(place: str, mine: Any, theirs: Any) -> Sequence[tuple[str, Any, Any]]:
    if isinstance(mine, dict) and isinstance(theirs, dict):
        return [
            difference
            for key in sorted(mine.keys() | theirs.keys())
            for difference in _differences(f"{place}.{key}".strip("."), mine.get(key), theirs.get(key))
        ]
    return [] if mine == theirs else [(place, mine, theirs)]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
