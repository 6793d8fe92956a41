"""The roles of the columns of a table."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from lstm_edge.data._rows import FeatureColumn, Places, Rows
from lstm_edge.data._text_files import at
from lstm_edge_runtime.errors import DataError, InputError

__all__ = [
    "NO_COLUMN",
    "Columns",
    "NoColumnError",
    "find_places",
    "make_rows",
    "parse_columns",
    "required_columns",
]

# A column may be a feature, and the layers of a model have at most 16,384 inputs.
MOST_COLUMNS = 2**16
# As a sequence: the whole file is one.
NO_COLUMN = "-"
_PREFIXES = ("input.", "sequence.", "target.", "steps.")
_ROLES = ("sequence", "step", "target", "group", "time", "features")


class NoColumnError(DataError):
    """A header lacks the column of a role."""

    def __init__(self, message: str, *, role: str) -> None:
        super().__init__(message)
        self.role = role


Named = tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The roles of the columns of a table.

    ``sequence`` names the sequence of a row; ``-``: the file is one sequence. ``step`` (integers, numbers or ISO times)
    is the row's position in the sequence. ``target`` names one column, or several whose numbers together are one
    target; ``-``: there is none. ``group`` and ``time`` are the group and the time of a sequence; columns with these
    names are optional, and columns with other names must exist. ``features``: the columns of ``x`` in their order; by
    default all other columns.

    For a model with several inputs or outputs, ``inputs`` has the columns of each input, ``constants`` those of inputs
    with one value per sequence, and ``targets`` those of each output, in place of ``features`` and ``target``.
    ``per_step`` names the targets that have one value per step even if it is the same on all rows of each sequence.
    """

    sequence: str = "sequence"
    step: str = "step"
    target: tuple[str, ...] = ("target",)
    group: str = "group"
    time: str = "time"
    features: tuple[str, ...] = ()
    inputs: Named = ()
    constants: Named = ()
    targets: Named = ()
    per_step: frozenset[str] = frozenset()

    @property
    def named(self) -> bool:
        """Whether the columns are those of named inputs or targets, or there is no target."""
        return bool(self.inputs or self.constants or self.targets) or self.target == (NO_COLUMN,)

    @property
    def x_columns(self) -> tuple[str, ...]:
        """The columns of all features, in the order of the inputs; empty: all that have no other role."""
        return self.features + tuple(column for _, columns in self.inputs + self.constants for column in columns)

    @property
    def y_columns(self) -> tuple[str, ...]:
        """The columns of all targets."""
        if self.targets:
            return tuple(column for _, columns in self.targets for column in columns)
        return () if self.target == (NO_COLUMN,) else self.target


def parse_columns(text: str) -> Columns:
    """Parse the roles of columns.

    ``sequence=utterance,step=frame,target=speaker,features=a+b+c``: ``+`` joins several names. With a semicolon between
    the roles commas join names too: ``sequence=utterance; step=frame; features=a,b,c``.

    ``input.imu=ax+ay`` is the model's input ``imu``, ``sequence.speaker=e0+e1`` the input ``speaker`` with one value
    per sequence, ``target.word=label`` the target of the output ``word``, ``steps.word=label`` one with a value per
    step. With semicolons ``imu=ax,ay`` is an input too.

    Raises:
        InputError: a part is malformed, or names no column or too many columns.
    """
    apart = ";" if ";" in text else ","
    given: dict[str, tuple[str, ...]] = {}
    for part in text.rstrip(f"{apart} ").split(apart):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        names = tuple(name.strip() for name in (value.replace(",", "+") if apart == ";" else value).split("+"))
        if apart == ";" and key and key not in _ROLES and not key.startswith(_PREFIXES):
            key = f"input.{key}"
        known = key in _ROLES or (key.startswith(_PREFIXES) and not key.endswith("."))
        if not known or not equals or not all(names) or key in given:
            raise InputError(
                f"columns: {part.strip()!r} is not key=name; expected each of "
                f"{', '.join(_ROLES)} at most once, as in target=a or features=a+b; or input.NAME, sequence.NAME, "
                "target.NAME or steps.NAME for an input or output of the model"
            )
        if len(names) > 1 and key in ("sequence", "step", "group", "time"):
            raise InputError(f"columns: {key} is one column, got {len(names)}: {', '.join(names)}")
        given[key] = names
    return _columns_of(given)


def _columns_of(given: dict[str, tuple[str, ...]]) -> Columns:
    def named(*prefixes: str) -> Named:
        return tuple((key.partition(".")[2], names) for key, names in given.items() if key.startswith(prefixes))

    inputs, constants, targets = named("input."), named("sequence."), named("target.", "steps.")
    twice = [name for name, count in Counter(name for name, _ in targets).items() if count > 1]
    if twice:
        raise InputError(f"columns: the output {twice[0]!r} has target and steps; expected one of them")
    if "features" in given and (inputs or constants):
        raise InputError("columns: features are the model's only input; expected features or named inputs, not both")
    if "target" in given and targets:
        raise InputError("columns: target is for the model's only output; expected target or target.NAME, not both")
    defaults = Columns()
    single = {key: given.get(key, (getattr(defaults, key),))[0] for key in ("sequence", "step", "group", "time")}
    return Columns(
        **single,
        target=given.get("target", defaults.target),
        features=given.get("features", defaults.features),
        inputs=inputs,
        constants=constants,
        targets=targets,
        per_step=frozenset(name for name, _ in named("steps.")),
    )


def required_columns(columns: Columns) -> list[tuple[str, str]]:
    """Return the role and the name of every column that must exist."""
    wanted = [] if columns.sequence == NO_COLUMN else [("sequence", columns.sequence)]
    wanted += [("step", columns.step)]
    wanted += [("target", column) for column in columns.y_columns]
    wanted += [(key, getattr(columns, key)) for key in ("group", "time") if getattr(columns, key) != key]
    return wanted + [("features", column) for column in columns.x_columns]


def find_places(name: str, header: Sequence[str], columns: Columns, *, unit: str = "line") -> Places:
    """Find the columns in a header.

    Raises:
        DataError: a column is missing or duplicate, or no column is left for features.
    """
    if len(header) > MOST_COLUMNS:
        raise at(name, 1, f"the header has {len(header):,} columns, expected at most {MOST_COLUMNS:,}", unit=unit)
    if "" in header and not columns.x_columns:
        raise at(
            name,
            1,
            f"column {header.index('') + 1} has no name, such as the index that pandas writes, or what follows a last "
            "delimiter; name it, or name the features with columns",
            unit=unit,
        )
    twice = [column for column, count in Counter(header).items() if count > 1 and column]
    if twice:
        raise at(name, 1, f"the column {min(twice)[:40]!r} is given twice", unit=unit)
    for key, column in required_columns(columns):
        if column not in header:
            advice = f", or sequence={NO_COLUMN} if the file is one sequence" if key == "sequence" else ""
            sentence = f"no column {column!r} ({key}); found {_shown(header)}. Give its name with columns{advice}"
            raise NoColumnError(str(at(name, 1, sentence, unit=unit)), role=key)
    places = {column: place for place, column in enumerate(header)}
    used = {columns.sequence, columns.step, *columns.y_columns, *columns.x_columns}
    # A column of times that is the step is not also the time of the sequence.
    group, time = (None if column in used else places.get(column) for column in (columns.group, columns.time))
    others = {*used, columns.group, columns.time}
    chosen = columns.x_columns or tuple(column for column in header if column not in others)
    if not chosen:
        raise at(name, 1, f"no column is left for features; found {_shown(header)}", unit=unit)
    return Places(
        sequence=None if columns.sequence == NO_COLUMN else places[columns.sequence],
        step=places[columns.step],
        target=tuple(places[column] for column in columns.y_columns),
        features=tuple(places[column] for column in chosen),
        group=group,
        time=time,
    )


def make_rows(name: str, header: Sequence[str], columns: Columns, *, drop: bool, unit: str = "line") -> Rows:
    """Return the empty rows of a table with a header; with ``drop`` rows without a step are left out.

    Raises:
        DataError: see ``find_places``.
    """
    places = find_places(name, header, columns, unit=unit)
    return Rows(
        name=name,
        unit=unit,
        columns=[FeatureColumn(name=header[place]) for place in places.features],
        header=header,
        places=places,
        keep_without_step=not drop,
    )


def _shown(header: Sequence[str]) -> str:
    text = ", ".join(column[:40] for column in header[:100])
    return f"{text}, ..." if len(header) > 100 else text
