"""ADC: walks beside a slow twin and the numbers of released code, its terms, rates, settings."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from coterie.contract import Facts, optimisers_of
from coterie.methods.adc import ADC, SpreadCentres, Walk, off_sphere
from coterie.networks.net import Net
from coterie.types import Batch
from helpers.batches import batch_of_views
from helpers.refused import refused_in_plan
from helpers.two_views import DIM, SIZE, net_of, touched, waves

METHOD = ADC(batch_size=SIZE, copies=2, embedding=5, centres=2, dropout=0.0)
FACTS = Facts(n=1000, k=3, kind="images", device="cpu", side=8)


def a_batch(method: ADC, progress: float = 0.5) -> Batch:
    generator = torch.Generator().manual_seed(1)
    views = {name: torch.randn(SIZE, DIM, generator=generator) for name in method.views()}
    return batch_of_views(views, progress=progress, generator=generator)


# Walks


@pytest.mark.parametrize(
    ("scale", "groups", "walk", "visit"),
    [
        (1.0, [0, 0, 1, 1, 2, 2], 2.1661072249981004, 1.619192191204962),
        (3.0, [0, 1, 2, 3, 4, 5], 2.359413905368281, 1.6734587809299373),
    ],
)
def test_the_losses_are_those_of_the_code_that_adc_is_built_on(
    scale: float, groups: list[int], walk: float, visit: float
) -> None:
    """`add_semisup_loss` of haeusser/learning_by_association at 7cdef81 (28 October 2017), computed on 26 November 2026
    in float64 with NumPy in the place of TensorFlow's functions."""
    found = Walk(scale * waves(6, 4, start=0), scale * waves(5, 4, start=1), torch.tensor(groups))
    assert found.loss().item() == pytest.approx(walk, abs=1e-5)
    assert found.visits().item() == pytest.approx(visit, abs=1e-5)


def slow_walk(a: Tensor, b: Tensor, groups: list[int]) -> tuple[float, float, float]:
    """A walk at a time: loss, visits, chance to return."""

    def chances(row: Tensor, others: Tensor) -> list[float]:
        weights = [math.exp(float(row @ other)) for other in others]
        return [weight / sum(weights) for weight in weights]

    there, back = [chances(row, b) for row in a], [chances(row, a) for row in b]
    loss, returned = 0.0, 0.0
    for i, group in enumerate(groups):
        members = [j for j, other in enumerate(groups) if other == group]
        ends = [sum(there[i][m] * back[m][j] for m in range(len(b))) for j in members]
        loss -= sum(math.log(end) for end in ends) / len(members) / len(a)
        returned += sum(ends) / len(a)
    visits = [sum(row[m] for row in there) / len(a) for m in range(len(b))]
    return loss, -sum(math.log(visit) for visit in visits) / len(b), returned


def test_walks_are_their_definition() -> None:
    a, b, groups = torch.randn(7, 3), torch.randn(5, 3), [0, 0, 0, 1, 2, 2, 1]
    found, (loss, visits, returned) = Walk(a, b, torch.tensor(groups)), slow_walk(a, b, groups)
    assert found.loss().item() == pytest.approx(loss, rel=1e-4)
    assert found.visits().item() == pytest.approx(visits, rel=1e-4)
    assert found.returned().item() == pytest.approx(returned, rel=1e-4)


def test_groups_far_apart_are_never_left_and_all_images_are_visited() -> None:
    groups = torch.arange(3).repeat_interleave(2)
    walk = Walk(20 * torch.eye(3)[groups], 20 * torch.eye(3).repeat(4, 1), groups)
    assert walk.returned().item() == pytest.approx(1)
    assert walk.loss().item() == pytest.approx(math.log(2), abs=1e-5)  # of two centres, either
    assert walk.visits().item() == pytest.approx(math.log(12), abs=1e-5)
    lost = Walk(1e3 * torch.eye(2), -1e3 * torch.eye(2), torch.arange(2))
    assert bool(torch.isfinite(lost.loss()))


# One step


def test_the_terms_are_their_definitions() -> None:
    net, twin, batch = net_of(METHOD), net_of(METHOD), a_batch(METHOD)
    (losses,) = list(METHOD.step(net, batch))
    images, one, two = (twin.embed(twin.backbone(batch.views[name])) for name in ("clean", "copy1", "copy2"))
    centres = twin.centres.rows
    first = Walk(centres, images, torch.tensor([0, 0, 1, 1, 2, 2]))
    copied = torch.cat([torch.stack([one[i], two[i]]) for i in range(SIZE)])
    second = Walk(copied, images, torch.arange(SIZE).repeat_interleave(2))
    rows = torch.cat([images, one, two])
    chosen = twin.groups(centres).log_softmax(1)
    expected = {
        "walk": first.loss(),
        "visit": 0.5 * first.visits(),
        "copy_walk": second.loss(),
        "copy_visit": second.visits(),
        "logit": -0.5 * torch.stack([chosen[i, i // 2] for i in range(6)]).mean(),
        "sparsity": 2e-4 * (rows.abs().sum() * 100 / SIZE + centres.abs().sum()),
        "length": 2e-4 * (off_sphere(rows) * 100 / SIZE + off_sphere(centres)),
    }
    assert set(losses) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, msg=name)
    sum(losses.values()).backward()  # type: ignore[union-attr]
    assert touched(net) == {"backbone", "embed", "centres", "groups"}


def test_walks_from_centres_grow_to_their_full_weight() -> None:
    begun, middle, full = (next(iter(METHOD.step(net_of(METHOD), a_batch(METHOD, at)))) for at in (0.0, 0.05, 0.1))
    assert begun["walk"].item() == 0  # type: ignore[index]
    assert middle["walk"].item() == pytest.approx(full["walk"].item() / 2)  # type: ignore[index]
    torch.testing.assert_close(begun["copy_walk"], full["copy_walk"])  # type: ignore[index]


def test_dropout_is_drawn_anew_for_each_view_and_keeps_the_mean() -> None:
    method = ADC(batch_size=SIZE, copies=2, embedding=5, dropout=0.25)
    net, batch = net_of(method), a_batch(method)
    net.backbone = torch.nn.Identity()
    net.embed = torch.nn.Identity()
    ones = torch.ones(SIZE, 3000)
    first, second = (method.embedded(net, batch, ones) for _ in range(2))
    assert first.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert first.mean().item() == pytest.approx(1, abs=0.05)
    assert not torch.equal(first, second)


def test_centres_of_a_group_begin_close_together() -> None:
    torch.manual_seed(0)
    spread = SpreadCentres(10, 4, 128)
    rows = spread.rows.detach().view(10, 4, 128)
    assert (rows - rows.mean(1, keepdim=True)).abs().max() <= 0.02
    assert float(rows.mean(1).std()) == pytest.approx(0.3, rel=0.1)
    assert spread.groups.tolist() == [group for group in range(10) for _ in range(4)]


def parameters(net: Net) -> list[Tensor]:
    (optimiser,) = optimisers_of(METHOD, net).values()
    return [p for group in optimiser.param_groups for p in group["params"]]


def test_the_layer_that_answers_alone_has_weight_decay() -> None:
    net = net_of(METHOD)
    (optimiser,) = optimisers_of(METHOD, net).values()
    assert [group["weight_decay"] for group in optimiser.param_groups] == [0.0, 1e-4]
    assert [p is net.groups.weight for p in optimiser.param_groups[1]["params"]] == [True]
    assert len(parameters(net)) == len(list(net.parameters()))


def test_the_rate_rises_along_a_sigmoid_and_falls_in_steps() -> None:
    assert METHOD.rate(0.0) < 0.01
    assert METHOD.rate(0.015) == pytest.approx(0.5)
    rates = [METHOD.rate(part / 6 + 0.05) for part in range(6)]
    assert rates == pytest.approx([0.33**part for part in range(6)])
    assert METHOD.rate(1.0) == pytest.approx(0.33**5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"batch_size": 2}, r"adc\.batch_size is 2: with 3 groups"),
        ({"dropout": 1.0}, r"adc\.dropout is 1\.0"),
        ({"centres": 0}, r"adc\.centres is 0"),
    ],
)
def test_a_wrong_setting_is_named_before_any_training(given: dict[str, Any], message: str) -> None:
    refused_in_plan("adc", given, FACTS, message)
