"""The README's picture of a report, as a browser shows it.

    python experiments/report_figure.py [RUN]

Draws docs/figures/report.jpg from the report of RUN. Without RUN it runs `coterie demo` first (about a minute). Needs
playwright, and Chromium as `chromium` on the path.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from _runs import FIGURES

from coterie.cli import main as coterie

WIDTH, HEIGHT = 1180, 760  # pixels of the window
SHOWN = ("header", "#groups")  # parts of the page, one below the other


def shoot(page: Path, out: Path) -> None:
    """The parts of a report as one JPEG, in light colours."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"))
        window = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        window.goto(page.resolve().as_uri())
        hidden = ", ".join(f"main > section:not({part})" for part in SHOWN if part.startswith("#"))
        window.add_style_tag(content=f"{hidden} {{ display: none }} main > section {{ margin-top: 24px }}")
        window.wait_for_timeout(300)
        window.screenshot(path=out, type="jpeg", quality=80)
        browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?")
    asked = parser.parse_args()
    out = FIGURES / "report.jpg"
    if asked.run is not None:
        shoot(asked.run / "report.html", out)
    else:
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder) / "digits"
            if code := coterie(["demo", "-o", str(run)]):
                raise SystemExit(code)
            shoot(run / "report.html", out)
    print(out)


if __name__ == "__main__":
    main()
