"""The generated files are those that the code of today generates, and do not depend on the terminal."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lstm_edge_runtime import errors

ROOT = Path(__file__).parents[2]


def generate(*arguments, **environment):
    paths = os.pathsep.join(str(ROOT / folder) for folder in ("", "exporters", "runtime"))
    return subprocess.run(
        [sys.executable, str(ROOT / "docs" / "generate.py"), *arguments],
        env=os.environ | {"PYTHONPATH": paths} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [
        {"COLUMNS": "200", "TERM": "xterm-256color", "FORCE_COLOR": "1"},
        {"COLUMNS": "40", "TERMINAL_WIDTH": "40", "GITHUB_ACTIONS": "true"},
    ],
    ids=["wide", "narrow"],
)
def test_digests_and_command_reference_are_up_to_date(environment):
    result = generate("--check", **environment)
    assert (result.returncode, result.stdout) == (0, "up to date\n"), result.stderr + "\nrun `make docs`"


@pytest.mark.slow
def test_a_stale_file_is_noticed(tmp_path):
    code = (
        "import runpy, pathlib, sys\n"
        f"names = runpy.run_path({str(ROOT / 'docs' / 'generate.py')!r})\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "for name, text in names['cli_pages']().items():\n"
        "    (folder / name).write_text(text.replace('SOURCE', 'SOURCES') if name == 'export.md' else text)\n"
        "names['main'].__globals__['CLI'] = folder\n"
        "sys.argv = ['generate.py', '--check']\n"
        "names['main']()\n"
    )
    paths = os.pathsep.join(str(ROOT / folder) for folder in ("", "exporters", "runtime"))
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert (result.returncode, result.stdout) == (1, "stale: export.md\n"), result.stderr


def test_the_command_reference_fits_80_columns_and_has_every_command():
    pages = {path.name: path.read_text() for path in (ROOT / "docs" / "cli").glob("*.md")}
    for command in ("train classification", "export", "quantize", "validate", "inspect", "check", "run"):
        text = pages[f"{command.replace(' ', '-')}.md"]
        assert text.startswith(f"# `lstm-edge {command}`\n")
        assert max(len(line) for line in text.splitlines()) <= 80
        assert f"[`lstm-edge {command}`]" in pages["README.md"]


def test_the_docs_link_to_files_that_exist():
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]
    found = 0
    for page in pages:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
            found += 1
    assert found >= 8


def test_each_page_is_in_the_navigation_of_the_site():
    def pages(entries):
        for entry in entries:
            for value in entry.values() if isinstance(entry, dict) else [entry]:
                yield from pages(value) if isinstance(value, list) else [value]

    shown = list(pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    docs = ROOT / "docs"
    # docs/site_hooks.py fills in the commands.
    written = {str(page.relative_to(docs)) for page in docs.rglob("*.md") if page.parent.name != "cli"} | {
        "cli/README.md"
    }
    assert len(set(shown)) == len(shown)
    assert written <= set(shown)


def test_each_error_has_its_row_in_the_troubleshooting_page():
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    rows = dict(re.findall(r"^\| \[.*\| `(\w+Error)` \| (\d) \|$", page, re.MULTILINE))
    classes = {name: getattr(errors, name) for name in errors.__all__ if name.endswith("Error")}
    assert rows == {name: str(cls.exit_code) for name, cls in classes.items() if name != "LstmEdgeError"}


def test_the_comparison_refuses_a_page_that_lacks_a_row(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    from comparison_table import comparison_table

    peers = (ROOT / "docs" / "peers.md").read_text()
    assert comparison_table(peers).count("\n") >= 8
    with pytest.raises(ValueError, match=r"no row \('LiteRT', 'int8'\) in 'LSTM \(64, 128\)'"):
        comparison_table(peers.replace("| LiteRT | int8 |", "| LiteRT | eight bits |"))
    with pytest.raises(ValueError, match=r"no section 'GRU \(256, 512\)'"):
        comparison_table(peers.replace("## GRU (256, 512)", "## GRU"))
