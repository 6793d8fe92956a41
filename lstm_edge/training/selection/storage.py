"""The database URL of a study, without its secrets in messages.

A URL has secrets before the ``@``, in its query (``password``, ``sslpassword``, ``options``, a proxy's token), and, if
mistyped, anywhere. So only an allowlist is shown: well-formed parts, and parameters that are known to have no secret.
Messages of drivers are searched for the other parts.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, quote_plus

from sqlalchemy.engine import URL, make_url

from lstm_edge_runtime.errors import InputError

__all__ = ["Database", "parse_storage", "sqlite_url"]

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
