"""What the name of a column says: the name of an item, its class, its place in the file. Upper and lower case, spaces,
dashes and quotes make no difference, so "Image ID", "image_id" and "imageId" are one name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from coterie.types import InputError

# Written without "_", as `_joined` gives them.
_FILES = ("filename", "file", "filepath", "filenames", "fname", "path", "paths", "imagepath", "imgpath", "imagefile")
_IDS = (
    *("id", "ids", "imageid", "imgid", "itemid", "sampleid", "uid", "uuid", "guid", "key", "keys", "imagename"),
    *("imgname", "image", "images", "img", "picture", "photo"),
)
_NAMES = ("name", "names", "item", "items", "sample")  # of an item, but maybe also of its class
_PLACES = ("", "index", "level0", "indexlevel0", "row", "rowid", "rowno", "rownumber", "rownames", "idx", "nr", "no")
_LABELS = ("label", "labels", "target", "targets", "y", "class", "classname", "labelname")
_LABEL_WORDS = frozenset(
    ("label", "labels", "class", "classes", "target", "targets", "category", "categories", "truth")
)
_LABEL_WORDS |= frozenset(("groundtruth", "gt", "species", "ytrue"))
# "label_source" is about a label, and "predicted_label" is not a true one.
_ABOUT = frozenset(("source", "confidence", "score", "prob", "probability", "count", "date", "time", "by", "weight"))
_ABOUT |= frozenset(("pred", "predicted", "prediction", "proposed", "suggested", "file", "path"))
_OUTPUTS = frozenset(("prob", "probs", "proba", "probas", "probability", "probabilities", "confidence"))
_OUTPUTS |= frozenset(("logit", "logits", "pred", "preds", "predicted", "prediction", "predictions"))

LEAST_VALUES = 3  # columns: two numbers may well be names


def words(name: str) -> list[str]:
    """The words of a name in lower case: "fineLabel " -> ["fine", "label"]."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return re.findall(r"[^\W_]+", parted.casefold())


def names_items(name: str) -> bool:
    """Whether a column of this name says which item a row is about: id, filename, Image ID, path, name ..."""
    return _joined(name) in (*_FILES, *_IDS, *_NAMES)


def names_items_only(name: str) -> bool:
    """As `names_items`, but for names such as "name", under which classes may stand, too."""
    return _joined(name) in (*_FILES, *_IDS)


def is_index(name: str) -> bool:
    """Whether a column of this name numbers the rows: index, Unnamed: 0, "" and what pandas and R write."""
    return _joined(name) in _PLACES or re.fullmatch(r"unnamed\d+|indexlevel\d+|level\d+", _joined(name)) is not None


def is_label(name: str) -> bool:
    """Whether this is one of the names that labels go by in data sets: label, target, y, class ..."""
    return _joined(name) in _LABELS


def like_label(name: str) -> bool:
    """Whether this may be a label: fine_label, species_id, Class 2."""
    said = words(name)
    return is_label(name) or (not _LABEL_WORDS.isdisjoint(said) and _ABOUT.isdisjoint(said))


def is_output(name: str) -> bool:
    """Whether a column of this name is what a model said of an item: prob_0, logit1, prediction."""
    return not _OUTPUTS.isdisjoint(word.rstrip("0123456789") for word in words(name))


def quoted(name: str) -> str:
    """A name for a message: in quotes where it is empty, has a comma or a line break, or blanks around it."""
    return name if name.isprintable() and name.strip() == name != "" and "," not in name else repr(name)


def listed(names: Iterable[str], most: int = 12) -> str:
    """Names separated by commas, for a message; of many only the first ones."""
    shown = [quoted(name) for name in names]
    rest = len(shown) - most
    return ", ".join(shown[:most]) + (f" and {rest} more" if rest > 0 else "") or "none"


def are_values(names: Sequence[str]) -> bool:
    """Whether names are numbers such as 2.75 and -0.3 in no order: the first row of a file without a line of names.

    Wavelengths (400.5, 401, ...) are in order, and so are positions.
    """
    numbers = [number for number in map(_number, names) if number is not None]
    broken = sum(number != round(number) for number in numbers if math.isfinite(number))
    if len(names) < LEAST_VALUES or 2 * broken < len(names):
        return False
    return numbers not in (sorted(numbers), sorted(numbers, reverse=True))


def no_names(where: str, names: Sequence[str]) -> InputError:
    """The refusal of a table whose first row was taken for its column names."""
    return InputError(
        f"The columns of {where} are called {listed(names, 3)}: the first row of a file without column names was "
        "probably taken for them; write the table again with names, or pass the numbers as an array (.npy)."
    )


def _number(name: str) -> float | None:
    if "_" in name:  # Python reads 1_0 as ten; as a column it is a name
        return None
    try:
        return float(name)
    except ValueError:
        return None


def twice(names: Iterable[str]) -> str | None:
    """The first name that stands there a second time."""
    seen: set[str] = set()
    return next((name for name in names if name in seen or seen.add(name)), None)  # type: ignore[func-returns-value]


def _joined(name: str) -> str:
    return "".join(words(name))
