"""From an ``nn.Module`` to ONNX: the only package besides ``keras`` that may import torch."""
