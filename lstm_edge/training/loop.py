"""The training loop of all tasks: updates, gradient norms, early stopping, resumable state."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lstm_edge.training import distributed
from lstm_edge.training.losses import check_finite
from lstm_edge.training.optimizers import clip_gradients, make_optimizer
from lstm_edge.training.options import TrainingOptions
from lstm_edge.training.pruning import Pruning
from lstm_edge.training.record import Epoch, TaskName, best_of
from lstm_edge.training.schedules import Position, learning_rate, share_done
from lstm_edge.training.state import Checkpoint, Past, restore, store
from lstm_edge_runtime.errors import ArtifactError
from lstm_edge_runtime.reading import translated

__all__ = ["Batch", "Task", "Watch", "fit"]

# Updates between two reads of the loss: each read makes a GPU wait.
CHECK_EVERY = 32


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """This process's share of a batch.

    Attributes:
        x: the inputs of the model, rows first.
        y: the targets.
        lengths: int64 ``[B]``, or None if every row is full.
        count: terms of the mean that is this process's loss (sequences, steps or tokens).
        total: terms of all processes together.
        items: sequences or tokens of all processes, for the throughput.
    """

    x: Tensor
    y: Tensor
    lengths: Tensor | None
    count: int
    total: int
    items: int


class Task(Protocol):
    """The interface between the loop and a task."""

    name: TaskName
    # Number of updates in an epoch.
    updates: int
    # Whether the inputs get noise: then an infinite loss leads to the hint to use less noise.
    noisy: bool

    def batches(self, number: int) -> Iterator[Batch]:
        """Yield the batches of epoch ``number`` (from 1), in the same order on every process."""
        ...

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean loss of a batch, shape ``[]``."""
        ...

    def evaluate(self, model: nn.Module) -> tuple[float, float]:
        """Return the held-out loss and metric; the model is in evaluation mode, without gradients."""
        ...


@dataclass(frozen=True, kw_only=True)
class Watch:
    """Callbacks of a training, and the file of its state; all optional.

    ``on_epoch`` gets every epoch's record; ``on_progress`` (updates done, updates at most) after every update.
    """

    on_epoch: Callable[[Epoch], None] | None = None
    on_progress: Callable[[int, int], None] | None = None
    checkpoint: Checkpoint | None = None


class _Objective(nn.Module):
    """The loss as a module for ``DistributedDataParallel``, so that a task may call any method of its model."""

    def __init__(self, model: nn.Module, task: Task) -> None:
        super().__init__()
        self.model = model
        self.task = task

    def forward(self, batch: Batch) -> Tensor:
        return self.task.loss(self.model, batch)


def fit(
    model: nn.Module,
    task: Task,
    options: TrainingOptions,
    *,
    seed: int,
    identity: Mapping[str, Any],
    watch: Watch,
    pruning: Pruning | None = None,
) -> tuple[list[Epoch], float]:
    """Train ``model`` in place and leave it with the weights of the epoch with the lowest held-out loss.

    With pruning only epochs that end with the final density count.

    PyTorch's global generator must be seeded: noise, dropout and order are drawn from it.

    Args:
        model: in any mode; its parameters are equal on all processes.
        task: batches, loss and held-out part.
        options: the training options.
        seed: random seed of the processes other than the first.
        identity: JSON values that identify this training; a checkpoint with another identity is refused.
        watch: callbacks, and the file of the state.
        pruning: the masks of the recurrent layers, or None.

    Returns:
        The epochs, and the seconds spent, including those before an interruption.

    Raises:
        InputError: the loss or a gradient became infinite or NaN.
        ArtifactError: the checkpoint is damaged or belongs to another training.
        OutputError: the checkpoint cannot be written.
    """
    run = _Run(model, task, options, watch, pruning)
    if watch.checkpoint is not None and watch.checkpoint.resume:
        run.go_on(restore(watch.checkpoint.path, identity=identity, model=model, optimizer=run.optimizer))
    while not run.is_over():
        if not distributed.is_main():
            # Each process has its own noise, reproducible after an interruption.
            torch.manual_seed((seed + 1_000_003 * distributed.rank() + 10_007 * len(run.history)) % 2**63)
        run.add_epoch()
        if watch.checkpoint is not None and distributed.is_main():
            store(watch.checkpoint.path, identity=identity, model=model, optimizer=run.optimizer, past=run.past())
        if watch.on_epoch is not None:
            watch.on_epoch(run.history[-1])
    model.load_state_dict(run.best_weights)
    return run.history, run.seconds()


class _Run:
    """One training while it runs."""

    def __init__(
        self, model: nn.Module, task: Task, options: TrainingOptions, watch: Watch, pruning: Pruning | None
    ) -> None:
        self.model = model
        self.task = task
        self.options = options
        self.watch = watch
        self.pruning = pruning
        self.optimizer = make_optimizer(model, options)
        self.parameters = list(model.parameters())
        self.objective = distributed.wrap(_Objective(model, task))
        self.history: list[Epoch] = []
        self.best_weights: dict[str, Tensor] = {}
        self.started = time.perf_counter()
        self.evaluation_seconds = 0.0

    def go_on(self, past: Past) -> None:
        self.history = list(past.history)
        self.best_weights = dict(past.best_weights)
        self.started -= past.seconds
        if self.pruning is not None:
            with translated(ArtifactError, "checkpoint: its kept blocks are not those of this training"):
                self.pruning.load(past.pruning)

    def past(self) -> Past:
        return Past(
            history=tuple(self.history),
            best_weights=self.best_weights,
            seconds=self.seconds(),
            pruning={} if self.pruning is None else self.pruning.state(),
        )

    def seconds(self) -> float:
        return time.perf_counter() - self.started

    def share_used(self, updates: int = 0) -> float:
        """Used share of the time limit or of the update limit, whichever is larger; 0 without a limit.

        Args:
            updates: updates done in the current epoch.
        """
        done = updates + sum(epoch.updates for epoch in self.history)
        return max(self._time_share(), 0.0 if self.options.max_updates is None else done / self.options.max_updates)

    def _time_share(self) -> float:
        """Used share of the time limit less the time of one evaluation; 0 without a limit."""
        if self.options.max_minutes is None:
            return 0.0
        usable = 60 * self.options.max_minutes - self.evaluation_seconds
        return distributed.agree([self.seconds() / usable if usable > 0 else 1.0])[0]

    def is_over(self) -> bool:
        if not self.history:
            return False
        waited = len(self.history) - best_of(self.history).number
        if self.pruning is not None and not self.pruning.fixed:
            waited = 0
        return len(self.history) >= self.options.epochs or waited >= self.options.patience or self.share_used() >= 1.0

    def add_epoch(self) -> None:
        began = time.perf_counter()
        self.model.train()
        # The carried state and dropout follow the wrapper's mode.
        self.objective.train()
        pass_ = _Pass(self)
        for batch in self.task.batches(len(self.history) + 1):
            share = self.share_used(pass_.updates)
            if share >= 1.0 and pass_.updates:
                break
            pass_.update(batch, share)
        pass_.prune(self.share_used(pass_.updates))
        train_seconds = time.perf_counter() - began
        train_loss = pass_.mean_loss()
        loss, metric = self.evaluate()
        check_finite(loss, "loss", self.options.learning_rate, noisy=self.task.noisy)
        seconds = time.perf_counter() - began
        self.evaluation_seconds = seconds - train_seconds
        epoch = Epoch(
            number=len(self.history) + 1,
            train_loss=train_loss,
            held_out_loss=loss,
            held_out_metric=metric,
            grad_norm_mean=sum(pass_.norms) / len(pass_.norms),
            grad_norm_max=max(pass_.norms),
            learning_rate=pass_.rate,
            updates=pass_.updates,
            density=None if self.pruning is None else self.pruning.density,
            seconds=round(seconds, 3),
            per_second=round(pass_.items / train_seconds, 1),
        )
        self.history.append(epoch)
        if best_of(self.history) is epoch:
            self.best_weights = {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def evaluate(self) -> tuple[float, float]:
        self.model.eval()
        loss = metric = 0.0
        if distributed.is_main():
            with torch.no_grad():
                loss, metric = self.task.evaluate(self.model)
        loss, metric = distributed.agree([loss, metric])
        return loss, metric


class _Pass:
    """The updates of one epoch."""

    def __init__(self, run: _Run) -> None:
        self.run = run
        self.updates = 0
        self.items = 0
        self.rate = 0.0
        self.terms: list[tuple[int, int]] = []
        self.losses: list[float] = []
        self.norms: list[float] = []
        self.unread: list[tuple[Tensor, Tensor]] = []
        self.held_out_losses = [epoch.held_out_loss for epoch in run.history]

    def update(self, batch: Batch, time_share: float) -> None:
        run, options = self.run, self.run.options
        self.rate = learning_rate(options, self._position(time_share))
        for group in run.optimizer.param_groups:
            group["lr"] = self.rate
        loss = run.objective(batch)
        run.optimizer.zero_grad()
        if distributed.processes() == 1:
            torch.autograd.backward(loss)
        else:
            # DistributedDataParallel averages the gradients over processes whose shares may differ in size.
            torch.autograd.backward(loss * (batch.count * distributed.processes() / batch.total))
        norm = clip_gradients(run.parameters, options.clip_norm)
        run.optimizer.step()
        self.updates += 1
        self.prune(time_share)
        self.terms.append((batch.count, batch.total))
        self.unread.append((loss.detach(), norm))
        self.items += batch.items
        if len(self.unread) == CHECK_EVERY:
            self._read()
        if run.watch.on_progress is not None:
            done = len(run.history) * run.task.updates + self.updates
            whole = options.epochs * run.task.updates
            run.watch.on_progress(done, min(whole, options.max_updates or whole))

    def prune(self, time_share: float) -> None:
        if self.run.pruning is not None:
            self.run.pruning.advance(share_done(self.run.options, self._position(time_share)))

    def mean_loss(self) -> float:
        """Return the mean over all terms of all processes."""
        self._read()
        mine = sum(loss * count for loss, (count, _) in zip(self.losses, self.terms, strict=True))
        return distributed.total([mine])[0] / sum(whole for _, whole in self.terms)

    def _position(self, time_share: float) -> Position:
        return Position(
            epochs_done=len(self.run.history),
            updates_done=self.updates,
            updates=self.run.task.updates,
            time_share=time_share,
            held_out_losses=self.held_out_losses,
        )

    def _read(self) -> None:
        rate, noisy = self.run.options.learning_rate, self.run.task.noisy
        for loss, norm in self.unread:
            self.losses.append(loss.item())
            self.norms.append(norm.item())
            check_finite(self.losses[-1], "loss", rate, noisy=noisy)
            check_finite(self.norms[-1], "gradient norm", rate, noisy=noisy)
        self.unread.clear()
