"""All code that makes or rewrites ONNX models; imports torch, onnx and the device runtime."""
