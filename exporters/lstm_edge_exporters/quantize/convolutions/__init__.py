"""Convolutions with int8 weights and int8 activations of fixed, calibrated scales: ONNX's ``QLinearConv``.

* ``reading``: a ``Conv`` with what is folded into it, and the rule on shapes.
* ``statistics``: what calibration data say about its input and its result.
* ``rounding``: scales and integers.
* ``emit``: the nodes.
* ``choice``: which convolutions are taken, and why the others are left.
"""
