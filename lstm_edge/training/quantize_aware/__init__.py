"""Quantization-aware training: the forward pass of the device's int8 or int4 operators, straight-through gradients.

Inside ``quantized`` a model answers as its exported and quantized file will (docs/operators.md, "The arithmetic"), up
to the last bits of sigmoid and tanh; its parameters stay float32 and are what is trained and saved. The gradient takes
every rounding as the identity (the straight-through estimator: Bengio, Leonard, Courville, Estimating or Propagating
Gradients Through Stochastic Neurons for Conditional Computation, 2013). Scales come from the largest magnitudes, so
nothing is clipped and no gradient is cut off.
"""

from lstm_edge.training.quantize_aware.layers import quantized
from lstm_edge.training.quantize_aware.scheme import parse_scheme

__all__ = ["parse_scheme", "quantized"]
