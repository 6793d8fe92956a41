"""ONNX graphs read, edited, folded and written: the only place for ONNX surgery.

May import onnx, onnx_ir, onnxruntime, NumPy, ``functions`` and the runtime; never torch.
"""
