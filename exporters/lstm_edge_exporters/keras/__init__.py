"""Keras files: a ``.keras`` or legacy ``.h5`` file becomes a torch module with the same answers as Keras."""

from lstm_edge_exporters.keras.model import KerasModel, load_keras

__all__ = ["KerasModel", "load_keras"]
