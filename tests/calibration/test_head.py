"""The rule that calibration moves no item to another group."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coterie.calibration import keep_groups
from coterie.calibration.head import Standardise


@given(
    n=st.integers(1, 30),
    k=st.integers(2, 12),
    spread=st.sampled_from([0.1, 1.0, 5.0, 30.0]),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=150, deadline=None)
def test_an_item_stays_in_its_group_and_nothing_is_lost(n: int, k: int, spread: float, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(n, k, generator=random)
    label = torch.randint(k, (n,), generator=random)
    kept = keep_groups(logits, label)
    assert torch.equal(kept.argmax(1), label)
    assert torch.equal(kept.softmax(1).argmax(1), label)
    agreed = logits.argmax(1) == label
    assert torch.equal(kept[agreed], logits[agreed])
    # What the others lose the own group gains: the sum of exponentials stays, up to the step by which it leads.
    torch.testing.assert_close(kept.logsumexp(1), logits.logsumexp(1), rtol=0, atol=2e-3)
    assert bool((kept.softmax(1).amax(1)[~agreed] <= 0.5 + 1e-3).all())


def test_three_groups_that_are_as_likely_share_with_the_items_own() -> None:
    kept = keep_groups(torch.tensor([[-9.0, 2.0, 2.0, 2.0]]), torch.tensor([0])).softmax(1)
    torch.testing.assert_close(kept, torch.full((1, 4), 0.25), rtol=0, atol=1e-3)


def test_a_feature_that_hardly_varies_is_scaled_as_if_it_varied_by_a_thousandth_of_the_others() -> None:
    features = torch.randn(500, 64, generator=torch.Generator().manual_seed(0)) + 7
    features[:, 3] = 7 + 1e-6 * features[:, 3]
    standardise = Standardise(64)
    standardise.place(features)
    usual = float(features.std(0).square().mean().sqrt())
    assert float(standardise.std[3]) == pytest.approx(1e-3 * usual)
    torch.testing.assert_close(standardise(features)[:, 4:].std(0), torch.ones(60))
    torch.testing.assert_close(standardise(features).mean(0), torch.zeros(64), atol=1e-2, rtol=0)


@given(k=st.integers(2, 6), size=st.sampled_from([1e4, 1e6, 1e9, 1e20]), seed=st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_an_item_far_outside_stays_in_its_group_too(k: int, size: float, seed: int) -> None:
    """At logits of a million float32 has no step of 0.001, and the item went to the group of the first column."""
    random = torch.Generator().manual_seed(seed)
    logits = size * torch.randint(-2, 3, (20, k), generator=random) + torch.randint(3, (20, k), generator=random)
    label = torch.randint(k, (20,), generator=random)
    kept = keep_groups(logits, label)
    assert torch.equal(kept.argmax(1)[logits.argmax(1) != label], label[logits.argmax(1) != label])
    assert torch.equal(kept.softmax(1).argmax(1)[kept.argmax(1) == label], label[kept.argmax(1) == label])
