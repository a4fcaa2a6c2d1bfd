"""Files of judgements: guarded cells, names in other letters, numbers out of range, what nobody judged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from coterie.data.judged import ELSEWHERE, NOWHERE, Judged, read_judged, table_content
from coterie.types import InputError

IDS, LABELS = ["a.png", "b.png", "c.png", "d.png"], np.array([0, 1, 2, 0])
NAMES = {"Cat": 0, "dog": 1, "DOG": 2}


def read(tmp_path: Path, text: str) -> Judged:
    path = tmp_path / "judged.csv"
    path.write_text(text)
    return read_judged(path, IDS, LABELS, 3, NAMES)


def test_a_name_in_other_letters_is_the_group_s_where_only_one_is_called_so(tmp_path: Path) -> None:
    found = read(tmp_path, "id,label\nd.png,CAT\nb.png,Dog\nc.png,DOG\na.png,-1\n")
    assert found.rows.tolist() == [3, 1, 2, 0]
    assert found.groups.tolist() == [0, ELSEWHERE, 2, NOWHERE]
    assert found.right.tolist() == [True, False, True, False]
    assert found.notes == ["1 of 4 judged items count as wrong: no group of this run stands for Dog."]


def test_the_groups_of_the_run_itself_are_no_judgements(tmp_path: Path) -> None:
    """With its confidences it is a table of the run; without, a person may have found all of them right."""
    with pytest.raises(InputError, match="nobody judged them"):
        read(tmp_path, "id,label,confidence\na.png,0,0.9\nb.png,1,0.8\n")
    assert read(tmp_path, "id,label,confidence\na.png,0,0.9\nb.png,2,0.8\n").right.tolist() == [True, False]
    assert read(tmp_path, "id,label,confidence,proposed\na.png,0,0.9,0\nb.png,1,0.8,1\n").right.all()
    assert read(tmp_path, "id,label\na.png,0\nb.png,1\n").right.all()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("id,label\na.png,3\n", "says '3' of a.png in the column label: write the number of its group, 0 to 2"),
        ("id,label\na.png,-2\n", "says '-2' of a.png"),
        ("id,label\na.png,0\nb.png,\n", "says '' of b.png"),
        ("id,right\na.png,true\nb.png,\n", "1 of the 2 items of .* have no answer in the column right, .* b.png"),
        ("id,right\na.png,perhaps\n", "says 'perhaps' of a.png in the column right"),
        ("id,label\na.png,0\na.png,0\n", "names a.png twice"),
        ("id,label,proposed\nb.png,0,0\n", "drawn from another run: there b.png is in group 0, here in group 1"),
        ("id,note\na.png,0\n", "needs a column right .* or label"),
    ],
)
def test_what_is_no_judgement_is_refused_by_name(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        read(tmp_path, text)


def test_answers_in_any_usual_word(tmp_path: Path) -> None:
    found = read(tmp_path, "id,right\na.png,Yes\nb.png,0\nc.png,TRUE\nd.png,no\n")
    assert found.right.tolist() == [True, False, True, False]
    assert found.groups.tolist() == [0, ELSEWHERE, 2, ELSEWHERE]


def test_cells_that_a_table_program_would_calculate_are_guarded_and_read_again(tmp_path):
    names = ["=1+1.png", "+a.png", "-b.png", "@c.png", "'=d.png", "e.png", "'f'.png"]
    path = tmp_path / "judged.csv"
    path.write_bytes(table_content(path, {"id": names, "label": [0, 1, 2, -1, 0, 1, 2]}))
    first = [line.split(",")[0] for line in path.read_text().splitlines()[1:]]
    assert first == ["'=1+1.png", "'+a.png", "'-b.png", "'@c.png", "'=d.png", "e.png", "'f'.png"]
    read = read_judged(path, names, np.array([0, 1, 2, 0, 0, 1, 2]), 3, {})
    assert read.rows.tolist() == list(range(7))
    assert read.right.tolist() == [True, True, True, False, True, True, True]


def test_blanks_around_a_name_are_found_again(tmp_path):
    """Beside two names that differ in how an accent is written, so that only the names as they stand are matched."""
    names = [" lead.png", "trail .png ", "\u00e9.png", "e\u0301.png"]
    path = tmp_path / "judged.csv"
    path.write_bytes(table_content(path, {"id": names, "label": [0, 1, 0, 1]}))
    assert read_judged(path, names, np.array([0, 1, 0, 1]), 2, {}).rows.tolist() == [0, 1, 2, 3]
    path.write_text("id,label\nx.png,0\n")
    with pytest.raises(InputError, match=r"names x\.png, which .* look like ' lead\.png'"):
        read_judged(path, names, np.array([0, 1, 0, 1]), 2, {})


def test_the_name_of_a_group_is_read_without_its_guard(tmp_path):
    path = tmp_path / "judged.csv"
    path.write_text("id,label\na.png,'=cat\nb.png,'dog\n")
    assert read_judged(path, ["a.png", "b.png"], np.array([0, 1]), 2, {"=cat": 0, "'dog": 1}).right.all()


def test_two_ids_that_only_the_guard_tells_apart_stay_two(tmp_path):
    names = ["=x.png", "'=x.png"]
    path = tmp_path / "judged.csv"
    path.write_bytes(table_content(path, {"id": names, "label": [0, 0]}))
    with pytest.raises(InputError, match="twice"):
        read_judged(path, names, np.array([0, 0]), 2, {})
