"""`lstm-edge train`: train a ready-made model; one command for each task."""

from typing import Any

import typer

from lstm_edge.cli._renamed import with_old_names
from lstm_edge.cli.train import classify, language, predict, tag
from lstm_edge.cli.train.classify import classification
from lstm_edge.cli.train.language import language_model
from lstm_edge.cli.train.options import Peephole
from lstm_edge.cli.train.predict import forecast
from lstm_edge.cli.train.tag import tagging

__all__ = ["TASKS", "Peephole", "add_to", "classification", "forecast", "language_model", "tagging"]

HELP = """Train a model; one file for each, `.safetensors`.

An interrupted training goes on with --resume; `torchrun --nproc-per-node 2 -m lstm_edge train ...` trains with several
processes. docs/training.md has the recipes.
"""

# Each command with the examples under its help.
_COMMANDS: dict[str, tuple[Any, str]] = {
    "classification": (classification, classify.EPILOG),
    "tagging": (tagging, tag.EPILOG),
    "forecast": (forecast, predict.EPILOG),
    "language-model": (language_model, language.EPILOG),
}
TASKS = tuple(_COMMANDS)


def add_to(app: typer.Typer) -> None:
    """Add the group `train` with a command for each task."""
    group = typer.Typer(no_args_is_help=True, help=HELP)
    for name, (command, epilog) in _COMMANDS.items():
        group.command(name, epilog=epilog, no_args_is_help=True)(with_old_names(command, "train"))
    app.add_typer(group, name="train")
