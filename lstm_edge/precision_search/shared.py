"""The measurements of a search in a database, which processes on several machines share.

A row is one measurement of one search. It is claimed by the process that makes it, and has its outcome later. Rows are
found by a digest of the search (source, data, options, versions, processor), so nothing is shared with another search.

A claim is a lease. Its owner raises ``beat`` every 20 seconds. A claim whose beat does not change for 120 seconds, by
the clock of the process that watches it, or whose process is known to be gone, is taken over. So a lost process costs
its measurement only, and no two clocks are compared. If an owner was only slow, both make the measurement, with the
same outcome. A row is changed only if its owner and beat are still those that were read.
"""

import hashlib
import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from lstm_edge.precision_search.tasks import Outcome, Task, key_of
from lstm_edge.processes import is_dead, owner_of
from lstm_edge.storage import CONNECT, Database, Failure
from lstm_edge_runtime.errors import InputError

__all__ = ["BEAT_S", "LEASE_S", "Shared", "digest_of"]

# Seconds between two beats, and without a beat until a claim is lost; the same as those of `lstm-edge select`.
BEAT_S, LEASE_S = 20.0, 120.0
# Changes whenever outcomes of earlier versions would mean something else.
VERSION = 1
# Processes that open a new database at once create its table at once; all but one get an error, and try again.
TRIES, PAUSE_S = 20, 0.5
# The owner of a claim that was given back.
NOBODY = ""

EVALUATIONS = Table(
    "lstm_edge_evaluations",
    MetaData(),
    Column("search", String(64), primary_key=True),
    Column("task", String(64), primary_key=True),
    Column("described", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("beat", Integer, nullable=False),
    Column("outcome", Text),
)
ROW = EVALUATIONS.c


def digest_of(identity: Mapping[str, Any]) -> str:
    """Return the SHA-256 of what all measurements of a search depend on, JSON values, in hexadecimal."""
    text = json.dumps({"version": VERSION, "identity": identity}, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(kw_only=True)
class _Claim:
    """A row without an outcome: its owner, its beat, and since when it has this beat by this process's clock."""

    owner: str
    beat: int
    since: float


class Shared:
    """The rows of one search. Every method raises InputError, without secrets, if the database cannot be used."""

    def __init__(self, database: Database, search: str) -> None:
        """Open the database; its table is created if it is missing.

        Args:
            database: see ``lstm_edge.storage.parse_storage``.
            search: see ``digest_of``.

        Raises:
            InputError: the database cannot be used.
            ModuleNotFoundError: the database's driver is not installed.
        """
        self.name = database.shown
        self._database, self._search = database, search
        self._owner = owner_of(os.getpid()) or uuid.uuid4().hex
        self._claims: dict[str, _Claim] = {}
        # The beats of the rows whose outcome was read.
        self._known: dict[str, int] = {}
        self._beat_at = time.monotonic()
        database.url.get_dialect().import_dbapi()
        failure = Failure(database, Exception)  # drivers raise different errors for unknown parameters
        with failure:
            # No pool: a connection must not become stale during a long evaluation.
            arguments = CONNECT[database.url.get_backend_name()]
            self._engine = create_engine(database.url, connect_args=arguments, poolclass=NullPool)
            self._create()
        failure.check()

    def count(self) -> int:
        """Return the number of outcomes."""
        with self._connection() as connection:
            rows = select(func.count()).where(ROW.search == self._search, ROW.outcome.is_not(None))
            return connection.scalar(rows) or 0

    def refresh(self) -> dict[str, Outcome]:
        """Read the rows, and beat; returns the outcomes since the last call, by the digest of their task."""
        found: dict[str, Outcome] = {}
        with self._connection() as connection:
            if time.monotonic() - self._beat_at > BEAT_S:
                mine = (ROW.search == self._search, ROW.owner == self._owner, ROW.outcome.is_(None))
                connection.execute(update(EVALUATIONS).where(*mine).values(beat=ROW.beat + 1))
                self._beat_at = time.monotonic()
            rows = connection.execute(
                select(ROW.task, ROW.owner, ROW.beat, ROW.outcome.is_not(None)).where(ROW.search == self._search)
            ).all()
            for task, _, beat, done in rows:
                if done and self._known.get(task) != beat:
                    text = connection.scalar(select(ROW.outcome).where(*self._is(task), ROW.beat == beat))
                    if text is not None:
                        found[task], self._known[task] = _parsed(text, self.name), beat
        for task, owner, beat, done in rows:
            claim = self._claims.get(task)
            if done:
                self._claims.pop(task, None)
            elif claim is None or (claim.owner, claim.beat) != (owner, beat):
                self._claims[task] = _Claim(owner=owner, beat=beat, since=time.monotonic())
        return found

    def claim(self, task: Task) -> bool:
        """Claim a measurement; False if another process makes it, or made it since the last ``refresh``."""
        key = key_of(task)
        claim = self._claims.get(key)
        if claim is not None and claim.owner == self._owner:
            return True
        if claim is not None and not self._is_lost(claim):
            return False
        with self._connection() as connection:
            if claim is not None:
                was: tuple[Any, ...]
                was, beat = (ROW.owner == claim.owner, ROW.outcome.is_(None)), claim.beat
            elif key in self._known:
                # It has an outcome without a verdict, which the size of the file had made unnecessary.
                was, beat = (ROW.outcome.is_not(None),), self._known[key]
            else:
                return self._take(key, 0, self._insert(connection, key, task))
            row = update(EVALUATIONS).where(*self._is(key), ROW.beat == beat, *was)
            values = {"owner": self._owner, "beat": beat + 1, "outcome": None}
            return self._take(key, beat + 1, connection.execute(row.values(**values)).rowcount == 1)

    def finish(self, task: Task, outcome: Outcome) -> None:
        """Record an outcome, also of a claim that was taken over meanwhile: it is the same."""
        key = key_of(task)
        with self._connection() as connection:
            row = update(EVALUATIONS).where(*self._is(key), ROW.outcome.is_(None))
            connection.execute(row.values(outcome=json.dumps(outcome, sort_keys=True, allow_nan=False)))
        self._claims.pop(key, None)

    def release(self) -> None:
        """Give back the claims of this process, for other processes to take at once."""
        with self._connection() as connection:
            mine = (ROW.search == self._search, ROW.owner == self._owner, ROW.outcome.is_(None))
            connection.execute(update(EVALUATIONS).where(*mine).values(owner=NOBODY))
        self._claims.clear()

    def _take(self, key: str, beat: int, taken: bool) -> bool:
        if taken:
            self._known.pop(key, None)
            self._claims[key] = _Claim(owner=self._owner, beat=beat, since=time.monotonic())
        return taken

    def _is_lost(self, claim: _Claim) -> bool:
        return claim.owner == NOBODY or is_dead(claim.owner) or time.monotonic() - claim.since > LEASE_S

    def _insert(self, connection: Connection, key: str, task: Task) -> bool:
        row = {"search": self._search, "task": key, "described": str(task), "owner": self._owner, "beat": 0}
        try:
            with connection.begin_nested():
                connection.execute(insert(EVALUATIONS).values(**row))
        except IntegrityError:  # another process was faster
            return False
        return True

    def _is(self, key: str) -> tuple[Any, ...]:
        return ROW.search == self._search, ROW.task == key

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        """Connect for one transaction."""
        failure = Failure(self._database)
        with failure, self._engine.begin() as connection:
            yield connection
        failure.check()

    def _create(self) -> None:
        for left in reversed(range(TRIES)):
            try:
                EVALUATIONS.metadata.create_all(self._engine)
            except (IntegrityError, ProgrammingError, OperationalError) as error:
                if not left or not _is_there(error):
                    raise
                time.sleep(PAUSE_S)
            else:
                return


def _is_there(error: SQLAlchemyError) -> bool:
    """Whether another process has created the table meanwhile."""
    # PostgreSQL: UniqueViolation of the catalogue, DuplicateTable; SQLite: "table ... already exists".
    return isinstance(error, IntegrityError) or "already exists" in str(error)


def _parsed(text: str, name: str) -> Outcome:
    try:
        outcome = json.loads(text)
        if "error" in outcome or ({"bytes", "saved"} <= outcome["file"].keys() and "verdict" in outcome):
            return dict(outcome)
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    raise InputError(
        f"storage {name}: an outcome in the table lstm_edge_evaluations is damaged; drop the table to start again"
    )
