"""Paths that a command refuses before it imports torch or onnx, which takes seconds.

What reads or writes a file checks it too, with the same functions or the same sentence; tests/toolkit/test_refusals.py
compares the sentences, and sees what is imported.
"""

import importlib.util
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from lstm_edge._imports import current_folder_last, import_object
from lstm_edge.amounts import parse_amount, parse_shares, parse_sizes
from lstm_edge.commands.class_names import parse_labels
from lstm_edge.data_names import SUFFIXES, check_split, is_folder, unknown_data
from lstm_edge.refused_options import (
    check_device_options,
    check_export_options,
    check_judged,
    check_other_name,
    check_report_name,
    check_scheme,
)
from lstm_edge_runtime.checkpoint_header import CHECKPOINT_KEY, no_description, read_header
from lstm_edge_runtime.errors import ArtifactError, CaptureError, DataError, InputError, OutputError
from lstm_edge_runtime.file_kinds import check_open_kind, is_safetensors
from lstm_edge_runtime.reading import MOST_ARRAY_BYTES, open_file, read_bytes, translated
from lstm_edge_runtime.signature import read_trust
from lstm_edge_runtime.text_files import check_text, is_text
from lstm_edge_runtime.writing import beside, check_target

__all__ = [
    "KERAS_FILES",
    "check_auto",
    "check_plot_name",
    "check_resume",
    "check_trained",
    "is_factory",
    "refuse_adopt",
    "refuse_checkpoint",
    "refuse_data",
    "refuse_export",
    "refuse_quantize",
    "refuse_select",
    "refuse_train",
    "refuse_validate",
]

AnyPath = str | os.PathLike[str]
KERAS_FILES = (".keras", ".h5", ".hdf5", ".json")
# Endings of files of weights and of models.
CHECKPOINTS = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".onnx")
PLOTS = (".svg", ".png", ".pdf")
# Data that are a file, with the sentence `data NAME: no such file`; other names are texts, sets and folders.
_DATA_FILES = (*SUFFIXES, ".npy")


def refuse_export(given: Mapping[str, Any]) -> None:
    """Refuse an output that ``export`` cannot write, and a source that it cannot find.

    Raises:
        OutputError: the output cannot be written, or its name does not end in ``.onnx``.
        ArtifactError, CaptureError: the source is refused by ``refuse_checkpoint``.
        InputError, DataError: the example, the labels or the data are missing, or an option that another requires.
    """
    check_target(given["output"], ".onnx")
    check_export_options(given)
    refuse_checkpoint(given["source"], given.get("weights"))
    if given.get("example") is not None:
        _open_arrays(given["example"])
    parse_labels(given.get("labels"))
    # Data without a scheme are refused in another sentence, by the command.
    if given.get("data") is not None and given.get("scheme") is not None:
        _check_data(given["data"])


def refuse_checkpoint(source: str, weights: AnyPath | None) -> None:
    """Refuse a source of ``export`` that is no file or no module, and weights that are missing.

    Raises:
        ArtifactError: a file is missing, or a checkpoint is not a ``.safetensors`` file that lstm-edge wrote.
        CaptureError: the module of a factory does not exist, or the source is a directory.
        InputError: weights are given to a source that has its own.
    """
    if is_factory(source):
        _check_module(source)
        if weights is not None:
            _open(weights)
        return
    keras = source.endswith(KERAS_FILES) or (Path(source).is_dir() and not source.endswith(".safetensors"))
    if weights is not None:
        what = "a Keras file" if keras else "a checkpoint"
        raise InputError(f"--weights requires package.module:factory; {what} has its own weights")
    if keras:
        if not Path(source).is_dir():
            _open(source)
        return
    where = f"checkpoint {source}"
    with (
        translated(ArtifactError, f"{where}: not a readable .safetensors file"),
        open_file(source, ArtifactError, where=where, missing=_missing(source)) as file,
    ):
        start = file.read(9)
        known = is_safetensors(start, os.fstat(file.fileno()).st_size)
        file.seek(0)
        most = 8 + int.from_bytes(start[:8], "little")
        data = _first(file, most) if known else read_bytes(file, MOST_ARRAY_BYTES)
        if CHECKPOINT_KEY not in read_header(data, where).get("__metadata__", {}):
            raise no_description(where, source)


def _first(file: BinaryIO, size: int) -> bytes:
    """Return the first bytes of an open file, which may come in several pieces."""
    parts = bytearray()
    while len(parts) < size and (piece := file.read(size - len(parts))):
        parts += piece
    return bytes(parts)


def _missing(source: str) -> str:
    """Return what to say of a source that is no file: one that looks like ``package.factory`` lacks its colon."""
    module, _, name = source.rpartition(".")
    factory = all(part.isidentifier() for part in source.split(".")) and module and f".{name}" not in CHECKPOINTS
    return f"no such file; a factory is written with a colon, {module}:{name}" if factory else "no such file"


def _check_module(source: str) -> None:
    """Refuse a factory whose module, or the package that has it, is not found."""
    top = source.partition(":")[0].partition(".")[0]
    with current_folder_last(top):
        found = not top.isidentifier() or importlib.util.find_spec(top) is not None
    if not found:
        import_object(source, CaptureError, what=source, expected="package.module:factory")


def is_factory(source: str) -> bool:
    """Return whether a source is ``package.module:factory`` and not a file."""
    return ":" in source and not source.endswith((*KERAS_FILES, ".safetensors")) and not Path(source).exists()


def refuse_adopt(source: AnyPath, output: AnyPath, example: AnyPath | None, labels: str | None) -> None:
    """Refuse a file that ``adopt`` cannot read or write.

    Raises:
        ArtifactError, OutputError, InputError: a path is refused.
    """
    check_target(output, ".onnx")
    check_other_name(source, output)
    _open_model(source)
    if example is not None:
        _open_arrays(example)
    parse_labels(labels)


def refuse_quantize(given: Mapping[str, Any], command: Callable[..., Any]) -> None:
    """Refuse a file that ``quantize`` cannot read or write, and options without those that they need.

    Args:
        given: the options by name; None is left out.
        command: the function whose parameters they are.

    Raises:
        ArtifactError, OutputError, DataError, InputError: a path is refused, or an option is missing.
    """
    auto = given["scheme"] == "auto"
    check_scheme(given, command)
    if auto:
        check_auto(given)
        check_judged(given)
        check_report_name(given.get("report"), force=bool(given.get("force")))
    check_target(given["output"], ".onnx")
    check_other_name(given["source"], given["output"])
    _open_model(given["source"])
    for name in ("data", "held_out_data") if auto else ("data", "reference_data"):
        if given.get(name) is not None:
            _check_data(given[name])


def check_auto(given: Mapping[str, Any]) -> None:
    """Refuse a search for the smallest file without the options that it needs, or with one of a fixed scheme.

    Raises:
        InputError: one is missing, or ``sparse`` is ``"required"``.
    """
    if given.get("sparse") == "required":
        raise InputError("--sparse required requires a fixed scheme, not --scheme auto; leave it out")
    missing = [f"--{name.replace('_', '-')}" for name in ("data", "max_drop") if given.get(name) is None]
    if missing:
        raise InputError(f"--scheme auto needs {', '.join(missing)}: the data to tune on, and the budget")


def refuse_data(spec: str) -> None:
    """Refuse data of ``data check`` that are a file and missing.

    Raises:
        DataError: there is no such file.
    """
    _check_data(spec)


def refuse_validate(given: Mapping[str, Any]) -> None:
    """Refuse data, a model or a key that ``validate`` cannot find, and options that are malformed.

    Raises:
        ArtifactError, DataError, InputError: one of them is refused.
    """
    check_judged(given)
    check_device_options(given)
    read_trust(given.get("trusted_keys"))
    _check_data(given["data"])
    for name in ("against", "candidate"):
        _open_model(given[name], signed=bool(given.get("trusted_keys")))
    if given.get("targets") is not None and given["data"].endswith(".npy"):
        _check_data(given["targets"])


def refuse_train(task: str, given: Mapping[str, Any]) -> None:
    """Refuse a file that ``train`` cannot read or write.

    Raises:
        OutputError, ArtifactError, InputError, DataError: a path is refused.
    """
    output = Path(given["output"])
    check_trained(output)
    if given.get("plot") is not None:
        check_plot_name(given["plot"])
    for option, name in (("--from", "start"), ("--teacher", "teacher")):
        if given.get(name) is not None:
            where = f"{option} {os.fspath(given[name])}"
            with open_file(given[name], ArtifactError, where=where, expected="a .safetensors model"):
                pass
    state = Path(given["resume_file"]) if given.get("resume_file") is not None else beside(output, ".resume")
    check_resume(state, resume=bool(given.get("resume")))
    for name in ("data", "held_out_data"):
        if given.get(name) is not None:
            _check_data(given[name], text=task == "language-model")


def refuse_select(given: Mapping[str, Any]) -> None:
    """Refuse a file that ``select`` cannot read or write, and sizes, densities and limits that are no numbers.

    Raises:
        OutputError, DataError, InputError: a path or a number is refused.
    """
    check_trained(Path(given["output"]))
    if given.get("plot") is not None:
        check_plot_name(given["plot"])
    for name in ("hidden_sizes", "layer_counts"):
        parse_sizes(f"--{name.replace('_', '-')}", given[name])
    parse_shares("--densities", given["densities"])
    for name in ("max_bytes", "max_step_us"):
        if given.get(name) is not None:
            parse_amount(f"--{name.replace('_', '-')}", given[name])
    _check_data(given["data"], text=False)


def check_trained(output: Path) -> None:
    """Refuse a path that cannot be written, or whose name does not end in ``.safetensors``.

    Raises:
        OutputError: the path is refused.
    """
    if output.suffix != ".safetensors":
        raise OutputError(
            f"{output}: the name of a trained model must end in .safetensors; lstm-edge export converts it to .onnx"
        )
    check_target(output)


def check_plot_name(path: AnyPath) -> None:
    """Refuse a path that a plot cannot be written to.

    Raises:
        OutputError: the file name has an unknown suffix, or the path is not writable.
    """
    if Path(path).suffix not in PLOTS:
        raise OutputError(f"{path}: the name of a plot must end in {', '.join(PLOTS)}")
    check_target(path)


def check_resume(path: Path, *, resume: bool) -> None:
    """Refuse to overwrite an interrupted training or to resume a missing one.

    Raises:
        OutputError: the path cannot be written, or has an interrupted training and ``resume`` is False.
        InputError: there is nothing to resume.
    """
    check_target(path)
    found = path.is_file()
    if found and not resume:
        raise OutputError(
            f"{path}: this is the state of an interrupted training; continue it with --resume, or delete the file"
        )
    if resume and not found:
        raise InputError(f"{path}: no such file, so there is nothing to resume; leave --resume out")


def _check_data(spec: str, *, text: bool | None = None) -> None:
    """Refuse data that are missing, or that nothing reads; a folder may hold WAV files.

    Args:
        spec: the data as an option names them.
        text: whether the command takes a text, or sequences; None: what the name says.
    """
    if text or (text is None and is_text(spec)):
        check_text(spec)
    elif spec.endswith(_DATA_FILES):
        with open_file(spec, DataError, where=f"data {spec}"):
            pass
    elif not is_folder(spec) and not check_split(spec):
        raise unknown_data(spec)


def _open(path: AnyPath) -> None:
    with open_file(path, ArtifactError):
        pass


def _open_arrays(path: AnyPath) -> None:
    with open_file(path, InputError, expected="an .npy or .npz file"):
        pass


def _open_model(path: AnyPath, *, signed: bool = False) -> None:
    with open_file(path, ArtifactError, expected="an .onnx file") as file:
        # Of a file that must be signed nothing is looked at before its signature.
        if not signed:
            check_open_kind(file, os.fspath(path))
