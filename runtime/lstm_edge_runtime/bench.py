"""Measure the speed and the memory use of a model on this device, with Session and Stream.

Every timing starts from a state that random input has filled, because a step from a state of zeros can be three times
faster. Inputs change from call to call.
"""

import hashlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import onnxruntime

from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.artifact import read_model_bytes
from lstm_edge_runtime.bench_rate import time_at_rate
from lstm_edge_runtime.bench_report import BenchReport, Opening, Timing
from lstm_edge_runtime.card import BATCH, TIME, TensorSpec
from lstm_edge_runtime.device_facts import condition, device
from lstm_edge_runtime.errors import ArtifactError, InputError
from lstm_edge_runtime.fresh_python import python_command
from lstm_edge_runtime.library import KernelChoice
from lstm_edge_runtime.rate_range import check_rate
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.stepping import is_one_to_one
from lstm_edge_runtime.stream import Stream

__all__ = ["bench"]

Feeds = dict[str, Array]

# Number of different inputs that the timed calls take in turn, so that no call repeats the input before it.
_INPUTS = 16
# Untimed calls before the timing: they bind buffers and warm up caches and branch predictors.
_WARM_UP = 20


def bench(
    path: str | os.PathLike[str],
    *,
    provider: str = "cpu",
    threads: int = 1,
    kernels: KernelChoice = "auto",
    batch_size: int = 1,
    time_steps: int = 100,
    steps: int = 1000,
    repeats: int = 50,
    rate_hz: float | None = None,
    trusted_keys: Sequence[str | os.PathLike[str]] | None = None,
    signature: str | os.PathLike[str] | None = None,
    signed_name: str | None = None,
    minimum_version: str | None = None,
    require_clock: bool = False,
    progress: Callable[[str], None] | None = None,
) -> BenchReport:
    """Measure a model file on this device.

    Args:
        path: the ``.onnx`` file.
        provider: ``"cpu"`` or ``"cuda"``.
        threads: threads within one operator.
        kernels: as for ``Session``.
        batch_size: number of rows.
        time_steps: length of the sequences; for a file with a front end at least one frame of it.
        steps: timed calls of ``Stream.push``.
        repeats: timed calls of ``Session.run`` on a sequence.
        rate_hz: calls of ``Stream.push`` per second, from 0.001 to 1,000,000: each starts at its time, and missed
            deadlines are counted. None: they follow each other at once.
        trusted_keys: public keys, one of which must have signed the file; as for ``Session``.
        signature: the signature file, as for ``Session``.
        signed_name: the name that the signature must give.
        minimum_version: the smallest version that is accepted.
        require_clock: refuse a signature that expires if the device's clock is evidently not set.
        progress: called with a sentence before each measurement.

    Raises:
        InputError: a number is not a positive integer, the rate is out of range or given for a model that cannot be
            streamed, or the model refuses inputs made from its description.
        ArtifactError, ProviderError: the file cannot be opened with these options.
        SignatureError: no trusted key signed the file, or a rule refuses it.
    """
    numbers = {"batch_size": batch_size, "time_steps": time_steps, "steps": steps, "repeats": repeats}
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{name} must be a positive integer, got {value!r}")
    if rate_hz is not None:
        check_rate(rate_hz)
    say = progress or (lambda _message: None)
    before = condition()
    say("opening the file in a fresh process")
    options = {"provider": provider, "threads": threads, "kernels": kernels}
    session = Session(
        path,
        provider=provider,
        threads=threads,
        kernels=kernels,
        trusted_keys=trusted_keys,
        signature=signature,
        signed_name=signed_name,
        minimum_version=minimum_version,
        require_clock=require_clock,
    )
    streamable = session.card is not None and session.card.streaming.verdict != "none"
    if rate_hz is not None and not streamable:
        raise InputError(f"{os.fsdecode(path)} cannot be streamed: it has no steps to time at a rate; omit the rate")
    signed = "" if session.signature is None else session.signature.statement.sha256
    opening = _measure_opening(path, options, signed)
    step, paced, frames = None, None, 1
    if streamable:
        frames = session.card.streaming.every if session.card is not None else 1
        at_rate = "" if rate_hz is None else f", {rate_hz:g} a second"
        say(f"timing {steps} {'steps' if frames == 1 else f'pushes of {frames} steps'}{at_rate}")
        push = _pushes(session, batch_size, frames)
        if rate_hz is None:
            step = _timed(push, steps, batch_size * frames)
        else:
            paced = time_at_rate(push, steps, rate_hz)
    sequence = None
    if session.card is None or session.card.streaming.verdict != "each-call":
        if session.card is not None and session.card.front_end is not None:
            time_steps = max(time_steps, session.card.front_end.first)
        say(f"timing {repeats} sequences of {time_steps} steps")
        sequence = _time_sequences(session, batch_size, time_steps, repeats)
    return BenchReport(
        model=os.path.basename(os.fsdecode(path)),
        sha256=signed or _digest(path),
        size_bytes=session.size_bytes,
        onnxruntime=onnxruntime.__version__,
        provider=provider,
        kernels=session.kernels,
        operators=session.operators,
        threads=threads,
        batch_size=batch_size,
        time=time_steps,
        frames=frames,
        opening=opening,
        step=step,
        sequence=sequence,
        device=device(),
        before=before,
        after=condition(),
        paced=paced,
    )


def _digest(path: str | os.PathLike[str]) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pushes(session: Session, batch_size: int, frames: int) -> Callable[[int], Any]:
    """Return a function that pushes a piece of ``frames`` steps into a warm stream; it takes the number of the push."""
    made = _random_inputs(session, batch_size, frames)
    feeds = [_without_time(session.inputs, piece) if frames == 1 else piece for piece in made]
    single = next(iter(feeds[0])) if len(feeds[0]) == 1 else None
    pieces: list[Any] = [piece if single is None else piece[single] for piece in feeds]
    stream = _filled(session, batch_size)
    for index in range(_WARM_UP):
        stream.push(pieces[index % _INPUTS])
    return lambda index: stream.push(pieces[index % _INPUTS])


def _filled(session: Session, batch_size: int) -> Stream:
    """Return a stream that has run as many random steps as its first outputs need."""
    stream = session.stream(batch_size)
    if session.card is not None and not is_one_to_one(session.card.streaming):
        stream.push(next(_random_inputs(session, batch_size, session.card.streaming.first)))
    return stream


def _fewest(session: Session) -> int:
    """Return the steps that a file needs for its first answer."""
    if session.card is None:
        return 1
    front_end = session.card.front_end
    return max(session.card.streaming.first, 1 if front_end is None else front_end.first)


def _time_sequences(session: Session, batch_size: int, time_steps: int, calls: int) -> Timing:
    sequences = list(_random_inputs(session, batch_size, time_steps))
    streaming = None if session.card is None else session.card.streaming
    # A sequence that pads its end leaves no state to continue from.
    if streaming is None or is_one_to_one(streaming):
        _, state = session.run(sequences[-1])
    else:
        state = _filled(session, batch_size).state if streaming.verdict != "none" else session.initial_state(batch_size)
    return _timed(lambda index: session.run(sequences[index % _INPUTS], state), calls, batch_size * time_steps)


def _timed(call: Callable[[int], Any], calls: int, steps: int) -> Timing:
    """Time each call; one call runs ``steps`` time steps, counted over all rows."""
    elapsed_ns = np.empty(calls)
    for index in range(calls):
        start = time.perf_counter_ns()
        call(index)
        elapsed_ns[index] = time.perf_counter_ns() - start
    p50, p95, p99, worst = (float(value) / 1e3 for value in np.percentile(elapsed_ns, (50, 95, 99, 100)))
    quarter = -(-calls // 4)
    first, last = (float(np.median(part)) / 1e3 for part in (elapsed_ns[:quarter], elapsed_ns[-quarter:]))
    return Timing(
        calls=calls,
        p50_us=p50,
        p95_us=p95,
        p99_us=p99,
        worst_us=worst,
        first_us=first,
        last_us=last,
        steps_per_s=steps * 1e6 / p50,
    )


def _random_inputs(session: Session, batch_size: int, time_steps: int) -> Iterator[Feeds]:
    """Yield inputs: values of the range in the card, or normal floats, and ids below the size of the vocabulary.

    Without a vocabulary, ids go up to those of the golden vectors. An integer without axes is a setting, such as a
    sample rate: its value comes from the golden vectors.
    """
    rng = np.random.default_rng(0)
    sizes = {BATCH: batch_size, TIME: time_steps}
    below, settings = _ids_below(session), _settings(session)
    for _ in range(_INPUTS):
        feeds: Feeds = {}
        for spec in session.inputs:
            shape = [sizes.get(axis, 1) if isinstance(axis, str) else axis for axis in spec.axes]
            dtype = np.dtype(spec.dtype)
            if spec.range is not None and dtype.kind in "fiu":
                low, high = spec.range
                drawn = (
                    rng.uniform(low, high, shape) if dtype.kind == "f" else rng.integers(int(low), int(high) + 1, shape)
                )
            else:
                drawn = rng.standard_normal(shape) if dtype.kind == "f" else rng.integers(0, below, shape)
            feeds[spec.name] = np.asarray(drawn, dtype)
        yield feeds | settings


def _ids_below(session: Session) -> int:
    if session.card is not None and session.card.vocabulary:
        return len(session.card.vocabulary)
    golden = session.golden()
    ids = [
        int(array.max())
        for vector in (golden.vectors if golden is not None else ())
        for name, array in vector.inputs.items()
        if array.dtype.kind in "iu" and array.size and name not in (session.lengths, session.end)
    ]
    return max(ids, default=0) + 1


def _settings(session: Session) -> Feeds:
    golden = session.golden()
    vector = golden.vectors[0].inputs if golden is not None and golden.vectors else {}
    names = [spec.name for spec in session.inputs if not spec.axes and np.dtype(spec.dtype).kind in "iu"]
    return {name: vector[name] for name in names if name in vector}


def _without_time(specs: tuple[TensorSpec, ...], feeds: Feeds) -> Feeds:
    """Return a frame [batch, features] of each input that has a time axis of length 1."""
    return {
        spec.name: np.ascontiguousarray(feeds[spec.name].squeeze(spec.axes.index(TIME)))
        if TIME in spec.axes
        else feeds[spec.name]
        for spec in specs
    }


def _measure_opening(path: str | os.PathLike[str], options: dict[str, Any], signed: str) -> Opening:
    """Open and run the file in a fresh process, because this process already holds memory.

    ``signed`` is the SHA-256 of the file that was signed, or an empty text.
    """
    code = "import sys; from lstm_edge_runtime.bench import _report_opening; _report_opening(*sys.argv[1:])"
    command = python_command(code, os.fsdecode(path), json.dumps(options), signed)
    result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # our own code
    if result.returncode != 0:
        last = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise ArtifactError(f"{path}: a fresh process cannot open it ({last})")
    return Opening(**json.loads(result.stdout.splitlines()[-1]))


def _report_opening(model: str, options: str, signed: str) -> None:
    """Print an Opening as JSON; runs in the fresh process after the imports.

    Args:
        model: path of the file.
        options: Session options as JSON.
        signed: SHA-256 of the file whose signature was verified, or an empty text. This process opens no other.
    """
    before = _memory()
    start = time.perf_counter()
    session = Session(_unchanged(model, signed) if signed else model, **json.loads(options))
    load_ms = (time.perf_counter() - start) * 1e3
    # A convolution without padding needs as many steps as it sees.
    session.run(next(_random_inputs(session, 1, _fewest(session))))
    after = _memory()
    resident = None if before is None or after is None else after[0] - before[0]
    peak = None if before is None or after is None else after[1] - before[0]
    print(json.dumps({"load_ms": load_ms, "resident_bytes": resident, "peak_bytes": peak}))


def _unchanged(model: str, signed: str) -> bytes:
    """Read the file again, and refuse other bytes than those whose signature was verified."""
    data = read_model_bytes(model)
    if hashlib.sha256(data).hexdigest() != signed:
        raise ArtifactError("the file changed after its signature was verified")
    return data


def _memory() -> tuple[int, int] | None:
    """Return VmRSS and VmHWM of this process in bytes, or None if the system does not report them."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            entries = dict(line.split(":", 1) for line in file if ":" in line)
        return int(entries["VmRSS"].split()[0]) * 1024, int(entries["VmHWM"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
