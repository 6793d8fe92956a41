"""The command line: one file per command; each parses and prints, the library computes and raises."""

import gc
import importlib
import os
import sys

# Imports make many objects and no garbage: without collections --help takes a tenth less.
_collected = gc.isenabled()
gc.disable()

import typer  # noqa: E402

from lstm_edge.cli import _device  # noqa: E402
from lstm_edge.cli._frame import CommandGroup  # noqa: E402
from lstm_edge_runtime.cli.printing import FORESEEN, end_unforeseen, end_with  # noqa: E402

__all__ = ["app", "main"]

# Order in `lstm-edge --help`: a model's path from training to the device.
COMMANDS = (
    "data",
    "train",
    "select",
    "export",
    "adopt",
    "zoo",
    "quantize",
    "validate",
    "inspect",
    "check",
    "run",
    "bench",
    "keygen",
    "sign",
    "bundle",
    "deploy",
    "status",
    "rollback",
    "prune",
)


# New objects before a collection of cycles. With Python's 700 an export of a small model starts 1,134 of them, in
# 1.2 of its 7.3 s; with this 110, in 0.35 s.
COLLECT_AFTER = 10_000


class _Commands(CommandGroup):
    order = COMMANDS


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Bring LSTMs to embedded Linux: PyTorch to a verified, quantized, streaming ONNX file.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        import lstm_edge

        typer.echo(lstm_edge.__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "-V", "--version", help="Print the version and exit.", is_eager=True, callback=_print_version
    ),
) -> None:
    pass


for _name in COMMANDS:
    if _name in _device.COMMANDS:
        _device.add_to(app, _name)
    else:
        importlib.import_module(f"lstm_edge.cli.{_name}").add_to(app)
if _collected:
    gc.enable()


def main() -> None:
    """Run the command line; the exit code is 0, 1 (a check or budget failed) or 2 (usage or environment)."""
    gc.set_threshold(COLLECT_AFTER)
    try:
        sys.exit(app())
    except FORESEEN as error:  # outside of a command: the help cannot be written
        if os.environ.get("LSTM_EDGE_DEBUG"):
            raise
        sys.exit(end_with(error))
    except Exception as error:  # the outermost frame: an unforeseen error becomes one sentence too
        if os.environ.get("LSTM_EDGE_DEBUG"):
            raise
        sys.exit(end_unforeseen(error))
