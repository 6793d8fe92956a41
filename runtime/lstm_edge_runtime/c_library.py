"""Where the C library of this installation is, for CMake."""

from pathlib import Path

from lstm_edge_runtime.errors import MissingLibraryError

__all__ = ["cmake_dir"]

_PACKAGE = Path(__file__).resolve().parent
_CMAKE = Path("lib", "cmake", "lstm_edge")
_CONFIG = "lstm_edge-config.cmake"


def cmake_dir() -> Path:
    """Return the folder for ``cmake -Dlstm_edge_DIR=``, with the CMake package of the C library.

    A compiled wheel contains the library: ``include``, ``lib`` and ``bin/lstm-edge-device``, three folders above the
    returned one. In a checkout ``make c`` builds it.

    Raises:
        MissingLibraryError: this installation has no C library; the message says how to get one.
    """
    checkout = _PACKAGE.parents[1] if (_PACKAGE.parent / "c" / "CMakeLists.txt").is_file() else None
    prefix = _PACKAGE / "c" if checkout is None else checkout / ".cache" / "c" / "installed"
    folder = prefix / _CMAKE
    if (folder / _CONFIG).is_file():
        return folder
    if checkout is not None:
        raise MissingLibraryError(f"no C library in {prefix}: run 'make c' in the checkout {checkout}")
    raise MissingLibraryError(
        f"this installation of lstm-edge-runtime has no C library in {prefix}: install a wheel for this platform, or "
        "install from the sources with LSTM_EDGE_C_LIBRARY=1 where there are a C++ compiler and CMake; pip shows what "
        "fails"
    )
