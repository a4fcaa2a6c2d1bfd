"""The cards of the groups, in their order and on their pages."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from coterie.app.overview import PAGE, SORTS, Overview
from coterie.review import Review
from helpers.review_runs import embedding_of, probabilities_of, write_run


def test_a_part_that_lost_its_items_makes_no_page_of_its_own(tmp_path: Path) -> None:
    """A group is split and a part moved away: 101 groups live, 100 are shown, and there is no empty second page."""
    run = write_run(
        tmp_path / "run",
        probabilities_of(400, PAGE - 1),
        kind="embeddings",
        embedding=np.random.default_rng(0).normal(size=(400, 2)).astype(np.float32),
    )
    with Review(run) as review:
        kept, gone = review.split(3)
        review.move(review.state.members(gone).tolist(), kept)
        assert kept in review.state.live
        assert gone in review.state.live
        for sort in SORTS:
            page = Overview(review).page(sort, 1)
            assert (page.number, page.last) == (0, 0)
            assert [card.number for card in page.cards if card.number == gone] == []
            assert len(page.cards) == page.total


def test_cards_are_of_their_groups_items(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", probabilities_of(60, 3), kind="embeddings")
    with Review(run) as review:
        review.approve(2)
        page = Overview(review).page("number")
        assert [card.number for card in page.cards] == [0, 1, 2]
        assert not page.as_table
        for card in page.cards:
            rows = review.state.members(card.number)
            assert card.size == len(rows)
            assert card.share == len(rows) / 60
            assert card.confidence == np.mean(review.confidence[rows])
            assert card.surest[0] == rows[review.confidence[rows].argmax()]
            assert card.approved == (card.number == 2)
            assert card.doubtful == [] if card.approved else card.doubtful[0] == rows[review.confidence[rows].argmin()]
        assert Overview(review).page().cards[-1].number == 2  # what is decided comes last


def test_the_mass_between_groups_follows_what_moves_items(tmp_path: Path) -> None:
    """A name and an approval move none, and all probabilities are not read again for them."""
    run = write_run(tmp_path / "run", probabilities_of(60, 3), kind="embeddings", embedding=embedding_of(60, 3))
    with Review(run) as review:
        overview = Overview(review)
        first = overview.mass()
        review.rename(0, "cat").approve(1)
        assert overview.mass() is first
        for act in (
            lambda: review.move([0, 1], 2),
            lambda: review.split(0, k=2),
            lambda: review.merge(1, [2]),
            review.undo,
            lambda: review.reject([5]),
        ):
            act()
            np.testing.assert_array_equal(overview.mass(), Overview(review).mass())
