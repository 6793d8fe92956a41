"""Draw docs/images/quantization-report.png: the example report (tests/fixtures) as Chromium shows it.

Run by ``make docs-report``. The picture ends with the layers' table, where the report goes on.
"""

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "images" / "quantization-report.png"
WIDTH, TALLEST = 1040, 6000


def main() -> None:
    """Render, photograph, cut."""
    sys.path[:0] = [str(ROOT), str(ROOT / "exporters"), str(ROOT / "runtime"), str(ROOT / "tests")]
    from PIL import Image
    from support.chromium import find_chromium, screenshot
    from support.report_cases import example

    from lstm_edge.html_report import render_report

    if find_chromium() is None:
        sys.exit("no chromium: `make docs-report` installs Debian's when it runs as root")
    text = render_report(example())
    # Cut before the sensitivities, at any height that the parts before them have.
    shown, cut, _ = text.partition('<section aria-labelledby="sensitivity">')
    if not cut:
        raise ValueError("the report has no section of sensitivities: where is the picture to end?")
    PICTURE.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        page, picture = Path(folder, "report.html"), Path(folder, "report.png")
        page.write_text(f"{shown}</main></body></html>", encoding="utf-8")
        screenshot(page, picture, width=WIDTH, height=TALLEST)
        with Image.open(picture) as image:
            opaque = image.convert("RGB")
            # The page's ground below the last card is one colour; a border of it is kept.
            ground = opaque.getpixel((2, TALLEST - 2))
            rows = opaque.resize((1, TALLEST), Image.Resampling.BOX)
            last = max(y for y in range(TALLEST) if rows.getpixel((0, y)) != ground)
            opaque.crop((0, 0, WIDTH, last + 24)).quantize(128).save(PICTURE, optimize=True)
    print(f"written: {PICTURE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
