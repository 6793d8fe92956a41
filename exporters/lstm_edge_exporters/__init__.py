"""Everything that makes or rewrites an ONNX model; imports torch, onnx and the device runtime."""
