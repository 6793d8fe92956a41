"""Debian's Chromium without a window, for looking at a page: pictures, the DOM, what it asked the network for.

Every run has a user data folder of its own, resolves no host name, and ends after a minute.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

__all__ = ["console_lines", "dump_dom", "find_chromium", "print_pdf", "requested_urls", "screenshot"]

NAMES = ("chromium", "chromium-browser", "google-chrome")
TIMEOUT_S = 600
FLAGS = (
    "--headless=new",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
    # Nothing is reachable: neither by name nor through a proxy of the environment.
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--no-proxy-server",
)


def find_chromium() -> str | None:
    """Return the program, or None where there is none."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


def screenshot(page: Path, picture: Path, *, width: int, height: int, dark: bool = False) -> None:
    """Write a picture of a page (PNG)."""
    _run(page, f"--screenshot={picture}", f"--window-size={width},{height}", *_scheme(dark))


def dump_dom(page: Path, *, width: int, height: int = 900, dark: bool = False, wait_ms: int = 0) -> str:
    """Return the document as it is after its scripts ran; ``wait_ms`` of the page's own time lets timers fire."""
    waiting = [f"--virtual-time-budget={wait_ms}"] if wait_ms else []
    return _run(page, "--dump-dom", f"--window-size={width},{height}", *waiting, *_scheme(dark)).stdout


def print_pdf(page: Path, paper: Path) -> None:
    """Write a page as it comes out on paper."""
    _run(page, f"--print-to-pdf={paper}", "--no-pdf-header-footer")


def console_lines(page: Path) -> list[str]:
    """Return what the page wrote to the console, errors of its policy among them."""
    log = _run(page, "--dump-dom", "--enable-logging=stderr", "--v=0").stderr
    return [line for line in log.splitlines() if ":CONSOLE" in line]


def requested_urls(page: Path) -> set[str]:
    """Return every address that the page asked the network for; the browser's own requests are left out."""
    log = page.with_suffix(".netlog.json")
    _run(page, "--dump-dom", f"--log-net-log={log}", "--net-log-capture-mode=Everything")
    events = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
    # What the browser asks for itself (the time, the accounts) comes from no origin; a page always has one.
    return {p["url"] for p in events if "url" in p and p.get("initiator", "not an origin") != "not an origin"}


def _scheme(dark: bool) -> list[str]:
    return [f"--blink-settings=preferredColorScheme={0 if dark else 1}"]


def _run(page: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = find_chromium()
    assert program is not None
    folder = page.parent / "chromium"
    shutil.rmtree(folder, ignore_errors=True)
    # Root has no sandbox of its own to run in; the pages are ours.
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    command = [program, *FLAGS, *sandbox, f"--user-data-dir={folder}", *arguments, page.resolve().as_uri()]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    assert result.returncode == 0, f"{' '.join(command)}\n{result.stderr}"
    return result
