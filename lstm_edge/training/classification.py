"""Training of a ``SequenceClassifier``: cross-entropy, Adam, early stopping on a held-out part of the training set.

How the defaults were chosen: by five-fold cross-validation inside the Japanese Vowels training split, never on the
test split. Batches of 16 with input noise 1.2 had the lowest held-out cross-entropy (0.05 nats after 60 epochs,
against 0.07 with batches of 32, 0.09 with noise 0.9 and 0.19 with noise 0.3).
"""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lstm_edge.data import Dataset, pad
from lstm_edge.models import ClassifierConfig, SequenceClassifier
from lstm_edge.training.holdout import hold_out
from lstm_edge_runtime.errors import DataError, InputError

__all__ = ["Epoch", "TrainingOptions", "TrainingReport", "train_classifier"]

Batch = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How to train. ``epochs`` is the most there will be, and the length of the learning rate's half cosine.

    ``learning_rate`` (at most 1) is Adam's at the start; ``clip_norm`` bounds the norm of all gradients together. Of
    every class the share ``held_out`` of the samples is kept from training; after ``patience`` epochs without a lower
    cross-entropy there, training ends. The weights of the epoch with the lowest are kept.

    Raises:
        InputError: a value is out of its range.
    """

    epochs: int = 80
    batch_size: int = 16
    learning_rate: float = 3e-3
    clip_norm: float = 1.0
    held_out: float = 0.1
    patience: int = 30

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patience"):
            if getattr(self, name) < 1:
                raise InputError(f"training: {name} is {getattr(self, name)}, expected 1 or more")
        if not 0 < self.learning_rate <= 1:
            raise InputError(f"training: learning_rate is {self.learning_rate}, expected above 0 and at most 1")
        if not 0 < self.clip_norm < math.inf:
            raise InputError(f"training: clip_norm is {self.clip_norm}, expected a finite number above 0")


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One pass over the training part: mean cross-entropies in nats, held-out accuracy as a share.

    ``train_loss`` is measured with input noise and while the weights move; the other two after the epoch, without.
    """

    number: int
    train_loss: float
    held_out_loss: float
    held_out_accuracy: float


@dataclass(frozen=True, kw_only=True)
class TrainingReport:
    """What was trained on what, and what came of it; ``best`` is the epoch whose weights were kept."""

    data: str
    seed: int
    samples_trained: int
    samples_held_out: int
    parameters: int
    seconds: float
    best: Epoch
    history: tuple[Epoch, ...]
    config: ClassifierConfig
    options: TrainingOptions

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return dataclasses.asdict(self)

    def rows(self) -> list[tuple[str, str]]:
        """Return the report as the rows of a table."""
        return [
            ("data", self.data),
            ("seed", str(self.seed)),
            ("sequences trained on / held out", f"{self.samples_trained} / {self.samples_held_out}"),
            ("parameters", f"{self.parameters:,}"),
            ("epochs, best / run", f"{self.best.number} / {len(self.history)}"),
            ("held-out accuracy", f"{self.best.held_out_accuracy:.2%}"),
            ("held-out cross-entropy", f"{self.best.held_out_loss:.4f}"),
            ("time", f"{self.seconds:.1f} s"),
        ]


def train_classifier(
    dataset: Dataset,
    config: ClassifierConfig | None = None,
    *,
    options: TrainingOptions | None = None,
    seed: int = 0,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> tuple[SequenceClassifier, TrainingReport]:
    """Train a classifier; the same arguments give the same weights, bit for bit, on the same machine.

    Runs on one thread, whatever PyTorch's setting is.

    Args:
        dataset: the training set, classes in ``y``. A part of it is held out for early stopping; the inputs are
            standardized with the statistics of the rest.
        config: the model; by default one layer of 64 with the sizes and labels of ``dataset``.
        options: how to train.
        seed: decides the first weights, the order, the noise and the held-out part. PyTorch's global random state
            is left as it was.
        on_epoch: called after every epoch.

    Returns:
        The model in evaluation mode, and the report.

    Raises:
        DataError: ``dataset`` has no classes, or not those or not the features of ``config``.
        InputError: ``seed`` is out of its range, or the loss became infinite or NaN.
    """
    options = options or TrainingOptions()
    config = config or ClassifierConfig(features=dataset.features, classes=dataset.classes, labels=dataset.labels)
    _check(dataset, config, seed)
    started = time.perf_counter()
    train, held_out = hold_out(dataset.y, options.held_out, seed=seed)
    with torch.random.fork_rng(devices=[]), _one_thread():
        torch.manual_seed(seed)
        model = SequenceClassifier(config)
        model.set_standardization(*_statistics(dataset, train))
        history = _fit(model, _batch(dataset, train), _batch(dataset, held_out), options, on_epoch)
    report = TrainingReport(
        data=dataset.name,
        seed=seed,
        samples_trained=len(train),
        samples_held_out=len(held_out),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        seconds=round(time.perf_counter() - started, 3),
        best=min(history, key=lambda epoch: epoch.held_out_loss),
        history=tuple(history),
        config=config,
        options=options,
    )
    return model.eval(), report


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run PyTorch on one thread, so that the number of cores does not change the sums.

    Batches this small gain nothing from a second thread, and lose a factor of 5 or more where another process wants
    the same core (seen: 20 s instead of 4 s for the default model on two cores).
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _check(dataset: Dataset, config: ClassifierConfig, seed: int) -> None:
    if not dataset.is_classification:
        raise DataError(f"data {dataset.name}: y is {dataset.y.dtype}, expected integer classes to train a classifier")
    for name, found, expected in (
        ("features", dataset.features, config.features),
        ("classes", dataset.classes, config.classes),
    ):
        if found != expected:
            raise DataError(f"data {dataset.name}: has {found} {name}, the model expects {expected}")
    if not 0 <= seed < 2**63:
        raise InputError(f"training: seed is {seed}, expected an integer from 0 to 2^63 - 1")


def _statistics(dataset: Dataset, samples: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    steps = np.concatenate([dataset[index] for index in samples]).astype(np.float64)
    mean, std = torch.from_numpy(steps.mean(axis=0)), torch.from_numpy(steps.std(axis=0))
    return mean.float(), std.float()


def _batch(dataset: Dataset, samples: NDArray[np.int64]) -> Batch:
    x, lengths = pad([dataset[index] for index in samples])
    return torch.from_numpy(x), torch.from_numpy(lengths), torch.from_numpy(dataset.y[samples])


def _fit(
    model: SequenceClassifier,
    train: Batch,
    held_out: Batch,
    options: TrainingOptions,
    on_epoch: Callable[[Epoch], None] | None,
) -> list[Epoch]:
    """Train ``model`` in place and leave it with the weights of the best epoch."""
    optimizer = torch.optim.Adam(model.parameters(), lr=options.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.epochs)
    history: list[Epoch] = []
    best: Epoch | None = None
    best_weights: dict[str, Tensor] = {}
    for number in range(1, options.epochs + 1):
        train_loss = _train_epoch(model, train, optimizer, options)
        epoch = _evaluate(model, held_out, number=number, train_loss=train_loss)
        _check_finite(epoch.held_out_loss, options)
        schedule.step()
        history.append(epoch)
        if on_epoch:
            on_epoch(epoch)
        if best is None or epoch.held_out_loss < best.held_out_loss:
            best = epoch
            best_weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
        elif number - best.number >= options.patience:
            break
    model.load_state_dict(best_weights)
    return history


def _train_epoch(
    model: SequenceClassifier, train: Batch, optimizer: torch.optim.Optimizer, options: TrainingOptions
) -> float:
    x, lengths, y = train
    model.train()
    total = 0.0
    order = torch.randperm(len(y))
    for start in range(0, len(y), options.batch_size):
        rows = order[start : start + options.batch_size]
        longest = int(lengths[rows].max())
        loss = nn.functional.cross_entropy(model(x[rows, :longest], lengths[rows]), y[rows])
        _check_finite(loss.item(), options)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), options.clip_norm)
        optimizer.step()
        total += loss.item() * len(rows)
    return total / len(y)


def _evaluate(model: SequenceClassifier, batch: Batch, *, number: int, train_loss: float) -> Epoch:
    x, lengths, y = batch
    model.eval()
    with torch.no_grad():
        logits = model(x, lengths)
        loss = nn.functional.cross_entropy(logits, y).item()
    accuracy = (logits.argmax(dim=1) == y).double().mean().item()
    return Epoch(number=number, train_loss=train_loss, held_out_loss=loss, held_out_accuracy=accuracy)


def _check_finite(loss: float, options: TrainingOptions) -> None:
    if not math.isfinite(loss):
        raise InputError(
            f"training: the loss became {loss}; choose a learning rate below {options.learning_rate:g}, "
            "or less input noise"
        )
