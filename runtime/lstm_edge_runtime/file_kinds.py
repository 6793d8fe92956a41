"""A checkpoint or an array where a model is expected: the sentence says what it is and which command takes it."""

import shlex

from lstm_edge_runtime.checkpoint_header import is_arrays, is_keras, is_pytorch, is_safetensors
from lstm_edge_runtime.errors import ArtifactError

__all__ = ["check_kind"]


def check_kind(data: bytes, path: str) -> None:
    """Refuse a checkpoint or an array that is given as a model.

    Args:
        data: the whole file.
        path: of the file; messages start with it.

    Raises:
        ArtifactError: it is a ``.safetensors`` file, one of torch.save, one of Keras, or an array of NumPy.
    """
    if is_arrays(data):
        raise ArtifactError(
            f"{path}: this is an array of NumPy, and an .onnx file was expected: the model comes first, as in "
            "lstm-edge run MODEL.onnx INPUT.npy"
        )
    if is_safetensors(data[:9], len(data)):
        what, source = "a .safetensors checkpoint", shlex.quote(path)
    elif is_keras(data):
        what, source = "a Keras file", shlex.quote(path)
    elif is_pytorch(data):
        what, source = "a PyTorch checkpoint", f"package.module:factory --weights {shlex.quote(path)}"
    else:
        return
    raise ArtifactError(
        f"{path}: this is {what}, and an .onnx file was expected: lstm-edge export {source} -o model.onnx makes one"
    )
