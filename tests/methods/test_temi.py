"""TEMI: the loss's known values, a slow twin, the teachers, the batched heads beside single ones, a short run."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

from coterie.contract import Facts
from coterie.methods.temi import TEMI, Balance, HeadBank, apart, likeness, practical
from coterie.networks.backbones import build_backbone
from coterie.networks.net import Net
from coterie.pipeline import RunResult, run
from coterie.training.plan import RunSettings, make_plan
from coterie.types import Batch, InputError, ItemSpec
from helpers.batches import batch_of_views
from helpers.vectors import groups_of_vectors

SETTINGS = RunSettings(n_clusters=3, method="temi", device="cpu", calibrate=False)
SMALL = TEMI(heads_tried=2, hidden=8, out=6, batch_size=12, neighbours=4, momentum=0.9, learning_rate=0.05)


def logs(*rows: tuple[float, ...]) -> Tensor:
    """Probabilities as logarithms (items, one head, groups)."""
    return torch.tensor(rows, dtype=torch.float64)[:, None].log()


def answers(seed: int, b: int = 5, h: int = 3, k: int = 4) -> Tensor:
    return torch.randn(b, h, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).log_softmax(2)


@pytest.mark.parametrize(
    ("prior", "beta", "value"),
    [((0.5, 0.5), 0.6, -0.577799), ((0.5, 0.5), 1.0, -0.215111), ((0.6, 0.4), 0.6, -0.494184)],
)
def test_known_values_of_the_loss(prior: tuple[float, float], beta: float, value: float) -> None:
    pi = torch.tensor([prior], dtype=torch.float64)
    assert float(apart(logs((0.8, 0.2)), logs((0.7, 0.3)), pi, beta)) == pytest.approx(value, abs=1e-6)
    assert float(likeness(logs((0.8, 0.2)), logs((0.7, 0.3)))) == pytest.approx(0.62)


def test_no_group_at_all_is_worse_than_sure_equal_ones() -> None:
    equal = torch.full((1, 10), 0.1, dtype=torch.float64)
    sure = torch.full((10,), 1e-30, dtype=torch.float64)
    sure[3] = 1
    assert float(apart(logs(tuple([0.1] * 10)), logs(tuple([0.1] * 10)), equal, 0.6)) == pytest.approx(
        -1.842068, abs=1e-6
    )
    assert float(apart(sure.log()[None, None], sure.log()[None, None], equal, 0.6)) == pytest.approx(
        -2.302585, abs=1e-6
    )


def test_the_loss_is_what_the_formula_says() -> None:
    s, t, prior = answers(0), answers(1), answers(2, b=1)[0].exp()
    for item in range(5):
        for head in range(3):
            pairs = zip(s[item, head].exp(), t[item, head].exp(), prior[head], strict=True)
            expected = -math.log(sum((float(a) * float(b)) ** 0.6 / float(pi) for a, b, pi in pairs))
            assert float(apart(s, t, prior, 0.6)[item, head]) == pytest.approx(expected)
        alike = sum(float(a.exp() @ b.exp()) for a, b in zip(s[item], t[item], strict=True)) / 3
        assert float(likeness(s, t)[item]) == pytest.approx(alike)


def test_numbers_of_the_authors_code() -> None:
    """losses/multihead_losses.py of github.com/HHU-MMBS/TEMI-official-BMVC2023, run on these numbers: two heads, three
    pairs, four groups, logits before the temperature of .1, β = .6; the priors after one update."""
    values = torch.sin(torch.arange(96, dtype=torch.float64)).view(4, 3, 2, 4) / 5
    s, s2, t, t2 = (v / 0.1 for v in values)
    s, s2, t, t2 = (v.log_softmax(2) for v in (s, s2, t, t2))
    balance = Balance(2, 4).double()
    prior = balance.follow(t, t2, 0.9)
    weight = likeness(t, t2)
    losses = 0.5 * ((weight * apart(s, t2, prior, 0.6)).mean(0) + (weight * apart(s2, t, prior, 0.6)).mean(0))
    np.testing.assert_allclose(losses.numpy(), AUTHORS_LOSSES, atol=1e-5)
    np.testing.assert_allclose(prior[0].numpy(), AUTHORS_PRIOR, atol=1e-5)


AUTHORS_LOSSES = [-0.224726, -0.193307]
AUTHORS_PRIOR = [0.247004, 0.244266, 0.248722, 0.260008]


def test_names_of_groups_do_not_count() -> None:
    s, t, prior = answers(0), answers(1), answers(2, b=1)[0].exp()
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(apart(s[..., order], t[..., order], prior[:, order], 0.6), apart(s, t, prior, 0.6))
    torch.testing.assert_close(likeness(s[..., order], t[..., order]), likeness(s, t))


def test_heads_side_by_side_are_single_heads() -> None:
    torch.manual_seed(0)
    bank, rows = HeadBank(3, 7, 5, 4, 2), torch.randn(9, 7)
    with torch.no_grad():
        for parameter in bank.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    together = bank(rows)
    assert together.shape == (9, 3, 2)
    for head in range(3):
        first = F.gelu(rows @ bank.first[head].T + bank.first_bias[head])
        length = F.normalize(first @ bank.second[head] + bank.second_bias[head], dim=1)
        directions = bank.directions[head] / bank.directions[head].norm(dim=1, keepdim=True)
        expected = length @ directions.T * bank.gain[head]
        torch.testing.assert_close(together[:, head], expected)
        single = HeadBank(1, 7, 5, 4, 2)
        for one, many in zip(single.parameters(), bank.parameters(), strict=True):
            one.data.copy_(many[head : head + 1])
        torch.testing.assert_close(single.one(rows), expected)
        torch.testing.assert_close(single(rows)[:, 0], expected)


def test_heads_begin_small_without_biases_and_with_directions_as_torch_draws_them() -> None:
    torch.manual_seed(0)
    bank = HeadBank(2, 60, 50, 64, 30)
    for weights in (bank.first, bank.second):
        assert float(weights.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert not bank.first_bias.any()
    assert not bank.second_bias.any()
    assert bool((bank.gain == 1).all())
    assert 0.12 < float(bank.directions.detach().max()) <= 0.125  # 64 ** -0.5
    assert -0.125 <= float(bank.directions.detach().min()) < -0.12


def small_net(method: TEMI = SMALL, k: int = 3, d: int = 10) -> Net:
    torch.manual_seed(0)
    spec = ItemSpec("embeddings", dim=d)
    net = Net(build_backbone("identity", spec), spec, torch.zeros(d), torch.ones(d), half=False)
    net.add(method.heads(net, k))
    return net


def batch(number: int = 0, d: int = 10, b: int = 12) -> Batch:
    views = {"own": torch.randn(b, d), "neighbour": torch.randn(b, d)}
    random = torch.Generator().manual_seed(0)
    return batch_of_views(views, progress=0.5, generator=random, number=number, per_epoch=2)


def taken(net: Net, method: TEMI, number: int) -> dict[str, float]:
    optimiser = method.optimiser(net)
    losses = {}
    for losses in method.step(net, batch(number)):
        optimiser.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        optimiser.step()
    return {name: float(value.detach()) for name, value in losses.items()}


def test_the_teachers_have_no_gradient_and_follow() -> None:
    net = small_net()
    before = [p.clone() for p in net.teacher.students.parameters()]
    for own, theirs in zip(net.students.parameters(), before, strict=True):
        assert torch.equal(own, theirs)  # they start alike
    taken(net, SMALL, 5)
    assert all(p.grad is None for p in net.teacher.parameters())
    for teacher, own, was in zip(net.teacher.students.parameters(), net.students.parameters(), before, strict=True):
        assert not torch.equal(own, was)
        torch.testing.assert_close(teacher, 0.9 * was + 0.1 * own)


def test_a_step_is_the_formula_with_the_other_members_teacher() -> None:
    method = replace(SMALL, temperature=0.5, beta=0.7)
    net = small_net(method)
    with torch.no_grad():  # teachers and students that disagree
        for parameter in (*net.students.parameters(), *net.teacher.parameters()):
            parameter += torch.randn_like(parameter)
    pairs = batch(5)
    with torch.no_grad():
        s, s2, t, t2 = (
            (heads(rows) / 0.5).softmax(2).double()
            for heads in (net.students, net.teacher.students)
            for rows in (pairs.own, pairs.neighbour)
        )
    prior, total = 0.9 / 3 + 0.1 * (t.mean(0) + t2.mean(0)) / 2, 0.0
    for i in range(12):
        alike = float((t[i] * t2[i]).sum()) / 2
        for head in range(2):
            for student, teacher in ((s, t2), (s2, t)):
                ratio = (student[i, head] * teacher[i, head]) ** 0.7 / prior[head]
                total -= alike * math.log(float(ratio.sum())) / (12 * 2 * 2)
    (losses,) = method.step(net, pairs)
    assert losses["information"].item() == pytest.approx(total, rel=1e-4)


def test_in_the_first_epoch_the_last_layer_stays() -> None:
    net = small_net()
    for number, stays in [(0, True), (1, True), (2, False)]:
        before = [net.students.directions.clone(), net.students.gain.clone()]
        taken(net, SMALL, number)
        assert [
            torch.equal(a, b) for a, b in zip(before, (net.students.directions, net.students.gain), strict=True)
        ] == [
            stays,
            stays,
        ]


def test_the_last_layer_learns_in_an_only_epoch() -> None:
    net = small_net()
    before = [net.students.directions.clone(), net.students.gain.clone()]
    taken(net, replace(SMALL, epochs=1), 0)
    assert not torch.equal(before[0], net.students.directions)
    assert not torch.equal(before[1], net.students.gain)


def test_the_teacher_of_the_head_with_the_lowest_loss_of_the_last_epoch_answers() -> None:
    net = small_net()
    net.balance.count(torch.tensor([9.0, 1.0]), new=True)
    net.balance.count(torch.tensor([1.0, 2.0]), new=True)  # a new epoch: the one before is forgotten
    net.balance.count(torch.tensor([2.0, 2.0]), new=False)
    assert float(net.balance.spread()) == pytest.approx(0.5)
    with torch.no_grad():
        for parameter in net.teacher.students.parameters():
            parameter += torch.randn_like(parameter)
        SMALL.finish(net, lambda **_: torch.empty(0), 3, torch.Generator())
        rows = torch.randn(6, 10)
        expected = net.teacher.students(rows)[:, 0] / 0.1
        torch.testing.assert_close(SMALL.logits(net, rows)["softmax"], expected)


def test_sizes_of_groups_are_a_moving_average() -> None:
    balance = Balance(1, 2)
    assert balance.prior.tolist() == [[0.5, 0.5]]
    found = balance.follow(logs((0.8, 0.2)).float(), logs((0.6, 0.4)).float(), 0.9)
    torch.testing.assert_close(found, torch.tensor([[0.9 * 0.5 + 0.1 * 0.7, 0.9 * 0.5 + 0.1 * 0.3]]))


def fitted(data: Any, **overrides: Any) -> RunResult:
    return run(data, replace(SETTINGS, overrides={"heads_tried": 3, **overrides}))


def test_groups_are_found() -> None:
    vectors, truth = groups_of_vectors()
    found = fitted(vectors, epochs=20, momentum=0.8)
    assert adjusted_rand_score(truth, found.assignments.probabilities.argmax(1)) == 1.0
    assert found.model.backbone == "identity"
    losses = [record.losses["information"] for record in found.history.records]
    assert losses[-1] < losses[0]
    assert found.history.records[-1].health["agreement"] > 0.9


def test_neighbours_are_those_of_the_largest_cosine_without_the_item_itself() -> None:
    vectors, _ = groups_of_vectors()
    moved = vectors + 5
    net = fitted(moved, epochs=1, neighbours=7).model.net
    unit = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -2)
    expected = np.argsort(-cosine, axis=1)[:, :7]
    assert np.mean([set(a) == set(b) for a, b in zip(expected, net.neighbours.rows.numpy(), strict=True)]) > 0.98
    assert not bool((net.neighbours.rows == torch.arange(90)[:, None]).any())


def test_more_neighbours_than_items_are_refused() -> None:
    with pytest.raises(InputError, match="of 90 items each has at most 89 neighbours"):
        fitted(groups_of_vectors()[0], neighbours=90)


def test_rates_rise_and_stay() -> None:
    assert [TEMI().rate(progress) for progress in (0.0, 0.1, 0.2, 1.0)] == pytest.approx([0, 0.5, 1, 1])
    assert TEMI(warm_up=0).rate(0.0) == 1


def test_settings_of_readme_and_paper() -> None:
    facts = Facts(50_000, 20, "embeddings", "cuda", dim=768)
    code, text = (
        make_plan(replace(SETTINGS, n_clusters=20, preset=preset), facts, "cifar20").method
        for preset in ("paper", "text")
    )
    assert code == TEMI() == TEMI(100, 1024, 16, 50, 0.6, 0.1, 0.996, 0.9, 512, 256, 1e-4, 0.2, 1e-4)
    assert text == TEMI(epochs=200, batch_size=512, heads_tried=50, beta=0.55, warm_up=0.1)


def test_teachers_remember_a_sixteenth_of_a_short_training() -> None:
    small = practical(Facts(1800, 10, "embeddings", "cpu", dim=64))
    steps = small["epochs"] * (1800 // small["batch_size"])
    assert 350 < steps < 450
    assert (1 - small["momentum"]) * steps == pytest.approx(16, rel=0.01)
    assert practical(Facts(300, 3, "embeddings", "cpu", dim=8))["neighbours"] <= 25
