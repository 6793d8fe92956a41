"""The table against other runtimes in README.md and docs/comparison.md, read from the tables of docs/peers.md."""

from collections.abc import Mapping

__all__ = ["comparison_table"]

# Whom the table shows: the heading, and the row of docs/peers.md that is this runtime's int8.
RUNTIMES = (
    ("lstm-edge", ("lstm-edge", "int8")),
    ("LiteRT", ("LiteRT", "int8")),
    ("ExecuTorch", ("ExecuTorch", "int8")),
    ("OpenVINO", ("OpenVINO", "int8 weights")),
    ("onnxruntime", ("onnxruntime", "int8, `quantize_dynamic`")),
)
# What it shows: the label, the section of docs/peers.md, and its column.
FIGURES = (
    ("LSTM of 128 cells: a step, µs", "LSTM (64, 128)", "step, µs"),
    ("LSTM of 512 cells: a step, µs", "LSTM (256, 512)", "step, µs"),
    ("the same: a step of a sequence of 100, µs", "LSTM (256, 512)", "sequence, µs a step"),
    ("the same: signal to noise, dB", "LSTM (256, 512)", "dB"),
    ("the same: file, kB", "LSTM (256, 512)", "file, kB"),
    ("the same: the process, MB", "LSTM (256, 512)", "resident, MB"),
    ("GRU of 512 cells: a step, µs", "GRU (256, 512)", "step, µs"),
    ("silero-vad: a step, µs", "silero-vad 6.2.3", "step, µs"),
    ("silero-vad: signal to noise, dB", "silero-vad 6.2.3", "dB"),
)
# Where a runtime has no figure, docs/peers.md has the reason.
NONE = "none"


def comparison_table(peers: str) -> str:
    """Return the Markdown table.

    Args:
        peers: the text of docs/peers.md.

    Raises:
        ValueError: a section, column or runtime of the table is not there.
    """
    head = ["int8, one thread", *(name for name, _ in RUNTIMES)]
    lines = [head, ["---", *["---:"] * len(RUNTIMES)]]
    for label, section, column in FIGURES:
        rows = _rows(peers, section)
        lines.append([label, *(_cell(rows, key, column, section) for _, key in RUNTIMES)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _rows(peers: str, section: str) -> Mapping[tuple[str, str], Mapping[str, str]]:
    """Return the rows of a section's table by runtime and form, each by column."""
    _, found, text = peers.partition(f"\n## {section}\n")
    if not found:
        raise ValueError(f"docs/peers.md has no section {section!r}: update docs/comparison_table.py")
    table = [line for line in text.partition("\n## ")[0].splitlines() if line.startswith("|")]
    head, _, *body = ([cell.strip() for cell in line.strip("|").split("|")] for line in table)
    return {(cells[0].strip("*"), cells[1]): dict(zip(head, cells, strict=False)) for cells in body}


def _cell(rows: Mapping[tuple[str, str], Mapping[str, str]], key: tuple[str, str], column: str, section: str) -> str:
    if key not in rows:
        raise ValueError(f"docs/peers.md has no row {key} in {section!r}: update docs/comparison_table.py")
    row = rows[key]
    if column not in row:
        raise ValueError(f"docs/peers.md has no column {column!r} in {section!r}: update docs/comparison_table.py")
    # The reason for a row without figures is in its third column.
    return row[column] if row.get("dB") else NONE
