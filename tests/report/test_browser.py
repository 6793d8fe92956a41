"""The report in a real browser: what a person sees at the width of a phone and of a desk, in the dark, and on paper.

What cannot be measured from outside (does a box stick out, do two labels overlap, is the contrast enough) is measured
by a script in a copy of the page that lets it run; the page itself forbids every script.
"""

import json
import re
import shutil
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import pytest
from PIL import Image
from support.chromium import console_lines, dump_dom, find_chromium, print_pdf, requested_urls, screenshot
from support.report_cases import CASES, example

from lstm_edge.html_report import render_report

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_chromium() is None, reason="no chromium: `make test-report` installs Debian's when it runs as root"
    ),
]

POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
# Contrast that the Web Content Accessibility Guidelines 2.2 ask for at level AA, section 1.4.3: 3 for large type.
CONTRAST, CONTRAST_LARGE = 4.5, 3.0
# Pixels of the smallest type in a drawing: what footnotes are set in.
LEAST_TYPE = 9
PHONE, TABLET, DESK = 390, 760, 1280
OUTSIDE = '<img src="http://probe.example/pixel.png">'

PROBE = (
    """
<script>
const out = {width: innerWidth, stick: [], overlap: [], cut: [], edge: [], pale: [], tiny: [], twice: []};
document.querySelectorAll("details").forEach(d => { d.open = true; });
const seen = e => { const r = e.getBoundingClientRect(); return r.width > 0 && r.height > 0; };
const hidden = e => e.closest(".stacked thead") && getComputedStyle(e.closest("thead")).position === "absolute";
const name = e => e.tagName + "." + (e.getAttribute("class") || "") + ": " + e.textContent.trim().slice(0, 40);
for (const e of document.body.querySelectorAll("*")) {
  if (!seen(e) || hidden(e) || (e.closest(".scroll") && !e.matches(".scroll"))) continue;
  const r = e.getBoundingClientRect();
  if (r.right > innerWidth + 0.5 || r.left < -0.5) out.stick.push(name(e));
}
// The text of a row with a coloured edge (4 pixels) does not touch it.
for (const row of document.querySelectorAll("tr.held")) {
  const words = document.createRange();
  for (const cell of row.querySelectorAll("th, td")) {
    if (!cell.textContent.trim()) continue;
    words.selectNodeContents(cell);
    if (words.getBoundingClientRect().left < row.getBoundingClientRect().left + 8) out.edge.push(name(cell));
  }
}
out.scroll = document.documentElement.scrollWidth;
for (const svg of document.querySelectorAll("svg[role=img]")) {
  if (!seen(svg)) continue;
  const shown = [...svg.parentElement.querySelectorAll(":scope > svg[role=img]")].filter(seen);
  if (shown.length > 1) out.twice.push(name(svg));
  const frame = svg.getBoundingClientRect(), texts = [...svg.querySelectorAll("text")];
  for (const t of texts) {
    const r = t.getBoundingClientRect();
    if (parseFloat(getComputedStyle(t).fontSize) * t.getScreenCTM().a < LEAST_TYPE) out.tiny.push(name(t));
    if (r.left < frame.left - 1 || r.right > frame.right + 1 || r.top < frame.top - 1 || r.bottom > frame.bottom + 1)
      out.cut.push(name(t));
  }
  texts.forEach((a, i) => texts.slice(i + 1).forEach(b => {
    const p = a.getBoundingClientRect(), q = b.getBoundingClientRect();
    const w = Math.min(p.right, q.right) - Math.max(p.left, q.left);
    const h = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
    if (w > 1 && h > 3) out.overlap.push(a.textContent + " / " + b.textContent);
  }));
}
const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
canvas.canvas.width = canvas.canvas.height = 1;
const rgb = layers => {
  canvas.clearRect(0, 0, 1, 1);
  for (const color of layers) { canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1); }
  return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
};
const light = c => c.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const behind = e => {
  const layers = [];
  for (let at = e; at; at = at.parentElement) layers.unshift(getComputedStyle(at).backgroundColor);
  return layers;
};
out.texts = 0;
for (const e of document.body.querySelectorAll("*")) {
  const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
  if (!own || !seen(e) || hidden(e) || ["SCRIPT", "title", "desc"].includes(e.tagName)) continue;
  out.texts += 1;
  const style = getComputedStyle(e), layers = behind(e);
  const front = light(rgb([...layers, e instanceof SVGElement ? style.fill : style.color])), back = light(rgb(layers));
  const ratio = (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
  const large = parseFloat(style.fontSize) >= 24;
  if (ratio < (large ? LARGE : SMALL)) out.pale.push(ratio.toFixed(2) + " " + name(e));
}
parent.postMessage(JSON.stringify(out), "*");
</script>
""".replace("LARGE", str(CONTRAST_LARGE))
    .replace("SMALL", str(CONTRAST))
    .replace("LEAST_TYPE", str(LEAST_TYPE))
)


# A window has a least width, a frame has none.
FRAME = """<!DOCTYPE html><meta name="color-scheme" content="light dark"><script>
addEventListener("message", e => { document.documentElement.dataset.probe = encodeURIComponent(e.data); });
</script><iframe src="probed.html" style="width:WIDTHpx;height:800px;border:0"></iframe>"""


def write(folder, text, name="report.html"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def without_policy(text):
    """A copy of a page in which scripts run and pictures load: for the tests' own eyes."""
    changed, count = POLICY.subn("", text)
    assert count == 1
    return changed


def probe(folder, text, width, *, dark=False):
    """What the probe finds at a width."""
    write(folder, without_policy(text).replace("</main>", f"</main>{PROBE}"), "probed.html")
    frame = write(folder, FRAME.replace("WIDTH", str(width)), "frame.html")
    document = dump_dom(frame, width=width + 100, dark=dark)
    found = json.loads(unquote(re.search(r'data-probe="([^"]*)"', document)[1]))
    assert found["width"] == width
    return found


@pytest.mark.parametrize(
    ("case", "width"), [("example", TABLET), *((case, width) for case in CASES for width in (PHONE, DESK))]
)
def test_nothing_sticks_out_overlaps_or_is_cut_off(case, width, tmp_path):
    found = probe(tmp_path, render_report(CASES[case]()), width)
    assert found["scroll"] <= width
    for name in ("stick", "cut", "overlap", "edge", "tiny", "twice"):
        assert found[name] == [], name


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_type_stands_out_from_what_is_behind_it(dark, tmp_path):
    for case in ("example", "failed"):
        found = probe(tmp_path, render_report(CASES[case]()), DESK, dark=dark)
        assert found["texts"] > 200
        assert found["pale"] == []


def test_the_probe_itself_sees_what_is_wrong(tmp_path):
    wrong = {
        "stick": '<div style="width:2000px">wide</div>',
        "pale": '<p style="color:#aaa">pale</p>',
        "cut": '<svg role="img" width="20" height="20"><text x="0" y="15">cut off</text></svg>',
        "tiny": '<svg role="img" width="90" height="9" viewBox="0 0 900 90"><text y="80">tiny</text></svg>',
        "twice": '<div><svg role="img" width="9" height="9"></svg><svg role="img" width="9" height="9"></svg></div>',
        "edge": '<table><tr class="held"><th style="padding: 0">here</th></tr></table>',
        "overlap": '<svg role="img" width="90" height="30"><text y="15">one</text><text y="16">two</text></svg>',
    }
    text = render_report(example()).replace("</main>", "".join(wrong.values()) + "</main>")
    found = probe(tmp_path, text, DESK)
    assert [name for name in wrong if not found[name]] == []
    assert found["scroll"] >= 2000


def test_a_person_finds_what_they_look_for(tmp_path):
    report = example()
    document = unescape(dump_dom(write(tmp_path, render_report(report)), width=DESK))
    for expected in (
        "Within the budget",
        f"{report.result.bytes / report.source.bytes:.2f}×",
        f"{report.answer.value:.5g}",
        report.budget.text,
        report.command,
        report.source.sha256,
        *(layer.name for layer in report.layers),
    ):
        assert expected in document, expected


def test_no_request_leaves_and_the_console_stays_empty(tmp_path):
    text = render_report(example())
    page = write(tmp_path, text)
    assert requested_urls(page) == set()
    assert console_lines(page) == []


def test_requests_and_complaints_would_be_seen(tmp_path):
    text = render_report(example()).replace("</main>", OUTSIDE + "</main>")
    assert requested_urls(write(tmp_path, without_policy(text), "open.html")) == {"http://probe.example/pixel.png"}
    # With the page's own policy the picture is not asked for, and the console says why.
    closed = write(tmp_path, text, "closed.html")
    assert requested_urls(closed) == set()
    assert any("Content Security Policy" in line for line in console_lines(closed))


def test_the_policy_stops_a_script_that_got_in(tmp_path):
    text = render_report(example()).replace("</main>", "</main><script>document.title = 'got in'</script>")
    title = "<title>got in</title>"
    assert title in dump_dom(write(tmp_path, without_policy(text), "open.html"), width=DESK)
    assert title not in dump_dom(write(tmp_path, text), width=DESK)


def colours(picture):
    """How many pixels have each colour."""
    with Image.open(picture) as image:
        return image.size, {colour: count for count, colour in image.convert("RGB").getcolors(1 << 24)}


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_the_picture_shows_the_drawing(width, dark, tmp_path):
    text = render_report(example())
    screenshot(write(tmp_path, text), tmp_path / "page.png", width=width, height=1600, dark=dark)
    size, found = colours(tmp_path / "page.png")
    assert size == (width, 1600)
    scheme = text.split("prefers-color-scheme: dark")[1 if dark else 0]

    def count(name):
        code = re.search(rf"--{name}: #([0-9a-f]{{3,6}});", scheme)[1]
        code = code if len(code) == 6 else "".join(2 * digit for digit in code)
        return found.get(tuple(bytes.fromhex(code)), 0)

    # Cards and the page behind them; the front, the chosen mark, the budget's line, and the verdict's tint.
    assert count("card") > 0.4 * width * 1600
    assert count("page") > 0.02 * width * 1600
    least = {"accent": 300, "chosen": 100, "bad": 50, "good-soft": 5_000}
    assert {name: count(name) for name in least if count(name) < least[name]} == {}
    assert len(found) > 100  # smooth type


def test_paper_has_what_is_folded_away(tmp_path):
    text = render_report(example())
    pages = {}
    for name, page in (("folded", text), ("open", text.replace("<details>", "<details open>"))):
        assert "<details" in page
        print_pdf(write(tmp_path, page, f"{name}.html"), tmp_path / f"{name}.pdf")
        data = (tmp_path / f"{name}.pdf").read_bytes()
        assert data.startswith(b"%PDF")
        pages[name] = len(re.findall(rb"/Type /Page\b", data))
    assert pages["folded"] == pages["open"] >= 4
    short = re.sub(r"<details>.*?</details>", "", text, flags=re.DOTALL)
    print_pdf(write(tmp_path, short, "short.html"), tmp_path / "short.pdf")
    assert len(re.findall(rb"/Type /Page\b", (tmp_path / "short.pdf").read_bytes())) < pages["folded"]


def test_nothing_is_left_behind_outside_of_the_folder(tmp_path):
    page = write(tmp_path, render_report(example()))
    home = Path.home() / ".config" / "chromium"
    before = home.exists()
    dump_dom(page, width=DESK)
    assert home.exists() == before
    assert {entry.name for entry in tmp_path.iterdir()} == {"report.html", "chromium"}
    shutil.rmtree(tmp_path / "chromium")
