"""The build scripts, which belong to no package."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

__all__ = ["load_script"]

FOLDER = Path(__file__).resolve().parents[2] / ".ci"


def load_script(name: str, folder: Path = FOLDER) -> ModuleType:
    """Import ``NAME.py`` of a folder, .ci by default, with the scripts beside it."""
    spec = importlib.util.spec_from_file_location(f"lstm_edge_{name}", folder / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(folder))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(folder))
    return module
