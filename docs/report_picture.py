"""Draw docs/images/quantization-report.png: a screenshot of the example report (tests/fixtures) in Chromium.

``make docs-report`` runs it. The picture ends after the table of layers; the report itself is longer.
"""

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "images" / "quantization-report.png"
WIDTH, TALLEST = 1040, 6000


def main() -> None:
    """Render the report, take a screenshot, crop it."""
    sys.path[:0] = [str(ROOT), str(ROOT / "exporters"), str(ROOT / "runtime"), str(ROOT / "tests")]
    from PIL import Image
    from support.chromium import find_chromium, screenshot
    from support.report_cases import example

    from lstm_edge.html_report import render_report

    if find_chromium() is None:
        sys.exit("error: Chromium is missing; run `make docs-report` as root to install Debian's package")
    text = render_report(example())
    # The cut depends on the HTML and not on pixels, because the height of the sections before it varies.
    shown, cut, _ = text.partition('<section aria-labelledby="sensitivity">')
    if not cut:
        raise ValueError(
            "the report has no section 'sensitivity', before which the picture ends: update report_picture.py"
        )
    PICTURE.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        page, picture = Path(folder, "report.html"), Path(folder, "report.png")
        page.write_text(f"{shown}</main></body></html>", encoding="utf-8")
        screenshot(page, picture, width=WIDTH, height=TALLEST)
        with Image.open(picture) as image:
            opaque = image.convert("RGB")
            # Below the last card the page has one background colour; keep a border of it.
            ground = opaque.getpixel((2, TALLEST - 2))
            rows = opaque.resize((1, TALLEST), Image.Resampling.BOX)
            last = max(y for y in range(TALLEST) if rows.getpixel((0, y)) != ground)
            opaque.crop((0, 0, WIDTH, last + 24)).quantize(128).save(PICTURE, optimize=True)
    print(f"written: {PICTURE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
