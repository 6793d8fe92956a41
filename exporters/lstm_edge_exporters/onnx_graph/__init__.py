"""Reading and rewriting ONNX graphs: the only place for ONNX surgery. Imports onnx and NumPy, never torch."""
