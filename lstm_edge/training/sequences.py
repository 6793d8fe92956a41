"""Training on data sets of sequences: code shared by classification, tagging and forecasting.

B rows, T steps, F features.
"""

import hashlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lstm_edge.data import Dataset, bucketed_batches, collate
from lstm_edge.sparsity import measure
from lstm_edge.training import distributed
from lstm_edge.training.distillation import Teacher
from lstm_edge.training.holdout import class_name, only_held_out, split_sequences
from lstm_edge.training.loop import Batch, Watch, fit
from lstm_edge.training.losses import IGNORED, Criterion, Measure
from lstm_edge.training.models import RecurrentConfig, SequenceModel, set_forget_bias
from lstm_edge.training.options import TrainingOptions
from lstm_edge.training.pruning import Pruning
from lstm_edge.training.quantize_aware import parse_scheme, quantized
from lstm_edge.training.record import Epoch, TaskName, TrainingReport, best_of
from lstm_edge.training.shifting import to_front
from lstm_edge.training.state import check_checkpoint
from lstm_edge_runtime.errors import DataError, InputError

__all__ = ["Judgement", "SequenceTask", "check_sizes", "run_training", "split", "statistics", "threads"]

M = TypeVar("M", bound=nn.Module)
Rows = NDArray[np.int64]

# Held-out sequences, and their steps including padding, that are evaluated together. The limits bound the memory and do
# not change the answer. With hidden 256 the outputs of this number of steps take 67 MB.
EVALUATED_TOGETHER = 512
EVALUATED_STEPS = 2**16


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Training loss, loss of the held-out data, and metric."""

    train: Criterion
    held_out: Criterion
    metric: Measure


class SequenceTask:
    """Batches of a training set, and a held-out set, for the loop."""

    def __init__(
        self,
        name: TaskName,
        train: Dataset,
        held_out: Dataset,
        judgement: Judgement,
        options: TrainingOptions,
        *,
        seed: int,
        noisy: bool,
        teacher: Teacher | None = None,
    ) -> None:
        self.name: TaskName = name
        self.train = train
        self.held_out = held_out
        self.judgement = judgement
        self.options = options
        self.seed = seed
        self.noisy = noisy
        self.teacher = teacher
        self.updates = -(-len(train) // options.batch_size)

    def batches(self, number: int) -> Iterator[Batch]:
        """Yield the batches of epoch ``number``; the order is random (PyTorch's generator) or bucketed by length."""
        generator = np.random.default_rng([self.seed, number])
        steps = np.minimum(self.train.lengths, self.options.max_length or self.train.lengths.max())
        counts = steps if self.train.per_step else np.ones(len(self.train), np.int64)
        for rows in self._order(number):
            mine = rows[distributed.rank() :: distributed.processes()]
            # If the last batch has fewer rows than processes, the processes without a row take part with weight 0.
            batch = make_batch(self.train, mine if len(mine) else rows[:1], self.options, generator)
            yield Batch(
                x=batch.x,
                y=batch.y,
                lengths=batch.lengths,
                count=int(counts[mine].sum()),
                total=int(counts[rows].sum()),
                items=len(rows),
            )

    def _order(self, number: int) -> list[Rows]:
        size = self.options.batch_size
        if self.options.bucket:
            return bucketed_batches(self.train.lengths, size, seed=self.seed, epoch=number - 1)
        order = distributed.agree_on(torch.randperm(len(self.train))).numpy()
        return [order[start : start + size] for start in range(0, len(order), size)]

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean loss of a batch."""
        answers = model(batch.x, batch.lengths)
        hard = self.judgement.train(answers, batch.y)
        if self.teacher is None:
            return hard
        return self.teacher.blend(hard, answers, self.teacher.answer(batch.x, batch.lengths), batch.y)

    def evaluate(self, model: nn.Module) -> tuple[float, float]:
        """Return the mean loss and the metric of the held-out set, padded after each row and never truncated."""
        plain = TrainingOptions()
        loss = metric = 0.0
        terms = self.held_out.x.shape[0] if self.held_out.per_step else len(self.held_out)
        together = max(1, min(EVALUATED_TOGETHER, EVALUATED_STEPS // int(self.held_out.lengths.max())))
        for start in range(0, len(self.held_out), together):
            rows = np.arange(start, min(start + together, len(self.held_out)))
            batch = make_batch(self.held_out, rows, plain, None)
            answers = model(batch.x, batch.lengths)
            share = batch.count / terms
            loss += self.judgement.held_out(answers, batch.y).item() * share
            metric += self.judgement.metric(answers, batch.y) * share
        return loss, metric


def make_batch(dataset: Dataset, rows: Rows, options: TrainingOptions, generator: np.random.Generator | None) -> Batch:
    """Return rows of a data set as tensors; each row starts at step 0, wherever its padding was.

    ``lengths`` is None if every row is full: the layer then needs no packing. Padding has the class ``IGNORED``.
    """
    found = collate(
        dataset, rows, pad=options.pad, truncate=options.truncate, max_length=options.max_length, rng=generator
    )
    x, y, lengths = torch.from_numpy(found.x), torch.from_numpy(found.y), torch.from_numpy(found.lengths)
    if found.starts.any():
        starts = torch.from_numpy(found.starts)
        x, y = to_front(x, starts), to_front(y, starts) if dataset.per_step else y
    if dataset.per_step and dataset.is_classes:
        y = y.masked_fill(torch.arange(y.shape[1]) >= lengths.unsqueeze(1), IGNORED)
    if not dataset.is_classes and y.dim() == 1:
        y = y.unsqueeze(1)
    full = int(lengths.min()) == x.shape[1]
    count = int(lengths.sum()) if dataset.per_step else len(rows)
    return Batch(x=x, y=y, lengths=None if full else lengths, count=count, total=count, items=len(rows))


def split(
    dataset: Dataset, validation: Dataset | None, options: TrainingOptions, *, seed: int
) -> tuple[Dataset, Dataset]:
    """Return the training and the held-out set: the validation set if given, else a share of the data.

    Raises:
        DataError: nothing can be held out, or the validation set has other features or targets, or only the held-out
            data has a class.
    """
    if validation is None:
        return split_sequences(dataset, options, seed=seed)
    for what in ("features", "targets", "task"):
        mine, theirs = getattr(dataset, what), getattr(validation, what)
        if mine != theirs:
            raise DataError(f"data {validation.name}: {what} is {theirs}, the training data has {mine}")
    if not dataset.is_classes:
        return dataset, validation
    matched = validation.for_model(dataset.labels, dataset.classes)
    unseen = only_held_out(dataset, matched, options)
    if unseen is not None:
        # A class below the number of classes of the training data that none of its targets has.
        cut = "" if options.max_length is None else f" in the {options.max_length} steps that --max-length keeps"
        raise DataError(
            f"data {validation.name}: the label {class_name(dataset, unseen)} was never seen in training; expected one "
            f"that {dataset.name} has targets of{cut}"
        )
    return dataset, matched


def check_sizes(dataset: Dataset, task: str, sizes: dict[str, tuple[int, int]]) -> None:
    """Refuse data of another task, or of other sizes than the model's.

    Args:
        dataset: the data.
        task: the task to train.
        sizes: by noun of the message: the size of the data and the size that the model expects.

    Raises:
        DataError: the data do not fit.
    """
    expected = {
        "classification": "integer classes to train a classifier, one for each sequence",
        "tagging": "integer classes to train a tagger, one for each step",
        "forecast": "float32 values to train a forecaster, a number or a vector for each sequence",
    }[task]
    if dataset.task != task or (task == "forecast" and dataset.per_step):
        found = f"{dataset.y.dtype}, one for each {'step' if dataset.per_step else 'sequence'}"
        raise DataError(f"data {dataset.name}: y is {found}, expected {expected}")
    if dataset.is_classes and dataset.y.min() == dataset.y.max():
        raise DataError(
            f"data {dataset.name}: all {len(dataset.y):,} targets are of one class, expected two classes or more"
        )
    for name, (found_size, expected_size) in sizes.items():
        if found_size != expected_size:
            raise DataError(f"data {dataset.name}: has {found_size} {name}, the model expects {expected_size}")


def statistics(values: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation over the first axis, summed in float64; float32 ``[F]`` each."""
    wide = values.astype(np.float64)
    return torch.from_numpy(wide.mean(axis=0)).float(), torch.from_numpy(wide.std(axis=0)).float()


def run_training(
    make_model: Callable[[], M],
    task: Any,
    options: TrainingOptions,
    identity: dict[str, Any],
    *,
    watch: Watch,
    start: M | None = None,
) -> tuple[M, list[Epoch], float]:
    """Seed, build and fit a model; PyTorch's random state and threads are restored.

    Args:
        make_model: builds the model; PyTorch's seeded generator draws the initial weights.
        task: the task for the loop.
        options: the training options.
        identity: ``seed`` and the other values that identify this training.
        watch: callbacks, and the file of the state.
        start: a model of the same configuration; training starts with its weights and its statistics of inputs and
            targets.

    Returns:
        The model in evaluation mode, the epochs, the seconds.
    """
    seed = identity["seed"]
    with torch.random.fork_rng(devices=[]), threads(options.threads), warnings.catch_warnings():
        # PyTorch warns once per process that its own kernel runs float32 projections.
        warnings.filterwarnings("ignore", message="LSTM with projections is not supported with oneDNN")
        torch.manual_seed(seed)
        model = make_model()
        if isinstance(model, SequenceModel):
            model.pack = options.pack
        if start is not None:
            model.load_state_dict(start.state_dict())
            identity |= {"start": fingerprint(*(value.numpy() for value in start.state_dict().values()))}
        elif options.forget_bias != 1.0:
            set_forget_bias(model, options.forget_bias)
        identity |= {"task": task.name, "options": options.to_json(), "processes": distributed.processes()}
        identity |= {"threads": torch.get_num_threads()}
        scheme = None if options.quantize_aware is None else parse_scheme(options.quantize_aware)
        pruning = Pruning.of(model, options, start)
        with quantized(model, scheme):
            history, seconds = fit(model, task, options, seed=seed, identity=identity, watch=watch, pruning=pruning)
    return model.eval(), history, seconds


def check_run(seed: int, watch: Watch) -> None:
    """Refuse a seed out of its range, and a checkpoint that cannot be written or resumed.

    Raises:
        InputError: the seed is negative or too large, or there is nothing to resume.
        OutputError: see ``check_checkpoint``.
    """
    if not 0 <= seed < 2**63:
        raise InputError(f"training: seed is {seed}, expected an integer from 0 to 2^63 - 1")
    if watch.checkpoint is not None and distributed.is_main():
        check_checkpoint(watch.checkpoint)


def identify(config: RecurrentConfig, seed: int, train: Dataset, held_out: Dataset) -> dict[str, Any]:
    """Return the JSON values that identify a training besides its options: model, seed and data."""
    arrays = [array for part in (train, held_out) for array in (part.x, part.lengths, part.y)]
    return {"seed": seed, "config": config.to_json(), "data": fingerprint(*arrays)}


def summarize(
    task: SequenceTask,
    model: nn.Module,
    *,
    config: RecurrentConfig,
    data: str,
    metric: str,
    seed: int,
    history: list[Epoch],
    seconds: float,
) -> TrainingReport:
    """Return the report of a training on sequences."""
    return TrainingReport(
        task=task.name,
        data=data,
        seed=seed,
        unit="sequences",
        trained=len(task.train),
        held_out=len(task.held_out),
        metric=metric,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        seconds=round(seconds, 3),
        processes=distributed.processes(),
        best=best_of(history),
        history=tuple(history),
        config=config,
        options=task.options,
        sparsity=None if task.options.sparse is None else measure(model),
    )


def fingerprint(*arrays: NDArray[Any]) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of arrays, to recognize the same data."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Run PyTorch on ``count`` threads, so that the number of cores does not change the sums; None keeps the setting.

    Small batches of short sequences gain nothing from a second thread, and lose a factor of 5 or more if another
    process uses the same core (measured: 20 s instead of 4 s for the default classifier on two cores).
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
