"""The code blocks of a page in Markdown: which are Python, which are commands, and which are not to be run and why."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
NOT_RUN = re.compile(r"<!-- not run: (.+?) -->", re.DOTALL)
SHELL = ("", "bash", "console")  # a block without a language shows commands where its first line is one
PROGRAMS = ("coterie", "pip", "make", "python", "torchrun", "accelerate", "export")


@dataclass(frozen=True)
class Block:
    """A block of code: its text, its language, its first line in the page, and why it is not to be run."""

    page: str
    line: int
    language: str
    text: str
    not_run: str = ""

    @property
    def commands(self) -> list[str]:
        """The commands of a block that shows some; one that ends in a backslash goes on in the next line."""
        lines = [line.strip() for line in self.text.replace("\\\n", " ").splitlines() if line.strip()]
        shown = self.language in SHELL and bool(lines) and lines[0].split()[0] in PROGRAMS
        return [line for line in lines if not line.startswith("#")] if shown else []


def blocks(path: Path) -> list[Block]:
    """All code blocks of a page, in order. The comment `<!-- not run: REASON -->` is about the block after it."""
    found, reason = [], ""
    for token in MarkdownIt().parse(path.read_text(encoding="utf-8")):
        if token.type == "html_block":
            said = NOT_RUN.search(token.content)
            reason = " ".join(said[1].split()) if said else ""
        elif token.type in ("fence", "code_block"):
            line = (token.map or [0])[0] + 1
            name = path.relative_to(ROOT).as_posix()
            found.append(Block(name, line, token.info.split(" ")[0].strip(), token.content, reason))
            reason = ""
        elif token.type == "inline" and token.content:
            reason = ""
    return found
