"""The trials of a selection in an Optuna study: one per candidate and fold.

A study is stored in a database, so that an interrupted run continues and several processes, also on several machines,
share the work. Its name has a hash of the data and the settings, so trials of other data are never mixed in.

There are no locks. Every process adds the missing trials. Two processes that start together may add the same trial
twice; then the trial with the lower number counts: Optuna numbers trials consecutively, and a process gives up a trial
that has a duplicate with a lower number. A trial whose process died is added again: at once if that process was on this
machine, else when its heartbeat stops.
"""

import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.engine import URL
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from lstm_edge.processes import is_dead, owner_of
from lstm_edge.storage import CONNECT, Database, Failure, parse_storage
from lstm_edge.training.selection.settings import Architecture

__all__ = ["Cell", "open_study", "run_trials"]

# A candidate, and a fold from 0.
Cell = tuple[Architecture, int]
Scores = dict[Cell, float]

# Seconds between heartbeats of a running trial; seconds without a heartbeat until it counts as dead; seconds between
# two checks of trials of other processes.
_HEARTBEAT, _GRACE, _POLL = 20, 120, 0.5
# Seconds within which a process that takes a trial records its name, which is its next statement.
_CLAIM = 20.0
# If two processes open a new database at the same time, both create its tables, and the slower one gets the error that
# they exist. A later attempt finds the tables; on SQLite, which commits each table at once, the other process may still
# be creating them.
_TRIES = 20
_OPEN = (TrialState.WAITING, TrialState.RUNNING, TrialState.COMPLETE)


@contextmanager
def open_study(storage: str | Database, name: str, *, maximize: bool) -> Iterator[optuna.Study]:
    """Open a study, or create it.

    Args:
        storage: a database, or its URL: ``sqlite:///study.sqlite3``, or ``postgresql://user:password@host/database``.
        name: name of the study.
        maximize: whether more is better.

    Raises:
        InputError: the URL is invalid, or the database cannot be opened or used. The message has no secret of the URL,
            and no error that may contain one is chained.
        ModuleNotFoundError: the database's driver is not installed.
    """
    database = parse_storage(storage) if isinstance(storage, str) else storage
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    failure = Failure(database, StorageInternalError, _NotOpenedError)
    try:
        with failure:
            opened, study = _open(database, name, maximize=maximize)
            try:
                yield study
            finally:
                opened.engine.dispose()
    finally:
        optuna.logging.set_verbosity(before)
    failure.check()


class _NotOpenedError(Exception):
    """The database cannot be opened, for any error of its driver."""


def _open(database: Database, name: str, *, maximize: bool) -> tuple[optuna.storages.RDBStorage, optuna.Study]:
    with warnings.catch_warnings():
        # Heartbeats are marked as experimental; without them the trials of a dead machine would stay open forever.
        warnings.simplefilter("ignore", ExperimentalWarning)
        try:
            database.url.get_dialect().import_dbapi()
            opened = _open_database(database.url)
            study = optuna.create_study(
                storage=opened,
                study_name=name,
                direction="maximize" if maximize else "minimize",
                load_if_exists=True,
            )
        except (SQLAlchemyError, StorageInternalError, ModuleNotFoundError):
            raise
        except Exception as error:  # drivers raise different errors for unknown parameters
            raise _NotOpenedError from error
    return opened, study


def run_trials(
    study: optuna.Study, cells: Sequence[Cell], judge: Callable[[Cell], float], *, on_score: Callable[[Scores], None]
) -> Scores:
    """Run the open trials, wait for those of other processes, and return the scores of all ``cells``.

    Args:
        study: from ``open_study``.
        cells: all pairs of candidate and fold; the study may have more.
        judge: trains and scores one pair.
        on_score: called with the scores known so far, at the start and after each trial.
    """
    keys = {_key(cell): cell for cell in cells}
    nameless: dict[int, float] = {}
    while True:
        scores = _scores(study, keys)
        on_score(scores)
        if len(scores) == len(cells):
            return scores
        _give_up_dead(study, nameless)
        _add_missing(study, cells)
        if any(_key_of(trial) in keys for trial in _trials(study, TrialState.WAITING)):
            study.optimize(lambda trial: _objective(study, trial, keys, judge), n_trials=1)
        else:
            time.sleep(_POLL)


def _objective(study: optuna.Study, trial: Trial, keys: Mapping[str, Cell], judge: Callable[[Cell], float]) -> float:
    key = str(trial.user_attrs.get("cell"))
    twins = (other for other in _trials(study, *_OPEN) if _key_of(other) == key and other.number < trial.number)
    if key not in keys or next(twins, None) is not None:
        # Not requested here (another process took the waiting trial), or a duplicate.
        raise optuna.TrialPruned
    trial.set_user_attr("owner", owner_of(os.getpid()))
    architecture, fold = keys[key]
    # The values are fixed already; suggesting them makes them visible in Optuna's tools.
    trial.suggest_int("hidden", 1, 2**20)
    trial.suggest_int("layers", 1, 2**20)
    trial.suggest_int("fold", 0, 2**20)
    if architecture.density < 1.0:
        trial.suggest_float("density", 0.0, 1.0)
    return judge((architecture, fold))


def _add_missing(study: optuna.Study, cells: Sequence[Cell]) -> None:
    present = {_key_of(trial) for trial in _trials(study, *_OPEN)}
    for cell in cells:
        if _key(cell) not in present:
            architecture, fold = cell
            params: dict[str, Any] = {"hidden": architecture.hidden, "layers": architecture.layers, "fold": fold}
            if architecture.density < 1.0:
                params["density"] = architecture.density
            study.enqueue_trial(params, user_attrs={"cell": _key(cell)})


def _give_up_dead(study: optuna.Study, nameless: dict[int, float]) -> None:
    """Mark running trials as failed if their process on this machine is gone or their heartbeat has stopped.

    A process that is killed right after it took a trial leaves neither its name nor a heartbeat, and Optuna would never
    give up such a trial. ``nameless`` has the time, in seconds of ``time.monotonic()``, at which this process first saw
    each of these trials, so that clocks of other machines do not matter.
    """
    for trial in _trials(study, TrialState.RUNNING):
        owner = str(trial.user_attrs.get("owner", ""))
        now = time.monotonic()
        since = now if "owner" in trial.user_attrs else nameless.setdefault(trial.number, now)
        if is_dead(owner) or now - since > _CLAIM:
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        optuna.storages.fail_stale_trials(study)


def _scores(study: optuna.Study, keys: Mapping[str, Cell]) -> Scores:
    trials = sorted(_trials(study, TrialState.COMPLETE), key=lambda trial: -trial.number)
    found = {keys[_key_of(trial)]: trial.value for trial in trials if _key_of(trial) in keys}
    return {cell: float(value) for cell, value in found.items() if value is not None}


def _trials(study: optuna.Study, *states: TrialState) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=states)


def _key(cell: Cell) -> str:
    return f"{cell[0]}, fold {cell[1]}"


def _key_of(trial: FrozenTrial) -> str:
    return str(trial.user_attrs.get("cell"))


def _open_database(url: URL) -> optuna.storages.RDBStorage:
    """Open a database, and create Optuna's tables if missing, even if other processes do the same."""
    for left in reversed(range(_TRIES)):
        try:
            return optuna.storages.RDBStorage(
                # Optuna treats the URL as a format template, which braces in the URL would break.
                url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}"),
                # No pool: a failed opening leaves no connection, and no connection becomes stale between trials.
                engine_kwargs={"connect_args": CONNECT[url.get_backend_name()], "poolclass": NullPool},
                heartbeat_interval=_HEARTBEAT,
                grace_period=_GRACE,
            )
        except (IntegrityError, ProgrammingError, OperationalError) as error:
            # PostgreSQL: UniqueViolation, DuplicateTable, DuplicateObject; SQLite: "table ... already exists". An error
            # without a state is the driver's own, such as an unknown option: it does not pass.
            server = getattr(error.orig, "sqlstate", None) is not None
            lasting = isinstance(error, ProgrammingError) and not server
            if not left or lasting or (isinstance(error, OperationalError) and "already exists" not in str(error.orig)):
                raise
            time.sleep(_POLL)
        except RuntimeError as error:
            # The tables belong to another version of Optuna.
            raise StorageInternalError(str(error)) from error
    raise AssertionError("unreachable")
