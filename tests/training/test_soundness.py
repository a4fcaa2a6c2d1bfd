"""Warnings of results that sizes and distances speak against."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.datasets import load_breast_cancer, load_iris, make_blobs

from coterie.algorithms.kmeans import kmeans
from coterie.training.soundness import SAMPLE, Known, _gap, divided, overlooked, sample_rows, size_warning


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ([81, 19], "One group holds 81 of the 100 items (81%)"),
        ([2898, 50, 30, 22], "One group holds 2,898 of the 3,000 items (97%)"),
        ([990, 10], "One group holds 990"),
        ([500, 490, 10], "One group has only 10 of the 1,000 items, where an even share is 333"),
        ([500, 480, 10, 10], "2 groups have at most 10 of the 1,000 items"),
        ([1] * 30, "30 items are in 30 groups, fewer than 2 in a mean group"),
        ([3, 1, 1], "Ask for fewer groups."),
    ],
)
def test_a_lump_and_groups_far_below_an_even_share_are_told(sizes: list[int], said: str) -> None:
    found = size_warning(torch.tensor(sizes))
    assert found is not None
    assert said in found


@pytest.mark.parametrize(
    "sizes", [[50, 50], [80, 20], [60, 30, 10], [700, 100, 100, 100], [40, 3, 57], [5, 0, 5], [3, 2, 1]]
)
def test_ordinary_sizes_are_nothing_to_tell(sizes: list[int]) -> None:
    assert size_warning(torch.tensor(sizes)) is None


def with_a_small_group(share: float, d: int, k: int, apart: float = 14.0) -> tuple[torch.Tensor, int]:
    """k - 1 large groups in a ball and a small one of `share` of 1,000 items `apart` deviations from the origin."""
    rng = np.random.default_rng(d + k)
    small = round(1000 * share)
    centres = rng.normal(size=(k - 1, d))
    centres *= (0 if k == 2 else 4) / np.linalg.norm(centres, axis=1, keepdims=True)
    large = centres[np.arange(1000 - small) % (k - 1)] + rng.normal(size=(1000 - small, d))
    away = rng.normal(size=(small, d)) + apart / np.sqrt(d)
    return torch.tensor(np.concatenate([large, away])), small


@pytest.mark.parametrize("share", [0.01, 0.05])
@pytest.mark.parametrize("k", [2, 3, 5])
@pytest.mark.parametrize("d", [2, 16, 100])
def test_a_small_group_that_was_shared_out_is_seen_and_one_that_was_found_is_not(share: float, k: int, d: int) -> None:
    # In 100 dimensions K-means itself needs a larger distance: noise alone sets two items 14 deviations apart.
    x, small = with_a_small_group(share, d, k, apart=14 if d < 100 else 30)
    labels = torch.arange(1000) % k
    inside = overlooked(x, labels, k)
    assert inside is not None
    assert inside.nonzero().flatten().tolist() == list(range(1000 - small, 1000))
    labels = torch.arange(1000) % (k - 1) if k > 2 else torch.zeros(1000, dtype=torch.long)
    labels[-small:] = k - 1
    assert overlooked(x, labels, k) is None


def test_order_and_scale_of_the_items_do_not_matter() -> None:
    x, small = with_a_small_group(0.02, 16, 2)
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(0))
    inside = overlooked(1e4 * x[order] + 1e5, torch.arange(1000) % 2, 2)
    assert inside is not None
    assert set(order[inside].tolist()) == set(range(1000 - small, 1000))


@pytest.mark.parametrize("spread", [1.0, 4.0, 8.0])
@pytest.mark.parametrize("k", [2, 5, 10])
@pytest.mark.parametrize("d", [2, 16, 100])
def test_blobs_apart_and_overlapping_raise_no_alarm(spread: float, k: int, d: int) -> None:
    x, _ = make_blobs(600, n_features=d, centers=k, cluster_std=spread, random_state=k)
    labels = torch.from_numpy(KMeans(k, n_init=2, random_state=0).fit_predict(x)).long()
    assert overlooked(torch.tensor(x), labels, k) is None


@pytest.mark.parametrize("d", [2, 16, 200])
@pytest.mark.parametrize("kind", ["normal", "heavy", "even"])
def test_data_without_groups_raise_no_alarm(kind: str, d: int) -> None:
    rng = np.random.default_rng(d)
    draw = {"normal": rng.standard_normal, "heavy": lambda size: rng.standard_t(3, size), "even": rng.random}[kind]
    x = draw(size=(800, d))
    labels = torch.from_numpy(KMeans(4, n_init=2, random_state=0).fit_predict(x)).long()
    assert overlooked(torch.tensor(x), labels, 4) is None


@pytest.mark.parametrize(("load", "k"), [(load_iris, 3), (load_breast_cancer, 2)])
def test_real_tables_raise_no_alarm(load, k) -> None:  # type: ignore[no-untyped-def]
    x, y = load(return_X_y=True)
    x = (x - x.mean(0)) / x.std(0)
    for labels in (KMeans(k, n_init=5, random_state=0).fit_predict(x), y):
        assert overlooked(torch.tensor(x), torch.from_numpy(labels).long(), k) is None


def test_two_small_groups_of_one_size_that_were_put_together_are_seen() -> None:
    x, y = make_blobs([900, 25, 25, 25, 25], n_features=16, random_state=0)
    labels = torch.from_numpy(np.where(y == 4, 3, y)).long()
    labels[(labels == 0).nonzero().flatten()[::2]] = 4
    inside = overlooked(torch.tensor(x), labels, 5)
    assert inside is not None
    assert len(np.unique(y[inside.numpy()])) == 1
    assert int(inside.sum()) == 25


@pytest.mark.parametrize("d", [4, 16, 64])
def test_a_large_group_in_two_and_two_others_in_one_are_seen_where_all_groups_stand_apart(d: int) -> None:
    rng = np.random.default_rng(d)
    centres, y = 12 * np.eye(4)[:, np.arange(d) % 4] / np.sqrt(d / 4), np.repeat(np.arange(4), [700, 400, 200, 160])
    x = torch.tensor(centres[y] + rng.normal(size=(len(y), d)))
    true = torch.from_numpy(y)
    assert divided(x, true, 4) is None
    assert divided(x, torch.tensor([2, 0, 3, 1])[true], 4) is None, "the names of groups do not matter"
    wrong = torch.where(true == 3, 2, true)
    wrong[:700:2] = 3
    found = divided(x, wrong, 4)
    assert found is not None
    assert int(found.sum()) == 350 + 160
    assert set(true[found].tolist()) == {0, 3}
    few = true.clone()
    few[:70] = 1  # 5 % of the items
    assert divided(x, few, 4) is None


@pytest.mark.parametrize("d", [1, 2, 16, 64])
@pytest.mark.parametrize("kind", ["normal", "heavy", "even", "skewed"])
def test_where_k_means_groups_do_not_stand_apart_nothing_is_said_to_be_divided(kind: str, d: int) -> None:
    rng = np.random.default_rng(d)
    draws = {
        "normal": rng.standard_normal,
        "heavy": lambda size: rng.standard_t(2, size),
        "even": rng.random,
        "skewed": rng.standard_exponential,
    }
    for k in (2, 3, 8):
        assert divided(torch.tensor(draws[kind](size=(400, d))), torch.arange(400) % k, k) is None


def test_single_outliers_are_no_groups() -> None:
    x = torch.randn(500, 8, generator=torch.Generator().manual_seed(0))
    x[3], x[77], x[200] = 50.0, -80.0, 120.0
    assert overlooked(x, torch.arange(500) % 2, 2) is None


def test_copies_of_an_item_are_no_group() -> None:
    x = torch.randn(500, 16, generator=torch.Generator().manual_seed(0))
    x[:20] = x[0]
    assert overlooked(x, torch.arange(500) % 5, 5) is None


def test_too_few_items_or_too_many_groups_are_not_looked_at() -> None:
    x, _ = with_a_small_group(0.02, 4, 2)
    assert overlooked(x[-30:], torch.arange(30) % 5, 5) is None
    assert overlooked(x, torch.arange(1000) % 100, 100) is None


def test_the_sample_is_spread_evenly_and_has_every_row_of_a_small_source() -> None:
    assert sample_rows(10).tolist() == list(range(10))
    rows = sample_rows(100_000)
    assert len(rows) == SAMPLE
    assert rows[0] == 0
    assert rows[-1] == 99_999
    assert len(set(rows.tolist())) == SAMPLE


def test_beside_a_single_point_no_gap_is_measured() -> None:
    group, single = torch.randn(20, 3, generator=torch.Generator().manual_seed(0)), torch.full((1, 3), 9.0)
    assert _gap(group, single) == _gap(single, group) == 0.0
    assert _gap(group, torch.cat([single, single + 0.1])) > 1


def test_both_searches_share_one_k_means(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def counting(points: torch.Tensor, centres: int, **options: Any) -> Any:
        asked.append(centres)
        return kmeans(points, centres, **options)

    monkeypatch.setattr("coterie.training.soundness.kmeans", counting)
    rng = np.random.default_rng(0)
    true = np.repeat(np.arange(4), 100)
    x = torch.tensor(rng.normal(0, 1, (400, 8)) + 12 * np.eye(8)[true])
    known: Known = {}
    wrong = torch.from_numpy(np.where(true < 2, 0, np.where(true == 2, 1, 2 + np.arange(400) % 2)))
    apart = [overlooked(x, wrong, 4, 0, known), divided(x, wrong, 4, 0, known)]
    assert asked == [4, 8]
    for one, other in zip(apart, [overlooked(x, wrong, 4), divided(x, wrong, 4)], strict=True):
        assert (one is None) == (other is None)
        assert one is None or torch.equal(one, other)
