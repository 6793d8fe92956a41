"""An HTML page as a list of its elements, for asking what is in it; refuses one that is not well formed."""

from html.parser import HTMLParser

__all__ = ["Page", "rows", "section"]

VOID = {"meta", "br", "link", "img", "input", "hr", "base"}
SVG_LEAVES = {"path", "line", "rect", "circle"}


class Page(HTMLParser):
    """The page as a list of (tag, attributes, text inside, the tags around it)."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(text)
        self.close()
        assert self.open == [], "elements that nobody closed"

    def handle_starttag(self, tag, attributes):
        assert len(attributes) == len(dict(attributes)), f"an attribute twice: {tag} {attributes}"
        element = {"tag": tag, "in": [outer["tag"] for outer in self.open], "text": "", **dict(attributes)}
        self.elements.append(element)
        if tag in VOID:
            self.handle_data(" ")
        else:
            self.open.append(element)

    def handle_startendtag(self, tag, attributes):
        assert tag in SVG_LEAVES, f"{tag} does not close itself in HTML"
        self.handle_starttag(tag, attributes)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop()["tag"] == tag, f"</{tag}> closes another"

    def handle_data(self, data):
        for element in self.open:
            element["text"] += data

    def all(self, tag, **attributes):
        return [e for e in self.elements if e["tag"] == tag and attributes.items() <= e.items()]

    @property
    def text(self):
        """What a person reads: the body with single spaces."""
        return " ".join(self.all("body")[0]["text"].split())


def section(page, name):
    return next(e for e in page.all("section") if e["aria-labelledby"] == name)


def rows(page, table):
    """The rows of the table whose caption starts so, as lists of texts."""
    start = next(i for i, e in enumerate(page.elements) if e["tag"] == "caption" and e["text"].startswith(table))
    found = []
    for element in page.elements[start:]:
        if element["tag"] == "table":
            break
        if element["tag"] == "tr":
            found.append([])
        elif element["tag"] in ("th", "td"):
            found[-1].append(" ".join(element["text"].split()))
    return found
