"""Writes the tables of docs/ from the committed records, so that no number there is copied by hand.

    python experiments/docs_tables.py            # writes what has changed
    python experiments/docs_tables.py --check    # only says what would change, and ends with 1 if anything would

A generated part of a page stands between `<!-- generated NAME -->` and `<!-- end of NAME -->`: a table or a sentence,
and below it the command that makes its records. `BLOCKS` says what each name stands for.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from _docs import (
    Block,
    boards,
    cdc,
    frozen,
    install,
    methods,
    others,
    rdc,
    readme,
    review,
    rivals,
    scaling,
    speed,
    trust,
)

from coterie.common.outputs import write_atomically

ROOT = Path(__file__).parents[1]
PAGES = (
    frozen,
    boards,
    cdc,
    rdc,
    others,
    trust,
    methods,
    readme,
    install,
    review,
    rivals,
    scaling,
    speed,
)
BLOCKS: dict[str, Block] = {name: block for page in PAGES for name, block in page.BLOCKS.items()}
# At the beginning of a line: a page that includes a part of another names its marks, too.
MARKED = re.compile(r"^<!-- generated (\S+) -->\n(.*?)^<!-- end of \1 -->", re.DOTALL | re.MULTILINE)


def pages() -> list[Path]:
    return sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"])


def generated(text: str) -> str:
    """The page with its generated parts made anew. Raises KeyError for a name that nothing makes."""

    def made(found: re.Match[str]) -> str:
        name = found[1]
        return f"<!-- generated {name} -->\n{BLOCKS[name]()}<!-- end of {name} -->"

    return MARKED.sub(made, text)


def changed() -> Iterator[tuple[Path, str]]:
    """Every page that is not as its records say, with the text that it should have."""
    for page in pages():
        before = page.read_text(encoding="utf-8")
        after = generated(before)
        if after != before:
            yield page, after


def main(words: list[str] | None = None) -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--check", action="store_true")
    given = options.parse_args(words)
    found = list(changed())
    for page, text in found:
        print(page.relative_to(ROOT))
        if not given.check:
            write_atomically(page, text)
    return int(given.check and bool(found))


if __name__ == "__main__":
    sys.exit(main())
