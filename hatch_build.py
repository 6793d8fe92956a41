"""Build hook: compile the kernels into the wheel and tag the wheel for the platform, if there is a C++ compiler.

Environment variables: ``CXX`` is the compiler. ``LSTM_EDGE_KERNELS=0`` leaves the kernels out; with ``=1`` a failure to
compile them is an error. ``LSTM_EDGE_TARGET`` (the compiler's target) and ``LSTM_EDGE_PLATFORM`` (the wheel's platform
tag) cross-compile; ``make wheels`` sets them.
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


class KernelsHook(BuildHookInterface):  # type: ignore[type-arg]  # the parameter is internal to hatchling
    """Adds ``liblstm_edge_kernels.so`` to a wheel, or beside the sources for an editable install."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the kernels; ``version`` is ``"editable"`` or ``"standard"``.

        Without a compiler, or if it fails, the wheel is tagged for any platform, and a warning is shown.

        Raises:
            ValueError: LSTM_EDGE_KERNELS has another value than 0 and 1.
            RuntimeError: LSTM_EDGE_KERNELS is 1 and the kernels do not compile.
        """
        # TemporaryDirectory also removes the folder if the build fails and finalize is never called.
        self.folder = tempfile.TemporaryDirectory(prefix="lstm-edge-")
        wanted = os.environ.get("LSTM_EDGE_KERNELS", "")
        if wanted not in ("", "0", "1"):
            raise ValueError(f"LSTM_EDGE_KERNELS must be 0 or 1, got {wanted!r}")
        if wanted == "0":
            return
        kernels = Path(self.root, "runtime", KERNELS)
        build = _load(kernels / "build.py")
        output = kernels if version == "editable" else Path(self.folder.name)
        try:
            made = build.build(_compiler(), output, target=os.environ.get("LSTM_EDGE_TARGET"))
        except (build.BuildError, FileNotFoundError) as error:
            if wanted == "1":
                raise RuntimeError(f"LSTM_EDGE_KERNELS=1, and the kernels do not compile: {error}") from error
            lines = str(error).splitlines()
            # The compiler's message is more useful than its command, which is the first line.
            reason = next((line for line in lines if "error:" in line), lines[0])
            self.app.display_warning(
                f"lstm-edge is installed without its kernels, everything runs on the portable function bodies: {reason}"
            )
            return
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{os.environ.get('LSTM_EDGE_PLATFORM') or _platform()}"
        if version != "editable":
            build_data["force_include"][str(made)] = str(KERNELS / build.FILE_NAME)

    def finalize(self, *_arguments: Any) -> None:
        """Remove the folder of the compiled kernels."""
        self.folder.cleanup()


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


def _load(path: Path) -> Any:
    """Import the module at a path, which is not installed yet."""
    spec = importlib.util.spec_from_file_location("lstm_edge_kernels_build", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot import {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
