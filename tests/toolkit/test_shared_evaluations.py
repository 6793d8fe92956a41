"""The table of evaluations: who makes which, what becomes of lost claims, and errors without secrets."""

import dataclasses
import hashlib
import json
import os
import sqlite3
import subprocess
import sys
import traceback
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from lstm_edge.precision_search import shared
from lstm_edge.precision_search.finish import finished
from lstm_edge.precision_search.measure import Evaluation
from lstm_edge.precision_search.request import BudgetRequest, shared_identity
from lstm_edge.precision_search.shared import Shared, digest_of
from lstm_edge.precision_search.tasks import Task, key_of
from lstm_edge.processes import owner_of
from lstm_edge.storage import parse_storage
from lstm_edge_runtime.errors import ArtifactError, InputError

TASK = Task(parts={"lstm.R": "int4:128"}, role="tuning")
OUTCOME = {"file": {"bytes": 10, "saved": 5, "step_us": None, "sha256": "0" * 64}, "verdict": {"passed": True}}


@pytest.fixture
def storage(tmp_path):
    return parse_storage(f"sqlite:///{tmp_path / 'evaluations.sqlite3'}")


def opened(storage, owner=None, *, search="one"):
    """Open the table as another process would; ``owner`` is its name."""
    found = Shared(storage, digest_of({"search": search}))
    if owner is not None:
        found._owner = owner
    return found


def rows(storage):
    with closing(sqlite3.connect(storage.url.database)) as connection:
        return connection.execute("SELECT owner, beat, outcome FROM lstm_edge_evaluations").fetchall()


def test_one_process_makes_an_evaluation_and_the_others_read_it(storage):
    mine, other, apart = opened(storage, "a"), opened(storage, "b"), opened(storage, "c", search="two")
    assert mine.claim(TASK)
    assert not other.claim(TASK), "claimed, though not read yet"
    assert other.refresh() == {}
    assert not other.claim(TASK)
    mine.finish(TASK, OUTCOME)
    assert mine.refresh() == other.refresh() == {key_of(TASK): OUTCOME}
    assert other.refresh() == {}
    assert mine.count() == 1
    assert apart.count() == 0
    assert apart.claim(TASK), "another search shares nothing"


def test_a_claim_that_was_given_back_is_taken_at_once(storage):
    mine, other = opened(storage, "a"), opened(storage, "b")
    mine.claim(TASK)
    mine.release()
    other.refresh()
    assert other.claim(TASK)
    assert rows(storage) == [("b", 1, None)]


def test_the_claim_of_a_dead_process_is_taken_at_once(storage):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    dead, other = opened(storage, owner_of(child.pid)), opened(storage)
    dead.claim(TASK)
    other.refresh()
    assert not other.claim(TASK), "it lives"
    child.communicate(b"\n")
    assert other.claim(TASK)
    # Two that see it dead do not both take it.
    late = opened(storage, "c")
    late._claims[key_of(TASK)] = shared._Claim(owner=dead._owner, beat=0, since=0.0)
    assert not late.claim(TASK)


def test_the_claim_of_a_silent_machine_is_taken_after_its_lease_and_that_of_a_slow_one_is_not(storage, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("lstm_edge.precision_search.shared.time.monotonic", lambda: clock[0])
    far, other = opened(storage, "another machine"), opened(storage, "b")
    far.claim(TASK)
    other.refresh()
    for _ in range(10):
        clock[0] += shared.BEAT_S + 1
        far.refresh()
        other.refresh()
        assert not other.claim(TASK), "its beats say that it works"
    clock[0] += shared.LEASE_S
    other.refresh()
    assert not other.claim(TASK)
    clock[0] += shared.LEASE_S + 1
    other.refresh()
    assert other.claim(TASK)
    # It was only slow: its outcome is the same, and counts.
    far.finish(TASK, OUTCOME)
    assert other.refresh() == {key_of(TASK): OUTCOME}


def test_an_outcome_without_a_verdict_is_made_again_where_one_is_needed_and_every_process_reads_it(storage):
    mine, other = opened(storage, "a"), opened(storage, "b")
    mine.claim(TASK)
    mine.finish(TASK, OUTCOME | {"verdict": None})
    assert mine.refresh() == other.refresh() == {key_of(TASK): OUTCOME | {"verdict": None}}
    assert other.claim(TASK)
    assert not mine.claim(TASK)
    other.finish(TASK, OUTCOME)
    assert mine.refresh() == other.refresh() == {key_of(TASK): OUTCOME}


def test_two_processes_may_create_the_table_at_once(storage):
    from sqlalchemy import event

    calls = []

    def other(*_args, **_kwargs):
        calls.append(0)
        if len(calls) == 1:
            opened(storage, "b")

    event.listen(shared.EVALUATIONS, "before_create", other)
    try:
        assert opened(storage, "a").claim(TASK)
    finally:
        event.remove(shared.EVALUATIONS, "before_create", other)
    assert len(calls) == 2


@pytest.mark.parametrize("text", ["", "no JSON", "[]", "{}", '{"file": {}, "verdict": null}', '{"file": 3}'])
def test_a_damaged_outcome_is_one_sentence(storage, text):
    mine, other = opened(storage, "a"), opened(storage, "b")
    mine.claim(TASK)
    mine.finish(TASK, OUTCOME)
    with closing(sqlite3.connect(storage.url.database)) as connection, connection:
        connection.execute("UPDATE lstm_edge_evaluations SET outcome = ?", (text,))
    with pytest.raises(InputError, match=r"an outcome in the table lstm_edge_evaluations is damaged; drop the table"):
        other.refresh()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://bob:s3cr3t@127.0.0.1:1/db",
        "postgresql://127.0.0.1:1/db?connect_timeout=s3cr3t%20x",
        "postgresql://127.0.0.1:1/db?options=s3cr3t",
        "sqlite:///none/here.sqlite3?password=s3cr3t",
        "sqlite:///none/here.sqlite3?timeout=s3cr3t%20x",
    ],
)
def test_a_database_that_cannot_be_used_is_one_sentence_without_secrets(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"^storage .*: cannot be used \(") as caught:
        Shared(parse_storage(url), "search")
    error, said = caught.value, "".join(traceback.format_exception(caught.value))
    while error is not None:
        said += repr(error)
        error = error.__cause__ or error.__context__
    assert "s3cr3t" not in said


def test_a_database_that_is_lost_later_is_one_sentence(storage):
    mine = opened(storage, "a")
    mine.claim(TASK)
    with closing(sqlite3.connect(storage.url.database)) as connection, connection:
        connection.execute("DROP TABLE lstm_edge_evaluations")
    for use in (mine.refresh, mine.release, lambda: mine.finish(TASK, OUTCOME)):
        with pytest.raises(InputError, match=r"cannot be used \(no such table"):
            use()
    os.unlink(storage.url.database)


def test_a_task_says_what_it_is():
    assert str(TASK) == "lstm.R=int4:128 on the tuning data"
    assert str(Task(parts={"a": "int8"}, role="held-out", plain="int8")) == "plain int8 on the held-out data"
    assert Task(parts={}, role="tuning").name == "the source"
    keys = {
        Task(parts=parts, role=role, plain=plain).key
        for parts in ({"a": "int8"}, {"a": "int8", "b": "int8"}, {"b": "int8"})
        for role in ("tuning", "held-out")
        for plain in ("", "int8")
    }
    assert len(keys) == 12
    ordered = Task(parts={"b": "int8", "a": "int8"}, role="tuning", below=3)
    assert ordered.key == Task(parts={"a": "int8", "b": "int8"}, role="tuning").key
    assert json.loads(TASK.key)


def test_a_file_that_is_built_otherwise_elsewhere_is_refused(tmp_path):
    asked = BudgetRequest(
        source=tmp_path / "in.onnx", output=tmp_path / "out.onnx", data="", metric="accuracy", max_drop="1pt"
    )
    mine = b"built here"
    composer = SimpleNamespace(
        artifact=lambda _parts: SimpleNamespace(data=mine), plain=lambda _scheme, **_: SimpleNamespace(data=mine)
    )
    candidate = Evaluation(number=1, stage="held-out", parts={"a": "int8"}, bytes=10, saved=5, step_us=None)
    plain = dataclasses.replace(candidate, plain=True, name="int8")
    for answer in (candidate, plain):
        with pytest.raises(ArtifactError, match=f"SHA-256 .* here and {'0' * 64} where it was evaluated"):
            finished(asked, composer, answer, None, measured_sha256="0" * 64)
    for known in (None, hashlib.sha256(mine).hexdigest()):
        assert finished(asked, composer, plain, None, measured_sha256=known).data == mine


def test_what_a_search_depends_on_includes_the_code_of_its_metric_and_the_processor(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    digests = []
    for code in ("return 1.0", "return 2.0"):
        Path("own_metric_of_a_test.py").write_text(f"def share(outputs, targets):\n    {code}\n")
        sys.modules.pop("own_metric_of_a_test", None)
        asked = BudgetRequest(
            source=tmp_path / "in",
            output=tmp_path / "out",
            data="",
            metric="own_metric_of_a_test:share:more",
            max_drop="1",
        )
        digests.append(digest_of(shared_identity(asked, {"source": "0"})))
    monkeypatch.setenv("OMP_NUM_THREADS", "77")
    digests.append(digest_of(shared_identity(asked, {"source": "0"})))
    digests.append(digest_of(shared_identity(asked, {"source": "1"})))
    assert len(set(digests)) == 4
    assert digests[-1] == digest_of(shared_identity(asked, {"source": "1"}))
