"""JULE: triplets beside a slow twin, batches by groups, the alternation, the rate, settings, a run."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from coterie.contract import Facts
from coterie.methods.jule import JULE, GroupTable, Pixels, embedded, triplets
from coterie.networks.backbones import build_backbone
from coterie.networks.net import Net
from coterie.pipeline import run
from coterie.training.plan import RunSettings
from coterie.types import EpochStart, InputError, ItemSpec
from helpers.batches import batch_of_views
from helpers.refused import refused_in_plan
from helpers.small_nets import untrained_net

K, DIM = 3, 6
SPEC = ItemSpec("embeddings", dim=DIM)


def net_of(method: JULE) -> Net:
    return untrained_net(method, "mlp", SPEC, K)


def blobs(each: int = 12) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    centres = 4 * torch.randn(K, DIM, generator=generator)
    return centres.repeat(each, 1) + torch.randn(K * each, DIM, generator=generator)


def epoch_at(number: int, rows: torch.Tensor, net: Net) -> EpochStart:
    def features(*, half: bool = False, by: Any = None, most: int | None = None) -> torch.Tensor:
        with torch.no_grad():
            return (net.backbone if by is None else by)(rows)

    return EpochStart(number, features, torch.Generator())


# Triplets


@given(seed=st.integers(0, 100), negatives=st.integers(1, 4), weight=st.floats(0.5, 2), margin=st.floats(0, 1))
@settings(max_examples=20, deadline=None)
def test_triplets_are_their_slow_twin(seed: int, negatives: int, weight: float, margin: float) -> None:
    """Without a choice: as many negatives as there are, one item in each other group of an anchor's."""
    generator = torch.Generator().manual_seed(seed)
    z = F.normalize(torch.randn(5, 4, generator=generator, dtype=torch.float64))
    labels = torch.tensor([0, 0, 1, 2, 0])
    found = triplets(z, labels, 20, weight, margin, generator)
    expected = []
    for i in range(5):
        for j in range(i + 1, 5):
            if labels[i] == labels[j]:
                for k in range(5):
                    if labels[k] != labels[i]:
                        near, far = (float((z[i] - z[x]).square().sum()) for x in (j, k))
                        expected.append(max(0.0, weight * near - far + margin))
    assert sorted(found.tolist()) == pytest.approx(sorted(expected), abs=1e-9)
    fewer = triplets(z, labels, negatives, weight, margin, generator)
    assert len(fewer) == 3 * min(negatives, 2)
    assert all(any(value == pytest.approx(other, abs=1e-9) for other in expected) for value in fewer.tolist())


def test_a_pairs_negatives_are_different_items_of_other_groups_and_no_more_than_there_are_groups() -> None:
    z, labels = F.normalize(torch.randn(9, 3)), torch.tensor([0, 0, 1, 1, 1, 1, 1, 1, 2])
    pairs = 1 + 15
    assert len(triplets(z, labels, 20, 1.0, 0.2, torch.Generator())) == pairs * 2


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2]])
def test_without_a_pair_or_another_group_there_is_no_loss(labels: list[int]) -> None:
    method, net = JULE(embedding=4), net_of(JULE(embedding=4))
    net.assigned.fill(torch.tensor(labels)[:, None])
    view = torch.randn(3, DIM)
    batch = batch_of_views({"clean": view})
    (losses,) = method.step(net, batch)
    losses["triplet"].backward()
    assert losses["triplet"].item() == batch.logged["active"].item() == 0


def test_a_step_is_the_mean_of_the_triplets_of_the_items_groups() -> None:
    method = JULE(embedding=4, negatives=1, pair_weight=0.7, margin=0.3)
    net, labels, index = net_of(method), torch.arange(12) % 4 % 3, torch.arange(12).roll(5)
    net.assigned.fill(labels[:, None])
    view = blobs()[:12]
    random = torch.Generator().manual_seed(3)
    batch = batch_of_views({"clean": view}, index=index, generator=random)
    (losses,) = method.step(net, batch)
    z = F.normalize(net.embed(net.backbone(view)))
    expected = triplets(z, labels[index], 1, 0.7, 0.3, torch.Generator().manual_seed(3)).mean()
    torch.testing.assert_close(losses["triplet"], expected)
    assert int(net.steps.done) == 1


# Batches


@given(seed=st.integers(0, 50), together=st.integers(1, 6), n=st.integers(4, 40))
@settings(max_examples=20, deadline=None)
def test_items_of_a_group_come_together_and_none_comes_twice(seed: int, together: int, n: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    table = GroupTable(together)
    labels = torch.randint(4, (n,), generator=generator)
    table.fill(labels[:, None])
    order = table.draw(n, generator)
    assert sorted(order.tolist()) == list(range(n))
    changes = int((labels[order][1:] != labels[order][:-1]).sum()) + 1
    pieces = sum(-(-int((labels == g).sum()) // together) for g in range(4))
    assert changes <= pieces
    assert sorted(GroupTable(together).draw(5, generator).tolist()) == [0, 1, 2, 3, 4]  # before the first epoch


def test_the_embedding_begins_small_and_without_biases() -> None:
    embed = net_of(JULE(embedding=2000)).embed
    assert float(embed.weight.detach().std()) == pytest.approx(0.01, rel=0.05)
    assert not embed.bias.any()


# The alternation


def test_groups_begin_as_chains_and_are_united_every_period_until_k_are_left() -> None:
    method = JULE(embedding=4, period=2, unrolling=0.5, neighbours=5)
    net, rows, counts = net_of(method), blobs(), []
    for number in range(20):
        epoch = epoch_at(number, rows, net)
        before = net.assigned.rows.clone()
        method.begin_epoch(net, epoch)
        counts.append(int(epoch.logged["groups"]))
        assert counts[-1] == int(net.assigned.rows.max()) + 1
        if number % 2:
            assert torch.equal(net.assigned.rows, before)
        assert epoch.ended == (counts[-1] == K and number % 2 == 0)
        if epoch.ended:
            break
    assert counts[0] > K == counts[-1]
    assert all(b == a or b == max(K, a - -(-a // 2)) for a, b in itertools.pairwise(counts))


def test_the_end_groups_all_items_anew_in_the_embedding() -> None:
    method = JULE(embedding=4, neighbours=5)
    net, rows = net_of(method), blobs()
    net.eval()
    method.finish(net, epoch_at(0, rows, net).features, K, torch.Generator())
    said = method.logits(net, net.backbone(rows))["agglomerated"].argmax(1)
    assert len({(int(a), i % K) for i, a in enumerate(said)}) == K
    assert net.groups.means.rows.shape[1] == 4
    torch.testing.assert_close(embedded(net, net.backbone(rows)).norm(dim=1), torch.ones(len(rows)))


def test_the_rate_falls_with_the_number_of_steps() -> None:
    method = JULE(embedding=4, decay=0.5, learning_rate=0.1)
    net = net_of(method)
    optimiser = method.optimiser(net)
    net.steps.done += 6
    optimiser.step()
    assert optimiser.param_groups[0]["lr"] == pytest.approx(0.1 * 4**-0.75)


def test_large_images_are_averaged_down_for_the_first_graph() -> None:
    images = torch.rand(2, 1, 64, 40)
    expected = F.adaptive_avg_pool2d(images, (32, 32)).flatten(1)
    torch.testing.assert_close(Pixels()(images), expected)
    assert Pixels()(torch.rand(2, 3, 8, 8)).shape == (2, 192)
    assert Pixels()(torch.rand(2, 7)).shape == (2, 7)


# The net, settings, a run


@pytest.mark.parametrize(("side", "width"), [(32, 1250), (28, 800), (96, 450), (64, 1250), (8, 200), (5, 50)])
def test_the_net_has_the_papers_stages(side: int, width: int) -> None:
    spec = ItemSpec("images", channels=1, height=side, width=side)
    net = build_backbone("jule", spec)
    assert net.num_features == width
    with torch.no_grad():
        assert net(torch.rand(2, 1, side, side)).shape == (2, width)


def test_images_that_are_too_small_are_refused() -> None:
    with pytest.raises(InputError, match="at least 5 pixels a side"):
        build_backbone("jule", ItemSpec("images", channels=1, height=4, width=9))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"neighbours": 40}, r"jule\.neighbours is 40"),
        ({"unrolling": 0}, r"jule\.unrolling is 0"),
        ({"together": 0}, r"jule\.together is 0"),
    ],
)
def test_a_wrong_setting_is_named_before_any_training(given: dict[str, Any], message: str) -> None:
    facts = Facts(n=40, k=K, kind="embeddings", device="cpu", dim=DIM)
    refused_in_plan("jule", given, facts, message)


def test_a_run_ends_itself_and_finds_groups_far_apart(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = (6 * rng.normal(size=(K, 10))[np.arange(90) % K] + rng.normal(size=(90, 10))).astype(np.float32)
    settings = RunSettings(
        n_clusters=K, method="jule", device="cpu", calibrate=False, overrides={"jule.period": 1, "jule.epochs": 40}
    )
    found = run(x, settings, tmp_path / "run")
    assert len(found.history.records) < 40
    groups = [record.health["groups"] for record in found.history.records]
    assert groups == sorted(groups, reverse=True)
    assert groups[-1] == K
    assert len({(int(a), i % K) for i, a in enumerate(found.assignments.probabilities.argmax(1))}) == K


@pytest.mark.parametrize("calibrate", [False, True])
def test_more_groups_than_chains_leave_some_empty(calibrate: bool) -> None:
    """Chains of nearest neighbours hold two items at least, so 24 items give no more than 12."""
    chosen = RunSettings(n_clusters=16, method="jule", overrides={"jule.epochs": 1}, device="cpu", calibrate=calibrate)
    result = run(blobs(8).numpy(), chosen)
    p = result.assignments.probabilities
    assert bool(torch.isfinite(p).all())
    assert len(p.argmax(1).unique()) <= 12
    assert "of the 16 groups are empty" in " ".join(result.record["warnings"])
