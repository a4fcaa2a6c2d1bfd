"""Judgements of one run in the numbers of another: groups by their items, rows by their places among those trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from coterie.data import open_source
from coterie.data.judged import ELSEWHERE, NOWHERE
from coterie.review import Review
from coterie.running.judgements import Judgements, constraints_of, read_judgements
from coterie.types import InputError
from helpers.review_runs import small_run

# Ten items of each of four groups; the new run calls three of them 2, 0 and 3, and has the last one nowhere together.
OLD = np.arange(40) % 4
NEW = np.where(OLD == 3, np.arange(40) // 4 % 4, np.array([2, 0, 3, 1])[OLD])
TAUGHT = np.setdiff1d(np.arange(40), [0, 1, 15])  # training left three items out


def constraints(rows: list[int], groups: list[int]) -> tuple[list[list[int]], list[str]]:
    judged = Judgements(np.array(rows), np.array(groups), OLD, {})
    found, notes = constraints_of(judged, torch.eye(4)[torch.from_numpy(NEW[TAUGHT])], TAUGHT)
    return [part.tolist() for part in (found.rows, found.groups, found.not_rows, found.not_groups)], notes


def test_groups_are_renumbered_and_rows_are_places_among_the_trained() -> None:
    """Row 2 is the first that was trained, row 39 the last; what group 3 was is no group of the new run."""
    found, notes = constraints([2, 9, 14, 16, 21, 29, 1, 39, 35, 22], [0, 1, 1, NOWHERE, ELSEWHERE, 2, 0, 2, 3, 3])
    assert found == [[0, 7, 12, 26, 36], [2, 0, 0, 3, 3], [13, 18], [2, 0]]
    assert "5 judged items with their group and 2 without" in notes[0]
    assert notes[1].startswith("2 judgements took no part, for less than half of their group")
    assert notes[2] == "Items far outside all others train nothing, so 1 judgement took no part."


def test_of_a_group_that_came_again_nothing_is_lost() -> None:
    found, notes = constraints([3, 4], [0, 2])
    assert found == [[1, 2], [2, 3], [], []]
    assert len(notes) == 1


def test_judgements_of_which_none_can_be_used_are_refused() -> None:
    with pytest.raises(InputError, match="None of the judgements can be used"):
        constraints([0, 35], [1, ELSEWHERE])


def test_names_are_those_of_a_review_that_is_open(tmp_path: Path) -> None:
    """Before, those of its table: a name that another group has got since stood for the one that had it first."""
    run, judged = small_run(tmp_path, pictures=False), tmp_path / "judged.csv"
    judged.write_text("id,label\nphoto_00000.png,cat\nphoto_00001.png,dog\n")
    source = replace(open_source(np.eye(4, dtype=np.float32)), fingerprint="")
    with Review(run) as review:
        review.rename(0, "cat").rename(1, "dog")
    with Review(run) as review:
        review.rename(0, "bird").rename(3, "cat")
        assert read_judgements(str(run), str(judged), source).groups.tolist() == [3, 1]
