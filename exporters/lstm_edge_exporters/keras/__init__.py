"""Keras files: a ``.keras`` or legacy ``.h5`` file becomes a torch module that says what Keras says."""

from lstm_edge_exporters.keras.model import KerasModel, load_keras

__all__ = ["KerasModel", "load_keras"]
