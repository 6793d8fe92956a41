"""Imports that may fail: a user's object named as ``package.module:name``, and packages of extras.

The current folder is on the path only while the user's code is imported or called, and it is the last entry: imports of
the user's module come from the standard library, then from installed packages, then from the current folder. Only the
named module is searched for in the current folder first, unless the standard library has a module of that name. So a
``json.py`` or ``numpy.py`` beside the user's data is never run because of its name.
"""

import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from lstm_edge_runtime.errors import LstmEdgeError, MissingExtraError, first_line

__all__ = ["current_folder_last", "extra_named", "import_object", "missing_extra"]

# Package -> the extra of lstm-edge that installs it.
EXTRA_OF = {
    "torch": "export",
    "onnx": "onnx",
    "onnxscript": "onnx",
    "onnx_ir": "onnx",
    "safetensors": "export",
    "onnxruntime": "cpu",
    "h5py": "keras",
    "sklearn": "train",
    "optuna": "train",
    "matplotlib": "train",
    "jinja2": "report",
    "psycopg": "postgresql",
    "sqlalchemy": "postgresql",
    "tokenizers": "text",
    "pyarrow": "parquet",
    "soundfile": "audio",
    "cryptography": "sign",
    "model_signing": "model-signing",
    "OpenSSL": "model-signing",
    "asyncssh": "deploy",
}


def import_object(source: str, error_class: type[LstmEdgeError], *, what: str, expected: str) -> Any:
    """Import ``package.module:name``; the module may be in the current folder.

    Args:
        source: the name.
        error_class: class of the error.
        what: name of the object in the message, such as ``metric a.b:c``.
        expected: the expected value, for the message.

    Raises:
        LstmEdgeError: ``error_class``, for any exception of the user's code; the message has its first line.
    """
    path, _, name = source.partition(":")
    try:
        with current_folder_last(path.partition(".")[0]):
            return getattr(importlib.import_module(path), name)
    except (Exception, SystemExit) as error:  # user code runs on import and may raise anything
        top = path.partition(".")[0]
        rename = f" ({top} is a module of the standard library: give yours another name)"
        raise error_class(
            f"{what}: cannot be imported ({type(error).__name__}: {first_line(error)}); expected {expected}"
            + rename * (top in sys.stdlib_module_names)
            + f". Leave .py out: {path.removesuffix('.py')}:{name}" * path.endswith(".py")
        ) from error


@contextmanager
def current_folder_last(named: str = "") -> Iterator[None]:
    """Let the user's code import modules of the current folder, with the lowest priority.

    Args:
        named: a top-level module named by the user, which is searched for in the current folder first.
    """
    folder = os.getcwd()
    # `python -m` and `python -c` already have the current folder, "", on the path.
    added = not {"", folder} & set(sys.path)
    finder = _InFolder(named, folder)
    if named and named not in sys.stdlib_module_names:
        sys.meta_path.insert(0, finder)
    if added:
        sys.path.append(folder)
    try:
        yield
    finally:
        if finder in sys.meta_path:
            sys.meta_path.remove(finder)
        if added and folder in sys.path:
            sys.path.remove(folder)


class _InFolder(MetaPathFinder):
    """Finds only one top-level module in one folder."""

    def __init__(self, name: str, folder: str) -> None:
        self._name, self._folder = name, folder

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._name or path is not None:
            return None
        found = PathFinder.find_spec(fullname, [self._folder], target)
        # A folder without __init__.py may be a data folder with the name of an installed package.
        return found if found is not None and found.loader is not None else None


@contextmanager
def extra_named(what: str) -> Iterator[None]:
    """Name the extra where ``what`` imports a package that is not installed.

    Raises:
        MissingExtraError: it does.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise missing_extra(error, what) from error


def missing_extra(error: ModuleNotFoundError, what: str = "this command") -> MissingExtraError:
    """Return the error that names the extra with the module that ``what`` could not import."""
    package = (error.name or "").split(".")[0]
    extra = EXTRA_OF.get(package)
    if extra is None:
        return MissingExtraError(f"the package {package!r} is not installed")
    return MissingExtraError(f"{what} needs {package!r}, which is not installed: pip install 'lstm-edge[{extra}]'")
