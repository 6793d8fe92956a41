"""Run every recipe of the zoo, and print the table of docs/zoo.md; ``--write`` puts it there (``make docs-zoo``).

Packages come from PyPI, 105 MB with those that two recipes share. The exit code is 1 if a recipe
failed or a figure is not what it expects.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from lstm_edge.commands.zoo import ZooReport, zoo_get, zoo_list
from lstm_edge.zoo import Recipe
from lstm_edge_runtime.errors import LstmEdgeError

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "zoo.md"
BEGIN, END = "<!-- zoo: written by `make docs-zoo` -->\n", "<!-- zoo: end -->\n"


def table(rows: list[tuple[Recipe, ZooReport]]) -> str:
    """Return the recipes and what they made as a Markdown table."""
    lines = [
        "| recipe | model | from | licence | streaming | original | float32 | int8 | int8 against float32 (required) |",
        "|---|---|---|---|---|---:|---:|---:|---|",
    ]
    for recipe, report in rows:
        lines.append(
            f"| `{recipe.name}` | [{recipe.title}]({recipe.origin}) | {report.source} | {report.licence} "
            f"| {report.streaming} | {report.original_bytes:,} | {report.float32_bytes:,} "
            f"| {report.quantized_bytes:,} | {report.signal_to_noise_db:.1f} dB "
            f"({report.least_signal_to_noise_db:g} dB) |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run the recipes, print or write, and exit 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    rows, failed = [], []
    with tempfile.TemporaryDirectory() as folder:
        for recipe in zoo_list():
            print(f"{recipe.name}: {recipe.source.label}", file=sys.stderr, flush=True)
            try:
                rows.append((recipe, zoo_get(recipe.name, output=Path(folder) / recipe.name)))
            except LstmEdgeError as error:
                failed.append(f"{recipe.name}: {error}")
    if failed:
        sys.exit("\n".join(failed))
    if options.write:
        before, _, rest = DOCUMENT.read_text().partition(BEGIN)
        DOCUMENT.write_text(f"{before}{BEGIN}\n{table(rows)}\n\n{END}{rest.partition(END)[2]}")
    else:
        print(table(rows))


if __name__ == "__main__":
    main()
