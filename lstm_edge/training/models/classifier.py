"""The classifier: one class for a whole sequence."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from lstm_edge.training.models.recurrent import (
    LARGEST_SIZE,
    RecurrentConfig,
    SequenceModel,
    check_flag,
    check_integer,
    check_names,
    check_number,
)

__all__ = ["ClassifierConfig", "SequenceClassifier"]


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig(RecurrentConfig):
    """Everything that fixes the shape and the training behaviour of a ``SequenceClassifier``.

    ``features``, ``classes``: sizes, from 1 (classes from 2) to 16384. ``input_noise``: standard deviation of the
    Gaussian noise that training adds to the standardized inputs (why 1.2: see ``lstm_edge.training.classification``).
    ``labels``: one name for each class, or none. The rest: ``RecurrentConfig``.

    Raises:
        InputError: a value has the wrong type or is out of its range.
    """

    noun: ClassVar[str] = "classifier"

    features: int
    classes: int
    bidirectional: bool = False
    input_noise: float = 1.2
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_integer(self.noun, "features", self.features, 1, LARGEST_SIZE)
        check_integer(self.noun, "classes", self.classes, 2, LARGEST_SIZE)
        super().__post_init__()
        check_flag(self.noun, "bidirectional", self.bidirectional)
        check_number(self.noun, "input_noise", self.input_noise, below=math.inf)
        check_names(self.noun, "labels", self.labels, self.classes, each="class")


class SequenceClassifier(SequenceModel):
    """One class for a whole sequence: standardize, LSTM, last valid output of the last layer, linear."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__(
            config,
            features=config.features,
            outputs=config.classes,
            bidirectional=config.bidirectional,
            input_noise=config.input_noise,
        )
        self.config = config

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Classify a batch of sequences; B sequences of T steps, F features, C classes.

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
