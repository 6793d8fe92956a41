"""``lstm-edge validate``: compare a candidate with a reference on the task's metric."""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Sequence
from typing import Any

from lstm_edge.commands.old_names import accept_old_names
from lstm_edge.data import Columns, Missing, table_options
from lstm_edge.data.text import TextData
from lstm_edge.refused_options import check_device_options
from lstm_edge.validation.judge import AnyData, Judge, load_data
from lstm_edge.validation.predictions import ReadModel, Source, opener
from lstm_edge.validation.report import AnswersOf, ValidationReport
from lstm_edge_runtime.artifact import read_model_bytes
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.library import KernelChoice
from lstm_edge_runtime.metrics import Metric
from lstm_edge_runtime.signature import Trust, check_signature, read_trust

__all__ = ["validate"]


@accept_old_names(reference="against", dataset="data")
def validate(
    candidate: Source,
    against: Source,
    data: AnyData | str,
    *,
    targets: str | None = None,
    columns: Columns | str | None = None,
    step_every: str | float | None = None,
    missing: Missing = "refuse",
    metric: str | Callable[..., Any] | Metric | None = None,
    max_drop: str | None = None,
    confidence: float | None = None,
    seed: int = 0,
    threads: int = 1,
    on: str | Sequence[str] | None = None,
    known_hosts: str | os.PathLike[str] | None = None,
    identity: str | os.PathLike[str] | None = None,
    device_command: str | None = None,
    kernels: KernelChoice = "auto",
    step_seconds: int = 120,
    trusted_keys: Sequence[str | os.PathLike[str]] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    progress: Callable[[str], None] | None = None,
) -> ValidationReport:
    """Compare a candidate with a reference on the task's metric; implements ``lstm-edge validate``.

    The report says whether the candidate stayed within the budget; its ``check()`` raises if not.

    Args:
        candidate: path of the ``.onnx`` file to evaluate, or its bytes.
        against: the reference, a path or bytes.
        data: a bundled name, the path of a file (docs/data.md), or loaded data: sequences with targets
            (``lstm_edge.data.Dataset``), named inputs and targets (``NamedDataset``), transcripts, or a text.
        targets: for data that are an ``.npy`` file of the input: the ``.npy`` file of the targets.
        columns: roles of the columns of a table, as ``sequence=id,step=t,target=y,features=a+b``.
        step_every: expected spacing of the steps of a table: ``"1s"``, ``"100ms"``, ``0.5``, or ``"any"``; None: 1 for
            integers, any even spacing otherwise.
        missing: what becomes of missing cells and steps of a table: ``"refuse"``, ``"ffill"`` or ``"drop"``.
        metric: a name from ``lstm_edge_runtime.metrics``, ``package.module:function``, or a function with an attribute
            ``more_is_better`` (docs/data.md); None: accuracy for classes, mean-squared-error for values, perplexity for
            a text.
        max_drop: the budget, such as ``"0.5pt"`` or ``"0.5%"``; None: ``"0.5pt"`` for a named metric and for accuracy.
        confidence: None: the estimated drop decides; a share such as 0.95: the upper bound of a paired bootstrap.
        seed: random seed of the bootstrap.
        threads: onnxruntime's threads.
        on: a device that runs both files, such as ``"pi@board1"``; its answers are judged here. None: this machine.
        known_hosts: file of trusted host keys; None for ~/.ssh/known_hosts and /etc/ssh/ssh_known_hosts.
        identity: a private key's file; None for those of ~/.ssh/config, the agent and the default files.
        device_command: command line of lstm-edge or lstm-edge-device on the device; None finds it.
        kernels: fused kernels: ``"auto"``, ``"required"`` or ``"off"``, as for ``Session``.
        step_seconds: longest time that the device may take for an answer.
        trusted_keys: public keys, one of which must have signed each of the two files, in ``FILE.sig``; None: no
            signature is checked.
        on_progress: called with (sequences or tokens run, sequences or tokens to run), over both models.
        progress: called with one line for each step of the work.

    Raises:
        InputError: an argument is not allowed, the data does not fit the metric or a model, or an output is NaN.
        DataError: the data cannot be loaded.
        ArtifactError, IntegrityError: a model cannot be opened.
        SignatureError: no trusted key signed a file; nothing of it was parsed.
        DeviceError: the device cannot be reached, refuses a file, or gives no answer.
        MissingExtraError: ``on`` is given, and asyncssh is not installed.
    """
    host = _host(on, known_hosts, identity, device_command, kernels)
    for name, source in (("the candidate", candidate), ("--against", against)) if host is not None else ():
        _check_is_model(name, source)
    if (trust := read_trust(trusted_keys)) is not None:
        candidate, against = (_verified(source, trust, progress) for source in (candidate, against))
    if isinstance(data, str):
        data = load_data(data, metric, table=table_options(columns, step_every, missing, targets), say=progress)
    if progress is not None:
        unit = "characters" if isinstance(data, TextData) else "sequences"
        progress(f"validating on {data.name}: {len(data):,} {unit}, seed {seed}")
    judged: dict[str, Any] = {"max_drop": max_drop, "confidence": confidence, "on_progress": on_progress}
    if host is None:
        judge = Judge(against, data, metric=metric, seed=seed, open_model=opener(threads, kernels))
        return judge.judge(candidate, **judged)
    from lstm_edge.fleet.connection import read_access
    from lstm_edge.fleet.protocol import Limits
    from lstm_edge.fleet.remote import RemoteModels, with_device

    def work(models: RemoteModels) -> ValidationReport:
        judge = Judge(against, data, metric=metric, seed=seed, open_model=models.open)
        report = judge.judge(candidate, **judged)
        old, new = (models.facts[_digest(source)] for source in (against, candidate))
        device = AnswersOf(
            host=host.label,
            program=models.program,
            lstm_edge=new.get("lstm_edge"),
            onnxruntime=new.get("onnxruntime"),
            machine=new.get("machine"),
            reference_kernels=old.get("kernels"),
            candidate_kernels=new.get("kernels"),
        )
        return dataclasses.replace(report, device=device)

    options = f" --threads {threads} --kernels {kernels}"
    access = read_access(known_hosts, identity)
    return with_device(host, access, Limits(step_seconds=step_seconds), options, work)


def _host(
    on: str | Sequence[str] | None, known_hosts: Any, identity: Any, device_command: str | None, kernels: str
) -> Any:
    """Return the device, or None; refuse options that require one."""
    hosts = [on] if isinstance(on, str) else list(on or ())
    if not hosts:
        check_device_options({"known_hosts": known_hosts, "identity": identity, "device_command": device_command})
        return None
    if len(hosts) > 1:
        raise InputError(
            f"--on is given {len(hosts)} times ({', '.join(hosts)}): validate on one device at a time, because each "
            "has answers, and so a report, of its own"
        )
    if kernels not in ("auto", "required", "off"):
        raise InputError(f"--kernels is {kernels!r}, expected auto, required or off")
    from lstm_edge.fleet.hosts import parse_host

    return dataclasses.replace(parse_host(hosts[0]), device_command=device_command or "")


def _check_is_model(name: str, source: Source) -> None:
    """Refuse what no device could run: a checkpoint, a module."""
    if isinstance(source, str | os.PathLike) and not os.fspath(source).endswith(".onnx"):
        raise InputError(
            f"{name} is {os.fspath(source)}, but a device runs .onnx files only: export it first, with lstm-edge export"
        )


def _verified(source: Source, trust: Trust, progress: Callable[[str], None] | None) -> ReadModel:
    """Read a file once and verify its signature; what is parsed afterwards are these bytes."""
    if isinstance(source, bytes):
        raise InputError("trusted_keys require files: a model that is given as bytes has no signature beside it")
    data = read_model_bytes(source, any_kind=True)
    signed = check_signature(data, trust, source)
    if progress is not None:
        progress(f"{os.fspath(source)}: {signed.sentence()}")
        if signed.note:
            progress(f"{os.fspath(source)}: {signed.note}")
    return ReadModel.of(data, os.fspath(source))


def _digest(source: Source) -> str:
    return hashlib.sha256(source if isinstance(source, bytes) else read_model_bytes(source)).hexdigest()
