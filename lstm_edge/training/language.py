"""Training of a ``LanguageModel``: truncated back-propagation through time over one long text.

The text is split into B rows of equal length that are read in parallel, window after window. The gradient stays inside
a window; the recurrent state is carried to the next one (Williams and Peng, An Efficient Gradient-Based Algorithm for
On-Line Training of Recurrent Network Trajectories, 1990). An epoch starts at the beginning of the rows with a zero
state. With ``reset_probability`` single rows are reset to it at random windows, so that the model also learns to
predict from a fresh state, and trains less on states that only its own errors cause. T tokens in a window.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lstm_edge.data.text import text_batches
from lstm_edge.sparsity import measure
from lstm_edge.training import distributed
from lstm_edge.training.distillation import Distillation, Teacher, distilled
from lstm_edge.training.loop import Batch, Watch
from lstm_edge.training.losses import check_loss, cross_entropy
from lstm_edge.training.models import LanguageModel, LanguageModelConfig
from lstm_edge.training.models.language import LstmState
from lstm_edge.training.options import LanguageOptions
from lstm_edge.training.record import Epoch, TaskName, TrainingReport, best_of
from lstm_edge.training.sequences import check_run, fingerprint, run_training
from lstm_edge.training.start import prepare
from lstm_edge.training.state import Checkpoint
from lstm_edge_runtime.errors import DataError, InputError

__all__ = ["LanguageTask", "train_language_model"]

Ids = NDArray[np.int64]

# Rows of the held-out text. Parallel rows are fast, and with texts of over 16 * 1000 tokens the missing context at the
# start of a row is negligible. `lstm-edge validate` also uses rows; `run --score` reads a text as one row.
EVALUATED_ROWS = 16
EVALUATED_WINDOW = 250


class LanguageTask:
    """Windows of a training text, and a held-out text, for the loop."""

    name: TaskName = "language-model"
    noisy = False

    def __init__(
        self, train: Ids, held_out: Ids, options: LanguageOptions, *, seed: int = 0, teacher: Teacher | None = None
    ) -> None:
        self.train = train
        self.held_out = held_out
        self.options = options
        self.seed = seed
        self.updates = -(-((len(train) - 1) // options.batch_size) // options.window)
        self.criterion = cross_entropy(options.label_smoothing)
        self.teacher = teacher
        self._state: LstmState | None = None
        self._teacher_state: LstmState | None = None

    def batches(self, number: int) -> Iterator[Batch]:
        """Yield the windows from the beginning of the rows to their end; ``number`` decides which rows are reset."""
        self._state = self._teacher_state = None
        mine = slice(distributed.rank(), None, distributed.processes())
        # Seeded by the epoch, so a resumed training, which starts at an epoch, draws the same resets. Every process
        # draws for all rows, so the resets do not depend on the number of processes.
        generator = np.random.default_rng([self.seed, number])
        for x, y in _windows(self.train, self.options.batch_size, self.options.window, mine):
            if self.options.reset_probability:
                drawn = generator.random(self.options.batch_size) < self.options.reset_probability
                rows = torch.from_numpy(drawn[mine])
                self._state, self._teacher_state = _reset(self._state, rows), _reset(self._teacher_state, rows)
            total = y.numel() * distributed.processes()
            yield Batch(x=x, y=y, lengths=None, count=y.numel(), total=total, items=total)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean loss of a window in nats; both states continue from the previous window."""
        with self._precision(batch.x):
            logits, (h, c) = _run(model, batch.x, self._state)
        logits = logits.float()
        self._state = (h.detach().float(), c.detach().float())
        hard = self.criterion(logits, batch.y)
        if self.teacher is None:
            return hard
        with self._precision(batch.x):
            answers, (h, c) = self.teacher.run(batch.x, self._teacher_state)
        self._teacher_state = (h.float(), c.float())
        return self.teacher.blend(hard, logits, answers.float(), batch.y)

    def _precision(self, x: Tensor) -> torch.autocast:
        return torch.autocast(x.device.type, torch.bfloat16, enabled=self.options.precision == "bfloat16")

    def evaluate(self, model: nn.Module) -> tuple[float, float]:
        """Return the mean cross-entropy of the held-out text in nats, and its perplexity."""
        plain, total, count = cross_entropy(), 0.0, 0
        rows = max(1, min(EVALUATED_ROWS, len(self.held_out) // EVALUATED_WINDOW))
        state: LstmState | None = None
        for x, y in _windows(self.held_out, rows, EVALUATED_WINDOW, slice(None)):
            logits, state = _run(model, x, state)
            total += plain(logits, y).item() * y.numel()
            count += y.numel()
        loss = total / count
        return loss, math.exp(min(loss, 700.0))  # exp overflows above 709


def train_language_model(
    train: Ids,
    held_out: Ids,
    config: LanguageModelConfig,
    *,
    options: LanguageOptions | None = None,
    seed: int = 0,
    data: str = "text",
    on_epoch: Callable[[Epoch], None] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    checkpoint: Checkpoint | None = None,
    start: LanguageModel | None = None,
    distillation: Distillation | None = None,
) -> tuple[LanguageModel, TrainingReport]:
    """Train a language model; without ``max_minutes`` the same arguments and threads give the same weights.

    Args:
        train: the training text, int64 ``[N]``, ids below ``config.tokens``.
        held_out: the text for early stopping, int64 ``[M]``.
        config: the model.
        options: the training options.
        seed: random seed of the initial weights, the dropout and the resets. PyTorch's global random state is restored.
        data: the name of the text in the report.
        on_epoch: called after every epoch.
        on_progress: called after every update with (updates done, updates at most).
        checkpoint: the file of the training state, written after every epoch; it stays after the training.
        start: a trained model of the same configuration to start from.
        distillation: a teacher: a trained model of the same vocabulary, of any size.

    Returns:
        The model in evaluation mode, and the report.

    Raises:
        DataError: a text is not an int64 array, is too short, or has ids outside the model's vocabulary.
        InputError: ``seed`` is out of its range, the loss became infinite or NaN, ``start`` has another
            configuration, or the teacher another vocabulary.
        ArtifactError: the checkpoint is damaged, or belongs to another training.
        OutputError: the checkpoint cannot be written, or an interrupted training would be lost.
    """
    options = options or LanguageOptions()
    check_loss(options.loss, "language-model")
    check_ids(f"{data}, training part", train, config.tokens, least=options.batch_size + 1, why="batch size plus one")
    check_ids(f"{data}, held-out part", held_out, config.tokens, least=2, why="an input and a target")
    if options.batch_size % distributed.processes():
        raise InputError(
            f"training: batch_size is {options.batch_size}, expected a multiple of the {distributed.processes()} "
            "processes"
        )
    config = distilled(prepare(config, options, start), distillation)
    watch = Watch(on_epoch=on_epoch, on_progress=on_progress, checkpoint=checkpoint)
    check_run(seed, watch)
    teacher = None if distillation is None else Teacher(distillation)
    task = LanguageTask(train, held_out, options, seed=seed, teacher=teacher)
    identity: dict[str, Any] = {"seed": seed, "config": config.to_json(), "data": fingerprint(train, held_out)}
    model, history, seconds = run_training(
        lambda: LanguageModel(config), task, options, identity, watch=watch, start=start
    )
    report = TrainingReport(
        task="language-model",
        data=data,
        seed=seed,
        unit="tokens",
        trained=len(train),
        held_out=len(held_out),
        metric="perplexity",
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        seconds=round(seconds, 3),
        processes=distributed.processes(),
        best=best_of(history),
        history=tuple(history),
        config=config,
        options=options,
        sparsity=None if options.sparse is None else measure(model),
    )
    return model, report


def _windows(ids: Ids, rows: int, window: int, share: slice) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield inputs and targets, int64 ``[B, T]``, of the rows in ``share``; a target is the token after its input."""
    for both in text_batches(ids, rows, window):
        # Copies, because the windows are overlapping read-only views, about which PyTorch warns.
        text = torch.from_numpy(both[share].copy())
        yield text[:, :-1], text[:, 1:]


def check_ids(what: str, ids: Any, tokens: int, *, least: int, why: str) -> None:
    """Refuse ids outside a vocabulary of ``tokens`` tokens, or fewer than ``least`` ids; the message has ``why``.

    Raises:
        DataError: the text is refused.
    """
    if not isinstance(ids, np.ndarray) or ids.dtype != np.int64 or ids.ndim != 1:
        found = f"{ids.dtype} {list(ids.shape)}" if isinstance(ids, np.ndarray) else type(ids).__name__
        raise DataError(f"data {what}: got {found}, expected token ids, int64 [N]")
    if len(ids) < least:
        raise DataError(f"data {what}: has {len(ids)} tokens, expected at least {least} ({why})")
    if ids.min() < 0 or ids.max() >= tokens:
        wrong = int(np.argmax((ids < 0) | (ids >= tokens)))
        raise DataError(f"data {what}: token {wrong} has the id {ids[wrong]}, expected 0 to {tokens - 1}")


def _reset(state: LstmState | None, rows: Tensor) -> LstmState | None:
    """Replace a carried state by the initial state, zeros, where ``rows``, bool ``[B]``, is true."""
    if state is None:
        return None
    h, c = state
    # A product with 0 would keep NaN.
    return h.masked_fill(rows[:, None], 0.0), c.masked_fill(rows[:, None], 0.0)


def _run(model: nn.Module, ids: Tensor, state: LstmState | None) -> tuple[Tensor, LstmState]:
    assert isinstance(model, LanguageModel)
    return model.run(ids, state)
