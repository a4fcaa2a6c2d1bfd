from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from coterie.contract import Facts, views_of
from coterie.methods.byol import BYOL
from coterie.methods.conr import CoNR, concordance, contextual_neighbours, contextual_similarity, far_from_borders
from coterie.methods.propos import ProPos
from coterie.training.chain import chain_of
from coterie.training.plan import RunSettings, make_plan
from coterie.types import InputError
from helpers.two_views import SIZE, batch_at, grouped, net_of, waves

SMALL: dict[str, Any] = {"batch_size": SIZE, "projector_hidden": 7, "projector_out": 5, "predictor_hidden": 6}
METHOD = CoNR(neighbours=3, lists=4, passed_on=2, **SMALL)
KEYS = F.normalize(torch.sin(1.3 * torch.arange(60, dtype=torch.float64) ** 1.1 + 0.4).view(12, 5).float())


# Neighbours by context


def slow_similarity(keys: Tensor, lists: int, passed_on: int) -> Tensor:
    """The sets as dictionaries of weights, one row at a time."""
    n, unit = len(keys), keys.double()
    ranked = [sorted(range(n), key=lambda j: (j != i, -float(unit[i] @ unit[j])))[:lists] for i in range(n)]
    sets = [dict.fromkeys(row, 1.0) for row in ranked]
    for _ in range(2):
        mutual = [{j: sets[i].get(j, 0.0) + sets[j].get(i, 0.0) for j in range(n)} for i in range(n)]
        sets = []
        for i in range(n):
            own = dict.fromkeys(range(n), 0.0)
            for other in ranked[i][:passed_on]:
                for j in range(n):
                    own[j] += float(unit[i] @ unit[other]) ** 2 * mutual[other][j]
            length = math.sqrt(sum(value**2 for value in own.values()))
            sets.append({j: value / length for j, value in own.items()})
    return torch.tensor([[sum(a[j] * b[j] for j in range(n)) for b in sets] for a in sets])


def test_similarity_by_context_is_the_formula() -> None:
    torch.testing.assert_close(contextual_similarity(KEYS, 5, 2), slow_similarity(KEYS, 5, 2), atol=1e-5, rtol=0)


@given(st.integers(0, 10_000), st.integers(2, 9), st.integers(2, 9))
@settings(deadline=None, max_examples=25)
def test_similarity_is_symmetric_between_zero_and_one_and_one_with_itself(seed: int, lists: int, passed: int) -> None:
    keys = F.normalize(torch.randn(10, 4, generator=torch.Generator().manual_seed(seed)))
    found = contextual_similarity(keys, lists, min(passed, lists))
    torch.testing.assert_close(found, found.T)
    torch.testing.assert_close(found.diagonal(), torch.ones(10))
    assert -1e-6 <= float(found.min()) <= float(found.max()) <= 1 + 1e-5


def test_a_row_is_its_own_first_neighbour_also_beside_a_copy_and_order_does_not_matter() -> None:
    found = contextual_neighbours(torch.cat([KEYS, KEYS]), 5, 2, 4)
    assert found[:, 0].tolist() == list(range(24))
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    shuffled = contextual_similarity(KEYS[order], 5, 2)
    torch.testing.assert_close(shuffled, contextual_similarity(KEYS, 5, 2)[order][:, order], atol=1e-5, rtol=0)


def test_parity_of_the_neighbours_with_the_authors() -> None:
    """`gnn_reranking(keys, 5, 2)` of cly234/DeepClustering-ConNR, commit 7cda05b6 (23 February 2024).

    Its two CUDA extensions were replaced by loops over what their kernels write.
    """
    theirs = [[0, 6, 9, 4], [1, 5, 11, 8], [2, 4, 6, 9], [3, 8, 11, 1], [4, 2, 6, 9], [5, 1, 11, 8]]
    theirs += [[6, 9, 0, 4], [7, 10, 2, 4], [8, 3, 11, 1], [6, 9, 0, 4], [10, 7, 2, 4], [11, 8, 3, 1]]
    found = contextual_neighbours(KEYS, 5, 2, 4)
    assert [sorted(row) for row in found.tolist()] == [sorted(row) for row in theirs]
    first = contextual_similarity(KEYS, 5, 2)[0].sort(descending=True).values[:5]
    expected = [1.0, 0.8837898969650269, 0.8837898969650269, 0.6418055295944214, 0.6413261294364929]
    torch.testing.assert_close(first, torch.tensor(expected), atol=1e-5, rtol=0)


# Borders


def test_rows_far_from_a_border_are_those_of_small_distance_to_their_own_centre() -> None:
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0]])
    keys = torch.tensor([[0.0, 0.0], [4.9, 0.0], [2.0, 0.0], [9.0, 0.0], [5.2, 0.0]])
    labels = torch.tensor([0, 0, 0, 1, 1])
    assert far_from_borders(keys, centres, labels, 0.6).tolist() == [True, False, True, True, False]
    assert far_from_borders(keys, centres, labels, 1.0).all()
    kept = [int(far_from_borders(keys, centres, labels, share / 10).sum()) for share in range(1, 11)]
    assert kept == sorted(kept)
    assert kept[0] == 1


def test_the_kept_share_rises_over_a_quarter_of_the_stage() -> None:
    shares = [CoNR().kept_share(epoch) for epoch in range(200)]
    assert shares[0] == pytest.approx(0.804)
    assert shares[49] == pytest.approx(1.0)
    assert set(shares[50:]) == {1.0}


# The loss


@pytest.mark.parametrize(
    ("dropped", "loss", "gradients"),
    [
        ([2, 3, 4, 5, 7, 10, 11], -0.04932938143610954, {0: 0.04132697358727455, 1: -0.04651365801692009, 2: 0.0}),
        ([3], -0.0057198102585971355, {0: 0.04132697358727455, 2: 0.05779273435473442, 3: 0.0}),
    ],
)
def test_parity_of_the_loss_with_the_authors(dropped: list[int], loss: float, gradients: dict[int, float]) -> None:
    """`forward_loss_connr` of the same code with cuts at 0.5 and 1, after which it drops the row at the cut, too."""
    said = waves(12, 5, start=0.3).requires_grad_()
    keep = torch.ones(12, dtype=torch.bool)
    keep[dropped] = False
    found = -2 * concordance(F.normalize(said), KEYS, contextual_neighbours(KEYS, 5, 2, 4), keep)
    assert found.item() == pytest.approx(loss, abs=1e-6)
    (gradient,) = torch.autograd.grad(found, said)
    for row, expected in gradients.items():
        assert float(gradient[row, 0]) == pytest.approx(expected, abs=1e-6)


def test_the_cuts_of_that_code_are_found_but_for_the_row_at_the_cut() -> None:
    centres = F.normalize(waves(3, 5, start=1.0))
    labels = (KEYS @ centres.T).argmax(1)
    assert far_from_borders(KEYS, centres, labels, 0.5).nonzero()[:, 0].tolist() == [0, 1, 2, 6, 8, 9]
    assert far_from_borders(KEYS, centres, labels, 1.0).all()


def test_with_one_neighbour_and_everything_kept_it_is_byol_halved() -> None:
    method, byol = CoNR(neighbours=1, lists=4, keep=1.0, **SMALL), BYOL(**SMALL)
    expected = next(iter(byol.step(net_of(byol), batch_at())))["prediction"]
    net = grouped(method)
    for part in ("project", "predict", "teacher"):
        net.get_submodule(part).load_state_dict(net_of(byol).get_submodule(part).state_dict())
    found = next(iter(method.step(net, batch_at())))
    assert dict(found)["concordance"].item() == pytest.approx(expected.item() / 2, rel=1e-4)


def test_rate_goes_on_from_where_the_first_stage_left_it() -> None:
    scheduled = [0.05 * 0.5 * (1 + math.cos(math.pi * (p - 0.05))) for p in (0.8, 0.9, 1.0)]
    method = CoNR()
    for p, expected in zip((0.0, 0.5, 1.0), scheduled, strict=True):
        assert method.learning_rate * method.rate(p) == pytest.approx(0.1 * expected, rel=0.01)
    (group,) = METHOD.optimiser(grouped(METHOD)).param_groups
    assert group["lr"] == pytest.approx(7.3e-4 * SIZE / 256)


# Settings and answer


def test_it_goes_on_from_byol_or_propos_with_their_heads_and_teacher() -> None:
    assert chain_of("conr", "images", None) == chain_of("conr", "embeddings", None) == ["byol", "conr"]
    for before in (BYOL, ProPos):
        assert set(CoNR.card.inherits) <= set(before.card.gives)


@pytest.mark.parametrize(("name", "value"), [("neighbours", 50), ("lists", 50)])
def test_more_neighbours_than_a_batch_has_are_refused(name: str, value: int) -> None:
    facts = Facts(40, 3, "embeddings", "cpu", dim=12)
    with pytest.raises(InputError, match=rf"conr\.{name} is 50: neighbours are looked for in a batch, of 16 items"):
        CoNR(batch_size=16, **{name: value}).check(facts)
    with pytest.raises(InputError, match=r"passed_on is 11"):
        CoNR(passed_on=11).check(Facts(4000, 3, "embeddings", "cpu", dim=12))


def test_published_row_and_views() -> None:
    facts = Facts(n=60_000, k=10, kind="images", device="cuda", side=32)
    plan = make_plan(RunSettings(n_clusters=10, method="conr", preset="paper:cifar10"), facts, "photos")
    assert plan.method == CoNR()
    assert all(view.settings == {"blur": 0.0, "crop_scale": (0.45, 1.0)} for view in views_of(CoNR()).values())
