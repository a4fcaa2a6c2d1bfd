"""Tables of text (.csv, .tsv): which encoding, which separator, which cells."""

from __future__ import annotations

import codecs
import csv
import io
import re
from dataclasses import dataclass, field
from pathlib import Path

from coterie.data.column_names import is_label, names_items
from coterie.types import InputError

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
# The longer marks first: that of UTF-16 begins that of UTF-32.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass
class TextTable:
    """The rows of a file without the empty ones, all of one width; `notes` say what was guessed."""

    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)


def read_text(path: Path) -> tuple[str, list[str]]:
    """Decode UTF-8, UTF-16 and UTF-32 with their marks, UTF-8 without, else Windows-1252 with a note.

    Raises InputError for what is no text, OSError for what cannot be read.
    """
    content = path.read_bytes()
    coding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    notes = []
    try:
        text = content.decode(coding)
    except UnicodeDecodeError as error:
        if coding != "utf-8" or b"\0" in content:
            raise InputError(f"{path} is no text in {coding.upper()} ({error.reason}): save it as UTF-8.") from error
        text = content.decode("cp1252", errors="replace")
        notes.append(f"{path} is not in UTF-8 and was read as Windows-1252.")
    bad = re.search(r"[\x00-\x08\x0e-\x1f\ufffd]", text)
    if bad:
        line = text.count("\n", 0, bad.start()) + 1
        raise InputError(f"Line {line} of {path} has a character that no text has ({bad[0]!r}): save it as UTF-8.")
    return text, notes


def read_rows(path: Path) -> TextTable:
    """Read the cells of a file whose separator is a comma, a semicolon, a tab or a bar.

    Raises InputError for rows of different widths, a quote that is never closed, a separator that is not plain.
    """
    text, notes = read_text(path)
    told = re.match(r"sep=([,;\t|])\r?\n", text)  # Excel's own first line
    if told:
        return TextTable(_cells(text[told.end() :], told[1], path, 2), notes)
    first = next((line for line in text.splitlines() if line.strip()), "")
    there = [separator for separator in SEPARATORS if separator in first]
    if not there:
        # A separator that only later lines have shows as a row that is too wide.
        lines = text.splitlines()
        common = [mark for mark in SEPARATORS if 2 * sum(mark in line for line in lines) > len(lines)]
        return TextTable(_cells(text, common[0] if common else ",", path), notes)
    fits, errors = {}, {}
    for separator in there:
        try:
            fits[separator] = _cells(text, separator, path)
        except InputError as error:
            errors[separator] = error
    wide = {separator: rows for separator, rows in fits.items() if rows and len(rows[0]) > 1}
    if len(wide) > 1:
        # The commas of 0,5 may stand in every line: the column names decide.
        wide = {mark: rows for mark, rows in wide.items() if any(map(is_label, rows[0])) or _has_key(rows[0])} or wide
    if len(wide) > 1:
        marks = " or by ".join(SEPARATORS[separator] for separator in wide)
        raise InputError(f"The columns of {path} may be separated by {marks}: keep one, or name the columns id, label.")
    if not wide and errors:
        raise errors[max(errors, key=first.count)]
    return TextTable(next(iter((wide or fits).values())), notes)


def _has_key(head: list[str]) -> bool:
    return any(names_items(cell) for cell in head)


def _cells(text: str, separator: str, path: Path, first_line: int = 1) -> list[list[str]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True)
    rows: list[list[str]] = []
    begins = first_line
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                if rows and len(row) != len(rows[0]):
                    raise InputError(
                        f"Line {begins} of {path} has {len(row)} columns, but the first has {len(rows[0])}."
                    )
                rows.append([cell.strip() for cell in row])
            begins = reader.line_num + first_line
    except csv.Error as error:
        reason = str(error).rstrip(".")
        hint = ": maybe a quote is never closed" if "end of data" in reason or "limit" in reason else ""
        raise InputError(f"Line {begins} of {path} cannot be read ({reason}){hint}.") from error
    return rows
