"""Follow every internal link of the built site, sections included, without a network.

    python docs/_site/check_links.py site

Prints each link that leads nowhere and ends with 1 if there is any. Sphinx itself warns of links between pages; this
finds those in raw HTML, in the theme and to sections.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        of = dict(attrs)
        self.links += [of[name] or "" for name in ("href", "src") if name in of]
        self.anchors |= {of[name] or "" for name in ("id", "name") if name in of}


def read(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def broken(site: Path) -> list[str]:
    """`page: link` for each link that leads nowhere."""
    pages = {path.resolve(): read(path) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            missing = parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors
            if not target.exists() or missing:
                found.append(f"{path.relative_to(site.resolve())}: {link}")
    return found


def main() -> int:
    found = broken(Path(sys.argv[1]))
    print("\n".join(found) or "Every internal link leads somewhere.")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
