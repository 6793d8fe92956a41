"""Runs commands in processes of their own with little memory: JSON jobs on standard input, JSON results on output.

Each job is a list of lstm-edge's arguments. Everything is imported once, then each job is one fork, so that a command
costs some milliseconds and a crash or a hang ends that job alone. No pytest here: it is started by test_hostile.py.
"""

import contextlib
import json
import os
import resource
import signal
import sys
import tempfile
from typing import Any

# What a command may take beyond what the imports take, in bytes of address space, and seconds of processor time.
MEMORY_BYTES = 1536 * 2**20
SECONDS = 20


def main() -> None:
    """Import, then run job after job."""
    import onnxruntime  # noqa: F401

    import lstm_edge_exporters.quantize
    from lstm_edge.cli import app

    with contextlib.suppress(ImportError):
        import lstm_edge_exporters.adopt  # noqa: F401

    jobs = json.load(sys.stdin)
    json.dump([run(app, arguments) for arguments in jobs], sys.stdout)


def run(app: Any, arguments: list[str]) -> dict[str, Any]:
    """Run one command; ``status`` is its exit code, or minus the signal that ended it."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        child = os.fork()
        if child == 0:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(out.fileno(), 1)
            os.dup2(errors.fileno(), 2)
            limit_process()
            code = 99
            try:
                app(arguments, prog_name="lstm-edge")
            except SystemExit as done:
                code = done.code if isinstance(done.code, int) else 98
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        status, usage = os.wait4(child, 0)[1:]
        texts = []
        for file in (out, errors):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "backslashreplace"))
        return {
            "arguments": arguments,
            "status": os.waitstatus_to_exitcode(status),
            "out": texts[0],
            "errors": texts[1],
            "peak_bytes": usage.ru_maxrss * 1024,
            # Of the processor: those of the clock depend on who else is at work.
            "seconds": usage.ru_utime + usage.ru_stime,
        }


def limit_process() -> None:
    """Limit address space and time of this process; standard output and error are text files from here on."""
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, used + MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(30 * SECONDS)  # for one that sleeps


if __name__ == "__main__":
    main()
