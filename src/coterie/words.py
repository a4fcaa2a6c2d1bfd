"""Numbers with their nouns, for messages. May not live here: anything that knows what is counted."""

from __future__ import annotations


def counted(number: int, one: str, many: str | None = None) -> str:
    """The number and the noun that fits it; `many` where that is not `one` and an s.

    >>> counted(1, "item"), counted(1200, "picture was", "pictures were")
    ('1 item', '1,200 pictures were')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"
