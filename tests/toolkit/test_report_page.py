"""The HTML report loads nothing and obeys nothing, and can be read aloud."""

import importlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from support.html_page import Page
from support.report_cases import CASES, EXAMPLE, POISON, example, poisoned

from lstm_edge._imports import missing_extra
from lstm_edge.html_report import render_report

ROOT = Path(__file__).parents[2]
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@pytest.mark.parametrize("case", CASES)
def test_the_page_is_one_file_that_asks_for_nothing_and_runs_nothing(case):
    text = render_report(CASES[case]())
    page = Page(text)
    assert [e["content"] for e in page.all("meta") if e.get("http-equiv") == "Content-Security-Policy"] == [POLICY]
    assert page.elements[3]["http-equiv"] == "Content-Security-Policy"  # html, head, charset: nothing before it loads
    tags = {e["tag"] for e in page.elements}
    assert not tags & {"script", "link", "iframe", "img", "image", "object", "embed", "base", "form", "use", "a"}
    attributes = {name for e in page.elements for name in e}
    assert not {name for name in attributes if name.startswith("on") or name in ("src", "href", "xlink:href", "srcset")}
    styles = page.all("style")
    assert len(styles) == 1
    assert not re.search(r"url\(|@import|expression", styles[0]["text"])
    assert "http" not in text.replace("http-equiv", "")


def test_nothing_from_the_file_is_obeyed():
    text = render_report(poisoned(example()))
    page = Page(text)
    assert "script" not in {e["tag"] for e in page.elements}
    assert len(page.all("style")) == len(page.all("main")) == 1
    assert {e["tag"] for e in page.elements} <= {e["tag"] for e in Page(render_report(example())).elements}
    shown = POISON.replace("\x00", "\\u0000").replace("\x1b", "\\u001b")
    shown = shown.replace("\u202e", "\\u202e").replace("\ud800", "\\ud800")
    assert page.text.count(shown) > 100
    assert POISON[:20] not in text
    assert not [c for c in text if not c.isprintable() and c != "\n"]
    assert text.encode("utf-8").decode("utf-8") == text


@pytest.mark.slow
def test_equal_reports_give_equal_bytes_in_every_process():
    code = (
        "import hashlib, sys\n"
        "from support.report_cases import example\n"
        "from lstm_edge.html_report import render_report\n"
        "print(hashlib.sha256(render_report(example()).encode()).hexdigest())\n"
        "print([name for name in ('torch', 'matplotlib') if name in sys.modules])\n"
    )
    paths = os.pathsep.join(str(ROOT / folder) for folder in ("", "exporters", "runtime", "tests"))
    outputs = set()
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONPATH": paths, "PYTHONHASHSEED": seed}
        result = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, timeout=600
        )
        assert result.returncode == 0, result.stderr
        outputs.add(result.stdout)
    assert len(outputs) == 1
    assert outputs.pop().endswith("\n[]\n")


@pytest.mark.parametrize("case", CASES)
def test_the_page_can_be_read_without_seeing_it(case):
    page = Page(render_report(CASES[case]()))
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("h1")) == 1
    ids = Counter(e["id"] for e in page.elements if "id" in e)
    assert set(ids.values()) == {1}
    referred = {name for e in page.elements for name in e.get("aria-labelledby", "").split()}
    assert referred <= set(ids)
    assert len(page.all("table")) == len(page.all("caption")) >= 4
    assert all(e.get("scope") in ("row", "col", "rowgroup") for e in page.all("th"))
    for svg in page.all("svg"):
        named = svg.get("aria-label") or svg.get("aria-labelledby")
        assert svg.get("aria-hidden") == "true" or (svg["role"] == "img" and named)
    for region in page.all("div", role="region"):
        assert region["tabindex"] == "0"
        assert region["aria-label"]
    # The style that stacks a table on a phone takes its meaning away; the roles give it back.
    roles = {"table": "table", "tr": "row", "td": "cell"}
    stacked = next(i for i, e in enumerate(page.elements) if e.get("class") == "stacked")
    for element in page.elements[stacked : stacked + 20]:
        assert element.get("role") == roles.get(element["tag"], element.get("role"))


def test_without_jinja2_the_command_line_names_the_extra(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("lstm_edge.html_report.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "lstm_edge.html_report")
    monkeypatch.setitem(sys.modules, "jinja2", None)
    # When it is imported, not after an hour of searching.
    with pytest.raises(ModuleNotFoundError) as caught:
        importlib.import_module("lstm_edge.html_report")
    sentence = "this command needs 'jinja2', which is not installed: pip install 'lstm-edge[report]'"
    assert str(missing_extra(caught.value)) == sentence


def test_the_example_is_what_a_report_is_written_as():
    assert json.dumps(example().to_json(), indent=1) + "\n" == EXAMPLE.read_text()
