"""Names that every file system takes, and that differ on every one."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from coterie.export.file_names import DEVICES, FORBIDDEN, LONGEST, distinct, file_name, group_folder, key, slug

ODD = [".hid.png", "-rf.png", "NUL.png", "con", "COM1.tar.gz", "a\x07.png", "x" * 300 + ".jpeg", "ü" * 200, "a.", "a "]
ODD += [
    "<img src=x onerror=alert(1)>.png",
    "\u202egpj.exe",
    "e\u0301.png",
    "__x.png",
    "",
    "..",
    "🐈\u200d⬛.png",
    "a\\xff.png",
]


def is_plain(name: str) -> bool:
    """What the specification asks of a name, written out."""
    return (
        1 <= len(name.encode()) <= LONGEST
        and unicodedata.normalize("NFC", name) == name
        and not any(sign in FORBIDDEN or unicodedata.category(sign) in ("Cc", "Cs") for sign in name)
        and not name.startswith((".", "-", "__"))
        and not name.endswith((".", " "))
        and name.split(".")[0].rstrip().upper() not in DEVICES
    )


@given(st.text(max_size=300))
@example("\u1e9b\u0323" * 60)
def test_any_text_becomes_a_plain_name(text):
    name = file_name(text)
    assert is_plain(name), name
    assert file_name(name) == name


@pytest.mark.parametrize("text", ODD)
def test_odd_names(text):
    assert is_plain(file_name(text))


@pytest.mark.parametrize(
    ("text", "name"), [("a/IMG_1.jpg", "IMG_1.jpg"), ("x y (2).PNG", "x y (2).PNG"), (".a", "_.a")]
)
def test_a_plain_name_stays(text, name):
    assert file_name(text) == name


@given(st.lists(st.sampled_from([*ODD, "A.png", "a.png", "é.png", "É.PNG", "ß.png", "SS.png", "a~1.png"]), max_size=12))
def test_names_differ_where_no_file_system_tells_cases_apart(texts):
    ids = [f"{row}/{text}" for row, text in enumerate(texts)]
    plain = [file_name(item) for item in ids]
    names = distinct(plain, ids)
    assert len({key(name) for name in names}) == len(names)
    assert all(map(is_plain, names))
    # A name that is one only stays, and the order of the items makes no difference.
    assert distinct(plain[::-1], ids[::-1])[::-1] == names
    keys = [key(name) for name in plain]
    alone = [name for name, place in zip(plain, keys, strict=True) if keys.count(place) == 1]
    assert set(alone) <= set(names)


def test_all_of_those_that_agree_are_marked():
    first, second, third = distinct(["IMG.jpg", "img.JPG", "b.jpg"], ["a/IMG.jpg", "b/img.JPG", "b.jpg"])
    assert first.startswith("IMG~")
    assert second.startswith("img~")
    assert len(first) == len("IMG~123456.jpg")
    assert third == "b.jpg"


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("tabby cat", "03_tabby-cat"),
        (None, "03"),
        ("../../etc", "03_etc"),
        ("<b>", "03_b"),
        ("猫 1", "03_猫-1"),
        ("=", "03"),
    ],
)
def test_folders_of_groups(name, folder):
    assert group_folder(3, name, 12) == folder


def test_folders_sort_as_their_numbers_do():
    folders = [group_folder(group, "x", 120) for group in range(120)]
    assert sorted(folders) == folders


@given(st.text(max_size=80))
def test_a_slug_is_plain(text):
    made = slug(text)
    assert made == "" or (is_plain(f"03_{made}") and " " not in made)
