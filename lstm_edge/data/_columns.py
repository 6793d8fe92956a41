"""The roles of the columns of a CSV file."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from lstm_edge.data._text_files import at
from lstm_edge_runtime.errors import InputError

__all__ = ["Columns", "Places", "find_places", "parse_columns"]

# A column may be a feature, and the layers of a model have at most 16,384 inputs.
MOST_COLUMNS = 2**16


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The roles of the columns of a CSV file.

    ``sequence`` names the sequence of a line and ``step`` (integers) its position in the sequence. ``target`` names one
    column, or several whose numbers together are one target. ``group`` and ``time`` are the group and the time of a
    sequence; columns with these names are optional, and columns with other names must exist. ``features``: the columns
    of ``x`` in their order; by default all other columns.
    """

    sequence: str = "sequence"
    step: str = "step"
    target: tuple[str, ...] = ("target",)
    group: str = "group"
    time: str = "time"
    features: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Places:
    """The index of each column in a line, from 0; None for an absent optional column."""

    sequence: int
    step: int
    target: tuple[int, ...]
    features: tuple[int, ...]
    group: int | None
    time: int | None


def parse_columns(text: str) -> Columns:
    """Parse ``sequence=utterance,step=frame,target=speaker,features=a+b+c``; ``+`` joins several names.

    Raises:
        InputError: a part is malformed, or names no column or too many columns.
    """
    given: dict[str, tuple[str, ...]] = {}
    for part in text.split(","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        names = tuple(name.strip() for name in value.split("+"))
        if key not in Columns.__dataclass_fields__ or not equals or not all(names) or key in given:
            raise InputError(
                f"columns: {part.strip()!r} is not key=name; expected each of "
                f"{', '.join(Columns.__dataclass_fields__)} at most once, as in target=a or features=a+b"
            )
        if len(names) > 1 and key not in ("target", "features"):
            raise InputError(f"columns: {key} is one column, got {len(names)}: {', '.join(names)}")
        given[key] = names
    defaults = Columns()
    single = {key: given.get(key, (getattr(defaults, key),))[0] for key in ("sequence", "step", "group", "time")}
    return Columns(
        **single, target=given.get("target", defaults.target), features=given.get("features", defaults.features)
    )


def find_places(name: str, header: list[str], columns: Columns) -> Places:
    """Find the columns in a header.

    Raises:
        DataError: a column is missing or duplicate, or no column is left for features.
    """
    if len(header) > MOST_COLUMNS:
        raise at(name, 1, f"the header has {len(header):,} columns, expected at most {MOST_COLUMNS:,}")
    twice = [column for column, count in Counter(header).items() if count > 1]
    if twice:
        raise at(name, 1, f"the column {min(twice)[:40]!r} is given twice")
    defaults = Columns()
    optional = {key for key in ("group", "time") if getattr(columns, key) == getattr(defaults, key)}
    wanted = [("sequence", columns.sequence), ("step", columns.step)]
    wanted += [("target", column) for column in columns.target]
    wanted += [(key, getattr(columns, key)) for key in ("group", "time") if key not in optional]
    wanted += [("features", column) for column in columns.features]
    for key, column in wanted:
        if column not in header:
            raise at(name, 1, f"no column {column!r} ({key}); found {_shown(header)}. Give its name with columns")
    places = {column: place for place, column in enumerate(header)}
    others = {columns.sequence, columns.step, *columns.target, columns.group, columns.time}
    chosen = columns.features or tuple(column for column in header if column not in others)
    if not chosen:
        raise at(name, 1, f"no column is left for features; found {_shown(header)}")
    return Places(
        sequence=places[columns.sequence],
        step=places[columns.step],
        target=tuple(places[column] for column in columns.target),
        features=tuple(places[column] for column in chosen),
        group=places.get(columns.group),
        time=places.get(columns.time),
    )


def _shown(header: Sequence[str]) -> str:
    text = ", ".join(column[:40] for column in header[:100])
    return f"{text}, ..." if len(header) > 100 else text
