"""Training of the ready-made models."""

from lstm_edge.training.classification import Epoch, TrainingOptions, TrainingReport, train_classifier
from lstm_edge.training.holdout import hold_out

__all__ = ["Epoch", "TrainingOptions", "TrainingReport", "hold_out", "train_classifier"]
