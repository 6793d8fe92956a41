"""Ready-made models around ``lstm_edge.layers.LSTM``: one for each task of ``lstm-edge train``."""

from lstm_edge.training.models.distilled import Distilled
from lstm_edge.training.models.language import LanguageModel, LanguageModelConfig
from lstm_edge.training.models.recurrent import RecurrentConfig, set_forget_bias
from lstm_edge.training.models.sequence import (
    ClassifierConfig,
    ForecasterConfig,
    SequenceClassifier,
    SequenceConfig,
    SequenceForecaster,
    SequenceModel,
    SequenceTagger,
    TaggerConfig,
)

__all__ = [
    "ClassifierConfig",
    "Distilled",
    "ForecasterConfig",
    "LanguageModel",
    "LanguageModelConfig",
    "RecurrentConfig",
    "SequenceClassifier",
    "SequenceConfig",
    "SequenceForecaster",
    "SequenceModel",
    "SequenceTagger",
    "TaggerConfig",
    "set_forget_bias",
]
