"""Models of sequences: a class per sequence, a class per step, a number or a vector per sequence.

B sequences of T steps, F features, C classes, K targets, D directions, P the size of a layer's output.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from lstm_edge.data import Dataset
from lstm_edge.training.models.recurrent import (
    LARGEST_SIZE,
    RecurrentConfig,
    check_flag,
    check_integer,
    check_names,
    check_number,
    make_lstm,
)
from lstm_edge_runtime.errors import InputError

__all__ = [
    "ClassConfig",
    "ClassifierConfig",
    "ForecasterConfig",
    "SequenceClassifier",
    "SequenceConfig",
    "SequenceForecaster",
    "SequenceModel",
    "SequenceTagger",
    "TaggerConfig",
]


@dataclass(frozen=True, kw_only=True)
class SequenceConfig(RecurrentConfig):
    """Architecture and training options of a model of sequences.

    ``features``: 1 to 16384. With ``bidirectional`` a step also depends on later steps, so the model cannot be
        streamed.
    ``input_noise``: standard deviation of the Gaussian noise that training adds to the standardized inputs. For the
    other fields see ``RecurrentConfig``.

    Raises:
        InputError: a value has the wrong type or is out of its range.
    """

    # Field with the size of the outputs, and its smallest value.
    outputs_are: ClassVar[Literal["classes", "targets"]]
    fewest_outputs: ClassVar[int] = 1

    features: int
    bidirectional: bool = False
    input_noise: float = 0.0

    def __post_init__(self) -> None:
        check_integer(self.noun, "features", self.features, 1, LARGEST_SIZE)
        check_integer(self.noun, self.outputs_are, self.outputs, self.fewest_outputs, LARGEST_SIZE)
        super().__post_init__()
        check_flag(self.noun, "bidirectional", self.bidirectional)
        check_number(self.noun, "input_noise", self.input_noise, below=math.inf)

    @property
    def outputs(self) -> int:
        """Number of outputs of the last layer."""
        size: int = getattr(self, self.outputs_are)
        return size

    @classmethod
    def for_data(cls, dataset: Dataset, **values: Any) -> Self:
        """Return the configuration of a model of a data set; ``values`` are further fields, or replace its sizes.

        Raises:
            InputError: a value has the wrong type or is out of its range.
        """
        known: dict[str, Any] = {"features": dataset.features, cls.outputs_are: getattr(dataset, cls.outputs_are)}
        if cls.outputs_are == "classes":
            known["labels"] = dataset.labels
        return cls(**(known | values))


@dataclass(frozen=True, kw_only=True)
class ClassConfig(SequenceConfig):
    """Fields of classifier and tagger: ``classes``, 2 to 16384, and ``labels``, one name per class, or empty."""

    outputs_are = "classes"
    fewest_outputs = 2

    classes: int
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_names(self.noun, "labels", self.labels, self.classes, each="class")


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig(ClassConfig):
    """The configuration of a ``SequenceClassifier`` (``lstm_edge.training.tasks`` explains the noise of 1.2)."""

    noun: ClassVar[str] = "classifier"

    input_noise: float = 1.2


@dataclass(frozen=True, kw_only=True)
class TaggerConfig(ClassConfig):
    """The configuration of a ``SequenceTagger``."""

    noun: ClassVar[str] = "tagger"


@dataclass(frozen=True, kw_only=True)
class ForecasterConfig(SequenceConfig):
    """The configuration of a ``SequenceForecaster``: ``targets``, 1 to 16384."""

    noun: ClassVar[str] = "forecaster"
    outputs_are = "targets"

    targets: int = 1


class SequenceModel(nn.Module):
    """Base of classifier, tagger and forecaster: standardization, recurrent layers, one linear layer.

    The standardization ``(x - mean) / std`` is part of the model, so that the exported graph takes raw inputs.
    ``mean`` and ``std`` are float32 buffers ``[features]``, 0 and 1 until ``set_standardization`` is called.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: SequenceConfig) -> None:
        super().__init__()
        self.noun = config.noun
        self.trained_for = config.trained_for
        self.features = config.features
        self.bidirectional = config.bidirectional
        # See TrainingOptions.pack.
        self.pack = True
        self.input_noise = config.input_noise
        self.register_buffer("mean", torch.zeros(config.features))
        self.register_buffer("std", torch.ones(config.features))
        self.lstm = make_lstm(config.features, config, bidirectional=config.bidirectional)
        self.dropout = nn.Dropout(config.dropout)
        self.linear = nn.Linear(
            (config.projection or config.hidden) * (2 if config.bidirectional else 1), config.outputs
        )

    def set_standardization(self, mean: Tensor, std: Tensor) -> None:
        """Set the statistics of the inputs, each ``[features]``; a constant feature (std 0) gets std 1.

        Raises:
            InputError: a shape is not ``[features]``, or a value is negative (std), NaN or infinite.
        """
        self._copy_statistics(("mean", self.mean, mean), ("std", self.std, std))

    def _copy_statistics(self, mean: tuple[str, Tensor, Tensor], std: tuple[str, Tensor, Tensor]) -> None:
        for name, buffer, value in (mean, std):
            if value.shape != buffer.shape:
                raise InputError(f"{self.noun}: {name} has shape {list(value.shape)}, expected {list(buffer.shape)}")
            if not bool(torch.isfinite(value).all()):
                raise InputError(f"{self.noun}: {name} holds NaN or infinity, expected finite numbers")
        if bool((std[2] < 0).any()):
            raise InputError(f"{self.noun}: {std[0]} holds a negative number, expected 0 or more")
        mean[1].copy_(mean[2])
        std[1].copy_(torch.where(std[2] > 0, std[2], torch.ones_like(std[2])))

    def standardize(self, x: Tensor) -> Tensor:
        """Return ``(x - mean) / std``, plus the input noise during training; float32 ``[B, T, F]``."""
        x = (x - self.mean) / self.std
        if self.training and self.input_noise > 0:
            x = x + self.input_noise * torch.randn_like(x)
        return x

    def run_steps(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Return the last layer's output of every step, float32 ``[B, T, D * P]``; undefined for padding."""
        if self._trains_padded(lengths):
            return self._run_padded(x, lengths)
        y, _ = self.lstm(self.standardize(x), lengths=lengths)
        steps: Tensor = y
        return steps

    def run_to_end(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Return the last layer's final output of each row, float32 ``[B, D * P]``.

        The output is the layer's final state, not a gathered output, so that a chunk continues the previous chunk.
        """
        if self._trains_padded(lengths):
            # Only in training: an export must keep the layer's final state, and lengths may be 0.
            assert lengths is not None
            return self._run_padded(x, lengths)[torch.arange(len(x), device=x.device), lengths - 1]
        _, (hidden, _) = self.lstm(self.standardize(x), lengths=lengths)
        # hidden is [layers * directions, B, P], the last layer's directions last.
        last: Tensor = torch.cat((hidden[-2], hidden[-1]), dim=-1) if self.bidirectional else hidden[-1]
        return last

    def _trains_padded(self, lengths: Tensor | None) -> bool:
        """Return whether the layers may also process the padding after a row, which no earlier step depends on."""
        return (
            lengths is not None
            and self.training
            and not self.pack
            and not self.bidirectional
            and self.lstm.peephole == "none"
        )

    def _run_padded(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        assert lengths is not None
        past = torch.arange(x.shape[1], device=x.device) >= lengths.unsqueeze(1)
        # A NaN in the padding would reach the gradients: 0 * NaN is NaN.
        y, _ = self.lstm(self.standardize(x.masked_fill(past.unsqueeze(-1), 0.0)))
        steps: Tensor = y
        return steps

    def describe_inputs(self) -> dict[str, Any]:
        """Return the entries of the model card about inputs, preprocessing and quantization-aware training."""
        return {
            "trained_for": self.trained_for,
            "preprocessing": (
                f"inside the graph: x is standardized to (x - mean) / std with {self.features} means and "
                "standard deviations of the training data",
            ),
            "inputs": [f"x: float32[batch, time, {self.features}]"],
        }


class SequenceClassifier(SequenceModel):
    """One class for a whole sequence: standardize, LSTM, last valid output of the last layer, linear."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__(config)
        self.config = config

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Classify a batch of sequences.

        Args:
            x: float32 ``[B, T, F]``, raw features.
            lengths: int64 ``[B]``, valid steps of each row; None means T for all.

        Returns:
            Logits, float32 ``[B, C]``.
        """
        logits: Tensor = self.linear(self.dropout(self.run_to_end(x, lengths)))
        return logits

    def describe_model(self) -> dict[str, Any]:
        """Return what the model card says of this model: task, labels, preprocessing, inputs, outputs."""
        description = {"task": "classification", "labels": self.config.labels or None, "outputs": ["logits"]}
        return description | self.describe_inputs()


class SequenceTagger(SequenceModel):
    """One class for every step: standardize, LSTM, linear."""

    def __init__(self, config: TaggerConfig) -> None:
        super().__init__(config)
        self.config = config

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Label every step of a batch of sequences.

        Args:
            x: float32 ``[B, T, F]``, raw features.
            lengths: int64 ``[B]``, valid steps of each row; None means T for all.

        Returns:
            Logits, float32 ``[B, T, C]``; undefined after a row's length.
        """
        logits: Tensor = self.linear(self.dropout(self.run_steps(x, lengths)))
        return logits

    def describe_model(self) -> dict[str, Any]:
        """Return what the model card says of this model: task, labels, preprocessing, inputs, outputs."""
        description = {"task": "tagging", "labels": self.config.labels or None, "outputs": ["logits"]}
        return description | self.describe_inputs()


class SequenceForecaster(SequenceModel):
    """A vector for a whole sequence: standardize, LSTM, last valid output of the last layer, linear, rescale.

    The last step, ``y * target_std + target_mean``, is part of the model: the outputs of the exported graph have the
    units of the targets. Both are float32 buffers ``[targets]``, 1 and 0 until ``set_target_scale`` is called.
    """

    target_mean: Tensor
    target_std: Tensor

    def __init__(self, config: ForecasterConfig) -> None:
        super().__init__(config)
        self.config = config
        self.register_buffer("target_mean", torch.zeros(config.targets))
        self.register_buffer("target_std", torch.ones(config.targets))

    def set_target_scale(self, mean: Tensor, std: Tensor) -> None:
        """Set the statistics of the targets, each ``[targets]``; a constant target (std 0) gets std 1.

        Raises:
            InputError: a shape is not ``[targets]``, or a value is negative (std), NaN or infinite.
        """
        self._copy_statistics(("target_mean", self.target_mean, mean), ("target_std", self.target_std, std))

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Forecast for a batch of sequences.

        Args:
            x: float32 ``[B, T, F]``, raw features.
            lengths: int64 ``[B]``, valid steps of each row; None means T for all.

        Returns:
            The forecasts in the units of the targets, float32 ``[B, K]``.
        """
        standard: Tensor = self.linear(self.dropout(self.run_to_end(x, lengths)))
        return standard * self.target_std + self.target_mean

    def describe_model(self) -> dict[str, Any]:
        """Return what the model card says of this model: task, preprocessing, inputs, outputs."""
        return {"task": "forecast", "outputs": ["y"]} | self.describe_inputs()
