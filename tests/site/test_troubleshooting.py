"""docs/troubleshooting.md has every class of errors with its exit code, and the sentences that are really printed."""

import re
from pathlib import Path

import pytest
from support.symptoms import SYMPTOMS, prepare

from lstm_edge_runtime import errors

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
CLASSES = {name for name in errors.__all__ if name.endswith("Error")} - {"LstmEdgeError"}
pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("symptoms")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(where)
        prepare()
    return where


def test_every_class_is_provoked():
    assert set(SYMPTOMS) == CLASSES


@pytest.mark.parametrize("name", SYMPTOMS)
def test_the_page_quotes_the_sentence(name, folder, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(getattr(errors, name)) as caught:
        SYMPTOMS[name]()
    assert type(caught.value).__name__ == name
    sentence = str(caught.value).replace(str(ROOT), "/home/me/lstm-edge")
    [row] = re.findall(rf"^\| \[.*\]\(#(.+)\) \| `{name}` \| (\d) \|$", PAGE, re.MULTILINE)
    anchor, code = row
    assert int(code) == caught.value.exit_code
    section = next(part for part in re.split(r"^###? ", PAGE, flags=re.MULTILINE) if slug(part) == anchor)
    [quoted] = re.findall(r"^```text\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    assert quoted.split() == ["error:", *sentence.split()]


def slug(section):
    return re.sub(r"[^\w -]", "", section.splitlines()[0].lower()).replace(" ", "-")
