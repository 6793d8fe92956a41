"""The default of ``-o`` of the commands that write one file: which name it is, and that it overwrites nothing."""

from pathlib import Path

from lstm_edge.cli._frame import progress
from lstm_edge.refusals import is_factory
from lstm_edge_runtime.errors import OutputError

__all__ = ["adopted_name", "exported_name", "quantized_name", "take_default", "trained_name"]


def take_default(output: Path | None, default: Path) -> None:
    """Print the name of the file to write where ``-o`` does not name it; called when nothing else is refused.

    Args:
        output: as ``-o`` names it; None: not given. Such a file is overwritten if it exists.
        default: the name without ``-o``.

    Raises:
        OutputError: the default exists: nobody asked to overwrite it.
    """
    if output is not None:
        return
    if default.exists():
        raise OutputError(
            f"{default}: exists already, and only a file that -o names is overwritten: give -o {default}, or another "
            "name"
        )
    progress(f"output: {default}")


def exported_name(source: str, scheme: str | None) -> Path:
    """Return what ``export`` writes by default: ``model.onnx``, or with a scheme ``model.int8.onnx``.

    Args:
        source: a path, beside which the file goes, or ``package.module:factory``, whose file is in the current folder.
        scheme: the quantization scheme; None: float32 without quantization.
    """
    beside = Path(source.rpartition(":")[2] if is_factory(source) else source)
    stem = beside.name if is_factory(source) else beside.stem
    # A source without a name is refused by what reads it, as is a model in place of a checkpoint.
    name = beside.parent / f"{stem or 'model'}{f'.{scheme}' if scheme else ''}.onnx"
    return name if name != Path(source) else beside.parent / f"{stem}.exported.onnx"


def adopted_name(source: Path) -> Path:
    """Return what ``adopt`` writes by default: ``model.adopted.onnx`` beside ``model.onnx``."""
    return source.parent / f"{source.stem}.adopted.onnx"


def quantized_name(source: Path, scheme: str) -> Path:
    """Return what ``quantize`` writes by default: ``model.int8.onnx`` beside ``model.onnx``."""
    return source.parent / f"{source.stem}.{scheme}.onnx"


def trained_name(task: str) -> Path:
    """Return what ``train`` and ``select`` write by default: ``classification.safetensors`` in the current folder."""
    return Path(f"{task}.safetensors")
