"""Packages that a device may lack: which extra, or which distribution, installs them."""

import importlib
import importlib.util
from types import ModuleType

from lstm_edge_runtime.errors import MissingExtraError

__all__ = ["has_toolkit", "missing_extra", "toolkit_module"]

# Package -> the extra of lstm-edge-runtime that installs it.
EXTRA_OF = {"onnxruntime": "cpu", "tokenizers": "text", "cryptography": "sign"}


def missing_extra(error: ModuleNotFoundError, what: str = "this command") -> MissingExtraError:
    """Return the error that names the extra with the module that ``what`` could not import."""
    package = (error.name or "").split(".")[0]
    extra = EXTRA_OF.get(package)
    if extra is None:
        return MissingExtraError(f"the package {package!r} is not installed")
    return MissingExtraError(
        f"{what} needs {package!r}, which is not installed: pip install 'lstm-edge-runtime[{extra}]'"
    )


def has_toolkit() -> bool:
    """Return whether the distribution lstm-edge is installed beside this one."""
    return importlib.util.find_spec("lstm_edge") is not None


def toolkit_module(name: str, what: str, extra: str = "") -> ModuleType:
    """Import a module of lstm-edge, which a device may lack; the runtime imports it nowhere else.

    Args:
        name: the module, such as ``"lstm_edge.cli"``.
        what: what needs it, for the message.
        extra: the extra of lstm-edge that ``what`` also needs, or an empty text.

    Raises:
        MissingExtraError: lstm-edge is not installed; the message names it with the extra.
    """
    if not has_toolkit():
        wanted = f"'lstm-edge[{extra}]'" if extra else "lstm-edge"
        raise MissingExtraError(f"{what} needs lstm-edge, which is not installed: pip install {wanted}")
    return importlib.import_module(name)
