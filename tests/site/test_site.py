"""The built site: links, the structure of each page, the Python reference, and what a browser makes of it.

Python-Markdown, which builds the site, reads lists and blocks of code in another way than GitHub. So each page is
compared with what a CommonMark reader finds in it.
"""

import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from markdown_it import MarkdownIt
from support.chromium import console_lines, dump_dom, find_chromium, requested_urls

import lstm_edge
import lstm_edge_runtime

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
# Elements of which a page must have as many as CommonMark finds.
COUNTED = {"li", "table", "tr", "td", "th", "pre", "ul", "ol", "h1", "h2", "h3", "h4", "blockquote", "img", "strong"}
# The Markdown of each page; not of those with a section of README.md or docstrings in them.
SOURCES = {
    **{page: page.relative_to(DOCS) for page in sorted(DOCS.rglob("*.md"))},
    ROOT / "CHANGELOG.md": Path("project/changes.md"),
    ROOT / "CONTRIBUTING.md": Path("project/contributing.md"),
    ROOT / "SECURITY.md": Path("project/security.md"),
}
for assembled in ("index.md", "reference/python.md", "reference/runtime.md"):
    del SOURCES[DOCS / assembled]
PHONE, DESK = 390, 1280
browser = pytest.mark.skipif(
    find_chromium() is None, reason="no chromium: `make test-site` installs Debian's when it runs as root"
)
pytestmark = pytest.mark.long


class Document(HTMLParser):
    """Links, anchors, loaded addresses and counted elements of a page; ``inside`` an element, or everywhere."""

    def __init__(self, text, inside=None):
        super().__init__()
        self.inside, self.counting = inside, inside is None
        self.links, self.anchors, self.loaded, self.counts = [], set(), [], Counter()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.anchors |= {values[key] for key in ("id", "name") if values.get(key)}
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        if tag in ("script", "img", "iframe", "source") and values.get("src"):
            self.loaded.append(values["src"])
        if tag == "link" and values.get("rel") != "canonical" and values.get("href"):
            self.loaded.append(values["href"])
        if tag == self.inside:
            self.counting = True
        elif self.counting and tag in COUNTED and not str(values.get("class", "")).startswith("md-"):
            self.counts[tag] += 1

    def handle_endtag(self, tag):
        if tag == self.inside:
            self.counting = False


def test_every_link_and_anchor_leads_somewhere(site):
    pages = {path: Document(path.read_text()) for path in site.rglob("*.html") if path.name != "404.html"}
    followed = 0
    for path, page in pages.items():
        for link in page.links:
            address = urlsplit(link)
            if address.scheme or address.netloc:
                continue
            target = (path.parent / unquote(address.path)).resolve() if address.path else path
            assert target.exists(), f"{path.name}: {link}"
            if address.fragment and target in pages:
                assert unquote(address.fragment) in pages[target].anchors | {"__nav", "__toc"}, f"{path.name}: {link}"
            followed += 1
    assert len(pages) > 60
    assert followed > 3000


def test_nothing_is_loaded_from_elsewhere(site):
    for path in site.rglob("*.html"):
        for address in Document(path.read_text()).loaded:
            assert not urlsplit(address).netloc, f"{path.name}: {address}"


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: str(source.relative_to(ROOT)))
def test_a_page_has_the_structure_that_commonmark_reads(source, site):
    expected = Document(MarkdownIt("commonmark").enable("table").render(source.read_text())).counts
    uri = SOURCES[source]
    page = uri.with_name("index.html") if uri.name == "README.md" else uri.with_suffix(".html")
    found = Document((site / page).read_text(), inside="article").counts
    assert found == expected, "indent the contents of a list by four spaces, and leave a line before a list"


@pytest.mark.parametrize("package", [lstm_edge, lstm_edge_runtime], ids=lambda package: package.__name__)
def test_the_reference_has_every_public_name(package, site):
    anchors = set()
    for page in ("python", "runtime"):
        anchors |= Document((site / "reference" / f"{page}.html").read_text()).anchors
    homes = {f"lstm_edge_runtime.errors.{name}" for name in package.__all__ if name.endswith("Error")}
    homes |= {f"{package.__name__}.{name}" for name in package.__all__ if not name.endswith("Error")}
    runtime = {f"lstm_edge.{name}" for name in ("Session", "State", "Stream", "self_test", "__version__")}
    assert homes - runtime <= anchors


def test_the_commands_of_the_navigation_are_those_of_the_reference(site):
    links = Document((site / "cli" / "index.html").read_text()).links
    for page in (DOCS / "cli").glob("*.md"):
        assert page.name == "README.md" or f"{page.stem}.html" in links


@browser
def test_the_search_answers_without_a_server(site, tmp_path):
    copy = tmp_path / "site"
    shutil.copytree(site, copy)
    start = copy / "index.html"
    # What `index.html?q=Krichevsky` does, for a page that is opened as a file.
    script = "<script>history.replaceState(null, '', '?q=Krichevsky');</script>"
    start.write_text(start.read_text().replace("<head>", f"<head>{script}", 1))
    text = dump_dom(start, width=1280, wait_ms=20_000)
    assert "1 matching document" in text
    results = re.findall(r'<a href="([^"]*)" class="md-search-result__link"', text)
    assert any("watch.html" in result for result in results)
    assert requested_urls(copy / "cli" / "run.html") == set()
    assert console_lines(copy / "cli" / "run.html") == []


def measured(folder, names, width, told):
    """Return, for pages in a frame of ``width`` pixels, what the JavaScript expression ``told`` is after loading."""
    for name in names:
        page = folder / name
        script = f"<script>onload = () => parent.postMessage(`{name} ${{{told}}}`, '*')</script></body>"
        page.write_text(page.read_text().replace("</body>", script, 1))
    # A window is at least 500 pixels wide; a frame is as narrow as a phone.
    frames = "".join(f"<iframe width={width} height=800 style='border: 0' src='{name}'></iframe>" for name in names)
    start = folder / "frames.html"
    start.write_text(
        f"<pre id=out></pre>{frames}<script>onmessage = m => {{ out.textContent += m.data + ';' }}</script>"
    )
    said = re.findall(r"([\w/.-]+\.html) ([\d ]+);", dump_dom(start, width=max(800, width + 100), wait_ms=20_000))
    assert sorted(name for name, _ in said) == sorted(names)
    return [(name, *map(int, numbers.split())) for name, numbers in said]


@browser
def test_every_page_fits_a_phone(site, tmp_path):
    """Wide tables and code scroll within their own box; no page does as a whole."""
    copy = tmp_path / "site"
    shutil.copytree(site, copy)
    names = [str(path.relative_to(copy)) for path in sorted(copy.rglob("*.html")) if path.name != "404.html"]
    said = measured(copy, names, PHONE, "document.documentElement.scrollWidth + ' ' + innerWidth")
    assert [row for row in said if not row[1] <= row[2] == PHONE] == []


@browser
def test_code_and_tables_of_the_first_pages_fit_a_desk(site, tmp_path):
    """Nothing has to be scrolled sideways on the pages that a newcomer copies from."""
    copy = tmp_path / "site"
    shutil.copytree(site, copy)
    names = ["index.html", "device.html", "comparison.html", "quantization.html"]
    names += [f"{page.parent.name}/{page.stem}.html" for page in DOCS.glob("tutorials/*.md")]
    names += [f"{page.parent.name}/{page.stem}.html" for page in DOCS.glob("explanations/*.md")]
    boxes = "[...document.querySelectorAll('.md-typeset__scrollwrap, .md-typeset pre > code')]"
    over = measured(
        copy, names, DESK, f"{boxes}.length + ' ' + {boxes}.filter(e => e.scrollWidth > e.clientWidth + 1).length"
    )
    assert len(names) == 10
    assert sum(count for _, count, _ in over) > 50
    assert [row for row in over if row[2]] == []
