"""``lstm-edge train``: load the data, train a ready-made model and write it."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, cast

from lstm_edge.amounts import parse_amount
from lstm_edge.checkpoint import load_checkpoint_of, save_checkpoint
from lstm_edge.commands.task_options import RUN, TASK_OPTIONS, TEACHING
from lstm_edge.data import Columns, Dataset, Missing, Task, load, table_options
from lstm_edge.refusals import check_trained
from lstm_edge.training import (
    TASKS,
    Checkpoint,
    Distillation,
    Epoch,
    LanguageOptions,
    TrainingReport,
    plot_curves,
    train_language_model,
)
from lstm_edge.training.corpus import check_device_bytes, load_corpus
from lstm_edge.training.distributed import is_main, process_group
from lstm_edge.training.models import LanguageModel, LanguageModelConfig
from lstm_edge.training.models.distilled import check_alpha, check_temperature
from lstm_edge.training.plot import check_plot
from lstm_edge.training.record import TaskName
from lstm_edge.training.sequences import check_sizes
from lstm_edge.training.sounds import load_features
from lstm_edge.training.state import check_checkpoint
from lstm_edge_runtime.errors import ArtifactError, InputError, OutputError
from lstm_edge_runtime.reading import open_file
from lstm_edge_runtime.writing import beside

__all__ = ["train"]

AnyPath = str | os.PathLike[str]
Say = Callable[[str], None]


def train(
    task: TaskName,
    *,
    data: str,
    output: AnyPath,
    held_out_data: str | None = None,
    columns: Columns | str | None = None,
    step_every: str | float | None = None,
    missing: Missing | None = None,
    front_end: str | None = None,
    held_out: float | None = None,
    pad: Literal["post", "pre", "random"] | None = None,
    truncate: Literal["post", "pre", "random"] | None = None,
    max_length: int | None = None,
    bucket: bool | None = None,
    pack: bool | None = None,
    vocabulary: Literal["character", "byte", "word", "bpe"] | None = None,
    vocabulary_size: int | None = None,
    max_vocabulary: int | None = None,
    max_bytes: str | float | None = None,
    lines: bool | None = None,
    embedding: int | None = None,
    hidden: int | None = None,
    layers: int | None = None,
    peephole: Literal["none", "diagonal", "full"] | None = None,
    projection: int | None = None,
    bidirectional: bool | None = None,
    tied: bool | None = None,
    dropout: float | None = None,
    input_noise: float | None = None,
    forget_bias: float | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    window: int | None = None,
    reset_probability: float | None = None,
    precision: Literal["float32", "bfloat16"] | None = None,
    loss: Literal["cross-entropy", "mse", "mae"] | None = None,
    label_smoothing: float | None = None,
    optimizer: Literal["sgd", "adam", "adamw"] | None = None,
    learning_rate: float | None = None,
    momentum: float | None = None,
    weight_decay: float | None = None,
    schedule: Literal["constant", "cosine", "step", "plateau"] | None = None,
    warmup: float | None = None,
    step_epochs: int | None = None,
    step_factor: float | None = None,
    clip_norm: float | None = None,
    patience: int | None = None,
    max_minutes: float | None = None,
    max_updates: int | None = None,
    quantize_aware: str | None = None,
    sparse: str | float | None = None,
    sparse_begin: float | None = None,
    sparse_end: float | None = None,
    sparse_diagonal: bool | None = None,
    start: AnyPath | None = None,
    teacher: AnyPath | None = None,
    temperature: float | None = None,
    alpha: float | None = None,
    seed: int = 0,
    threads: int | None = None,
    resume_file: AnyPath | None = None,
    resume: bool = False,
    plot: AnyPath | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    progress: Say | None = None,
) -> TrainingReport:
    """Train a ready-made model and write it; implements ``lstm-edge train TASK``.

    The same arguments give the same weights, bit for bit, on the same machine (without ``max_minutes``). Under
    ``torchrun`` every process calls this function; the first one writes and runs the callbacks. None means the task's
    default (``lstm_edge.commands.task_options``).

    Args:
        task: ``"classification"``, ``"tagging"``, ``"forecast"`` or ``"language-model"``.
        data: a bundled set, a file of sequences (``x`` float32 ``[steps, features]``, see docs/data.md), with
            ``front_end`` a folder of WAV files by label, or for a language model a text.
        output: the ``.safetensors`` file to write.
        held_out_data: data for early stopping; replaces a held-out share of ``data``.
        columns: roles of the columns of a table, as ``sequence=id,step=t,target=y,features=a+b``.
        step_every: expected spacing of the steps of a table: ``"1s"``, ``"100ms"``, ``0.5``, or ``"any"``; None: 1 for
            integers, any even spacing otherwise.
        missing: what becomes of missing cells and steps of a table: ``"refuse"``, ``"ffill"`` or ``"drop"``.
        front_end: for a folder of WAV files by label: the features to train on, as for ``lstm_edge.export``.
        held_out: share of ``data`` that is held out.
        pad: side of the padding; it never changes an answer.
        truncate: side at which steps over ``max_length`` are dropped.
        max_length: largest number of steps in a sequence.
        bucket: group sequences of similar lengths into batches.
        pack: pack sequences of different lengths: slower, but skips the padding.
        vocabulary: kind of token.
        vocabulary_size: keep only this number of the most frequent tokens.
        max_vocabulary: refuse a larger vocabulary.
        max_bytes: largest size of the int8 model in bytes: a number, or a text such as ``"100k"``.
        lines: treat each line as a separate text that ends with an end token.
        embedding: size of a token's embedding; by default 64, or with ``tied`` the size of the recurrent output.
        hidden: size of the hidden state.
        layers: number of LSTM layers.
        peephole: connections from the cell state to the gates.
        projection: size of the projected output; 0: no projection.
        bidirectional: process each sequence in both directions.
        tied: share the embedding matrix with the last layer.
        dropout: dropout probability between layers and before the last one.
        input_noise: standard deviation of the noise added to the standardized inputs.
        forget_bias: initial bias of the forget gates.
        epochs: largest number of epochs.
        batch_size: sequences in a batch, or rows of text in a batch.
        window: length of truncated back-propagation, in tokens.
        reset_probability: probability that a row of text starts a window from the initial state.
        precision: arithmetic of the forward and the backward pass of a language model; weights stay float32.
        loss: ``"cross-entropy"`` for classes, ``"mse"`` or ``"mae"`` for values.
        label_smoothing: share of probability spread over all classes.
        optimizer: name of the optimizer.
        learning_rate: initial learning rate.
        momentum: momentum of ``"sgd"``.
        weight_decay: weight decay of the matrices; biases do not decay.
        schedule: name of the learning-rate schedule.
        warmup: share of the training in which the learning rate rises from 0.
        step_epochs: epochs between reductions of the rate (``"step"``), or without a lower loss (``"plateau"``).
        step_factor: factor of each reduction.
        clip_norm: largest norm of the gradient; 0: no clipping.
        patience: epochs without a lower held-out loss before training stops.
        max_minutes: time limit in minutes; the result then depends on the machine's speed.
        max_updates: largest number of updates in all.
        quantize_aware: scheme of quantization-aware training, such as ``"int8"`` or ``"int4:128"``.
        sparse: final density of the recurrent layers' blocks (docs/sparse.md): ``0.33``, or a text such as
            ``"w=0.5,r=0.25"``, ``"i=0.5,f=0.2,g=0.3,o=0.3"`` or ``"0.33,w=1"``.
        sparse_begin: share of the training at which pruning begins.
        sparse_end: share of the training at which the final density is reached and the masks are fixed.
        sparse_diagonal: keep the blocks on the diagonals of the recurrent matrices before all others.
        threads: PyTorch's threads.
        start: a trained ``.safetensors`` model of the same task and sizes to start from.
        teacher: a trained ``.safetensors`` model of the same task, inputs and labels or vocabulary, of any size, to
            learn from besides the targets (``lstm_edge.distillation_loss``).
        temperature: divisor of both models' logits in that loss, 0.01 to 1000; None: 2.
        alpha: share of the teacher in the loss, 0 to 1; None: 0.5.
        seed: random seed of the initial weights, the order, the noise and the held-out part.
        resume_file: file of the training state during training; by default ``output`` with ``.resume`` appended.
        resume: continue an interrupted training from that file.
        plot: a ``.svg``, ``.png`` or ``.pdf`` file for the plot of the curves.
        on_epoch: called after every epoch.
        on_progress: called after every update with (updates done, updates at most).
        progress: called with one line for each step of the work.

    Returns:
        The report: the epochs, the best one, the configuration, seconds.

    Raises:
        InputError: the task does not have an option, an option is out of its range, the loss became infinite or NaN, or
            there is nothing to resume.
        DataError: the data cannot be loaded, or does not fit the task.
        ArtifactError: ``start``, ``teacher`` or the state is damaged, or belongs to another training.
        OutputError: a file cannot be written, or an interrupted training would be lost.
    """
    # This must stay the first statement: locals() then holds the arguments and nothing else.
    given = {name: value for name, value in locals().items() if value is not None}
    callbacks = {name: given.pop(name, None) for name in ("on_epoch", "on_progress", "progress")}
    _check_options(given.pop("task"), given)
    with process_group():
        run = _open(task, given, callbacks)
        model, report = _train_text(run) if task == "language-model" else _train_sequences(run)
        if is_main():
            save_checkpoint(model, run.output)
            run.checkpoint.path.unlink(missing_ok=True)
            if plot is not None:
                plot_curves(report, Path(plot))
        return report


@dataclass(frozen=True, kw_only=True)
class _Run:
    """A training whose paths have been checked; only the process that writes has ``callbacks``."""

    task: TaskName
    given: Mapping[str, Any]
    output: Path
    checkpoint: Checkpoint
    callbacks: Mapping[str, Any]

    @property
    def seed(self) -> int:
        seed: int = self.given["seed"]
        return seed

    def say(self, message: str) -> None:
        if self.callbacks["progress"] is not None:
            self.callbacks["progress"](message)

    def chosen(self, kind: type) -> dict[str, Any]:
        """Return the given options that are fields of a class; a norm of 0 becomes None (no clipping)."""
        names = {field.name for field in fields(kind)}
        values = {name: value for name, value in self.given.items() if name in names}
        return values | ({"clip_norm": values["clip_norm"] or None} if "clip_norm" in values else {})

    def watched(self, model: Any) -> dict[str, Any]:
        """Return the seed, the callbacks, the state, the model to start from and the teacher as keyword arguments."""
        start = self.given.get("start")
        if start is not None:
            self.say(f"starting from {start}")
        watched = {name: self.callbacks[name] for name in ("on_epoch", "on_progress")}
        loaded = None if start is None else load_checkpoint_of(model, start)
        if loaded is not None and loaded.config.sparse is not None and "sparse" not in self.given:
            self.say(f"{start} is sparse; without --sparse this training fills its zero blocks again")
        watched |= {"seed": self.seed, "checkpoint": self.checkpoint, "start": loaded}
        return watched | {"distillation": self._distillation(model)}

    def _distillation(self, model: Any) -> Distillation | None:
        numbers = {name: self.given[name] for name in ("temperature", "alpha") if name in self.given}
        if "teacher" not in self.given:
            return None
        found = Distillation.read(self.given["teacher"], model, **numbers)
        self.say(f"learning from {found.name}, temperature {found.temperature:g}, alpha {found.alpha:g}")
        return found


def _check_options(task: str, given: Mapping[str, Any]) -> None:
    if task not in TASK_OPTIONS:
        raise InputError(f"task {task!r}: unknown; expected one of {', '.join(TASK_OPTIONS)}")
    for name in given:
        if name not in TASK_OPTIONS[task] and name not in RUN[:2]:
            why = ": a forecaster has no logits to learn from" if name in TEACHING else ""
            raise InputError(f"{name} is not an option of {task}{why}; leave it out")
    for name, check in (("temperature", check_temperature), ("alpha", check_alpha)):
        if name in given and "teacher" not in given:
            raise InputError(f"--{name} is for --teacher: give a teacher, or leave it out")
        if name in given:
            check(given[name])


def _open(task: TaskName, given: Mapping[str, Any], callbacks: Mapping[str, Any]) -> _Run:
    """Check the paths before anything slow starts."""
    output = Path(given["output"])
    check_trained(output)
    if "plot" in given:
        check_plot(Path(given["plot"]))
    state = Path(given["resume_file"]) if "resume_file" in given else beside(output, ".resume")
    if os.path.realpath(state) == os.path.realpath(output):
        raise OutputError(f"{state}: --resume-file is the same file as -o: give it another name")
    for option, name in (("--from", "start"), ("--teacher", "teacher")):
        if name in given:
            where = f"{option} {os.fspath(given[name])}"
            with open_file(given[name], ArtifactError, where=where, expected="a .safetensors model"):
                pass
    checkpoint = Checkpoint(path=state, resume=given["resume"])
    if is_main():
        check_checkpoint(checkpoint)
    heard = callbacks if is_main() else dict.fromkeys(callbacks)
    return _Run(task=task, given=given, output=output, checkpoint=checkpoint, callbacks=heard)


def _train_sequences(run: _Run) -> tuple[Any, TrainingReport]:
    task = cast(Task, run.task)  # _train_text trains language models
    training = TASKS[task]
    dataset, held_out = _load_parts(run, task)
    config = training.config.for_data(dataset, **run.chosen(training.config))
    options = replace(training.options, **run.chosen(type(training.options)))
    size = getattr(dataset, config.outputs_are)
    run.say(f"training on {dataset.name}: {len(dataset)} sequences, {size} {config.outputs_are}, seed {run.seed}")
    return training(dataset, config, options=options, validation=held_out, **run.watched(training.model))


def _load_parts(run: _Run, task: Task) -> tuple[Dataset, Dataset | None]:
    """Load the training data and the held-out data, if given, with the labels of the training data."""
    given = {name: run.given[name] for name in ("columns", "step_every", "missing") if name in run.given}
    table, say = table_options(**given), run.callbacks["progress"]
    if "front_end" in run.given:
        if table is not None:
            raise InputError(
                f"data {run.given['data']}: --columns, --step-every and --missing are for tables, not sounds"
            )
        return _load_sounds(run)
    dataset = load(run.given["data"], default_split="train", task=task, table=table, say=say)
    check_sizes(dataset, task, {})
    if "held_out_data" not in run.given:
        return dataset, None
    other = run.given["held_out_data"]
    labels = dataset.labels or None
    return dataset, load(other, default_split="test", task=task, table=table, labels=labels, say=say)


def _load_sounds(run: _Run) -> tuple[Dataset, Dataset | None]:
    """Load folders of WAV files as features."""
    front_end, say = run.given["front_end"], run.callbacks["progress"]
    dataset = load_features(run.given["data"], front_end, say=say)
    check_sizes(dataset, "classification", {})
    other = run.given.get("held_out_data")
    return dataset, None if other is None else load_features(other, front_end, labels=dataset.labels, say=say)


def _train_text(run: _Run) -> tuple[Any, TrainingReport]:
    given = run.given
    corpus = load_corpus(
        given["data"],
        validation=given.get("held_out_data"),
        kind=given.get("vocabulary", "character"),
        size=given.get("vocabulary_size"),
        max_size=given.get("max_vocabulary"),
        lines=given.get("lines", False),
    )
    chosen = run.chosen(LanguageModelConfig)
    if given.get("tied"):
        chosen.setdefault("embedding", chosen.get("projection") or chosen.get("hidden", LanguageModelConfig.hidden))
    words = corpus.vocabulary
    config = LanguageModelConfig(**chosen | {"tokens": len(words), "vocabulary": words.tokens, "text": words.text})
    most = given.get("max_bytes")
    check_device_bytes(config, parse_amount("--max-bytes", most) if isinstance(most, str) else most)
    options = LanguageOptions(**run.chosen(LanguageOptions))
    run.say(
        f"training on {corpus.name}: {len(corpus.train):,} tokens, {len(words):,} in the vocabulary, seed {run.seed}"
    )
    watched = run.watched(LanguageModel)
    return train_language_model(corpus.train, corpus.held_out, config, options=options, data=corpus.name, **watched)
