"""What a group may be called."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie.records.group_names import check_given, checked_name, checked_names, groups_of_model, shown_names
from coterie.types import InputError


@pytest.mark.parametrize("name", ["", "  ", "a" * 81, "a\nb", "a\0b", "\u202eexe", "\ud800", 3, None, "a\u2028b"])
def test_what_no_group_may_be_called(name):
    with pytest.raises(InputError):
        checked_name(name)


@given(st.text(max_size=90))
def test_a_name_is_kept_in_one_form(text):
    try:
        name = checked_name(text)
    except InputError:
        return
    assert checked_name(name) == name == unicodedata.normalize("NFC", name)
    assert 1 <= len(name) <= 80


@pytest.mark.parametrize("name", ["\u200b", "\u2800 \u2800", "\u3164", "\u2060\ufe0f", "a\u200b", "A", "a\u00a0"])
def test_a_name_that_looks_like_nothing_or_like_another_is_not_given(name):
    """The groups of a page had blank titles, or two of them the same."""
    with pytest.raises(InputError, match=r"Nothing is seen of the name '.u|Group 1 is called .* already"):
        check_given(0, checked_name(name), {0: "b", 1: "a", 2: ""})
    check_given(0, "b", {0: "b", 1: "a"})
    assert checked_name("\u200b") == "\u200b"  # a log that has it is read


def test_two_groups_have_two_names():
    with pytest.raises(InputError, match="Groups 1 and 4 are both called 'Cat'"):
        checked_names({1: "cat", 4: "Cat"})
    assert checked_names({1: "e\u0301", 2: " b "}) == {1: "é", 2: "b"}


@given(
    st.dictionaries(st.integers(0, 5), st.sampled_from(["group 1", "GROUP 2", "group 1'", "cat", "dog"]), max_size=4)
)
def test_shown_names_differ(names):
    try:
        names = checked_names(names)
    except InputError:
        return
    shown = shown_names(names, 6)
    assert len({name.casefold() for name in shown.values()}) == 6
    assert all(shown[group] == name for group, name in names.items())


def test_groups_of_a_manifest(tmp_path):
    assert groups_of_model(tmp_path) == ({}, {})
    (tmp_path / "model").mkdir()
    path = tmp_path / "model" / "manifest.json"
    path.write_text(json.dumps({"names": {"3": "tabby cat"}, "merges": [[7, 2]]}))
    assert groups_of_model(tmp_path) == ({3: "tabby cat"}, {7: 2})
    damaged = [{"names": {"x": "a"}}, {"names": [1]}, {"names": {"1": 2}}, {"merges": [[1]]}, {"merges": [[1, "2"]]}]
    for wrong in damaged:
        path.write_text(json.dumps(wrong))
        with pytest.raises(InputError):
            groups_of_model(tmp_path)
