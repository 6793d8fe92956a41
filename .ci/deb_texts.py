"""The texts in a Debian package of the C library: control file, copyright, change log, manual page."""

import datetime as dt
import email.utils
import re
import textwrap
import tomllib
from pathlib import Path
from typing import Any

__all__ = ["HOMEPAGE_KEY", "PACKAGES", "change_log", "control", "copyright_text", "manual_page", "project"]

ROOT = Path(__file__).resolve().parent.parent
SOURCE = "lstm-edge"
HOMEPAGE_KEY = "Repository"
# The library's package is named after the version of its interface, liblstm_edge.so.1.
# Package -> CMake's component, what it needs beside the C library of the system, more fields, and what it is.
PACKAGES: dict[str, dict[str, Any]] = {
    "liblstm-edge1": {
        "component": "library",
        "depends": (),
        "fields": {"Section": "libs", "Multi-Arch": "same"},
        "summary": "recurrent models without Python, shared library",
        "text": "The shared library. Programs that were linked with it need this package.",
    },
    "liblstm-edge-dev": {
        "component": "development",
        "depends": ("liblstm-edge1 (= {version})",),
        "fields": {"Section": "libdevel", "Multi-Arch": "same"},
        "summary": "recurrent models without Python, development files",
        "text": "The headers for C and C++, the static library, the CMake package and the pkg-config file.",
    },
    "lstm-edge-device": {
        "component": "device",
        "depends": ("liblstm-edge1 (= {version})",),
        "fields": {"Section": "utils"},
        "summary": "recurrent models without Python, program and service",
        "text": "The program lstm-edge-device inspects, checks, measures and streams a model file. "
        "The systemd unit lstm-edge-device@NAME streams through /etc/lstm-edge/NAME.onnx.",
    },
}
_DESCRIPTION = (
    "lstm-edge runs quantized LSTM, GRU and RNN models on embedded Linux, and checks on the device that a file gives "
    "the answers that it was made with. onnxruntime (libonnxruntime.so.1, 1.18 or newer) is opened at run time; no "
    "Debian package of it is required."
)


def project() -> dict[str, Any]:
    """Return the table ``project`` of pyproject.toml."""
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return table


def maintainer() -> str:
    """Return the first maintainer in pyproject.toml, ``Name <address>``."""
    person = project()["maintainers"][0]
    return f"{person['name']} <{person['email']}>"


def control(name: str, *, architecture: str, depends: list[str], installed_kib: int) -> str:
    """Return the control file of a package.

    Args:
        name: a key of ``PACKAGES``.
        architecture: Debian's name of it, ``amd64`` or ``arm64``.
        depends: the relations for the field ``Depends``.
        installed_kib: size of the files in KiB.
    """
    package = PACKAGES[name]
    fields = {
        "Package": name,
        "Source": SOURCE,
        "Version": project()["version"],
        "Architecture": architecture,
        "Maintainer": maintainer(),
        "Installed-Size": str(installed_kib),
        "Depends": ", ".join(depends),
        **package["fields"],
        "Priority": "optional",
        "Homepage": project()["urls"][HOMEPAGE_KEY],
        "Description": package["summary"],
    }
    lines = [f"{key}: {value}" for key, value in fields.items() if value]
    paragraphs = (textwrap.wrap(text, 78, break_on_hyphens=False) for text in (_DESCRIPTION, package["text"]))
    first, second = ([f" {line}" for line in wrapped] for wrapped in paragraphs)
    return "\n".join([*lines, *first, " .", *second]) + "\n"


def change_log(epoch: int) -> str:
    """Return Debian's change log with one entry, at a time in seconds since 1970."""
    date = email.utils.format_datetime(dt.datetime.fromtimestamp(epoch, dt.UTC))
    return (
        f"{SOURCE} ({project()['version']}) unstable; urgency=medium\n\n"
        "  * CHANGELOG.md in the sources says what changes for a user.\n\n"
        f" -- {maintainer()}  {date}\n"
    )


def copyright_text(epoch: int) -> str:
    """Return the copyright file in Debian's format: ours, zlib's, and what the compiler links in."""
    licence = (ROOT / "runtime" / "c" / "third_party" / "zlib" / "LICENSE").read_text(encoding="utf-8")
    holders = re.findall(r"\(C\) (.*)", licence)
    terms = licence[licence.index("This software is provided") :].split("\n  Jean-loup")[0]
    indented = "\n".join(f" {line.strip()}" if line.strip() else " ." for line in terms.strip().splitlines())
    year = dt.datetime.fromtimestamp(epoch, dt.UTC).year
    return f"""Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: {SOURCE}
Source: {project()["urls"][HOMEPAGE_KEY]}
Comment: The C++ library and libgcc of GCC are linked in, under the terms of the
 GCC Runtime Library Exception.

Files: *
Copyright: {year} {project()["maintainers"][0]["name"]}
License: Apache-2.0
 The full text is in /usr/share/common-licenses/Apache-2.0

Files: runtime/c/third_party/zlib/*
Copyright: {holders[0]}
License: Zlib
{indented}
"""


def manual_page(epoch: int) -> str:
    """Return the manual page of lstm-edge-device, made of the texts that its ``--help`` prints."""
    source = (ROOT / "runtime" / "c" / "device" / "help.h").read_text(encoding="utf-8")
    texts = dict(re.findall(r'constexpr char k(\w+)\[\] =\s*R"\((.*?)\)";', source, re.DOTALL))
    date = dt.datetime.fromtimestamp(epoch, dt.UTC).date()
    page = [
        f'.TH LSTM\\-EDGE\\-DEVICE 1 "{date}" "lstm\\-edge {project()["version"]}" "User Commands"',
        ".SH NAME",
        "lstm\\-edge\\-device \\- run, check and measure a model file of lstm\\-edge without Python",
        *_section("DESCRIPTION", texts["Help"]),
    ]
    for command in ("Inspect", "Check", "Bench", "Run"):
        text = texts[f"{command}Help"] + texts["CommonOptions"] + texts[f"{command}Examples"]
        page += _section(command.upper(), text)
    return "\n".join(page) + "\n"


def _section(title: str, text: str) -> list[str]:
    """Return a section of a manual page whose lines are not filled."""
    safe = text.strip("\n").replace("\\", "\\\\").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    lines = [f"\\&{line}" if line.startswith(".") else line for line in safe.split("\n")]
    return [f".SH {title}", ".nf", *lines, ".fi"]
