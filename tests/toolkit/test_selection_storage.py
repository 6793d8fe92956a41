"""No secret of `--storage` leaves it: not in errors, tracebacks, tables, JSON, files or a child's command line."""

import logging
import subprocess
import traceback

import numpy as np
import pytest
from typer.testing import CliRunner

from lstm_edge.cli import app
from lstm_edge.storage import parse_storage
from lstm_edge.training.selection import sqlite_url, study
from lstm_edge.training.selection.study import open_study
from lstm_edge_runtime.errors import InputError

SECRET = "s3cr3t pw/x"
QUOTED = "s3cr3t%20pw%2Fx"
PLACES = [
    f"postgresql://bob:{QUOTED}@127.0.0.1:1/db",
    f"postgresql://bob:s3cr3t+pw%2Fx@127.0.0.1:1/db?sslpassword={QUOTED}",
    f"postgresql://:{QUOTED}@127.0.0.1:1/db",
    f"postgresql://bob%3A{QUOTED}@127.0.0.1:1/db",
    f"postgresql://127.0.0.1:1/db%20password={QUOTED}",
    f"postgresql://{QUOTED}/db?connect_timeout=1&host=127.0.0.1&port=1",
    f"postgresql+psycopg://bob@127.0.0.1:1/db?application_name=a%20password%3D{QUOTED}",
    *(
        f"postgresql://127.0.0.1:1/db?user=bob&{key}={QUOTED}"
        for key in ("password", "PASSWORD", "passwd", "sslpassword", "sslkey", "passfile", "options", "token", "user")
    ),
    f"postgresql://127.0.0.1:1/db?password=a&password={QUOTED}",
    f"postgresql://127.0.0.1:1/db?sslmode={QUOTED}",
    f"postgresql://127.0.0.1:1/db?connect_timeout={QUOTED}",
    f"postgresql://bob@127.0.0.1:1/db?client_encoding={QUOTED}",
    f"postgresql://bob@127.0.0.1:1/db?user=bob;password={QUOTED}",
    f"sqlite:///none/study.sqlite3?password={QUOTED}",
    f"sqlite:///none/study.sqlite3?timeout={QUOTED}",
    f"sqlite://bob:{QUOTED}@host/study.sqlite3",
]
MALFORMED = [
    "postgresql://bob:s3cr3t@[::1",
    "postgresql://bob:s3cr3t/db",
    "postgresql://bob:p@s3cr3t@host/db",
    "postgresql://bob:p@ss/s3cr3t@host/db",
    "host=h user=bob password=s3cr3t",
    "s3cr3t",
    "postgresql+nodriver://bob@host/db?s3cr3t",
    "postgresql:/bob:s3cr3t@host/db",
    "mysql://bob:s3cr3t@host/db",
    "postgresql+nodriver://bob:s3cr3t@host/db",
    "postgresql://bob:s3cr3t@\ud800/db",
    "postgresql://bob:s3cr3t@host:99999999999/db",
    "postgresql://bob:s3cr3t{0}@127.0.0.1:1/{db}",
    "",
]


def leaks(text):
    return [word for word in ("s3cr3t", "cr3t") if word in text]


def whole(error):
    """All that a traceback prints, and what it hides: the chain by cause and context."""
    parts = ["".join(traceback.format_exception(error))]
    while error is not None:
        parts.append(repr(error))
        error = error.__cause__ or error.__context__
    return "\n".join(parts)


@pytest.mark.slow
@pytest.mark.parametrize("storage", [*PLACES, *MALFORMED])
def test_an_error_holds_no_secret_and_is_ours(storage, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"^storage") as caught, open_study(storage, "s", maximize=True):
        pass
    # The lines of this test are in the traceback, their values are not.
    assert not leaks(whole(caught.value)), whole(caught.value)


@pytest.mark.parametrize(
    ("storage", "shown"),
    [
        ("postgresql://bob:s3cr3t@host:5432/db", "postgresql://bob:***@host:5432/db"),
        ("postgresql://host/db?user=bob&password=s3cr3t", "postgresql://host/db?user=bob&***"),
        ("postgresql://[::1]:1/db?sslmode=require&a=1&b=2", "postgresql://[::1]:1/db?sslmode=require&***"),
        ("postgresql:///db?host=/run/postgresql", "postgresql:///db?host=/run/postgresql"),
        ("sqlite:////data/my study.sqlite3", "sqlite:////data/my study.sqlite3"),
    ],
)
def test_what_is_shown_names_the_database(storage, shown):
    assert parse_storage(storage).shown == shown
    assert not leaks(repr(parse_storage(storage)))


def test_what_a_driver_says_is_searched_for_every_form_of_a_secret():
    database = parse_storage("postgresql://host/db?password=it%27s+s3cr3t%5Cpw")
    for form in ("it's s3cr3t\\pw", "it%27s+s3cr3t%5Cpw", "it%27s%20s3cr3t%5Cpw", "it\\'s s3cr3t\\\\pw"):
        assert database.masked(f"no {form} here\nsecond line") == "no *** here"
    # A short one is part of any word; a message without its letters would spell it.
    short = parse_storage("postgresql://bob:ab@host/db")
    assert short.masked("cannot connect: unable to") == (
        "its message is not shown, because it may contain a part of the URL's secrets"
    )
    assert short.masked("connection refused") == "connection refused"


@pytest.mark.slow
@pytest.mark.parametrize("error", [ValueError, RuntimeError, OSError])
def test_an_error_of_the_run_with_a_secret_in_it_is_not_passed_on(tmp_path, monkeypatch, error):
    stand_in(monkeypatch, tmp_path)
    shown = pytest.raises(InputError, match=r"cannot be used \(lost \*\*\*\)$")
    with shown as caught, open_study(PLACES[7], "s", maximize=True):
        raise error(f"lost {SECRET}")
    assert not leaks("".join(traceback.format_exception(caught.value)))
    with pytest.raises(error, match="other"), open_study(PLACES[7], "s", maximize=True):
        raise error("other")


def stand_in(monkeypatch, folder):
    """Let a study of any URL lie in an SQLite file, as if the server were there."""
    real = study._open_database
    there = parse_storage(sqlite_url(folder / "study.sqlite3")).url
    monkeypatch.setattr(study, "_open_database", lambda url: real(there))


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [[], ["--json"]], ids=["table", "json"])
def test_a_run_writes_and_prints_no_secret(tmp_path, monkeypatch, arguments, caplog):
    stand_in(monkeypatch, tmp_path)
    rng = np.random.default_rng(0)
    y = np.arange(12) % 2
    x = rng.normal(size=(12 * 3, 2)).astype(np.float32)
    np.savez(tmp_path / "d.npz", x=x, lengths=np.full(12, 3), y=y)
    started, real = [], subprocess.run
    monkeypatch.setattr(
        subprocess,
        "run",
        lambda command, **options: started.append(str((command, options))) or real(command, **options),
    )
    command = ["select", "--data", str(tmp_path / "d.npz"), "-o", str(tmp_path / "m.safetensors"), "--epochs", "1"]
    command += ["--hidden-sizes", "2", "--folds", "2", "--storage", PLACES[7], "--plot", str(tmp_path / "p.svg")]
    command += arguments
    with caplog.at_level(logging.DEBUG):
        result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.stderr
    assert started, "the candidates are timed in fresh processes"
    for text in (result.stdout, result.stderr, caplog.text, *started):
        assert not leaks(text)
    written = [path for path in tmp_path.iterdir() if path.is_file()]
    assert {path.name for path in written} == {"d.npz", "m.safetensors", "p.svg", "study.sqlite3"}
    for path in written:
        assert b"cr3t" not in path.read_bytes(), path


def test_an_error_on_the_command_line_comes_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr("lstm_edge.training.selection.measure", lambda *_, **__: pytest.fail("candidates were timed"))
    for debug in ("", "1"):
        monkeypatch.setenv("LSTM_EDGE_DEBUG", debug)
        result = CliRunner().invoke(
            app,
            ["select", "--data", "japanese-vowels", "-o", str(tmp_path / "m.safetensors"), "--storage", MALFORMED[0]],
        )
        said = result.output + "".join(traceback.format_exception(result.exception))
        assert "storage: not a database's URL; expected sqlite:///study.sqlite3" in said
        assert not leaks(said)


@pytest.mark.parametrize("name", ["a?b#c.sqlite3", "50%25 {x}.sqlite3", "漢 é.sqlite3"])
def test_a_study_may_lie_under_any_name(tmp_path, name):
    with open_study(sqlite_url(tmp_path / name), "s", maximize=True):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [name]
