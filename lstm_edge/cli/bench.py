"""``lstm-edge bench``: latency, throughput, load time and memory of a model on this device."""

import time
from typing import TYPE_CHECKING, Annotated, cast

import typer

from lstm_edge.cli._arguments import Command
from lstm_edge.cli._options import (
    AsJson,
    BatchSize,
    Kernels,
    MinimumVersion,
    Model,
    Provider,
    RequireClock,
    Signature,
    SignedName,
    Threads,
    TrustedKeys,
)
from lstm_edge.cli._renamed import with_old_names

if TYPE_CHECKING:
    from lstm_edge_runtime.library import KernelChoice

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("bench", no_args_is_help=True, cls=Command)(with_old_names(bench, "bench"))


def bench(
    model: Model,
    *,
    batch_size: BatchSize = 1,
    time_steps: Annotated[int, typer.Option(help="Steps in a sequence.")] = 100,
    steps: Annotated[int, typer.Option(help="Number of streaming steps to time.")] = 1000,
    repeats: Annotated[int, typer.Option(help="Number of sequences to time.")] = 50,
    provider: Provider = "cpu",
    threads: Threads = 1,
    kernels: Kernels = "auto",
    trusted_keys: TrustedKeys = None,
    signature: Signature = None,
    signed_name: SignedName = None,
    minimum_version: MinimumVersion = None,
    require_clock: RequireClock = False,
    as_json: AsJson = False,
) -> None:
    """Measure a model on this device: a streaming step, a whole sequence, load time and memory.

    Inputs are random and the state is not zero. Latencies are those of a call from Python. Memory is the growth of a
    fresh process that opens the file and runs it once. The JSON object also says what the device is (docs/boards.md
    collects such reports); it names no user, host or folder.

    For example:

        lstm-edge bench model.onnx

        lstm-edge bench model.onnx --kernels off --batch-size 16 --json
    """
    from lstm_edge.cli._frame import print_json, print_table, progress
    from lstm_edge.commands.device import bench as measure

    began = time.monotonic()

    def say(message: str) -> None:
        # A short run prints no progress; the first measurement takes less than two seconds for a small model.
        if time.monotonic() - began > 2 or max(steps * batch_size, repeats * batch_size * time_steps) > 20_000:
            progress(message)

    report = measure(
        model,
        provider=provider,
        threads=threads,
        kernels=cast("KernelChoice", kernels),
        batch_size=batch_size,
        time_steps=time_steps,
        steps=steps,
        repeats=repeats,
        trusted_keys=trusted_keys,
        signature=signature,
        signed_name=signed_name,
        minimum_version=minimum_version,
        require_clock=require_clock,
        progress=say,
    )
    if as_json:
        print_json(report.to_json())
    else:
        print_table(("what", "measured"), report.rows())
