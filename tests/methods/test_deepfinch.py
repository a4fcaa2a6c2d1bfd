from __future__ import annotations

import pytest
import torch

from coterie.algorithms.finch import exactly, hierarchy
from coterie.contract import Facts, predict
from coterie.methods.deepfinch import DeepFINCH, learned_levels
from coterie.training.coerce import coerce
from coterie.types import InputError
from helpers.phases import DATA, K, batch_of, net_of, steps, touched


def test_the_loss_is_the_cross_entropy_with_every_level() -> None:
    method = DeepFINCH()
    net = net_of(method)
    batch = batch_of(net)
    (losses,) = list(steps(method, net, batch))
    z = net.backbone(DATA).detach()
    levels = learned_levels(z, K, method.most_groups, "cosine", early_exit=True)
    assert len(levels) >= 1
    expected, begin = 0.0, 0
    for level in levels:
        size = int(level.max()) + 1
        said = net.levels(z[:16]).detach()[:, begin : begin + size].softmax(1)
        expected -= float(sum(said[i, level[i]].log() for i in range(16))) / 16 / len(levels)
        begin += size
    assert losses["levels"].item() == pytest.approx(expected, rel=1e-4)
    assert float(batch.logged["levels"]) == len(levels)
    assert touched(net, losses) == {"backbone", "levels"}


def test_classifiers_and_labels_begin_anew_with_every_hierarchy_and_not_between() -> None:
    method = DeepFINCH(relabel_every=2)
    net = net_of(method)
    list(steps(method, net, batch_of(net, number=0)))
    weights, labels = net.levels.weight.clone(), net.labels.rows.clone()
    with torch.no_grad():
        net.backbone.trunk.code.weight.copy_(
            net.backbone.trunk.code.weight.flip(0) * torch.tensor([1.0, -3.0]).repeat(5)[:, None]
        )
    list(steps(method, net, batch_of(net, number=1)))
    list(steps(method, net, batch_of(net, number=2)))  # of 2 an epoch: the third epoch's begin is batch 4
    assert torch.equal(net.levels.weight, weights)
    assert torch.equal(net.labels.rows, labels)
    list(steps(method, net, batch_of(net, number=4)))
    assert not torch.equal(net.levels.weight, weights)
    bound = 10**-0.5  # drawn as torch's linear layer is
    for drawn in (weights.detach(), net.levels.weight.detach()):
        assert -bound <= float(drawn.min()) < -0.99 * bound
        assert 0.99 * bound < float(drawn.max()) <= bound
    assert not torch.equal(net.labels.rows, labels)


def test_levels_are_learned_from_the_coarsest_on_while_there_is_room() -> None:
    z = torch.randn(300, 10, generator=torch.Generator().manual_seed(1))
    sizes = [int(level.max()) + 1 for level in hierarchy(z)]
    enough = [size for size in sizes if size >= K]
    assert len(enough) >= 2

    def learned(most: int) -> list[int]:
        return [int(level.max()) + 1 for level in learned_levels(z, K, most, "cosine", early_exit=True)]

    assert learned(4096) == enough[::-1]
    assert learned(enough[-1]) == [enough[-1]]
    assert learned(sum(enough) - 1) == enough[:0:-1]
    (alone,) = learned_levels(z, K, K, "cosine", early_exit=True)
    assert torch.equal(alone, exactly(z, hierarchy(z), K))


def test_the_answer_is_finch_of_the_final_code() -> None:
    net = net_of(DeepFINCH()).eval()
    z = net.backbone(DATA).detach()
    method = DeepFINCH()
    method.finish(net, lambda: z, K, torch.Generator())
    found = predict(method, net, z)["finch"].argmax(1)
    partition, levels = exactly(z, hierarchy(z), K), hierarchy(z)
    fine = levels[0]  # of so few items the finest level stays whole
    means = torch.stack([z[fine == group].mean(0) for group in range(int(fine.max()) + 1)])
    owner = torch.stack([partition[fine == group][0] for group in range(len(means))])
    nearest = [int(torch.cosine_similarity(row[None], means).argmax()) for row in z]
    assert torch.equal(found, owner[nearest])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"relabel_every": 0}, r"relabel_every is 0: it must be at least 1"),
        ({"most_groups": 4}, "at least the number of groups, 5"),
    ],
)
def test_settings_that_cannot_work_are_named(settings: dict[str, int], said: str) -> None:
    with pytest.raises(InputError, match=said):
        coerce(DeepFINCH, settings, "deepfinch").check(Facts(100, 5, "images", "cpu", side=8))
