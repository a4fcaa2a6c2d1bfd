"""Words of messages: numbers with their nouns, capitals. May not live here: anything that knows what is said."""

from __future__ import annotations

import math
import unicodedata


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


def apart(name: str) -> str:
    """A name that is read from right to left, set apart: a number behind it would be drawn on its other side.

    >>> apart("cats"), apart("قطط") == "\\u2068قطط\\u2069"
    ('cats', True)
    """
    leftwards = any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in name)
    return f"\u2068{name}\u2069" if leftwards else name


def in_a_line(error: Exception, most: int = 200) -> str:
    """What an error of another library says, in one line of at most so many letters; its kind where it says nothing.

    >>> in_a_line(ValueError("no such key\\n  in the archive")), in_a_line(MemoryError())
    ('no such key in the archive', 'MemoryError')
    """
    return " ".join(str(error).split())[:most] or type(error).__name__


def kind_in_a_line(error: Exception) -> str:
    """The kind of an error and what it says, where that may be any code's and the kind tells more than the words.

    >>> kind_in_a_line(KeyError("picture")), kind_in_a_line(StopIteration())
    ("KeyError: 'picture'", 'StopIteration')
    """
    return " ".join(f"{type(error).__name__}: {error}".split())[:200].removesuffix(":")


def whole_percent(share: float) -> str:
    """A share in whole percents; never 0% or 100% of one that is not.

    >>> whole_percent(0.934), whole_percent(0.003), whole_percent(0.9999), whole_percent(1)
    ('93%', '<1%', '>99%', '100%')
    """
    if 0 < share <= 0.005:
        return "<1%"
    if 0.995 <= share < 1:
        return ">99%"
    return f"{share:.0%}"


def limit(value: float, decimals: int = 3, ends: tuple[float, ...] = (0.0, 1.0)) -> str:
    """A number, rounded to so many decimals; to more where it would come out as one of the `ends` that it is not.

    >>> limit(0.93412), limit(-0.000123), limit(0.99997, 4), limit(1.0)
    ('0.934', '-0.00012', '0.99997', '1.000')
    """
    if value in ends or not math.isfinite(value):
        return f"{value:z.{decimals}f}"
    if abs(value) < 1e-6 and 0.0 in ends:
        return f"{value:.2g}"
    enough = decimals
    while enough < 17 and float(f"{value:.{enough}f}") in ends:
        enough += 1
    return f"{value:z.{enough}f}" if enough == decimals else f"{value:.{enough + 1}f}".rstrip("0")
