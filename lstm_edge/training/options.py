"""Training options: one frozen dataclass for all tasks, and a variant with defaults for text."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from lstm_edge.data import Pad, Truncate
from lstm_edge.sparsity.densities import parse_densities
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.providers import MOST_THREADS

__all__ = ["LanguageOptions", "Loss", "Optimizer", "Precision", "Schedule", "TrainingOptions"]

Loss = Literal["cross-entropy", "mse", "mae"]
Optimizer = Literal["sgd", "adam", "adamw"]
Schedule = Literal["constant", "cosine", "step", "plateau"]
Granularity = Literal["epoch", "update"]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Training options. The defaults are those of ``train_classifier``; forecasting and text have other defaults.

    Attributes:
        epochs: largest number of epochs, and the length of the schedule.
        batch_size: sequences in a batch (for text: rows that are read in parallel).
        loss: ``cross-entropy`` for classes, ``mse`` or ``mae`` of the standardized targets for values.
        label_smoothing: share of the target probability that is spread over all classes, 0 or more and below 1.
        optimizer: ``adam``, ``adamw`` (decoupled weight decay), or ``sgd`` with ``momentum``.
        learning_rate: initial rate of the schedule, above 0 and at most 1.
        momentum: momentum of ``sgd``, 0 or more and below 1.
        weight_decay: weight decay of the matrices; biases and diagonal peepholes do not decay.
        schedule: ``constant``; ``cosine``, half a cosine down to 0; ``step``, multiply by ``step_factor`` every
            ``step_epochs``; ``plateau``, multiply by ``step_factor`` after ``step_epochs`` epochs without a lower
            held-out loss.
        schedule_by: whether ``cosine`` changes the rate at every ``epoch`` or every ``update``.
        warmup: share of the training, 0 or more and below 1, in which the rate rises linearly from 0; the cosine covers
            the rest.
        clip_norm: largest norm of the gradient; None: no clipping.
        forget_bias: initial bias of the forget gates.
        held_out: held-out share of the data, unless validation data is given.
        patience: epochs without a lower held-out loss after which training ends.
        max_minutes: training ends after this time, and the schedule follows the used share of it if that is larger than
            the share of the epochs. The result then depends on the machine's speed.
        max_updates: training ends after this number of updates in all, and the schedule follows in the same way.
        quantize_aware: the scheme that the forward pass simulates, such as ``int8``, ``int4:32``, ``int4:128`` or
            ``int4:32:zero`` (see ``lstm_edge.training.quantize_aware``); None trains in float32.
        sparse: final density of the recurrent layers' blocks, a number or a text for
            ``lstm_edge.sparsity.parse_densities``; None prunes nothing.
        sparse_begin, sparse_end: shares of the training at which pruning begins and ends; the masks are fixed after
            ``sparse_end``. Only epochs that end with the final density count for early stopping.
        sparse_diagonal: keep the blocks on the diagonals of the recurrent matrices before all others.
        threads: PyTorch's threads; None keeps PyTorch's setting.
        bucket: group sequences of similar lengths into batches (see ``lstm_edge.data.bucketed_batches``) instead of
            random ones.
        pack: run rows of different lengths as PyTorch's packed sequences. With False the standard cell in one direction
            also runs over the padding, which does not change the answers. That is 2.5 to 5 times faster (hidden 256 to
            16, batches of 16, one thread), because PyTorch's fused kernel does not support packed sequences. The other
            cells never pack.
        pad, truncate, max_length: see ``lstm_edge.data.collate``.

    Raises:
        InputError: a value is out of its range.
    """

    epochs: int = 80
    batch_size: int = 16
    loss: Loss = "cross-entropy"
    label_smoothing: float = 0.0
    optimizer: Optimizer = "adam"
    learning_rate: float = 3e-3
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Schedule = "cosine"
    schedule_by: Granularity = "epoch"
    warmup: float = 0.0
    step_epochs: int = 10
    step_factor: float = 0.5
    clip_norm: float | None = 1.0
    forget_bias: float = 1.0
    held_out: float = 0.1
    patience: int = 30
    max_minutes: float | None = None
    max_updates: int | None = None
    quantize_aware: str | None = None
    sparse: str | float | None = None
    sparse_begin: float = 0.0
    sparse_end: float = 0.3
    sparse_diagonal: bool = False
    threads: int | None = 1
    bucket: bool = False
    pack: bool = True
    pad: Pad = "post"
    truncate: Truncate = "post"
    max_length: int | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patience", "step_epochs", "threads", "max_length", "max_updates"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"training: {name} is {value}, expected 1 or more")
        _check("threads", self.threads, (self.threads or 1) <= MOST_THREADS, f"1 to {MOST_THREADS}")
        for name in ("label_smoothing", "momentum", "warmup"):
            _check(name, getattr(self, name), 0 <= getattr(self, name) < 1, "0 or more and below 1")
        for name in ("learning_rate", "step_factor"):
            _check(name, getattr(self, name), 0 < getattr(self, name) <= 1, "above 0 and at most 1")
        for name in ("clip_norm", "max_minutes"):
            value = getattr(self, name)
            if value is not None:
                _check(name, value, 0 < value < math.inf, "a finite number above 0")
        _check("weight_decay", self.weight_decay, 0 <= self.weight_decay < math.inf, "a finite number, 0 or more")
        _check("forget_bias", self.forget_bias, math.isfinite(self.forget_bias), "a finite number")
        choices = (("loss", Loss), ("optimizer", Optimizer), ("schedule", Schedule), ("schedule_by", Granularity))
        for name, kind in (*choices, ("pad", Pad), ("truncate", Truncate)):
            _check(name, getattr(self, name), getattr(self, name) in get_args(kind), ", ".join(get_args(kind)))
        if self.label_smoothing and self.loss != "cross-entropy":
            raise InputError(f"training: label_smoothing requires cross-entropy, got the loss {self.loss}")
        if self.quantize_aware is not None:
            from lstm_edge.training.quantize_aware.scheme import parse_scheme

            parse_scheme(self.quantize_aware)
        self._check_sparsity()

    def _check_sparsity(self) -> None:
        _check("sparse_begin", self.sparse_begin, 0 <= self.sparse_begin <= self.sparse_end, "0 to sparse_end")
        _check("sparse_end", self.sparse_end, self.sparse_end < 1, "below 1, because the masks are fixed at the end")
        if self.sparse is not None:
            parse_densities(self.sparse)
            return
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        for name in ("sparse_begin", "sparse_end", "sparse_diagonal"):
            if getattr(self, name) != defaults[name]:
                raise InputError(f"training: {name} is for sparse layers; give a density (sparse), or leave it out")

    def to_json(self) -> dict[str, Any]:
        """Return the options as JSON values; the scheme's text has its block, and densities have one form."""
        values = dataclasses.asdict(self)
        if self.quantize_aware is not None:
            from lstm_edge.training.quantize_aware.scheme import parse_scheme

            values["quantize_aware"] = parse_scheme(self.quantize_aware).text
        if self.sparse is None:
            # As versions without these options wrote them, so that their unfinished trainings can be resumed.
            for name in ("sparse", "sparse_begin", "sparse_end", "sparse_diagonal"):
                del values[name]
        else:
            values["sparse"] = parse_densities(self.sparse).text
        return values


@dataclass(frozen=True, kw_only=True)
class LanguageOptions(TrainingOptions):
    """Training options of a language model.

    ``window``: length of truncated back-propagation, in tokens; the state is carried from one window to the next.
    ``reset_probability``: probability, 0 to 1, that a row is reset to the initial state before a window; with 0 the
    state is carried through the whole epoch. ``held_out``, ``bucket``, ``pack`` and the padding options have no effect:
    the held-out text is given, and all windows have the same length. ``precision``: arithmetic of the forward and the
    backward pass; with ``bfloat16`` the products are those of ``torch.autocast`` (Micikevicius et al., Mixed Precision
    Training, 2018; bfloat16 needs no scaling of the loss), while weights, optimizer, loss and held-out loss stay
    float32. Processors with bfloat16 instructions train about twice as fast.
    """

    epochs: int = 10
    batch_size: int = 64
    optimizer: Optimizer = "adamw"
    weight_decay: float = 0.01
    schedule_by: Granularity = "update"
    threads: int | None = None
    window: int = 100
    reset_probability: float = 0.0
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.window < 1:
            raise InputError(f"training: window is {self.window}, expected 1 or more")
        _check("reset_probability", self.reset_probability, 0 <= self.reset_probability <= 1, "a share from 0 to 1")
        _check("precision", self.precision, self.precision in get_args(Precision), ", ".join(get_args(Precision)))
        if self.precision != "float32" and self.quantize_aware is not None:
            raise InputError(
                f"training: precision is {self.precision}, but quantize_aware needs float32: bfloat16 rounds the "
                "integers that it simulates"
            )

    def to_json(self) -> dict[str, Any]:
        """Return the options as JSON values; ``precision`` only where it is not float32."""
        values = super().to_json()
        if self.precision == "float32":
            # As versions without this option wrote them, so that their unfinished trainings can be resumed.
            del values["precision"]
        return values


def _check(name: str, value: Any, holds: bool, expected: str) -> None:
    if not holds:
        raise InputError(f"training: {name} is {value}, expected {expected}")
