"""Ready-made models around ``lstm_edge.layers.LSTM``: one for each task of ``lstm-edge train``."""

from lstm_edge.training.models.classifier import ClassifierConfig, SequenceClassifier
from lstm_edge.training.models.forecaster import ForecasterConfig, SequenceForecaster
from lstm_edge.training.models.language import LanguageModel, LanguageModelConfig
from lstm_edge.training.models.recurrent import RecurrentConfig, SequenceModel, set_forget_bias
from lstm_edge.training.models.tagger import SequenceTagger, TaggerConfig

__all__ = [
    "ClassifierConfig",
    "ForecasterConfig",
    "LanguageModel",
    "LanguageModelConfig",
    "RecurrentConfig",
    "SequenceClassifier",
    "SequenceForecaster",
    "SequenceModel",
    "SequenceTagger",
    "TaggerConfig",
    "set_forget_bias",
]
