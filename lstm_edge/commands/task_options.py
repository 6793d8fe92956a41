"""The options of each task of ``lstm-edge train`` and their defaults; imports nothing that loads slowly.

The defaults repeat those of the configurations and options in ``lstm_edge.training``, which would load torch for
``--help``; a test compares them.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

__all__ = ["OPTIONS", "REQUIRED", "RUN", "TASK_OPTIONS", "TEACHING"]

# Required by every task; then the options that decide where a training reads, starts and writes.
REQUIRED = ("data", "output")
RUN = (
    *REQUIRED,
    "held_out_data",
    "columns",
    "step_every",
    "missing",
    "front_end",
    "start",
    "seed",
    "resume_file",
    "resume",
    "plot",
)

# The options of distillation; the last two are for the first.
TEACHING = ("teacher", "temperature", "alpha")

# In the order of `--help`; None: the library decides.
OPTIONS: Mapping[str, Any] = MappingProxyType(
    {
        "held_out_data": None,
        "columns": None,
        "front_end": None,
        "step_every": None,
        "missing": "refuse",
        "held_out": 0.1,
        "pad": "post",
        "truncate": "post",
        "max_length": None,
        "bucket": True,
        "pack": False,
        "vocabulary": "character",
        "vocabulary_size": None,
        "max_vocabulary": None,
        "max_bytes": None,
        "lines": False,
        "embedding": None,
        "hidden": 64,
        "layers": 1,
        "peephole": "none",
        "projection": 0,
        "bidirectional": False,
        "tied": False,
        "dropout": 0.0,
        "input_noise": 0.0,
        "forget_bias": 1.0,
        "epochs": 80,
        "batch_size": 16,
        "window": 100,
        "reset_probability": 0.0,
        "precision": "float32",
        "loss": "cross-entropy",
        "label_smoothing": 0.0,
        "optimizer": "adam",
        "learning_rate": 3e-3,
        "momentum": 0.9,
        "weight_decay": 0.0,
        "schedule": "cosine",
        "warmup": 0.0,
        "step_epochs": 10,
        "step_factor": 0.5,
        "clip_norm": 1.0,
        "patience": 30,
        "max_minutes": None,
        "max_updates": None,
        "quantize_aware": None,
        "sparse": None,
        "sparse_begin": 0.0,
        "sparse_end": 0.3,
        "sparse_diagonal": False,
        "start": None,
        "teacher": None,
        "temperature": None,
        "alpha": None,
        "seed": 0,
        "threads": 1,
        "resume_file": None,
        "resume": False,
        "plot": None,
    }
)

_TEXT_ONLY = frozenset(
    {
        *("vocabulary", "vocabulary_size", "max_vocabulary", "max_bytes", "lines"),
        *("embedding", "tied", "window", "reset_probability", "precision"),
    }
)
_SEQUENCES_ONLY = frozenset(
    {
        *(
            "front_end",
            "columns",
            "step_every",
            "missing",
            "held_out",
            "pad",
            "truncate",
            "max_length",
            "bucket",
            "pack",
        ),
        *("bidirectional", "input_noise", "loss"),
    }
)


def _task(without: frozenset[str], changes: Mapping[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType({name: changes.get(name, OPTIONS[name]) for name in OPTIONS if name not in without})


# The options of each task with their defaults.
TASK_OPTIONS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "classification": _task(_TEXT_ONLY, {"bucket": False, "pack": True, "input_noise": 1.2}),
        "tagging": _task(_TEXT_ONLY | {"front_end"}, {}),
        "forecast": _task(_TEXT_ONLY | {"front_end", "label_smoothing", *TEACHING}, {"loss": "mse"}),
        "language-model": _task(
            _SEQUENCES_ONLY,
            {
                "hidden": 384,
                "epochs": 10,
                "batch_size": 64,
                "optimizer": "adamw",
                "weight_decay": 0.01,
                "threads": None,
            },
        ),
    }
)
