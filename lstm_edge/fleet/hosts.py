"""Which devices a command is about: ``--to USER@HOST:PORT`` and ``--hosts fleet.toml``."""

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lstm_edge_runtime.errors import InputError

__all__ = ["Host", "find_hosts", "parse_host"]

_FORM = re.compile(
    r"(?:(?P<user>[^@\s]+)@)?(?:\[(?P<six>[0-9A-Fa-f:.%\w]+)\]|(?P<name>[^@:\[\]\s]+))(?::(?P<port>\d+))?"
)
_LARGEST_PORT = 65535


@dataclass(frozen=True, kw_only=True)
class Host:
    """One device.

    ``label``: as it was given. ``user``, ``port``: None for what ~/.ssh/config or SSH's defaults say. ``path``: folder
    on the device that the models are kept in. ``reload``, ``health``, ``device_command``: command lines of the device's
    shell, empty for none. ``device_trusted_key``: file of a public key on the device, empty for none.
    ``watch_seconds``: how long the health command must succeed.
    """

    label: str
    name: str
    user: str | None = None
    port: int | None = None
    path: str = ""
    reload: str = ""
    health: str = ""
    watch_seconds: int = 10
    device_command: str = ""
    device_trusted_key: str = ""


# What a file may set, for all hosts or for one.
_SETTINGS = {
    "path": str,
    "reload": str,
    "health": str,
    "watch_seconds": int,
    "device_command": str,
    "device_trusted_key": str,
}


def parse_host(text: str) -> Host:
    """Read ``[USER@]HOST[:PORT]``; an IPv6 address is in brackets.

    Raises:
        InputError: the text has another form, or the port is not between 1 and 65535.
    """
    found = _FORM.fullmatch(text)
    if found is None or (found["name"] or "").startswith("-"):
        raise InputError(f"host {text!r} must look like pi@board1, board2:2222 or pi@[fe80::1]:22")
    port = None if found["port"] is None else int(found["port"])
    if port is not None and not 1 <= port <= _LARGEST_PORT:
        raise InputError(f"host {text!r}: the port is {port}, expected 1 to {_LARGEST_PORT}")
    return Host(label=text, name=found["six"] or found["name"], user=found["user"], port=port)


def find_hosts(
    to: Sequence[str] = (), hosts: str | os.PathLike[str] | None = None, **given: str | int | None
) -> tuple[Host, ...]:
    """Return the hosts of a command: those of ``to``, then those of the file.

    Args:
        to: texts of the form that ``parse_host`` reads.
        hosts: a TOML file: settings for all of its hosts at the top, and a table ``[[host]]`` for each, with ``to`` and
            settings for this host.
        given: settings of the command line (fields of ``Host``), which override those of the file; None is not given.

    Raises:
        InputError: no host is given, one is given twice, one has no path, or the file cannot be read or has an unknown
            key.
    """
    settings = {name: value for name, value in given.items() if value is not None}
    found = [parse_host(text) for text in to]
    if hosts is not None:
        found += _read(Path(hosts))
    if not found:
        raise InputError("no host is given: name each with --to USER@HOST, or all in a file with --hosts fleet.toml")
    found = [replace(host, **settings) for host in found]  # type: ignore[arg-type]
    seen: set[tuple[Any, ...]] = set()
    for host in found:
        key = (host.user, host.name, host.port, host.path)
        if key in seen:
            raise InputError(f"host {host.label!r} is given twice")
        seen.add(key)
        if not host.path:
            raise InputError(f"host {host.label!r} has no path: give --path, or path in the file")
        if not host.path.startswith("/") or "\n" in host.path or "\0" in host.path:
            raise InputError(
                f"host {host.label!r}: the path is {host.path!r}, expected an absolute one, such as /srv/kws"
            )
        if host.watch_seconds < 0:
            raise InputError(f"host {host.label!r}: watch_seconds is {host.watch_seconds}, expected 0 or more")
    return tuple(found)


def _read(path: Path) -> list[Host]:
    """Read the hosts of a file."""
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text, expected a TOML file") from error
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not a TOML file: {error}") from error
    tables = values.pop("host", [])
    if not isinstance(tables, list) or not all(isinstance(table, Mapping) for table in tables):
        raise InputError(f"{path}: 'host' must be tables: [[host]]")
    common = _settings(values, str(path))
    found = []
    for index, table in enumerate(tables):
        where = f"{path}: host {index + 1}"
        own = dict(table)
        name = own.pop("to", None)
        if not isinstance(name, str):
            raise InputError(f"{where}: 'to' is {name!r}, expected a text such as \"pi@board1\"")
        found.append(replace(parse_host(name), **(common | _settings(own, where))))
    if not found:
        raise InputError(f'{path}: it has no host; expected a table [[host]] with to = "pi@board1" for each')
    return found


def _settings(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the settings of a table, each of its type."""
    for name, value in values.items():
        if name not in _SETTINGS:
            raise InputError(f"{where}: unknown key {name!r}; expected one of {', '.join(_SETTINGS)}")
        if not isinstance(value, _SETTINGS[name]) or isinstance(value, bool):
            expected = "a text" if _SETTINGS[name] is str else "an integer"
            raise InputError(f"{where}: {name!r} is {value!r}, expected {expected}")
    return dict(values)
