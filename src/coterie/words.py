"""Words of messages: numbers with their nouns, capitals. May not live here: anything that knows what is said."""

from __future__ import annotations


def counted(number: int, one: str, many: str | None = None) -> str:
    """The number and the noun that fits it; `many` where that is not `one` and an s.

    >>> counted(1, "item"), counted(1200, "picture was", "pictures were")
    ('1 item', '1,200 pictures were')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def capital(text: str) -> str:
    """The text with a capital letter, to begin a sentence; the other letters stay as they are.

    >>> capital("the folder DCIM")
    'The folder DCIM'
    """
    return text[:1].upper() + text[1:]


def in_a_line(error: Exception, most: int = 200) -> str:
    """What an error of another library says, in one line of at most so many letters; its kind where it says nothing.

    >>> in_a_line(ValueError("no such key\\n  in the archive")), in_a_line(MemoryError())
    ('no such key in the archive', 'MemoryError')
    """
    return " ".join(str(error).split())[:most] or type(error).__name__
