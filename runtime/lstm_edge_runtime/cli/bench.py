"""``lstm-edge bench``: latency, throughput, load time and memory of a model on this device."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

from lstm_edge_runtime.cli.definition import CommandDefinition, OptionDefinition
from lstm_edge_runtime.cli.options import (
    AS_JSON,
    BATCH_SIZE,
    KERNELS,
    MODEL,
    PROVIDER,
    THREADS,
    TRUST,
    with_old_flag,
)
from lstm_edge_runtime.cli.printing import print_json, progress
from lstm_edge_runtime.cli.refusals import refuse_bench
from lstm_edge_runtime.cli.tables import print_table

if TYPE_CHECKING:
    from lstm_edge_runtime.library import KernelChoice

__all__ = ["COMMAND"]


def bench(
    model: str,
    *,
    batch_size: int,
    time_steps: int,
    steps: int,
    repeats: int,
    rate_hz: float | None,
    provider: str,
    threads: int,
    kernels: "KernelChoice",
    trusted_keys: list[Path] | None,
    signature: Path | None,
    signed_name: str | None,
    minimum_version: str | None,
    require_clock: bool,
    as_json: bool,
) -> None:
    """Measure a model on this device: a streaming step, a whole sequence, load time and memory.

    Inputs are random and the state is not zero. Latencies are those of a call from Python. Memory is the growth of a
    fresh process that opens the file and runs it once. The JSON object also says what the device is (docs/boards.md
    collects such reports); it names no user, host or folder.

    With --rate the streaming steps start at fixed times, as in a control loop. A start that passes before the answer is
    there is a missed deadline.

    For example:

        lstm-edge bench model.onnx

        lstm-edge bench model.onnx --kernels off --batch-size 16 --json

        lstm-edge bench policy.onnx --rate 200 --steps 12000
    """
    given = {name: value for name, value in locals().items() if name != "as_json"}
    refuse_bench(given)
    from lstm_edge_runtime.commands.device import bench as measure

    began = time.monotonic()

    def say(message: str) -> None:
        # A short run prints no progress; the first measurement takes less than two seconds for a small model.
        many = max(steps * batch_size, repeats * batch_size * time_steps) > 20_000
        if many or time.monotonic() - began > 2 or (rate_hz is not None and steps / rate_hz > 2):
            progress(message)

    report = measure(**given, progress=say)
    if as_json:
        print_json(report.to_json())
    else:
        print_table(("what", "measured"), report.rows())


COMMAND = CommandDefinition(
    name="bench",
    run=bench,
    options=(
        MODEL,
        with_old_flag(BATCH_SIZE, "--batch"),
        OptionDefinition(
            name="time_steps",
            flags=("--time-steps",),
            kind=int,
            default=100,
            minimum=1,
            old_flag="--time",
            help="Steps in a sequence.",
        ),
        OptionDefinition(
            name="steps",
            flags=("--steps",),
            kind=int,
            default=1000,
            minimum=1,
            help="Number of streaming steps to time.",
        ),
        OptionDefinition(
            name="repeats",
            flags=("--repeats",),
            kind=int,
            default=50,
            minimum=1,
            help="Number of sequences to time.",
        ),
        OptionDefinition(
            name="rate_hz",
            flags=("--rate",),
            kind=float,
            metavar="HZ",
            help="Streaming steps per second. By default as fast as possible.",
        ),
        PROVIDER,
        THREADS,
        KERNELS,
        *TRUST,
        AS_JSON,
    ),
)
