"""Build hook: compile the kernels and the C library into the wheel, which is then tagged for the platform.

Both need a C++ compiler, the C library also CMake. The C library contains the kernels, so a wheel has one of the two.
An editable install gets the kernels.

Environment variables: ``CXX`` is the compiler. ``LSTM_EDGE_KERNELS=0`` leaves both out, ``LSTM_EDGE_C_LIBRARY=0`` the C
library; with ``=1`` a failure to compile them is an error. ``LSTM_EDGE_TARGET`` (the compiler's target) and
``LSTM_EDGE_PLATFORM`` (the wheel's platform tag) cross-compile. ``LSTM_EDGE_C_FOLDER`` is CMake's folder, kept for the
next build. ``make wheels`` sets them.
"""

import importlib.util
import os
import shlex
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

KERNELS = Path("lstm_edge_runtime", "kernels")
# Where the wheel has the C library: lstm_edge_runtime.c_library looks there.
C_LIBRARY = Path("lstm_edge_runtime", "c")


class KernelsHook(BuildHookInterface):  # type: ignore[type-arg]  # the parameter is internal to hatchling
    """Adds ``liblstm_edge_kernels.so`` and the C library to a wheel; an editable install gets the kernels in place."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the kernels and the C library; ``version`` is ``"editable"`` or ``"standard"``.

        Without a compiler, or if it fails, the wheel is tagged for any platform, and a warning is shown.

        Raises:
            ValueError: LSTM_EDGE_KERNELS or LSTM_EDGE_C_LIBRARY has another value than 0 and 1.
            RuntimeError: LSTM_EDGE_KERNELS or LSTM_EDGE_C_LIBRARY is 1, and that does not compile.
        """
        # TemporaryDirectory also removes the folder if the build fails and finalize is never called.
        self.folder = tempfile.TemporaryDirectory(prefix="lstm-edge-")
        kernels, library = _wanted("LSTM_EDGE_KERNELS"), _wanted("LSTM_EDGE_C_LIBRARY")
        if kernels == "0" or not self._add_kernels(version, build_data, kernels):
            if library == "1":
                raise RuntimeError("LSTM_EDGE_C_LIBRARY=1, and the wheel has no kernels: it is for any platform")
            return
        if version != "editable" and library != "0" and self._add_c_library(build_data, library):
            added = build_data["force_include"]
            build_data["force_include"] = {path: name for path, name in added.items() if Path(name).parent != KERNELS}

    def _add_kernels(self, version: str, build_data: dict[str, Any], wanted: str) -> bool:
        """Compile the kernels and add them; return whether they are there."""
        kernels = Path(self.root, KERNELS)
        build = _load(kernels / "build.py", "lstm_edge_kernels_build")
        output = kernels if version == "editable" else Path(self.folder.name)
        try:
            made = build.build(_compiler(), output, target=os.environ.get("LSTM_EDGE_TARGET"))
        except (build.BuildError, FileNotFoundError) as error:
            if wanted == "1":
                raise RuntimeError(f"LSTM_EDGE_KERNELS=1, and the kernels do not compile: {error}") from error
            self.app.display_warning(
                "lstm-edge-runtime is installed without its kernels, everything runs on the portable function bodies: "
                f"{_reason(error)}"
            )
            return False
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{os.environ.get('LSTM_EDGE_PLATFORM') or _platform()}"
        if version != "editable":
            build_data["force_include"][str(made)] = str(KERNELS / build.FILE_NAME)
        return True

    def _add_c_library(self, build_data: dict[str, Any], wanted: str) -> bool:
        """Compile the C library and add what CMake installs except the systemd unit; return whether it is there."""
        build = _load(Path(self.root, "c", "build.py"), "lstm_edge_c_build")
        work = Path(self.folder.name)
        try:
            prefix = build.build(
                work / "c",
                folder=Path(os.environ.get("LSTM_EDGE_C_FOLDER") or work / "make"),
                compiler=_compiler(),
                target=os.environ.get("LSTM_EDGE_TARGET"),
                define=build.WHEEL,
                jobs=len(os.sched_getaffinity(0)),
            )
        except build.BuildError as error:
            if wanted == "1":
                raise RuntimeError(f"LSTM_EDGE_C_LIBRARY=1, and the C library does not compile: {error}") from error
            self.app.display_warning(f"lstm-edge-runtime is installed without its C library: {_reason(error)}")
            return False
        for path in sorted(prefix.rglob("*")):
            inside = path.relative_to(prefix)
            if path.is_file() and "systemd" not in inside.parts:
                build_data["force_include"][str(path)] = str(C_LIBRARY / inside)
        return True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the folder of the compiled kernels."""
        del version, build_data, artifact_path  # hatchling passes them by these names
        self.folder.cleanup()


def _wanted(name: str) -> str:
    """Return the value of an environment variable: "0", "1", or "" if it is not set."""
    value = os.environ.get(name, "")
    if value not in ("", "0", "1"):
        raise ValueError(f"{name} must be 0 or 1, got {value!r}")
    return value


def _reason(error: Exception) -> str:
    """Return the line of a failure to show."""
    lines = str(error).splitlines()
    # The compiler's message is more useful than its command, which is the first line.
    return next((line for line in lines if "error:" in line), lines[0])


def _compiler() -> list[str]:
    """Return the command of ``CXX``, or of the first compiler that is installed.

    Raises:
        FileNotFoundError: there is no compiler, ``CXX`` cannot be parsed, or the system is not Linux.
    """
    if not sys.platform.startswith("linux"):
        raise FileNotFoundError(f"kernels are built on Linux only, got {sys.platform}")
    named = os.environ.get("CXX")
    if named:
        try:
            return shlex.split(named)
        except ValueError as error:
            raise FileNotFoundError(f"CXX is not a command ({error}): {named}") from error
    for command in ("c++", "g++", "clang++"):
        if shutil.which(command):
            return [command]
    raise FileNotFoundError("no C++ compiler found (c++, g++, clang++): install one, or set CXX")


def _platform() -> str:
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")


def _load(path: Path, name: str) -> Any:
    """Import the module at a path, which is not installed yet."""
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot import {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
