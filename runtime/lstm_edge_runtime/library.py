"""The library of fused kernels: where it is, whether it loads, and which instruction set it chose.

A wheel has the kernels in its C library, in ``c/lib`` of this package. An editable install, or a wheel without the C
library, has them in ``kernels/``. No other folder is searched. The environment variable ``LSTM_EDGE_LIBRARY`` names
another file, for tests of the kernels.
"""

import ctypes
import functools
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from lstm_edge_runtime.errors import InputError, ProviderError

__all__ = ["KernelChoice", "Library", "choose_library", "find_library", "select_operators"]

# "auto": kernels if they are available; "required": kernels or an error; "off": the function bodies.
KernelChoice = Literal["auto", "required", "off"]

PACKAGED = Path(__file__).parent / "kernels" / "liblstm_edge_kernels.so"
IN_C_LIBRARY = Path(__file__).parent / "c" / "lib" / "liblstm_edge.so.1"


@dataclass(frozen=True, kw_only=True)
class Library:
    """A library that was loaded: its path, and the instruction set that it chose for this processor."""

    path: str
    instruction_set: str


def find_library() -> Library:
    """Load the library of kernels.

    Raises:
        ProviderError: the library was not built, does not load, or lacks the instruction set in ``LSTM_EDGE_ISA``.
    """
    packaged = IN_C_LIBRARY if IN_C_LIBRARY.is_file() else PACKAGED
    path = os.environ.get("LSTM_EDGE_LIBRARY") or os.fspath(packaged)
    if not os.path.isfile(path):
        raise ProviderError(
            f"the kernels were not built: no file {path}; install lstm-edge-runtime where a C++ compiler is found, "
            "or a wheel for this platform"
        )
    instruction_set = _load(path)
    wanted = os.environ.get("LSTM_EDGE_ISA")
    if wanted and wanted != instruction_set:
        raise ProviderError(
            f"LSTM_EDGE_ISA asks for the instruction set {wanted!r}, which this processor or the kernels' library "
            f"does not have (it gives {instruction_set!r}); unset it"
        )
    return Library(path=path, instruction_set=instruction_set)


@functools.cache
def _load(path: str) -> str:
    """Load a library and return its instruction set; the library stays loaded until the process ends."""
    try:
        library = ctypes.CDLL(path)
        ask = library.LstmEdgeInstructionSet
    except (OSError, AttributeError) as error:
        raise ProviderError(
            f"the kernels' library does not load ({error}); install lstm-edge-runtime again for this platform"
        ) from error
    ask.restype = ctypes.c_char_p
    return bytes(ask()).decode()


def select_operators(library: Library, names: Collection[str]) -> None:
    """Let the next registration in this thread register these operators only; without names, all.

    Args:
        library: the kernels.
        names: the operators that a file calls. Those that the library does not have are ignored.
    """
    select = _selection(library.path)
    if select is not None:
        select(f" {' '.join(sorted(names))} ".encode() if names else b"")


@functools.cache
def _selection(path: str) -> Callable[[bytes], object] | None:
    found: Callable[[bytes], object] | None = getattr(ctypes.CDLL(path), "LstmEdgeSelectOperators", None)
    return found


def choose_library(kernels: str, provider: str) -> tuple[Library | None, str]:
    """Return the library for a session to register, or None and the reason why function bodies run.

    Args:
        kernels: ``"auto"``, ``"required"`` or ``"off"``.
        provider: ``"cpu"`` or ``"cuda"``; under CUDA the kernels are never registered, because they would move
            nodes to the CPU.

    Raises:
        InputError: ``kernels`` has another value.
        ProviderError: the kernels are required but not available; the message says why.
    """
    if kernels not in get_args(KernelChoice):
        choices = ", ".join(map(repr, get_args(KernelChoice)))
        raise InputError(f"kernels must be one of {choices}, got {kernels!r}")
    if kernels == "off":
        return None, ""
    try:
        if provider != "cpu":
            raise ProviderError(f"the kernels run on the CPU, and the provider is {provider!r}")
        return find_library(), ""
    except ProviderError as error:
        if kernels == "required":
            raise ProviderError(f'kernels="required": {error}') from error
        return None, str(error)
