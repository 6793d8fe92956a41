"""What `mkdocs build` does beside its own work: pages of files outside docs/, and links that agree with them.

The pages in docs/ link to files of the repository as GitHub shows them (``../SECURITY.md``). The site has such files as
pages, and the links lead there. A link to any other file outside docs/ is a warning, an error in strict mode.
"""

import logging
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

__all__ = ["PAGES", "on_config", "on_files", "on_page_markdown"]

ROOT = Path(__file__).resolve().parent.parent
LOG = logging.getLogger("mkdocs.hooks.site")

# Files and folders outside docs/ -> their page. A folder's page is its README.md and its sources.
PAGES = {
    "CHANGELOG.md": "project/changes.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "LICENSE": "project/licence.md",
    "SECURITY.md": "project/security.md",
    "lstm_edge/data/ATTRIBUTION.md": "project/attribution.md",
    "examples/c": "examples/c.md",
    "examples/denoiser": "examples/denoiser.md",
    "examples/keywords": "examples/keywords.md",
    "examples/policy": "examples/policy.md",
    "examples/robotics": "examples/robotics.md",
    "runtime/c/include/lstm_edge.h": "reference/c-header.md",
    "runtime/c/include/lstm_edge.hpp": "reference/cpp-header.md",
    "runtime/c/systemd/lstm-edge-device@.service": "reference/systemd-unit.md",
}
LANGUAGES = {".py": "python", ".c": "c", ".h": "c", ".hpp": "cpp", ".txt": "cmake", ".service": "ini", "": "text"}
LINK = re.compile(r"(\]\()(?!https?:|mailto:|#)([^)\s#]+)((?:#[^)\s]*)?\))")
# A block of code with its fences, as one group, so that `re.split` keeps it.
FENCED = re.compile(r"(^[ ]*```.*?^[ ]*```[ ]*$)", re.DOTALL | re.MULTILINE)
# `<!-- README.md: Install -->` in a page: that section of README.md, with its heading.
SECTION = re.compile(r"^<!-- README\.md: (.+) -->$", re.MULTILINE)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the pages that docs/cli/README.md lists to the entry "Commands" of the navigation."""
    index = (ROOT / "docs" / "cli" / "README.md").read_text(encoding="utf-8")
    pages = [
        {name: f"cli/{page}"}
        for name, page in re.findall(r"^- \[`lstm-edge ([\w -]+)`\]\((.+)\)$", index, re.MULTILINE)
    ]
    for _, entries in (next(iter(group.items())) for group in config.nav or () if isinstance(group, dict)):
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, dict) and "Commands" in entry:
                entry["Commands"] += pages
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of ``PAGES``."""
    for source, uri in PAGES.items():
        files.append(File.generated(config, uri, content=_content(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Insert sections of README.md, and let links lead to pages of the site."""
    uri = page.file.src_uri
    text = _relinked(markdown, _origin(uri), uri)
    return SECTION.sub(lambda match: _relinked(_readme_section(match[1]), "README.md", uri), text)


def _relinked(markdown: str, origin: str, uri: str) -> str:
    """Return the text of a file in the repository with its links as the page ``uri`` needs them."""

    def to_site(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(origin), match[2]))
        page = _page(target)
        if page is None:
            LOG.warning("%s links to %s, which the site does not have: add it to docs/site_hooks.py", origin, target)
            return match[0]
        return match[1] + posixpath.relpath(page, posixpath.dirname(uri) or ".") + match[3]

    parts = FENCED.split(markdown)
    return "".join(part if number % 2 else LINK.sub(to_site, part) for number, part in enumerate(parts))


def _origin(uri: str) -> str:
    """Return the path in the repository that the links of a page are relative to."""
    source = next((source for source, page in PAGES.items() if page == uri), f"docs/{uri}")
    return f"{source}/README.md" if (ROOT / source).is_dir() else source


def _page(target: str) -> str | None:
    """Return the page or file of the site for a path in the repository, or None."""
    if target == "README.md":
        return "index.md"
    for source, page in PAGES.items():
        if target == source or target.startswith(f"{source}/"):
            return page
    inside = target.removeprefix("docs/")
    if inside == target:
        return None
    return f"{inside}/README.md" if (ROOT / target).is_dir() else inside


def _readme_section(heading: str) -> str:
    """Return a section of README.md with its heading."""
    _, found, rest = (ROOT / "README.md").read_text(encoding="utf-8").partition(f"\n## {heading}\n")
    if not found:
        LOG.warning("README.md has no section %r", heading)
    return f"## {heading}\n" + re.split(r"^## ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def _content(path: Path) -> str:
    """Return the Markdown of a file or folder outside docs/."""
    if path.is_dir():
        listed = sorted(file for file in path.rglob("*") if file.suffix in LANGUAGES and file.is_file())
        listings = (f"## `{file.relative_to(path)}`\n\n{_fence(file)}" for file in listed)
        return "\n\n".join([(path / "README.md").read_text(encoding="utf-8"), *listings])
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    return f"---\nhide: [toc]\n---\n\n# `{path.name}`\n\n{_fence(path)}"


def _fence(file: Path) -> str:
    return f"```{LANGUAGES[file.suffix]}\n{file.read_text(encoding='utf-8')}```\n"
