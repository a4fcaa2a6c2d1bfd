from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import normalized_mutual_info_score
from torch import Tensor, nn
from torch.nn import functional as F

from coterie.contract import Facts, begin_epoch, predict, views_of
from coterie.methods.divclust import DivClust, Diversity, likeness, likeness_above, mean_nmi
from coterie.training.plan import RunSettings, make_plan
from coterie.types import EpochStart
from coterie.views import ViewSettings
from helpers.two_views import SIZE, Fixed, batch_at, blobs, net_of, touched, waves

METHOD = DivClust(batch_size=SIZE, clusterings=4, hidden=7, projector_out=5, bank=3 * SIZE)


def answers_of(*shape: int, start: float) -> Tensor:
    return (2 * waves(*shape, start=start)).softmax(-1)


# How alike clusterings are


def slow_likeness(a: Tensor, b: Tensor) -> float:
    """Eq. 2 to 4, one pair of groups at a time."""
    best = [
        max(float(F.cosine_similarity(a[:, i], b[:, j], dim=0)) for j in range(b.shape[1])) for i in range(a.shape[1])
    ]
    return sum(best) / len(best)


@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(2, 4))
@settings(deadline=None, max_examples=15)
def test_likeness_is_the_formula(seed: int, count: int, k: int) -> None:
    p = (2 * torch.randn(count, 9, k, generator=torch.Generator().manual_seed(seed))).softmax(2)
    found = likeness(p)
    expected = torch.tensor([[slow_likeness(a, b) for b in p] for a in p])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert found.min() >= 0
    assert found.max() <= 1 + 1e-5


@pytest.mark.parametrize(("bound", "loss"), [(0.5, 0.8067802786827087), (0.9, 0.009068727493286133), (0.97, 0.0)])
def test_what_keeps_clusterings_apart_is_that_of_the_authors(bound: float, loss: float) -> None:
    """`DivClustLoss.loss` of ManiadisG/DivClust at 56d241f over the number of clusterings, as `CC.forward` there."""
    p, q = ((2 * waves(3, 6, 4, start=start)).requires_grad_() for start in (2, 3))
    found = likeness_above(torch.cat([p.softmax(2), q.softmax(2)], dim=1), torch.tensor(bound))
    (slope,) = torch.autograd.grad(found, p)
    assert found.item() == pytest.approx(loss, abs=1e-6)
    expected = {
        0.5: [0.002293073572218418, -0.004955118056386709, 0.0021108086220920086, 0.0005512355710379779],
        0.9: [-0.0005077543901279569, -0.00011211142555112019, 0.00021402105630841106, 0.0004058445629198104],
        0.97: [0.0] * 4,
    }[bound]
    torch.testing.assert_close(slope[0, 0], torch.tensor(expected), rtol=1e-3, atol=1e-6)


def test_equal_renamed_and_independent_clusterings() -> None:
    items = torch.arange(36)
    one, other = F.one_hot(items % 6, 6).float(), F.one_hot(items // 6, 6).float()
    found = likeness(torch.stack([one, one[:, torch.tensor([3, 1, 0, 5, 2, 4])], other]))
    torch.testing.assert_close(found[0, :2], torch.ones(2))
    torch.testing.assert_close(found[0, 2], torch.tensor(1 / 6))
    same = torch.stack([one, one])
    assert likeness_above(same, torch.tensor(1.0)).item() == 0  # there is no bound
    assert likeness_above(same, torch.tensor(0.9)).item() == pytest.approx(0.1, abs=1e-6)
    assert likeness_above(one[None], torch.tensor(0.1)).item() == 0  # one clustering has nothing to be like


# The bound


@given(st.integers(0, 10_000), st.integers(2, 4), st.integers(1, 5))
@settings(deadline=None, max_examples=15)
def test_the_mean_nmi_is_scikit_learns(seed: int, count: int, k: int) -> None:
    labels = torch.randint(k, (20, count), generator=torch.Generator().manual_seed(seed))
    columns = labels.T.tolist()
    expected = [normalized_mutual_info_score(a, b) for i, a in enumerate(columns) for b in columns[i + 1 :]]
    assert mean_nmi(labels, k).item() == pytest.approx(sum(expected) / len(expected), abs=1e-5)


def test_the_bound_goes_where_the_authors_does() -> None:
    """`DivClustLoss.get_NMI_threshold` there, bank of 30, a look every second step, target 0.3; the NMI is
    scikit-learn's on that bank."""
    diversity = Diversity(3, 4, 30)
    bounds, nmis = [], []
    for step in range(7):
        diversity.push(answers_of(3, 12, 4, start=0.3 * step).argmax(2).T)
        if step % 2 == 0:
            diversity.adapt(0.3, 0.99)
        bounds.append(diversity.bound.item())
        nmis.append(diversity.nmi.item())
    assert bounds == pytest.approx([0.99, 0.99, 0.9801, 0.9801, 0.970299, 0.970299, 0.96059601], rel=1e-6)
    assert nmis[::2] == pytest.approx([0.5185655, 0.4475500, 0.4718405, 0.4480431], abs=1e-5)


def test_the_bank_holds_the_latest_answers() -> None:
    diversity = Diversity(2, 50, 5)
    for begin in (0, 3, 6):
        diversity.push(torch.arange(begin, begin + 3)[:, None].repeat(1, 2))
    assert sorted(diversity.labels[:, 0].tolist()) == [4, 5, 6, 7, 8]
    diversity.push(torch.arange(10, 17)[:, None].repeat(1, 2))  # more than it holds
    assert sorted(diversity.labels[:, 0].tolist()) == [12, 13, 14, 15, 16]


def test_the_bound_stays_within_zero_and_one() -> None:
    diversity = Diversity(2, 3, 10)
    diversity.push(torch.zeros(10, 2, dtype=torch.int64))
    diversity.adapt(1.0, 0.9)
    assert diversity.bound.item() == 1  # raised, and cut
    for _ in range(30):
        diversity.adapt(0.5, 0.5)
    assert 0 <= diversity.bound.item() < 1e-6


# The losses


def test_the_losses_are_the_means_of_the_authors_over_clusterings() -> None:
    """`CCLoss` there: each clustering's contrast of groups, its balance, and the contrast of items."""
    method = replace(METHOD, clusterings=3)
    net = net_of(method, 4)
    p, q = (2 * waves(3, 6, 4, start=start) for start in (2, 3))
    net.project = Fixed(waves(6, 5, start=0), waves(6, 5, start=1))
    net.clusterings = nn.ModuleList(Fixed(a, b) for a, b in zip(p, q, strict=True))
    batch = batch_at()
    batch.views = {name: view[:6] for name, view in batch.views.items()}
    losses = next(method.step(net, batch))
    assert losses["group"].item() == pytest.approx(1.78290855884552, rel=1e-5)
    assert losses["balance"].item() == pytest.approx(0.06537874788045883, rel=1e-4)
    assert losses["instance"].item() == pytest.approx(1.9338650703430176, rel=1e-5)
    expected = torch.tensor([1.7314829 + 0.0961593, 1.7552011 + 0.0532138, 1.8620421 + 0.0467631])
    torch.testing.assert_close(net.diversity.losses, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", [replace(METHOD, clusterings=1), replace(METHOD, target=1.0)])
def test_one_clustering_or_no_target_is_plain_cc(method: DivClust) -> None:
    losses = next(method.step(net_of(method), batch_at()))
    assert set(losses) == {"instance", "group", "balance"}


def test_everything_is_trained() -> None:
    net = net_of(METHOD)
    net.diversity.bound.fill_(0.1)
    for losses in METHOD.step(net, batch_at()):
        assert losses["diversity"].item() > 0
        torch.stack(list(losses.values())).sum().backward()
    assert touched(net) == {"backbone", "project", "clusterings"}
    (group,) = METHOD.optimiser(net).param_groups
    assert {id(p) for p in group["params"]} == {id(p) for p in net.parameters()}


def test_the_diversity_is_of_the_answers_on_both_views_by_the_bound_that_they_move() -> None:
    method = replace(METHOD, balance_weight=3.0, target=0.99, pace=0.8, interval=2)
    for number, bound in ((0, 0.5 * 1.2), (1, 0.5)):  # raised, since they are less alike than that; then left
        net, batch = net_of(method), batch_at()
        net.diversity.bound.fill_(0.5)
        batch.number = number
        with torch.no_grad():
            p, q = (
                torch.stack([head(net.backbone(view)) for head in net.clusterings]).softmax(2)
                for view in (batch.one, batch.two)
            )
        both = torch.cat([p, q], dim=1)
        losses = next(method.step(net, batch))
        assert torch.equal(net.diversity.labels[: 2 * SIZE], both.argmax(2).T.int())
        above = [max(0.0, slow_likeness(both[a], both[b]) - bound) for a in range(4) for b in range(4) if a != b]
        assert losses["diversity"].item() == pytest.approx(sum(above) / 4, rel=1e-4)
        uneven = [math.log(3) + float((m * m.log()).sum()) for m in (*p.mean(1), *q.mean(1))]
        assert losses["balance"].item() == pytest.approx(3 * sum(uneven) / 4, rel=1e-3)


def test_losses_are_summed_within_an_epoch() -> None:
    net = net_of(METHOD)
    for _ in range(2):
        next(METHOD.step(net, batch_at()))
    assert bool((net.diversity.losses > 0).all())
    begin_epoch(METHOD, net, EpochStart(1, lambda **_: torch.zeros(0), torch.Generator()))
    assert net.diversity.losses.tolist() == [0.0] * 4


# The answer


def test_the_answer_is_the_vote_or_the_clustering_of_lowest_loss() -> None:
    net, features = net_of(METHOD), blobs()
    truth = torch.arange(60) % 3
    clean = 3.0 * F.one_hot(truth, 3)
    names = [torch.tensor(order) for order in ([1, 2, 0], [0, 1, 2], [2, 0, 1], [0, 2, 1])]
    wrong = clean[:, names[1]].clone()
    wrong[:5] = wrong[:5].roll(1, dims=1)
    said = [clean[:, names[0]], wrong, clean[:, names[2]], clean[:, names[3]]]
    net.clusterings = nn.ModuleList(Fixed(one, one, one) for one in said)
    net.diversity.losses.copy_(torch.tensor([3.0, 1.0, 2.0, 4.0]))
    asked: list[Tensor] = [features]
    METHOD.finish(net, asked.pop, 3, torch.Generator())  # once: it is a pass over all items
    p = predict(METHOD, net, features)
    assert list(p) == ["consensus", "single"]
    torch.testing.assert_close(p["single"], wrong.softmax(1))
    assert torch.equal(p["consensus"].argmax(1), truth)  # three of four, by the names of the second
    torch.testing.assert_close(p["consensus"].sum(1), torch.ones(60))
    assert list(predict(replace(METHOD, answer="single"), net, features)) == ["single", "consensus"]


def test_the_views_are_distorted_as_strongly_as_the_settings_say() -> None:
    for view in views_of(DivClust(jitter=1.0, blur=0.5)).values():
        own = view.settings_of(ViewSettings(), ())
        assert own.jitter == pytest.approx((0.8, 0.8, 0.8, 0.2))
        assert own.blur == 0.5


def test_a_batch_holds_an_item_of_each_group() -> None:
    facts = Facts(n=5000, k=300, kind="images", device="cuda", side=32)
    plan = make_plan(RunSettings(n_clusters=300, method="divclust", preset="paper"), facts, "photos")
    assert plan.method.batch_size == 300
    assert math.isclose(plan.method.target, 0.9)
