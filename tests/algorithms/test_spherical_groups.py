from __future__ import annotations

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from coterie.algorithms.spherical_groups import SphericalGroups, place_directions
from coterie.networks.heads import PrototypeHead


def cones(k: int = 3, each: int = 20) -> Tensor:
    """Rows of any length in k narrow cones; row i is in cone i modulo k."""
    generator = torch.Generator().manual_seed(0)
    directions = F.normalize(torch.randn(k, 6, generator=generator)).repeat(each, 1)
    lengths = 0.1 + 5 * torch.rand(k * each, 1, generator=generator)
    return lengths * (directions + 0.05 * torch.randn(k * each, 6, generator=generator))


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_items_of_a_cone_share_a_label_whatever_their_lengths() -> None:
    groups, rows = SphericalGroups(6, 3), cones()
    groups.renew(rows, seeded(), restarts=3)
    labels = groups.of(torch.arange(60)).view(20, 3)
    assert bool((labels == labels[0]).all())
    assert len(set(labels[0].tolist())) == 3
    torch.testing.assert_close(groups.centres.norm(dim=1), torch.ones(3))
    again = SphericalGroups(6, 3)
    again.renew(0.01 * rows, seeded(), restarts=3)
    assert torch.equal(again.of(torch.arange(60)).view(20, 3), labels)


def test_a_checkpoint_brings_labels_and_centres() -> None:
    groups, fresh = SphericalGroups(6, 3), SphericalGroups(6, 3)
    groups.renew(cones(), seeded(), restarts=1)
    fresh.load_state_dict(groups.state_dict())
    assert torch.equal(fresh.of(torch.tensor([5, 7])), groups.of(torch.tensor([5, 7])))
    assert torch.equal(fresh.centres, groups.centres)
    assert torch.equal(fresh.draw(9, seeded()), groups.draw(9, seeded()))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=2, max_size=5))
def test_a_draw_has_items_of_all_groups_alike_however_large_they_are(sizes: list[int]) -> None:
    groups = SphericalGroups(6, len(sizes) + 1)  # one of them is empty
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    groups.labels.fill(labels[:, None])
    drawn = labels[groups.draw(4000, seeded())]
    share = drawn.bincount(minlength=len(sizes)) / 4000
    # Six deviations of a share.
    torch.testing.assert_close(share, torch.full_like(share, 1 / len(sizes)), atol=6 * 0.5 / 4000**0.5, rtol=0)


def test_the_answer_of_rows_of_length_one_is_the_centre_of_the_largest_cosine() -> None:
    head, rows = PrototypeHead(6, 3, standardise=False), cones()
    place_directions(head, rows, seeded(), restarts=2)
    unit = F.normalize(rows)
    assert torch.equal(head(unit).argmax(1), (unit @ head.centres.T).argmax(1))
    assert len(head(unit).argmax(1).unique()) == 3
    assert float(head.variance) < 0.1
