"""Training of the ready-made models: one loop, one table of tasks."""

from lstm_edge.data.holdout import hold_out, hold_out_sequences
from lstm_edge.training.distillation import Distillation, distillation_loss
from lstm_edge.training.language import train_language_model
from lstm_edge.training.options import LanguageOptions, TrainingOptions
from lstm_edge.training.plot import plot_curves
from lstm_edge.training.record import Epoch, TrainingReport
from lstm_edge.training.state import Checkpoint
from lstm_edge.training.tasks import TASKS, train_classifier, train_forecaster, train_tagger

__all__ = [
    "TASKS",
    "Checkpoint",
    "Distillation",
    "Epoch",
    "LanguageOptions",
    "TrainingOptions",
    "TrainingReport",
    "distillation_loss",
    "hold_out",
    "hold_out_sequences",
    "plot_curves",
    "train_classifier",
    "train_forecaster",
    "train_language_model",
    "train_tagger",
]
