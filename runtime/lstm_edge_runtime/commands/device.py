"""``lstm-edge inspect``, ``check`` and ``bench``, which also run on a device: numpy and onnxruntime only."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from lstm_edge_runtime._json import encode
from lstm_edge_runtime.artifact import read_model_bytes
from lstm_edge_runtime.bench import bench as measure
from lstm_edge_runtime.bench_report import BenchReport
from lstm_edge_runtime.card import CARD_KEY, ModelCard, StateSpec, TensorSpec
from lstm_edge_runtime.commands.checkpoint import CheckpointReport, inspect_checkpoint, is_checkpoint
from lstm_edge_runtime.errors import ArtifactError, InputError, ParityError
from lstm_edge_runtime.extras import toolkit_module
from lstm_edge_runtime.function_check import check_functions, check_whole
from lstm_edge_runtime.integer_layers import IntegerLayer, integer_layers
from lstm_edge_runtime.library import KernelChoice
from lstm_edge_runtime.model_reading import read_model
from lstm_edge_runtime.selftest import SelfTestReport, self_test
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.signature import SignatureFormat, Signed, check_format
from lstm_edge_runtime.survival import check_survives

__all__ = ["CheckReport", "InspectReport", "bench", "check", "describe", "inspect"]


class _BasicSession(Session):
    """A file of another tool that onnxruntime opens with basic optimizations only."""

    basic = True


AnyPath = str | os.PathLike[str]


class SignedBundle(Protocol):
    """What a bundle of OpenSSF's model-signing says; ``lstm_edge.fleet.openssf`` verifies it."""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        ...

    def sentence(self) -> str:
        """Return it as one sentence."""
        ...


@dataclass(frozen=True, kw_only=True)
class InspectReport:
    """What a file contains; the attributes are those of ``Session``.

    ``size_bytes``: size of the file. ``verified``: whether the integrity trailer is present and correct. ``kernels``:
    the name of the fused kernels that run its operators, None without them. ``operators``: nodes of the domain
    ``lstm_edge``. ``lengths``: name of the input for the valid steps of each row, or None. ``end``: name of the input
    that says whether a call ends the sequence, or None. ``card``: None for a file without one. ``placement``: the nodes
    that stay on the CPU under CUDA, else None. ``integer_layers``: products of integers that another tool left, such as
    ``MatMulInteger``.
    """

    path: str
    size_bytes: int
    verified: bool
    provider: str
    kernels: str | None
    operators: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    states: tuple[StateSpec, ...]
    lengths: str | None
    end: str | None
    card: ModelCard | None
    placement: tuple[Any, ...] | None
    notes: tuple[str, ...]
    integer_layers: tuple[IntegerLayer, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        values: dict[str, Any] = {name: encode(value) for name, value in vars(self).items() if name != "path"}
        return values


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """The self-test of a file on this device, the session's notes about the file, and what a trusted key signed."""

    path: str
    test: SelfTestReport
    notes: tuple[str, ...]
    signature: Signed | SignedBundle | None = None

    @property
    def passed(self) -> bool:
        """Whether the worst difference is within the file's tolerance."""
        return self.test.passed

    def to_json(self) -> dict[str, Any]:
        """Return the self-test's report as JSON values, with ``signature`` if one was checked."""
        values = self.test.to_json()
        return values if self.signature is None else values | {"signature": self.signature.to_json()}

    def check(self) -> None:
        """Raise when the self-test did not pass.

        Raises:
            ParityError: with the worst difference and the file's tolerance.
        """
        if not self.passed:
            raise ParityError(
                f"{self.path}: the worst difference {self.test.worst:.3g} is over the file's tolerance "
                f"{self.test.tolerance:.3g}; this device does not reproduce the answers of the golden vectors"
            )


def inspect(model: AnyPath, *, provider: str = "cpu") -> InspectReport | CheckpointReport:
    """Open a file as on the device and return what it contains; implements ``lstm-edge inspect``.

    Args:
        model: the ``.onnx`` file; or a ``.safetensors`` checkpoint, which is told by its content.
        provider: ``"cpu"``, or ``"cuda"`` to see which nodes stay on the CPU.

    Returns:
        What the file contains: of a checkpoint its task, its configuration and its tensors.

    Raises:
        InputError: ``provider`` is given for a checkpoint, which nothing runs.
        ArtifactError, IntegrityError, CardError: the file cannot be read, is damaged, or its card contradicts it.
        ProviderError: the provider is unknown or not available.
    """
    if is_checkpoint(model):
        if provider != "cpu":
            raise InputError(f"--provider {provider} requires an .onnx file: {os.fspath(model)} is a checkpoint")
        return inspect_checkpoint(model)
    died = _dies(model)
    session = (_BasicSession if died else Session)(model, provider=provider)
    report = describe(session, path=os.fspath(model))
    report = replace(report, integer_layers=integer_layers(read_model(read_model_bytes(model))))
    return report if not died else replace(report, notes=(*report.notes, died))


def _dies(model: AnyPath) -> str:
    """Return what happens where onnxruntime ends a process that opens another tool's file, else nothing.

    Raises:
        ArtifactError: it does so with basic optimizations too.
    """
    try:
        data = read_model_bytes(model)
        reading = read_model(data)
        if CARD_KEY in reading.metadata:
            return ""
        # Before onnxruntime sees the file: functions that call each other keep it busy for minutes.
        check_functions(reading)
        check_whole(reading)
    except ArtifactError:
        return ""  # Session says what is wrong with the file
    advice = "lstm-edge adopt makes a file of it whose float16 layers are computed in float32"
    try:
        check_survives(data, advice=advice)
    except ArtifactError as error:
        check_survives(data, advice=advice, basic=True)
        return f"{error}. It was opened with basic optimizations"
    return ""


def describe(session: Session, *, path: str = "") -> InspectReport:
    """Return what an open file contains."""
    names = [name for name in InspectReport.__dataclass_fields__ if name not in ("path", "integer_layers")]
    values: dict[str, Any] = {name: getattr(session, name) for name in names}
    for name in ("placement", "notes"):
        values[name] = None if values[name] is None else tuple(values[name])
    return InspectReport(path=path, **values)


def check(
    model: AnyPath,
    *,
    provider: str = "cpu",
    threads: int = 1,
    kernels: KernelChoice = "auto",
    trusted_keys: Sequence[AnyPath] | None = None,
    signature: AnyPath | None = None,
    signed_name: str | None = None,
    minimum_version: str | None = None,
    require_clock: bool = False,
    format: SignatureFormat = "lstm-edge",  # noqa: A002  # the option's name
) -> CheckReport:
    """Run a file's golden vectors on this device; implements ``lstm-edge check``. The report's ``check()`` raises.

    Args:
        model: the ``.onnx`` file.
        provider: ``"cpu"`` or ``"cuda"``.
        threads: threads that compute.
        kernels: ``"auto"``, ``"required"`` or ``"off"``, as for ``Session``.
        trusted_keys: public keys, one of which must have signed the file; None: no signature is checked.
        signature: the signature file; None: the model's path with ``.sig`` behind it.
        signed_name: the name that the signature must give; None: any.
        minimum_version: the smallest version that is accepted, such as ``"1.4.2"``; None: any.
        require_clock: refuse a signature that expires if the device's clock is evidently not set.
        format: of the signature: ``"lstm-edge"``, or ``"model-signing"`` for a bundle by an ECDSA key, which gives no
            name, version or expiry.

    Raises:
        SignatureError: no trusted key signed the file, or a rule refuses it; no byte of the file was parsed.
        ArtifactError, IntegrityError, CardError: the file cannot be read, is damaged, or carries no golden vectors.
        ProviderError: the provider is unknown or not available, or the kernels are required and missing.
        InputError: ``threads`` is not a positive integer.
    """
    source: AnyPath | bytes = model
    bundle = None
    if format != "lstm-edge":
        rules = (signed_name, minimum_version, require_clock or None)
        source, bundle = _verified_by_bundle(model, format, signature, trusted_keys, rules)
        trusted_keys = signature = None
    session = Session(
        source,
        provider=provider,
        threads=threads,
        kernels=kernels,
        trusted_keys=trusted_keys,
        signature=signature,
        signed_name=signed_name,
        minimum_version=minimum_version,
        require_clock=require_clock,
    )
    return CheckReport(
        path=os.fspath(model),
        test=self_test(session),
        notes=tuple(session.notes),
        signature=bundle or session.signature,
    )


def _verified_by_bundle(
    model: AnyPath,
    format: str,  # noqa: A002  # the option's name
    signature: AnyPath | None,
    trusted_keys: Sequence[AnyPath] | None,
    rules: tuple[Any, ...],
) -> tuple[bytes, SignedBundle]:
    """Read a file and verify its bundle; return its bytes and what the bundle says."""
    check_format(format)
    options = ("--signed-name", "--minimum-version", "--require-clock")
    given = next((option for option, value in zip(options, rules, strict=True) if value is not None), None)
    if given is not None:
        raise InputError(f"{given} requires --format lstm-edge: a bundle of model-signing has no place for it")
    openssf = toolkit_module("lstm_edge.fleet.openssf", "--format model-signing", "model-signing")
    data = read_model_bytes(model, any_kind=True)
    return data, openssf.check_bundle(data, model, signature, trusted_keys or ())


def bench(
    model: AnyPath,
    *,
    batch_size: int = 1,
    time_steps: int = 100,
    steps: int = 1000,
    repeats: int = 50,
    rate_hz: float | None = None,
    provider: str = "cpu",
    threads: int = 1,
    kernels: KernelChoice = "auto",
    trusted_keys: Sequence[AnyPath] | None = None,
    signature: AnyPath | None = None,
    signed_name: str | None = None,
    minimum_version: str | None = None,
    require_clock: bool = False,
    progress: Callable[[str], None] | None = None,
) -> BenchReport:
    """Measure a file on this device: a streaming step, a sequence, load time, memory; implements ``lstm-edge bench``.

    Args:
        model: the ``.onnx`` file.
        batch_size: rows in a batch.
        time_steps: steps in a sequence.
        steps: number of streaming steps to time.
        repeats: number of sequences to time.
        rate_hz: streaming steps per second, from 0.001 to 1,000,000; None: as fast as possible.
        provider: ``"cpu"`` or ``"cuda"``.
        threads: threads that compute.
        kernels: ``"auto"``, ``"required"`` or ``"off"``, as for ``Session``.
        trusted_keys: public keys, one of which must have signed the file; None: no signature is checked.
        signature: the signature file; None: the model's path with ``.sig`` behind it.
        signed_name: the name that the signature must give; None: any.
        minimum_version: the smallest version that is accepted, such as ``"1.4.2"``; None: any.
        require_clock: refuse a signature that expires if the device's clock is evidently not set.
        progress: called with one line for each step of the work.

    Returns:
        Medians and tails in microseconds, memory in bytes, and the device: processor, board, frequency, temperature;
        nothing that names its owner.

    Raises:
        InputError: a number is not a positive integer, the rate is out of range or given for a model that cannot be
            streamed, or the model rejects inputs made from its own description.
        ArtifactError, IntegrityError, CardError, ProviderError: the file cannot be opened with these options.
        SignatureError: no trusted key signed the file, or a rule refuses it.
    """
    return measure(
        model,
        provider=provider,
        threads=threads,
        kernels=kernels,
        batch_size=batch_size,
        time_steps=time_steps,
        steps=steps,
        repeats=repeats,
        rate_hz=rate_hz,
        trusted_keys=trusted_keys,
        signature=signature,
        signed_name=signed_name,
        minimum_version=minimum_version,
        require_clock=require_clock,
        progress=progress,
    )
