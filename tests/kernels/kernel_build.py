"""The build script, and when a library that lies in the package may be tested."""

import importlib.util
import shutil
from pathlib import Path

from lstm_edge_runtime.library import PACKAGED

__all__ = ["SOURCES", "compiler", "is_current", "load_build"]

SOURCES = PACKAGED.parent


def load_build():
    """The build script as a module; the folder is no package."""
    spec = importlib.util.spec_from_file_location("lstm_edge_kernels_build", SOURCES / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compiler() -> list[str] | None:
    """The C++ compiler of this machine, if there is one."""
    return next(([name] for name in ("c++", "g++", "clang++") if shutil.which(name)), None)


def is_current(path: Path) -> bool:
    """Whether a library is newer than every source."""
    sources = [*SOURCES.glob("*.cpp"), *SOURCES.glob("*.h")]
    return path.exists() and path.stat().st_mtime >= max(source.stat().st_mtime for source in sources)
