"""Names of files and folders that every system takes, and that differ on every system.

Windows: "Naming Files, Paths, and Namespaces" (learn.microsoft.com); a Mac tells neither upper and lower case apart
nor two ways to write an accent; `datasets` passes over names that begin with "." or "__".
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from coterie.records.group_names import TURNING

LONGEST = 120  # bytes of a name; file systems take 255, some programs fewer
LONGEST_SLUG = 60
LONGEST_ENDING = 12
FORBIDDEN = frozenset('/\\:*?"<>|')
DEVICES = frozenset(("CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"))
DEVICES |= {f"{name}{digit}" for name in ("COM", "LPT") for digit in "0123456789¹²³"}
NO_GROUP = "_unlabeled"  # FiftyOne's word


def file_name(item: str) -> str:
    """The last part of an id as a name that any system takes, the same for the same id."""
    return _safe(re.split(r"/", item.rstrip("/"))[-1])


def group_folder(group: int, name: str | None, n_groups: int) -> str:
    """`03_tabby-cat`: padded, since programs sort folders as text; without a name the number alone."""
    number = f"{group:0{max(2, len(str(n_groups - 1)))}d}"
    text = slug(name) if name else ""
    return f"{number}_{text}" if text else number


def slug(name: str) -> str:
    """Letters, digits and dashes of a name, "" where it has none."""
    text = unicodedata.normalize("NFC", name)
    text = "".join(sign if sign.isalnum() or unicodedata.category(sign)[0] == "M" else "-" for sign in text)
    return _cut(re.sub("-+", "-", text).strip("-"), LONGEST_SLUG).strip("-")


def key(name: str) -> str:
    """A key that is equal for names which some file system takes for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def distinct(names: Sequence[str], ids: Sequence[str]) -> list[str]:
    """The names; where several share a `key`, each gets `~` and 6 digits of its id's hash before the ending."""
    found, digits = list(names), 6
    again = {place for place, count in Counter(map(key, names)).items() if count > 1}
    changed = {row for row, name in enumerate(names) if key(name) in again}
    while True:
        for row in changed:
            stem, end = _parts(names[row])
            mark = f"~{hashlib.sha256(ids[row].encode('utf-8', 'surrogatepass')).hexdigest()[:digits]}"
            found[row] = _cut(stem, LONGEST - len((mark + end).encode())) + mark + end
        again = {place for place, count in Counter(map(key, found)).items() if count > 1}
        if not again:
            return found
        changed |= {row for row, name in enumerate(found) if key(name) in again}
        digits = min(digits + 6, 64)  # another file may really be called so


def _safe(text: str) -> str:
    text = unicodedata.normalize("NFC", text)
    text = "".join("_" if _is_bad(sign) else sign for sign in text).rstrip(". ")
    text = re.sub(r"^__+", "_", text)
    if not text or text[0] in ".-" or text.split(".")[0].rstrip(" ").upper() in DEVICES:
        text = f"_{text}"
    if len(text.encode()) > LONGEST:
        stem, end = _parts(text)
        text = _cut(stem, LONGEST - len(end.encode())) + end
    return text.rstrip(". ") or "_"


def _is_bad(sign: str) -> bool:
    kind = unicodedata.category(sign)
    return sign in FORBIDDEN or bool(TURNING.match(sign)) or kind in ("Cc", "Cs", "Zl", "Zp") or _no_character(sign)


def _no_character(sign: str) -> bool:
    code = ord(sign)
    return code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF


def _parts(name: str) -> tuple[str, str]:
    """The name and its ending, "" for what is too long to be one."""
    stem, end = os.path.splitext(name)
    return (stem, end) if len(end.encode()) <= LONGEST_ENDING else (name, "")


def _cut(text: str, most: int) -> str:
    """The beginning of a text, at most `most` bytes, in whole characters."""
    return text.encode()[: max(0, most)].decode("utf-8", "ignore")
