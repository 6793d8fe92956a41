"""Quantization-aware training: the forward pass of the device's int8 or int4 operators, straight-through gradients.

Inside ``quantized`` a model computes the outputs of its exported and quantized file (docs/operators.md, "The
arithmetic"), up to the last bits of sigmoid and tanh. Its parameters stay float32 and are trained and saved. The
gradient treats every rounding as the identity (the straight-through estimator: Bengio, Leonard, Courville, Estimating
or Propagating Gradients Through Stochastic Neurons for Conditional Computation, 2013). Scales come from the largest
magnitudes, so no value and no gradient is clipped.
"""

from lstm_edge.training.quantize_aware.layers import quantized
from lstm_edge.training.quantize_aware.scheme import parse_scheme

__all__ = ["parse_scheme", "quantized"]
