"""Small data sets, short options and a way to interrupt: what the tests of training share."""

import numpy as np
import torch

from lstm_edge.data import Dataset
from lstm_edge.training import (
    LanguageOptions,
    TrainingOptions,
    train_classifier,
    train_forecaster,
    train_language_model,
    train_tagger,
)
from lstm_edge.training.models import (
    ClassifierConfig,
    ForecasterConfig,
    LanguageModel,
    LanguageModelConfig,
    SequenceClassifier,
    SequenceForecaster,
    SequenceTagger,
    TaggerConfig,
)

LENGTHS = np.array([5, 3, 7, 5, 2, 6, 4, 5, 1, 7, 3, 6])


def sequences(task, *, values=2, seed=0):
    """Return 12 sequences of 2 features; classes follow the sign of the first feature, values are sums."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(int(LENGTHS.sum()), 2)).astype(np.float32)
    parts = np.split(x, np.cumsum(LENGTHS)[:-1])
    if task == "tagging":
        y = (x[:, 0] > 0).astype(np.int64)
    elif task == "classification":
        y = np.arange(12) % 3
    else:
        y = np.array([[100 + 10 * part.sum(), part.mean()][:values] for part in parts], np.float32)
        y = y[:, 0] if values == 1 else y
    return Dataset(name="small", x=x, lengths=LENGTHS, y=y, per_step=task == "tagging")


def ids(count=700, tokens=7):
    """Return ids whose next one is mostly the one plus one."""
    steps = 1 + (np.random.default_rng(1).random(count) < 0.1)
    return np.cumsum(steps).astype(np.int64) % tokens


def train(task, *, options=None, config=None, **keywords):
    """Train the small model of a task; ``options`` and ``config`` replace single values."""
    options, config = options or {}, config or {}
    if task == "language-model":
        chosen = LanguageModelConfig(**({"tokens": 7, "embedding": 3, "hidden": 5} | config))
        how = LanguageOptions(**({"epochs": 2, "batch_size": 4, "window": 20, "threads": 1} | options))
        return train_language_model(ids(), ids(200), chosen, options=how, **keywords)
    functions = {
        "classification": (train_classifier, ClassifierConfig, {"classes": 3}, {}),
        "tagging": (train_tagger, TaggerConfig, {"classes": 2}, {}),
        "forecast": (train_forecaster, ForecasterConfig, {"targets": 2}, {"loss": "mse"}),
    }
    function, kind, sizes, defaults = functions[task]
    chosen = kind(**({"features": 2, "hidden": 4} | sizes | config))
    how = TrainingOptions(**({"epochs": 2, "batch_size": 4, "held_out": 0.25} | defaults | options))
    return function(sequences(task), chosen, options=how, **keywords)


def model_of(task, seed=5, **changes):
    """Return a model of a task with random weights and hidden size 40; ``changes`` are of its configuration."""
    torch.manual_seed(seed)
    if task == "language-model":
        return LanguageModel(LanguageModelConfig(**({"tokens": 11, "embedding": 6, "hidden": 40} | changes))).eval()
    kinds = {
        "classification": (SequenceClassifier, ClassifierConfig, {"classes": 3}),
        "tagging": (SequenceTagger, TaggerConfig, {"classes": 3}),
        "forecast": (SequenceForecaster, ForecasterConfig, {"targets": 2}),
    }
    kind, config, sizes = kinds[task]
    model = kind(config(**({"features": 5, "hidden": 40} | sizes | changes)))
    model.set_standardization(torch.linspace(-1, 1, 5), torch.linspace(0.5, 2, 5))
    return model.eval()


TASKS = ("classification", "tagging", "forecast", "language-model")
