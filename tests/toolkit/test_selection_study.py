"""Studies: an interrupted run goes on, two processes share the work, also on a real PostgreSQL server."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from support.postgresql import PATIENCE_S, postgresql_folder, server, wait_for

from lstm_edge.processes import is_dead, owner_of
from lstm_edge.training.selection import Architecture

# Private: from outside a process that is dead and one that is slow look the same for minutes.
from lstm_edge.training.selection.study import open_study, run_trials
from lstm_edge_runtime.errors import InputError

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CELLS = [(Architecture(hidden=hidden, layers=1), fold) for hidden in (8, 16, 32) for fold in range(4)]

# Works on the study until all cells have a score; every cell that it begins is a line of the log. It never ends the
# cell of line ``stop``, and ends none before ``together`` processes have begun one.
WORKER = """
import os, signal, sys, time
from lstm_edge.training.selection.study import open_study, run_trials
from lstm_edge.training.selection import Architecture

storage, log, stop, together = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
cells = [(Architecture(hidden=hidden, layers=1), fold) for hidden in (8, 16, 32) for fold in range(4)]

def judge(cell):
    with open(log, "a") as file:
        file.write(f"{os.getpid()} {cell[0].hidden} {cell[1]}\\n")
    while True:
        lines = open(log).read().splitlines()
        if len(lines) == stop:
            signal.pause()
        if len({line.split()[0] for line in lines}) >= together:
            break
        time.sleep(0.02)
    return cell[0].hidden + cell[1] / 10

with open_study(storage, "worker", maximize=True) as study:
    scores = run_trials(study, cells, judge, on_score=lambda scores: None)
assert scores == {cell: cell[0].hidden + cell[1] / 10 for cell in cells}, scores
"""


def start(storage, log, *, stop=-1, together=1):
    paths = os.pathsep.join(str(ROOT / folder) for folder in ("", "exporters", "runtime"))
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, storage, str(log), str(stop), str(together)],
        env=os.environ | {"PYTHONPATH": paths},
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, errors


def begun(log):
    """How often each cell was begun, and by how many processes all in all."""
    lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    return Counter((int(hidden), int(fold)) for _, hidden, fold in lines), {process for process, _, _ in lines}


def score(cell):
    return cell[0].hidden + cell[1] / 10


@pytest.mark.long
def test_a_killed_run_goes_on_where_it_was(tmp_path):
    storage, log = f"sqlite:///{tmp_path / 'study.sqlite3'}", tmp_path / "log"
    process = start(storage, log, stop=4)
    wait_for(lambda: sum(begun(log)[0].values()) == 4)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    killed = log.read_text().splitlines()[-1].split()
    finish(start(storage, log))
    counts, processes = begun(log)
    # What was under way when the process died is done again, at once, and nothing else.
    assert counts == Counter({(cell[0].hidden, cell[1]): 1 for cell in CELLS}) + Counter(
        [(int(killed[1]), int(killed[2]))]
    )
    assert len(processes) == 2


def test_a_finished_study_trains_nothing_and_a_larger_grid_only_what_is_new(tmp_path):
    storage, judged = f"sqlite:///{tmp_path / 'study.sqlite3'}", []

    def judge(cell):
        judged.append(cell)
        return score(cell)

    for cells in (CELLS[:4], CELLS[:4], CELLS[:6]):
        with open_study(storage, "grid", maximize=False) as study:
            found = run_trials(study, cells, judge, on_score=lambda _: None)
        assert found == {cell: score(cell) for cell in cells}
    assert judged == CELLS[:6]


def test_an_error_in_a_trial_is_raised_and_the_trial_is_done_again(tmp_path):
    storage = f"sqlite:///{tmp_path / 'study.sqlite3'}"

    def fail(_cell):
        raise InputError("training: the loss became nan")

    with pytest.raises(InputError, match="the loss became nan"), open_study(storage, "s", maximize=True) as study:
        run_trials(study, CELLS[:2], fail, on_score=lambda _: None)
    with open_study(storage, "s", maximize=True) as study:
        assert run_trials(study, CELLS[:2], score, on_score=lambda _: None) == {cell: score(cell) for cell in CELLS[:2]}


def test_a_trial_that_was_added_twice_is_done_once(tmp_path):
    # Two processes that start together may both find a trial missing.
    with open_study(f"sqlite:///{tmp_path / 'study.sqlite3'}", "s", maximize=True) as study:
        for _ in range(2):
            study.enqueue_trial({"hidden": 8, "layers": 1, "fold": 0}, user_attrs={"cell": "8 x 1, fold 0"})
        judged = []
        run_trials(study, CELLS[:2], lambda cell: judged.append(cell) or 1.0, on_score=lambda _: None)
        assert judged == CELLS[:2]


def test_only_a_process_of_this_machine_that_is_gone_is_dead():
    own = owner_of(os.getpid())
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = owner_of(child.pid)
    assert not is_dead(own)
    assert not is_dead(owner)
    child.communicate(b"\n")
    assert is_dead(owner)
    assert not is_dead("another-boot" + owner[12:])
    assert not is_dead("")


@pytest.mark.parametrize("content", [b"not a database" * 100])
def test_a_storage_that_is_no_database_gets_one_sentence(tmp_path, content):
    path = tmp_path / "study.sqlite3"
    path.write_bytes(content)
    with (
        pytest.raises(InputError, match=r"^storage sqlite:///.*study\.sqlite3: cannot be used \("),
        open_study(f"sqlite:///{path}", "s", maximize=True),
    ):
        pass
    assert path.read_bytes() == content


def test_a_study_of_another_version_of_optuna_gets_one_sentence(tmp_path):
    path = tmp_path / "study.sqlite3"
    with open_study(f"sqlite:///{path}", "s", maximize=True):
        pass
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v9.9.9'")
    with (
        pytest.raises(InputError, match=r"study\.sqlite3: cannot be used \(The runtime optuna version .* is no longer"),
        open_study(f"sqlite:///{path}", "s", maximize=True),
    ):
        pass


def test_a_password_is_not_repeated():
    with (
        pytest.raises(InputError, match="cannot be used") as caught,
        open_study("postgresql://me:secret@127.0.0.1:1/none", "s", maximize=True),
    ):
        pass
    assert "secret" not in str(caught.value)


def open_while_another_process_does(storage):
    """Open a new database; between the look for tables and their making, another process makes them all."""
    from optuna.storages._rdb.models import BaseModel
    from sqlalchemy import event

    calls = []

    def other(*_args, **_kwargs):
        calls.append(len(calls))
        if len(calls) == 1:
            with open_study(storage, "other", maximize=True):
                pass

    # The first of all listeners: the enumerated types of PostgreSQL are made by others.
    event.listen(BaseModel.metadata, "before_create", other, insert=True)
    try:
        with open_study(storage, "s", maximize=True) as study:
            assert run_trials(study, CELLS[:1], score, on_score=lambda _: None) == {CELLS[0]: score(CELLS[0])}
    finally:
        event.remove(BaseModel.metadata, "before_create", other)
    assert len(calls) >= 2


def test_two_processes_may_open_a_new_database_at_once(tmp_path):
    open_while_another_process_does(f"sqlite:///{tmp_path / 'study.sqlite3'}")


@pytest.mark.long
@pytest.mark.skipif(postgresql_folder() is None, reason="no PostgreSQL server here: make test-postgresql installs it")
def test_two_processes_share_a_study_on_postgresql_and_do_no_trial_twice(tmp_path):
    import psycopg

    log = tmp_path / "log"
    with server(postgresql_folder()) as storage:
        fresh = storage.rpartition("/")[0] + "/fresh"
        with psycopg.connect(storage, autocommit=True) as connection:
            connection.execute("CREATE DATABASE fresh")
        open_while_another_process_does(fresh)
        both = [start(storage, log, together=2) for _ in range(2)]
        try:
            for process in both:
                finish(process)
        finally:
            for process in both:
                process.kill()
                process.communicate()
        counts, processes = begun(log)
        assert counts == Counter((cell[0].hidden, cell[1]) for cell in CELLS)
        assert processes == {str(process.pid) for process in both}
