"""How Sphinx makes the site from these pages: `make docs`. What is generated from the code is in `_site/`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "src"), str(HERE.parent / "experiments"), str(HERE / "_site")]

from _made import PAGES, listed  # noqa: E402

from coterie._version import __version__  # noqa: E402

project = "coterie"
author = "The coterie authors"
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_site"]
html_theme = "furo"
html_title = f"coterie {release}"
html_copy_source = False
html_show_sphinx = False
myst_heading_anchors = 4  # links to sections, as on the pages
myst_enable_extensions = ["colon_fence"]
default_role = "code"  # docstrings write `name` as Markdown does
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "signature"  # of jaxtyping as they are written: "n k" is no name to look up
python_use_unqualified_type_names = True
highlight_language = "none"  # blocks without a language show commands with comments
nitpicky = False


# Tables that experiments wrote lie outside of the site: their links become the path in the repository.
OUTSIDE = re.compile(r"\[([^\]]*)\]\((?:\.\./)+(experiments|src|tests|benchmarks|examples)/([^)]*)\)")


def fill(app, name, source) -> None:  # type: ignore[no-untyped-def]
    """Put what the code says into the page that asks for it, and write out links that leave the site."""
    source[0] = OUTSIDE.sub(r"\1 (`\2/\3`)", source[0])
    for mark, make in PAGES.items():
        asked = f"<!-- made while building: {mark} -->"
        if asked in source[0]:
            source[0] = source[0].replace(asked, make())


def tidy(app, what, name, obj, options, lines) -> None:  # type: ignore[no-untyped-def]
    """Show the parameters of a docstring as a list."""
    lines[:] = listed(lines, obj)


def setup(app) -> None:  # type: ignore[no-untyped-def]
    app.connect("source-read", fill)
    app.connect("autodoc-process-docstring", tidy)
