"""Three processes share the evaluations of one search on a real PostgreSQL server; one of them is killed."""

import os
import signal

import pytest
from support.postgresql import postgresql_folder, server, wait_for
from support.worker_cases import children, ended, finish, made, start, write_files, write_metric

from lstm_edge.precision_search.shared import key_of
from lstm_edge.precision_search.tasks import Task

pytestmark = [pytest.mark.slow, pytest.mark.long]

METRIC = "watched:loss:less"
# The call of the metric at which the killed process stops: of its fourth file, after the reference and three files.
STOPS, FINISHED = "5", 3


def calls(folder, pids):
    """Return how often the metric was called in these processes."""
    lines = (folder / "calls.log").read_text().splitlines()
    return sum(int(line.split()[0]) in pids for line in lines)


@pytest.mark.skipif(postgresql_folder() is None, reason="no PostgreSQL server here: make test-postgresql installs it")
def test_three_processes_one_of_which_is_killed_have_the_answer_of_one(tmp_path):
    import psycopg

    files = write_files(tmp_path)
    write_metric(tmp_path)
    outputs = [tmp_path / f"{name}.onnx" for name in ("alone", "killed", "second", "third")]
    here = {"folder": tmp_path, "metric": METRIC}
    alone = start(files, outputs[0], **here)
    finish(alone)
    with server(postgresql_folder()) as storage:
        killed = start(files, outputs[1], "--storage", storage, STOPS=STOPS, **here)
        others = []
        try:
            wait_for(lambda: (tmp_path / "stopped").exists() or killed.poll() is not None)
            [worker] = children(killed.pid)
            others = [start(files, output, "--storage", storage, **here) for output in outputs[2:]]
            with psycopg.connect(storage, autocommit=True, client_encoding="utf8") as connection:
                open_rows = "SELECT task, owner FROM lstm_edge_evaluations WHERE outcome IS NULL"
                # All three are at work when the first one is killed.
                wait_for(lambda: len({owner for _, owner in connection.execute(open_rows)}) == 3)
                [lost] = [task for task, owner in connection.execute(open_rows) if owner.split()[2] == str(killed.pid)]
                killed.send_signal(signal.SIGKILL)
                finish(killed, -signal.SIGKILL)
                wait_for(lambda: ended([worker]))
                counts = [made(finish(process)) for process in others]
                rows = connection.execute("SELECT task, owner, beat, outcome FROM lstm_edge_evaluations").fetchall()
        finally:
            for process in (killed, *others):
                process.kill()
                process.wait()
    answers = [output.read_bytes() for output in (outputs[0], *outputs[2:])]
    assert answers[0] == answers[1] == answers[2]
    assert not outputs[1].exists()
    assert all(mine > 0 for mine, _ in counts)
    finished = {task: owner.split()[2] for task, owner, _, outcome in rows if outcome is not None}
    survivors = {str(process.pid) for process in others}
    # The lost evaluation was made by another process, and what the killed one had finished by no one else: who makes an
    # evaluation again becomes its owner.
    assert finished[lost] in survivors
    assert sum(owner == str(killed.pid) for owner in finished.values()) == FINISHED
    assert key_of(Task(parts={}, role="tuning")) in finished
    assert calls(tmp_path, {worker}) == int(STOPS)
    assert os.path.exists(tmp_path / "stopped")
