"""Virtual environments that hold links to some of the installed distributions: nothing is downloaded."""

import importlib.metadata
import os
import re
import subprocess
import tomllib
import venv
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement

__all__ = ["linked_environment", "required", "run"]

ROOT = Path(__file__).parents[2]


def run(*arguments, cwd, exit_code=0, stdin=None):
    """Run a program without the variables that would lead it back to the checkout; returns the result."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST", "COV_"))}
    result = subprocess.run(
        [str(argument) for argument in arguments],
        cwd=cwd,
        env=kept | {"COLUMNS": "80"},
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert result.returncode == exit_code, f"{result.stdout}\n{result.stderr}"
    return result


def required(*extras: str) -> list[str]:
    """The names of the distributions that lstm-edge with these extras requires, through its runtime too."""
    toolkit, runtime = (
        tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"] for folder in (".", "runtime")
    )
    found: set[str] = set()
    for first in _texts(toolkit, extras):
        ours = first.name == runtime["name"]
        found |= {second.name for second in _texts(runtime, first.extras)} if ours else {first.name}
    return sorted(found)


def _texts(project, extras):
    """The requirements of a project with these extras."""
    texts = [project["dependencies"], *(project["optional-dependencies"][name] for name in extras)]
    return map(Requirement, chain(*texts))


def _closure(*names: str) -> dict[str, importlib.metadata.Distribution]:
    """The installed distributions with these names and all that they require, with the markers of this machine."""
    found: dict[str, importlib.metadata.Distribution] = {}
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        found[name] = importlib.metadata.distribution(name)
        for text in found[name].requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return found


def linked_environment(folder: Path, *names: str, with_pip: bool = False) -> Path:
    """Make a virtual environment in which these distributions, and all that they require, are links.

    Returns:
        Its ``site-packages``.
    """
    venv.create(folder, with_pip=with_pip)
    [site] = (folder / "lib").glob("python*/site-packages")
    for distribution in _closure(*names).values():
        tops = {file.parts[0] for file in distribution.files or () if file.parts[0] not in ("..", "__pycache__")}
        for top in tops:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(distribution.locate_file(top))))
    return site
