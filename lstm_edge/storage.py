"""The database of `--storage`: its URL without secrets in messages, and its errors as one sentence.

A URL has secrets before the ``@``, in its query (``password``, ``sslpassword``, ``options``, a proxy's token), and, if
mistyped, anywhere. So only an allowlist is shown: well-formed parts, and parameters that are known to have no secret.
Messages of drivers are searched for the other parts.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from lstm_edge_runtime.errors import InputError, LstmEdgeError

__all__ = ["CONNECT", "Database", "Failure", "parse_storage", "sqlite_url"]

# Arguments of the driver by kind of database. SQLite waits this number of seconds for another process's write. With a
# PostgreSQL database without an encoding (SQL_ASCII, the default of initdb under LC_ALL=C) psycopg would return bytes,
# but SQLAlchemy expects text.
CONNECT: dict[str, dict[str, Any]] = {"sqlite": {"timeout": 60}, "postgresql": {"client_encoding": "utf8"}}

BACKENDS = ("sqlite", "postgresql")
EXPECTED = "expected sqlite:///study.sqlite3 or postgresql://user@host/database"
# Parameters without secrets; their values are shown if they look like a number, a name, an address or a path.
_SHOWN = frozenset(
    {
        *("user", "host", "hostaddr", "port", "dbname", "service", "target_session_attrs", "load_balance_hosts"),
        *("sslmode", "sslnegotiation", "gssencmode", "channel_binding", "connect_timeout", "tcp_user_timeout"),
        *("keepalives", "application_name", "client_encoding", "timeout", "mode", "cache", "uri", "isolation_level"),
    }
)
_PLAIN = re.compile(r"[\w.+-]*", re.ASCII)
_ADDRESS = re.compile(r"[\w.,:/+-]*", re.ASCII)
# A shorter secret may be part of any word: a message that contains it is not shown at all.
_SHORT = 4
_HIDDEN = "***"


@dataclass(frozen=True, kw_only=True)
class Database:
    """A database's URL; only ``shown`` may be printed."""

    url: URL = field(repr=False)
    shown: str
    secrets: tuple[str, ...] = field(repr=False)

    def masked(self, text: str) -> str:
        """Return the first line of a text with every secret of the URL hidden."""
        if self.holds_secret(text, below=_SHORT):
            return "its message is not shown, because it may contain a part of the URL's secrets"
        for secret in self.secrets:
            text = text.replace(secret, _HIDDEN)
        return (text.strip().splitlines() or ["no message"])[0]

    def holds_secret(self, text: str, *, below: int | None = None) -> bool:
        """Whether a text contains a secret, or a secret of fewer than ``below`` characters."""
        return any(secret in text for secret in self.secrets if below is None or len(secret) < below)


def parse_storage(text: str) -> Database:
    """Parse a database's URL with SQLAlchemy.

    Raises:
        InputError: the text is not a URL, or the database is not supported; the message does not repeat the text.
    """
    try:
        text.encode()  # not UTF-8 on the command line: half of a surrogate pair here
        url = make_url(text)
    except Exception:
        url = None
    if url is None:
        raise InputError(f"storage: not a database's URL; {EXPECTED}")
    if url.get_backend_name() not in BACKENDS:
        raise InputError(f"storage: {url.get_backend_name()} is not supported, expected sqlite or postgresql")
    if url.get_backend_name() != "sqlite" and text.partition("?")[0].count("@") > 1:
        raise InputError(
            f"storage: got more than one @ in the URL; {EXPECTED}, and write an @ in a password as %40, "
            "a : as %3A, a / as %2F"
        )
    return Database(url=_with_driver(url), shown=_shown(url), secrets=_secrets(text, url))


class Failure:
    """Keeps the errors of a database in its block, and raises them afterwards as one sentence without secrets.

    They are raised outside of the block because a traceback of the driver's error may contain the URL.
    """

    def __init__(self, database: Database, *errors: type[Exception]) -> None:
        """Prepare.

        Args:
            database: the database.
            errors: classes of errors that mean, like SQLAlchemy's, that the database cannot be used.
        """
        self._database, self._reason = database, ""
        self._errors: tuple[type[Exception], ...] = (SQLAlchemyError, *errors)

    def __enter__(self) -> None:
        """Begin to use the database."""

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> bool:
        """Keep an error of the database, or one that holds a secret of its URL."""
        if not isinstance(error, Exception) or isinstance(error, LstmEdgeError):
            return False
        secret = any(self._database.holds_secret(str(link)) for link in _chain(error))
        if secret or isinstance(error, self._errors):
            self._reason = self._database.masked(_said(error))
        return bool(self._reason)

    def check(self) -> None:
        """Raise what was kept.

        Raises:
            InputError: the database cannot be used.
        """
        if self._reason:
            raise InputError(f"storage {self._database.shown}: cannot be used ({self._reason})") from None


def _said(error: BaseException) -> str:
    """Return the message of the driver's error behind SQLAlchemy's and Optuna's."""
    return str(error.__cause__ or error)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def sqlite_url(path: Path) -> str:
    """Return the URL of an SQLite file with any path."""
    return URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)


def _with_driver(url: URL) -> URL:
    # The default of SQLAlchemy before 2.1 is psycopg2.
    return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url


def _shown(url: URL) -> str:
    if url.get_backend_name() == "sqlite" and not (url.username or url.password or url.host):
        head = f"{url.drivername}:///{url.database or ''}"
    else:
        user = "" if url.username is None else _if_like(_PLAIN, url.username)
        password = "" if url.password is None else f":{_HIDDEN}"
        host = _if_like(_ADDRESS, url.host or "")
        host = f"[{host}]" if ":" in host else host
        port = "" if url.port is None else f":{url.port}"
        name = "" if url.database is None else f"/{_if_like(_PLAIN, url.database)}"
        head = f"{url.drivername}://{user}{password}{'@' * bool(user or password)}{host}{port}{name}"
    shown = [f"{key}={value}" for key, value in _pairs(url) if _is_shown(key, value)]
    shown += [_HIDDEN] * any(not _is_shown(key, value) for key, value in _pairs(url))
    return head + "?" * bool(shown) + "&".join(shown)


def _if_like(pattern: re.Pattern[str], text: str) -> str:
    return text if pattern.fullmatch(text) else _HIDDEN


def _is_shown(key: str, value: str) -> bool:
    return key in _SHOWN and _ADDRESS.fullmatch(value) is not None


def _pairs(url: URL) -> list[tuple[str, str]]:
    return [
        (key, value)
        for key, values in url.query.items()
        for value in ((values,) if isinstance(values, str) else values)
    ]


def _secrets(text: str, url: URL) -> tuple[str, ...]:
    """Return the secrets in all forms in which a driver may write them, the longest first."""
    plain = [url.password, *(value for key, value in _pairs(url) if not _is_shown(key, value))]
    if url.get_backend_name() != "sqlite":
        plain += [part for part in (url.username, url.database) if part and not _PLAIN.fullmatch(part)]
        plain += [url.host if url.host and not _ADDRESS.fullmatch(url.host) else None]
    found = {url.render_as_string(hide_password=False), text} if any(plain) else set()
    for secret in filter(None, plain):
        escaped = secret.replace("\\", "\\\\").replace("'", "\\'")
        found |= {secret, quote(secret), quote(secret, safe=""), quote_plus(secret), escaped, repr(secret)[1:-1]}
    return tuple(sorted(found, key=len, reverse=True))
