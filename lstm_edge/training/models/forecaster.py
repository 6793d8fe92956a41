"""The forecaster: a number or a vector for a whole sequence."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from lstm_edge.training.models.recurrent import (
    LARGEST_SIZE,
    RecurrentConfig,
    SequenceModel,
    check_flag,
    check_integer,
    check_number,
)

__all__ = ["ForecasterConfig", "SequenceForecaster"]


@dataclass(frozen=True, kw_only=True)
class ForecasterConfig(RecurrentConfig):
    """Everything that fixes the shape and the training behaviour of a ``SequenceForecaster``.

    ``features``, ``targets``: sizes, from 1 to 16384. ``input_noise``: standard deviation of the Gaussian noise that
    training adds to the standardized inputs. The rest: ``RecurrentConfig``.

    Raises:
        InputError: a value has the wrong type or is out of its range.
    """

    noun: ClassVar[str] = "forecaster"

    features: int
    targets: int = 1
    bidirectional: bool = False
    input_noise: float = 0.0

    def __post_init__(self) -> None:
        check_integer(self.noun, "features", self.features, 1, LARGEST_SIZE)
        check_integer(self.noun, "targets", self.targets, 1, LARGEST_SIZE)
        super().__post_init__()
        check_flag(self.noun, "bidirectional", self.bidirectional)
        check_number(self.noun, "input_noise", self.input_noise, below=math.inf)


class SequenceForecaster(SequenceModel):
    """A vector for a whole sequence: standardize, LSTM, last valid output of the last layer, linear, back to units.

    The last step, ``y * target_std + target_mean``, is part of the model: the exported graph answers in the targets'
    own units. Both are float32 buffers ``[targets]``, 1 and 0 until ``set_target_scale`` is called.
    """

    target_mean: Tensor
    target_std: Tensor

    def __init__(self, config: ForecasterConfig) -> None:
        super().__init__(
            config,
            features=config.features,
            outputs=config.targets,
            bidirectional=config.bidirectional,
            input_noise=config.input_noise,
        )
        self.config = config
        self.register_buffer("target_mean", torch.zeros(config.targets))
        self.register_buffer("target_std", torch.ones(config.targets))

    def set_target_scale(self, mean: Tensor, std: Tensor) -> None:
        """Set the statistics of the targets, each ``[targets]``; a target that never varies (std 0) gets std 1.

        Raises:
            InputError: a shape is not ``[targets]``, or a value is negative (std), NaN or infinite.
        """
        self._copy_statistics(("target_mean", self.target_mean, mean), ("target_std", self.target_std, std))

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Forecast for a batch of sequences; B sequences of T steps, F features, K targets.

        Args:
            x: float32 ``[B, T, F]``, raw features.
            lengths: int64 ``[B]``, valid steps of each row; None means T for all.

        Returns:
            The targets in their own units, float32 ``[B, K]``.
        """
        standard: Tensor = self.linear(self.dropout(self.run_to_end(x, lengths)))
        return standard * self.target_std + self.target_mean

    def describe_model(self) -> dict[str, Any]:
        """Return what the model card says of this model: task, preprocessing, inputs, outputs."""
        return {"task": "forecast", "outputs": ["y"]} | self.describe_inputs()
