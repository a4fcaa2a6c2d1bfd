from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from coterie.contract import Facts, check, predict, views_of
from coterie.methods.tcc import TCC, far_apart, group_contrast, group_vectors
from coterie.training.plan import RunSettings, make_plan
from coterie.types import InputError
from coterie.views import ViewSettings
from helpers.two_views import SIZE, batch_at, blobs, net_of, touched, waves

METHOD = TCC(batch_size=SIZE, hidden=7, out=5, queue=3 * SIZE, bank=2)


def units(n: int, d: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)))


# Groups as the sum of their items


@given(st.integers(0, 10_000), st.integers(2, 5), st.floats(0.1, 2.0))
@settings(deadline=None, max_examples=20)
def test_the_contrast_of_groups_is_the_formula(seed: int, k: int, temperature: float) -> None:
    own, other, bank = units(k, 4, seed), units(k, 4, seed + 1), units(3 * k, 4, seed + 2)
    total = 0.0
    for group in range(k):
        said = {
            (name, row): math.exp(float(own[group] @ vector) / temperature)
            for name, rows in (("own", own), ("other", other), ("bank", bank))
            for row, vector in enumerate(rows)
        }
        positive = said["other", group]
        others = sum(value for (_, row), value in said.items() if row % k != group)
        total -= math.log(positive / (positive + others))
    assert group_contrast(own, other, bank, temperature).item() == pytest.approx(total / k, rel=1e-4)


def test_former_vectors_of_a_group_do_not_repel_it() -> None:
    own, other, bank = units(3, 4, 0), units(3, 4, 1), units(6, 4, 2)
    moved = bank.clone()
    moved[[1, 4]] = units(2, 4, 9)
    each = [group_contrast(own, other, rows, 1.0) for rows in (bank, moved)]
    assert each[0].item() != pytest.approx(each[1].item())  # the others see them
    slopes = []
    for rows in (bank, moved):
        first = own.clone().requires_grad_()
        logits = F.cross_entropy(
            torch.cat([(first @ other.T)[1:2], (first @ rows[[0, 2, 3, 5]].T)[1:2]], dim=1), torch.tensor([1])
        )
        slopes.append(torch.autograd.grad(logits, first)[0][1])
    torch.testing.assert_close(slopes[0], slopes[1])


def test_hard_draws_give_the_direction_of_a_groups_mean() -> None:
    rows, group = units(12, 4, 0), torch.arange(12) % 3
    found = group_vectors(F.one_hot(group, 3).float(), rows)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(found, F.normalize(torch.stack([rows[group == j].mean(0) for j in range(3)])))


@pytest.mark.parametrize(("k", "d"), [(3, 5), (5, 5), (10, 128)])
def test_prototypes_begin_as_far_apart_as_can_be(k: int, d: int) -> None:
    torch.manual_seed(0)
    found = far_apart(k, d)
    cosines = torch.full((k, k), -1 / (k - 1)).fill_diagonal_(1)
    torch.testing.assert_close(found @ found.T, cosines, atol=1e-5, rtol=0)
    torch.testing.assert_close(far_apart(9, 4).norm(dim=1), torch.ones(9))  # more than the space holds


# Draws


def test_draws_are_probabilities_towards_one_hot_and_follow_the_logits() -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0]]).repeat(4000, 1)
    drawn = METHOD.drawn(logits, torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn.sum(1), torch.ones(4000))
    sure = replace(METHOD, gumbel=1e-4).drawn(logits, torch.Generator().manual_seed(0))
    assert sure.max(1).values.mean().item() > 0.999
    share = F.one_hot(sure.argmax(1), 3).float().mean(0)
    torch.testing.assert_close(share, logits[0].softmax(0), atol=0.03, rtol=0)


def test_the_same_generator_draws_the_same() -> None:
    logits = units(6, 3, 0)
    torch.testing.assert_close(*(METHOD.drawn(logits, torch.Generator().manual_seed(3)) for _ in range(2)))


# The step


def test_the_losses_are_those_of_both_tracks() -> None:
    """Written out on a twin, with the draws that the batch's generator gives."""
    method = replace(METHOD, alpha=0.3, temperature=0.5, sharpness=0.4, jiggle=0.2)
    net, twin, batch = net_of(method), net_of(method), batch_at()
    for one in (net, twin):
        assert not bool(one.joined.weight.any())  # at the start items are compared by themselves
        for start, part in enumerate((one, one.teacher)):
            part.joined.weight.data.copy_(waves(5, 3, start=start))
    losses = next(method.step(net, batch))
    again, generator = batch_at(), torch.Generator().manual_seed(1)
    for _ in range(2):
        torch.randn(SIZE, again.one.shape[1], generator=generator)
    with torch.no_grad():
        own = F.normalize(twin.embed(twin.backbone(again.one)))
        other = F.normalize(twin.teacher.embed(twin.teacher.backbone(again.two)))
        logits, other_logits = (rows @ F.normalize(twin.prototypes.centres).T / 0.4 for rows in (own, other))
        other_drawn = method.drawn(other_logits, generator)
        noise = 0.2 * torch.randn(twin.groups.rows.shape, generator=generator)
        drawn = method.drawn(logits, generator)
        e, e_other = F.normalize(own + twin.joined(drawn)), F.normalize(other + twin.teacher.joined(other_drawn))
        r, r_other = F.normalize(drawn.T @ own), F.normalize(other_drawn.T @ other)
        bank = F.normalize(twin.groups.rows + noise)
        positive = (e * e_other).sum(1) / 0.5
        items = torch.cat([positive[:, None], e @ twin.items.rows.T / 0.5], dim=1).logsumexp(1) - positive
        p, q = logits.softmax(1), other_logits.softmax(1)
    expected = {
        "groups": 0.3 * group_contrast(r, r_other, bank, 0.5),
        "items": 0.7 * items.mean(),
        "divergence": 0.7 * (p * (p / q).log()).sum(1).mean(),
    }
    torch.testing.assert_close(dict(losses), expected, rtol=1e-4, atol=1e-5)
    assert losses["divergence"].item() >= 0


def test_what_is_remembered_is_written_and_the_teacher_moved_after_the_step() -> None:
    net = net_of(METHOD)
    items, groups = net.items.rows.clone(), net.groups.rows.clone()
    with torch.no_grad():
        net.joined.weight.add_(1.0)
    before = net.teacher.joined.weight.clone()
    steps = METHOD.step(net, batch_at())
    next(steps)
    assert torch.equal(net.items.rows, items)
    assert torch.equal(net.teacher.joined.weight, before)
    assert next(steps, None) is None
    assert torch.equal(net.items.rows[SIZE:], items[SIZE:])
    assert not torch.equal(net.items.rows[:SIZE], items[:SIZE])
    assert torch.equal(net.groups.rows[3:], groups[3:])  # one vector of each of three groups
    torch.testing.assert_close(net.groups.rows.norm(dim=1), torch.ones(6))
    torch.testing.assert_close(net.teacher.joined.weight, torch.lerp(before, net.joined.weight, 0.001))


def test_no_gradient_reaches_the_teacher_and_everything_else_is_trained() -> None:
    net = net_of(METHOD)
    for losses in METHOD.step(net, batch_at()):
        torch.stack(list(losses.values())).sum().backward()
    assert touched(net) == {"backbone", "embed", "prototypes", "joined"}
    (group,) = METHOD.optimiser(net).param_groups
    trained = [*net.backbone.parameters(), *net.embed[:-1].parameters(), *net.prototypes.parameters()]
    assert {id(p) for p in group["params"]} == {id(p) for p in [*trained, net.joined.weight]}


def test_the_answer_has_no_draw_in_it() -> None:
    net, features = net_of(METHOD).eval(), blobs()
    found = predict(METHOD, net, features)["softmax"]
    assert torch.equal(found, predict(METHOD, net, features)["softmax"])
    cosines = F.cosine_similarity(net.embed(features)[:, None], net.prototypes.centres[None], dim=2)
    torch.testing.assert_close(found, cosines.softmax(1))
    sharp = predict(replace(METHOD, sharpness=0.1), net, features)["softmax"]
    torch.testing.assert_close(sharp, (10 * cosines).softmax(1), rtol=1e-4, atol=1e-5)


def test_items_begin_in_several_groups_though_their_features_are_much_alike() -> None:
    net = net_of(METHOD)
    features = 5 + 0.1 * blobs()
    found = net.embed(features)
    torch.testing.assert_close(found.mean(0), torch.zeros(5), atol=1e-5, rtol=0)
    assert len(set(METHOD.by_prototypes(net.prototypes, F.normalize(found)).argmax(1).tolist())) == 3


# Settings


def test_a_queue_that_does_not_hold_a_batch_is_refused() -> None:
    with pytest.raises(InputError, match=r"tcc\.queue is 4"):
        check(TCC(batch_size=8, queue=4), Facts(n=100, k=3, kind="images", device="cpu", side=8))


def test_more_groups_than_a_batch_make_it_larger() -> None:
    facts = Facts(n=50_000, k=400, kind="images", device="cuda", side=32)
    assert (
        make_plan(RunSettings(n_clusters=400, method="tcc", preset="paper"), facts, "photos").method.batch_size == 400
    )


def test_the_views_are_mocos_first_ones() -> None:
    own = [view.settings_of(ViewSettings(), ()) for view in views_of(TCC()).values()]
    assert [(one.crop_scale, one.blur) for one in own] == [((0.2, 1.0), 0.0)] * 2
