"""The command line: one file per command; each parses and prints, the library computes and raises."""

import importlib
import sys

import typer

from lstm_edge.cli._frame import CommandGroup

__all__ = ["app", "main"]

# The order in `lstm-edge --help`: the way of a model from training to the device.
COMMANDS = ("train", "export", "quantize", "validate", "inspect", "check", "run")

app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Bring LSTMs to embedded Linux: PyTorch to a verified, quantized, streaming ONNX file.",
)


@app.callback(invoke_without_command=False)
def _root(
    version: bool = typer.Option(False, "--version", help="Print the version and leave.", is_eager=True),
) -> None:
    if version:
        from importlib.metadata import version as installed_version

        typer.echo(installed_version("lstm-edge"))
        raise typer.Exit


for _name in COMMANDS:
    importlib.import_module(f"lstm_edge.cli.{_name}").add_to(app)


def main() -> None:
    """Run the command line; the exit code is 0, 1 (a check or budget failed) or 2 (usage or environment)."""
    sys.exit(app())
