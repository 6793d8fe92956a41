"""Training of a ``SequenceForecaster``: squared or absolute error, early stopping on held-out sequences."""

from collections.abc import Callable

import torch
from torch import Tensor

from lstm_edge.data import Dataset
from lstm_edge.training.loop import Watch
from lstm_edge.training.losses import check_loss, value_error, value_loss
from lstm_edge.training.models import ForecasterConfig, SequenceForecaster
from lstm_edge.training.options import TrainingOptions
from lstm_edge.training.record import Epoch, TrainingReport
from lstm_edge.training.sequences import (
    Judgement,
    SequenceTask,
    check_run,
    check_sizes,
    identify,
    run_training,
    split,
    statistics,
    summarize,
)
from lstm_edge.training.start import prepare
from lstm_edge.training.state import Checkpoint

__all__ = ["train_forecaster"]

METRICS = {"mse": "mean-squared-error", "mae": "mean-absolute-error"}


def train_forecaster(
    dataset: Dataset,
    config: ForecasterConfig | None = None,
    *,
    options: TrainingOptions | None = None,
    seed: int = 0,
    validation: Dataset | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    checkpoint: Checkpoint | None = None,
    start: SequenceForecaster | None = None,
) -> tuple[SequenceForecaster, TrainingReport]:
    """Train a forecaster; the same arguments give the same weights, bit for bit, on the same machine.

    Args:
        dataset: the training set, a number or a vector for each sequence in ``y``. A part of it is
            held out for early stopping (see ``hold_out_sequences``); the inputs are standardized with the statistics
            of the rest, and so are the targets, for the loss: the model answers in their own units.
        config: the model; by default one layer of 64 with the sizes of ``dataset``.
        options: how to train, ``loss`` ``mse`` or ``mae``; by default with ``mse``, in buckets, unpacked, on one
            thread, whatever PyTorch's setting is.
        seed: decides the first weights, the order, the noise and the held-out part. PyTorch's global random state
            is left as it was.
        validation: held out instead of a part of ``dataset``.
        on_epoch: called after every epoch.
        on_progress: called after every update with (updates done, updates at most).
        checkpoint: where the state is kept after every epoch; the file stays when training is done.
        start: a trained model of the same configuration to start from: its weights and its statistics.

    Returns:
        The model in evaluation mode, and the report.

    Raises:
        DataError: ``dataset`` has no values, or not as many targets or features as ``config``.
        InputError: ``seed`` is out of its range, the loss is not for values, it became infinite or NaN,
            or ``start`` has another configuration.
        ArtifactError: the checkpoint is damaged, or of another training.
        OutputError: the checkpoint cannot be written, or would be lost.
    """
    options = options or TrainingOptions(loss="mse", bucket=True, pack=False)
    check_sizes(dataset, "forecast", {})
    config = config or ForecasterConfig(features=dataset.features, targets=dataset.targets)
    sizes = {"features": (dataset.features, config.features), "targets": (dataset.targets, config.targets)}
    check_sizes(dataset, "forecast", sizes)
    check_loss(options.loss, "forecast")
    config = prepare(config, options, start)
    watch = Watch(on_epoch=on_epoch, on_progress=on_progress, checkpoint=checkpoint)
    check_run(seed, watch)
    train, held_out = split(dataset, validation, options, seed=seed)
    mean, std = _target_statistics(train)
    loss = value_loss(options.loss, std)
    judgement = Judgement(train=loss, held_out=loss, metric=value_error(options.loss))
    task = SequenceTask("forecast", train, held_out, judgement, options, seed=seed, noisy=config.input_noise > 0)

    def make_model() -> SequenceForecaster:
        model = SequenceForecaster(config)
        model.set_standardization(*statistics(train.x))
        model.set_target_scale(mean, std)
        return model

    identity = identify(config, seed, train, held_out)
    model, history, seconds = run_training(make_model, task, options, identity, watch=watch, start=start)
    return model, summarize(
        task,
        model,
        config=config,
        data=dataset.name,
        metric=METRICS[options.loss],
        seed=seed,
        history=history,
        seconds=seconds,
    )


def _target_statistics(train: Dataset) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of the targets, float32 ``[K]``; 1 for a target that never varies."""
    mean, std = statistics(train.y.reshape(len(train), -1))
    return mean, torch.where(std > 0, std, torch.ones_like(std))
