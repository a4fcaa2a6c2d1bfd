"""Formulas of the selection strategies: slow twins, the papers' worked values, invariants."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from coterie.objectives.selection_formulas import (
    above,
    agreement,
    confident_images,
    flexmatch_thresholds,
    freematch_thresholds,
    joined,
    last_layer_gradients,
    proximity,
    sums_by_group,
)
from helpers.draws import probabilities, seeded

seeds = st.integers(0, 10_000)


# CDC, Eq. 4


def slow_selection(p: Tensor, *, match_label: bool = False) -> tuple[set[int], list[int]]:
    """The marked images and every group's number of places, word by word."""
    rows = p.double().tolist()
    n, k = len(rows), len(rows[0])
    marked, places = set[int](), []
    for group in range(k):
        ranked = sorted(range(n), key=lambda i: -rows[i][group])[: n // k]
        places.append(math.floor(math.fsum(max(rows[i]) for i in ranked) + 1e-6))
        for i in ranked[: places[-1]]:
            if not match_label or rows[i].index(max(rows[i])) == group:
                marked.add(i)
    return marked, places


@given(n=st.integers(1, 60), k=st.integers(2, 8), seed=seeds, sharpness=st.floats(0.1, 8), match=st.booleans())
@settings(max_examples=80, deadline=None)
def test_selection_is_that_of_its_slow_twin(n: int, k: int, seed: int, sharpness: float, match: bool) -> None:
    p = probabilities(n, k, seed, sharpness)
    expected, places = slow_selection(p, match_label=match)
    mask = confident_images(p, match_label=match)
    assert mask.dtype == torch.bool
    assert set(mask.nonzero().flatten().tolist()) == expected
    quota = n // k
    assert all(quota // k <= place <= quota for place in places)
    assert len(expected) <= sum(places) <= k * quota <= n


def test_sure_and_balanced_images_are_all_selected_and_uniform_ones_hardly() -> None:
    labels = torch.arange(30) % 3
    assert bool(confident_images(F.one_hot(labels, 3).float()).all())
    almost = F.one_hot(labels, 3).float() * 0.99999994  # sums to 9.9999994 (spec, pitfall 14)
    assert bool(confident_images(almost).all())
    uniform = torch.full((30, 3), 1 / 3)
    assert slow_selection(uniform)[1] == [3, 3, 3]  # floor(10 / 3) places each, on the same images
    assert int(confident_images(uniform).sum()) <= 9


def test_fewer_images_than_groups_select_nothing() -> None:
    assert not bool(confident_images(probabilities(4, 5)).any())


def test_an_image_that_two_groups_mark_counts_once() -> None:
    # Group 2 is nobody's label, so its three places go to images of group 0: to two that group 0 marks, and one more.
    sure = [[0.95, 0.0, 0.05], [0.94, 0.0, 0.06], [0.93, 0.0, 0.07], [0.92, 0.0, 0.08]]
    p = torch.tensor([*sure, *[[0.09, 0.9, 0.01]] * 4, *[[0.85, 0.15, 0.0]] * 4])
    mask = confident_images(p)
    assert mask.nonzero().flatten().tolist()[:4] == [0, 1, 2, 3]
    assert slow_selection(p)[1] == [3, 3, 3]
    assert int(mask.sum()) == 3 + 3 + 1
    assert confident_images(p, match_label=True)[:4].tolist() == [True, True, True, False]


@given(seed=seeds, raised=st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_raising_all_confidences_never_selects_fewer(seed: int, raised: float) -> None:
    n, k = 40, 4
    top = 0.3 + 0.6 * torch.rand(n, generator=seeded(seed))
    hot = F.one_hot(torch.arange(n) % k, k).bool()

    def of(top: Tensor) -> Tensor:
        return torch.where(hot, top[:, None], ((1 - top) / (k - 1))[:, None])

    before, after = confident_images(of(top)), confident_images(of(top + raised * (1 - top)))
    assert int(after.sum()) >= int(before.sum())


@given(seed=seeds)
@settings(max_examples=30, deadline=None)
def test_selection_does_not_depend_on_the_order_of_images_or_groups(seed: int) -> None:
    p = probabilities(50, 5, seed)
    rows, columns = torch.randperm(50, generator=seeded(seed)), torch.randperm(5, generator=seeded(seed))
    assert torch.equal(confident_images(p[rows]), confident_images(p)[rows])
    assert torch.equal(confident_images(p[:, columns]), confident_images(p))


# Thresholds


def test_each_item_is_held_to_the_threshold_of_its_label() -> None:
    p = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.45, 0.55]])
    assert above(p, torch.tensor([0.8, 0.6])).tolist() == [True, False, True, False]
    assert above(p, torch.zeros(2)).all()
    assert not above(p, torch.ones(2)).any()


def remembered_as(*counts: int, items: int) -> Tensor:
    labels = [group for group, count in enumerate(counts) for _ in range(count)]
    return torch.tensor(labels + [-1] * (items - len(labels)), dtype=torch.int32)


def test_flexmatch_thresholds_have_the_worked_values() -> None:
    """Learning states of 0, 0.2, 0.5, 0.8 and 1 give 0, 0.1056, 0.3167, 0.6333 and 0.95."""
    found = flexmatch_thresholds(remembered_as(0, 2, 5, 8, 10, items=25), 5)
    torch.testing.assert_close(found, torch.tensor([0, 0.105556, 0.316667, 0.633333, 0.95]), atol=1e-5, rtol=0)


def test_flexmatch_begins_at_zero_and_waits_while_most_items_are_unsure() -> None:
    assert flexmatch_thresholds(remembered_as(items=9), 3).tolist() == [0, 0, 0]
    warming = flexmatch_thresholds(remembered_as(1, 4, items=20), 3)  # 15 not remembered: states 1/15, 4/15, 0
    torch.testing.assert_close(warming, torch.tensor([0.95 / 29, 0.95 * 4 / 26, 0]))


@given(seed=seeds, k=st.integers(2, 6), items=st.integers(1, 40), threshold=st.floats(0.1, 1))
@settings(max_examples=40, deadline=None)
def test_flexmatch_thresholds_are_those_of_a_slow_twin(seed: int, k: int, items: int, threshold: float) -> None:
    remembered = torch.randint(-1, k, (items,), generator=seeded(seed), dtype=torch.int32)
    counts = [remembered.tolist().count(group) for group in range(k)]
    states = [count / max(max(counts), items - sum(counts)) for count in counts]
    expected = [threshold * state / (2 - state) for state in states]
    torch.testing.assert_close(flexmatch_thresholds(remembered, k, threshold), torch.tensor(expected))
    assert all(0 <= state <= 1 for state in states)


@given(seed=seeds, confidence=st.floats(0.2, 1))
@settings(max_examples=30, deadline=None)
def test_freematch_thresholds_never_exceed_the_mean_confidence_and_one_reaches_it(seed: int, confidence: float) -> None:
    share = probabilities(1, 5, seed)[0]
    found = freematch_thresholds(torch.tensor(confidence), share)
    torch.testing.assert_close(found, confidence * share / max(share.tolist()))
    assert found.max().item() == pytest.approx(confidence)
    even = freematch_thresholds(torch.tensor(confidence), torch.full((5,), 0.2))
    torch.testing.assert_close(even, torch.full((5,), confidence))


# Less sure items that join


def test_gradients_are_those_of_autograd() -> None:
    layer = nn.Linear(7, 4)
    hidden = torch.randn(9, 7, generator=seeded(), requires_grad=True)
    logits = layer(hidden)
    F.cross_entropy(logits, logits.argmax(1), reduction="sum").backward()
    assert hidden.grad is not None
    found = last_layer_gradients(logits.softmax(1).detach(), layer.weight.detach())
    torch.testing.assert_close(found, F.normalize(hidden.grad, dim=1))


def test_a_perfectly_sure_item_has_no_gradient_and_agrees_half() -> None:
    p = torch.tensor([[1.0, 0.0], [0.8, 0.2]])
    gradients = last_layer_gradients(p, torch.eye(2))
    assert gradients[0].tolist() == [0, 0]
    directions = torch.tensor([[-1.0, 1.0], [0.0, 0.0]])
    assert agreement(gradients, torch.tensor([0, 0]), directions).tolist() == pytest.approx([0.5, 1.0])
    assert agreement(gradients, torch.tensor([1, 1]), directions).tolist() == [0, 0]  # a group without a direction


@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_scores_are_those_of_slow_twins_and_lie_between_zero_and_one(seed: int) -> None:
    rows, means = (torch.randn(n, 5, generator=seeded(seed + n)) for n in (20, 3))
    label = torch.randint(0, 3, (20,), generator=seeded(seed))
    for i, (agrees, near) in enumerate(zip(agreement(rows, label, means), proximity(rows, label, means), strict=True)):
        own = means[label[i]]
        assert agrees.item() == pytest.approx((1 + float(rows[i] @ own / (rows[i].norm() * own.norm()))) / 2, abs=1e-5)
        assert near.item() == pytest.approx(1 / (1 + float(sum((rows[i] - own) ** 2))), rel=1e-5)
        assert 0 <= agrees <= 1
        assert 0 < near <= 1


def test_sums_by_group_count_the_chosen_rows_only() -> None:
    rows = torch.arange(10.0).view(5, 2)
    sums, counts = sums_by_group(rows, torch.tensor([0, 2, 0, 2, 0]), torch.tensor([True, True, False, True, True]), 4)
    assert sums.tolist() == [[8, 10], [0, 0], [8, 10], [0, 0]]
    assert counts.tolist() == [2, 0, 2, 0]


@given(seed=seeds, lowest=st.floats(0.3, 0.9), high=st.floats(0.3, 1))
@settings(max_examples=30, deadline=None)
def test_who_joins_lies_between_the_bounds(seed: int, lowest: float, high: float) -> None:
    """With confident items above one threshold, GSF's and PPF's band; with both bounds equal, a fixed threshold."""
    p, score = probabilities(50, 4, seed), torch.rand(50, generator=seeded(seed))
    confidence = p.amax(1)
    keep = joined(p, confidence > high, score, 0.5, lowest)
    assert keep[confidence > high].all()
    assert not keep[(confidence <= lowest) & (confidence <= high)].any()
    between = (confidence <= high) & (confidence > lowest)
    assert torch.equal(keep[between], score[between] >= 0.5)
    assert torch.equal(joined(p, confidence > high, score, 0.5, high), confidence > high)
