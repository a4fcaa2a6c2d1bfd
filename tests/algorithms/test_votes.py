from __future__ import annotations

import torch

from coterie.algorithms.votes import NeighbourVotes, matched_to_medoid


def test_partitions_are_numbered_as_the_one_that_agrees_most():
    random = torch.Generator().manual_seed(0)
    truth, odd = torch.randint(4, (2, 200), generator=random)
    renamed = [torch.randperm(4, generator=random)[truth] for _ in range(3)]
    assert all(torch.equal(renamed[0], other) for other in matched_to_medoid(renamed, 4))
    found = matched_to_medoid([odd, *renamed], 4)  # the one that agrees with nobody numbers nothing
    assert all(torch.equal(renamed[0], other) for other in found[1:])


def test_the_share_of_a_group_is_its_mean_among_the_neighbours_in_all_partitions():
    """Two clumps of ten; two partitions say the same, the third divides the second clump."""
    rows = torch.cat([torch.randn(10, 3) * 0.01, torch.randn(10, 3) * 0.01 + 5])
    whole = torch.arange(20) // 10
    split = torch.where(torch.arange(20) == 19, 0, whole)
    votes = NeighbourVotes(3, 2, 9)
    votes.place(rows, [whole, whole, split], 2)
    found = votes(rows).exp()
    torch.testing.assert_close(found.sum(1), torch.ones(20))
    torch.testing.assert_close(found[0], torch.tensor([10.01, 0.01]) / 10.02)
    torch.testing.assert_close(found[12], torch.tensor([0.01 + 1 / 3, 10.01 - 1 / 3]) / 10.02)
    torch.testing.assert_close(votes(rows[3:4]).exp(), found[3:4])


def test_without_a_number_a_tenth_of_a_mean_group_votes():
    rows, groups = torch.randn(600, 3), torch.arange(600) % 4
    by_itself, by_number = NeighbourVotes(3, 4, None), NeighbourVotes(3, 4, 15)
    for votes in (by_itself, by_number):
        votes.place(rows, [groups], 4)
    torch.testing.assert_close(by_itself(rows), by_number(rows))


def test_more_neighbours_than_landmarks_are_all_of_them():
    votes = NeighbourVotes(2, 2, 50)
    votes.place(torch.eye(2), [torch.tensor([0, 1])], 2)
    torch.testing.assert_close(votes(torch.eye(2)).exp(), torch.full((2, 2), 0.5))
