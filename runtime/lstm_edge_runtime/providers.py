"""Execution providers: what was asked for and what onnxruntime gave, or an error.

onnxruntime answers a request for CUDA, or for a misspelt provider, on a CPU build with a CPU session; nothing here
falls back in silence.
"""

import importlib
import json
import logging
import os
import tempfile
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime

from lstm_edge_runtime.errors import ArtifactError, InputError, ProviderError, first_line
from lstm_edge_runtime.library import Library, select_operators

__all__ = [
    "CPU_ARGUMENTS",
    "MOST_THREADS",
    "PROVIDERS",
    "RUNTIME_ERRORS",
    "NodePlacement",
    "measure_placement",
    "open_session",
    "read_placement",
    "session_options",
]

_LOG = logging.getLogger(__name__)

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_EXTRAS = {"cpu": "cpu", "cuda": "cuda"}

# onnxruntime's exceptions share no base class but Exception; newer versions have more of them.
_ERROR_NAMES = (
    "EPFail",
    "EngineError",
    "Fail",
    "InvalidArgument",
    "InvalidGraph",
    "InvalidProtobuf",
    "NoModel",
    "NoSuchFile",
    "NotFound",
    "NotImplemented",
    "RuntimeException",
)
_native = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
RUNTIME_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    ValueError,
    *(getattr(_native, name) for name in _ERROR_NAMES if hasattr(_native, name)),
)


# The largest array that onnxruntime computes ahead from constants: int8 weights of 8192 x 8192 as float32.
LARGEST_FOLDED_BYTES = 2**28

# More than any device has: creating a million of them ends the process.
MOST_THREADS = 1024
# On the CPU there is nothing to fall back to: onnxruntime would print a banner and do the same again.
CPU_ARGUMENTS: dict[str, Any] = {"enable_fallback": 0}
# What onnxruntime 1.32 says when nodes would fall back to the CPU, and when its Python layer retries on the CPU.
_FALLBACK_REFUSED = ("fallback to CPU EP has been explicitly disabled", "disabled fallback to the CPU EP")


@dataclass(frozen=True, kw_only=True)
class NodePlacement:
    """Where onnxruntime ran one node of the optimized graph: the node's name, its operator, and the provider."""

    node: str
    operator: str
    provider: str


def session_options(*, threads: int = 1, strict: bool = False) -> onnxruntime.SessionOptions:
    """Return options that suit a small device: few threads, no spinning between runs, no memory arena.

    Args:
        threads: threads within one operator; operators run one after the other.
        strict: refuse, when the session is opened, a graph of which nodes would fall back to the CPU.

    Raises:
        InputError: ``threads`` is not a positive integer, or over the limit.
    """
    if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= MOST_THREADS:
        raise InputError(f"threads must be a positive integer, at most {MOST_THREADS}, got {threads!r}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if strict:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    options.enable_cpu_mem_arena = False
    # Without it a file of 2 kB that joins a constant with itself 40 times takes all memory while it is opened.
    # onnxruntime 1.18 does not know the entry, and ignores it.
    options.add_session_config_entry(
        "optimization.constant_folding_max_output_size_in_bytes", str(LARGEST_FOLDED_BYTES)
    )
    # onnxruntime would take bytes that say so for its own format, and see another model in them than the checks did.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.log_severity_level = 4  # onnxruntime raises what it would print: one sentence, not two
    return options


def open_session(
    model: bytes,
    *,
    provider: str = "cpu",
    threads: int = 1,
    strict: bool = False,
    profile_prefix: str | None = None,
    library: Library | None = None,
    operators: Collection[str] = (),
    basic: bool = False,
) -> onnxruntime.InferenceSession:
    """Open a model with the provider that was asked for.

    Args:
        model: a serialized ONNX model.
        provider: ``"cpu"`` or ``"cuda"`` (TF32 off; the CPU takes the nodes that CUDA has no kernel for).
        threads: threads within one operator.
        strict: under CUDA, refuse nodes that would run on the CPU.
        profile_prefix: where onnxruntime shall write a profile, if anywhere.
        library: kernels for the ``lstm_edge`` operators; None runs the functions' bodies, as whoever makes a file
            does who proves it.
        operators: the ``lstm_edge`` operators that the model calls: only their kernels are registered; empty: all.
        basic: with onnxruntime's basic optimizations only.

    Raises:
        ProviderError: the provider is unknown, not available, or not the one that onnxruntime gave; or onnxruntime
            refuses the library.
        ArtifactError: onnxruntime cannot read the model.
    """
    wanted = _check_available(provider)
    # onnxruntime refuses the request for no CPU fallback from a session that names the CPU.
    refuse_fallback = strict and provider != "cpu"
    requested: list[Any] = [(wanted, {"use_tf32": "0"})] if provider == "cuda" else [wanted]
    if provider != "cpu" and not refuse_fallback:
        requested.append(PROVIDERS["cpu"])
    options = session_options(threads=threads, strict=refuse_fallback)
    if basic:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    if profile_prefix is not None:
        options.enable_profiling = True
        options.profile_file_prefix = profile_prefix
    if library is not None:
        _register(options, library, operators)
    try:
        session = onnxruntime.InferenceSession(
            model, options, providers=requested, **(CPU_ARGUMENTS if provider == "cpu" else {})
        )
    except RUNTIME_ERRORS as error:
        if refuse_fallback and any(sign in str(error) for sign in _FALLBACK_REFUSED):
            raise ProviderError(
                f"strict: nodes of the model would run on the CPU under {provider}, because they have no kernel or "
                f"because its libraries do not load; open it without strict to see which ({first_line(error)})"
            ) from error
        raise ArtifactError(f"onnxruntime cannot read the model: {first_line(error)}") from error
    by = "no kernels of lstm-edge" if library is None else f"{library.instruction_set} kernels"
    _LOG.debug("opened a model in onnxruntime: %s, threads %d, %s", provider, threads, by)
    if provider == "cpu" and hasattr(session, "_model_bytes"):
        # Its Python class keeps the file's bytes to open it again under other providers, which never happens here:
        # 15 of 56 MiB for two int8 layers of 1024 cells.
        session._model_bytes = b""
    given = session.get_providers()
    if given[0] != wanted:
        raise ProviderError(
            f"asked for {provider!r} ({wanted}), onnxruntime gave {', '.join(given)}: its libraries are incomplete; "
            f"{_advice(provider)}"
        )
    return session


def _register(options: onnxruntime.SessionOptions, library: Library, operators: Collection[str]) -> None:
    select_operators(library, operators)
    try:
        options.register_custom_ops_library(library.path)
    except RUNTIME_ERRORS as error:
        raise ProviderError(
            f"onnxruntime {onnxruntime.__version__} refuses the kernels' library ({first_line(error)}); "
            'kernels="off" runs the function bodies'
        ) from error


def _check_available(provider: str) -> str:
    if provider not in PROVIDERS:
        raise ProviderError(f"unknown provider {provider!r}; known ones are {', '.join(map(repr, PROVIDERS))}")
    available = onnxruntime.get_available_providers()
    if PROVIDERS[provider] not in available:
        raise ProviderError(
            f"provider {provider!r} needs {PROVIDERS[provider]}, and this onnxruntime "
            f"{onnxruntime.__version__} has only {', '.join(available)}; {_advice(provider)}"
        )
    return PROVIDERS[provider]


def _advice(provider: str) -> str:
    return f"pip uninstall onnxruntime onnxruntime-gpu, then pip install 'lstm-edge-runtime[{_EXTRAS[provider]}]'"


def read_placement(events: Iterable[Mapping[str, Any]]) -> tuple[NodePlacement, ...]:
    """Read from an onnxruntime profile which provider ran which node, in the order of their first run.

    Args:
        events: the objects of the profile's JSON list.
    """
    placed: dict[str, NodePlacement] = {}
    for event in events:
        arguments = event.get("args", {})
        if event.get("cat") != "Node" or "provider" not in arguments:
            continue
        node = str(event.get("name", "")).removesuffix("_kernel_time")
        operator = str(arguments.get("op_name", ""))
        placed.setdefault(node, NodePlacement(node=node, operator=operator, provider=str(arguments["provider"])))
    return tuple(placed.values())


def measure_placement(
    model: bytes,
    feeds: Mapping[str, np.ndarray[Any, Any]],
    *,
    provider: str = "cpu",
    threads: int = 1,
    library: Library | None = None,
) -> tuple[NodePlacement, ...]:
    """Run a model once with onnxruntime's profiler and say where each node ran.

    Args:
        model: a serialized ONNX model.
        feeds: an array for each input of the graph.
        provider: ``"cpu"`` or ``"cuda"``.
        threads: threads within one operator.
        library: kernels for the ``lstm_edge`` operators, or None.

    Raises:
        ProviderError, ArtifactError: as ``open_session``; ArtifactError also when the run fails.
    """
    with tempfile.TemporaryDirectory(prefix="lstm-edge-") as folder:
        prefix = os.path.join(folder, "profile")
        session = open_session(model, provider=provider, threads=threads, profile_prefix=prefix, library=library)
        try:
            session.run(None, dict(feeds))
        except RUNTIME_ERRORS as error:
            raise ArtifactError(f"the model does not run on {provider}: {first_line(error)}") from error
        finally:
            profile = session.end_profiling()
        with open(profile, encoding="utf-8") as file:
            return read_placement(json.load(file))
