"""DEPICT as a method; its auto-encoder is tested in tests/networks/test_depict.py."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from coterie.contract import Facts, begin_epoch, check
from coterie.methods.depict import DEPICT
from coterie.networks.backbones import build_backbone
from coterie.networks.net import Net
from coterie.pipeline import run
from coterie.training.plan import RunSettings, make_plan
from coterie.types import Batch, EpochStart, InputError, ItemSpec, Source
from helpers.batches import batch_of_views
from helpers.phases import touched_by_step

SPEC, K = ItemSpec("images", 1, 8, 8), 3
IMAGES = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(1))
METHOD = DEPICT(epochs=10, pretraining=0.3, labelling=0.2, restarts=2)
P = torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.1, 0.1, 0.8], [0.6, 0.3, 0.1]])


def net_of(method: DEPICT = METHOD) -> Net:
    torch.manual_seed(0)
    net = Net(build_backbone("depict", SPEC), SPEC, torch.zeros(1), torch.ones(1), half=False)
    net.add(method.heads(net, K))
    return net.train()


def batch_of(per_epoch: int = 9, number: int = 1) -> Batch:
    """Of the first 16 images; as it is, not the first of its epoch."""
    return batch_of_views(
        {"clean": IMAGES[:16]}, generator=torch.Generator().manual_seed(2), per_epoch=per_epoch, number=number
    )


def begin(method: DEPICT, net: Net, number: int) -> EpochStart:
    def features(half: bool = False, by: Any = None, most: int | None = None) -> Tensor:
        return net.backbone(IMAGES).detach()

    epoch = EpochStart(number, features, torch.Generator().manual_seed(number))
    begin_epoch(method, net, epoch)
    return epoch


def losses_of(method: DEPICT, net: Net) -> dict[str, Tensor]:
    (losses,) = list(method.step(net, batch_of()))
    assert isinstance(losses, dict)
    return losses


def test_targets_and_their_cross_entropy_are_the_authors() -> None:
    """herandy/DEPICT at e75840d, functions.py, train_depict: its two lines (one commented out) in numpy on P."""
    squared, balanced = DEPICT(target="squared").targets(P), DEPICT().targets(P)
    expected = [[0.83011765, 0.14305882, 0.02682353], [0.49668874, 0.37748344, 0.12582781],
                [0.00957447, 0.02021277, 0.97021277], [0.63622975, 0.33578792, 0.02798233]]  # fmt: skip
    torch.testing.assert_close(squared, torch.tensor(expected))
    expected = [[0.62700202, 0.26028938, 0.11270861], [0.42103453, 0.36704940, 0.21191607],
                [0.07987595, 0.11605707, 0.80406697], [0.51647536, 0.37521065, 0.10831399]]  # fmt: skip
    torch.testing.assert_close(balanced, torch.tensor(expected))
    for q, loss in ((squared, 0.6670395533932906), (balanced, 0.8931120158234663)):
        assert float(-(q * P.log()).sum(1).mean()) == pytest.approx(loss, rel=1e-5)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), target=st.sampled_from(["balanced", "squared"]))
def test_targets_are_probabilities_and_make_large_groups_smaller(seed: int, target: Any) -> None:
    p = (3 * torch.randn(50, 4, generator=torch.Generator().manual_seed(seed))).softmax(1)
    q = DEPICT(target=target).targets(p)
    torch.testing.assert_close(q.sum(1), torch.ones(50))
    if target == "balanced":
        sizes = p.sum(0)
        large, small = int(sizes.argmax()), int(sizes.argmin())
        assert bool((q[:, large] / q[:, small] <= p[:, large] / p[:, small] * (1 + 1e-4)).all())


def test_a_group_that_nobody_is_in_stays_empty() -> None:
    p = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    for target in ("balanced", "squared"):
        assert torch.equal(DEPICT(target=target).targets(p), p)  # type: ignore[arg-type]


def test_the_losses_by_hand() -> None:
    """The noise in the order of drawing, lasagne's: values that stay are divided by the chance that they do."""
    method, net = replace(METHOD, noise=0.4, cluster_weight=2.0), net_of()
    net.targets.fill(P.repeat(10, 1))
    losses = losses_of(method, net)
    encoder, batch = net.backbone.trunk, batch_of()

    def dropped(x: Tensor) -> Tensor:
        return x * ((batch.uniform(x) + 1) / 2 < 0.6) / 0.6

    x = 2 * batch.clean - 1
    first = torch.nn.functional.leaky_relu(encoder.first(dropped(x)), 0.01)
    second = torch.nn.functional.leaky_relu(encoder.second(dropped(first)), 0.01)
    noisy = encoder.code(second.flatten(1)).tanh()
    clean = encoder.layers(batch.clean)
    told = net.decoder(noisy)
    errors = [float((told[i] - clean[i]).square().mean().detach()) for i in range(3)]
    assert float(losses["reconstruction"].detach()) == pytest.approx(errors[0], rel=1e-4)
    assert float(losses["layers"].detach()) == pytest.approx(0.1 * (errors[1] + errors[2]), rel=1e-4)
    said = (noisy @ net.groups.weight.T + net.groups.bias).softmax(1).detach()
    total = sum(-float(P[i % 4][k] * said[i][k].log()) for i in range(16) for k in range(K))
    assert float(losses["clusters"].detach()) == pytest.approx(2 * total / 16, rel=1e-4)


def test_without_noise_both_passes_are_one() -> None:
    method, net = replace(METHOD, noise=0.0), net_of()
    losses, layers = losses_of(method, net), net.backbone.trunk.layers(IMAGES[:16])
    told = net.decoder(layers[-1])
    torch.testing.assert_close(losses["reconstruction"], (told[0] - layers[0]).square().mean())


def test_the_parts_of_a_stage() -> None:
    """Three epochs alone, two with K-means' labels, then targets that change."""
    net = net_of()
    for number in (0, 1, 2):
        begin(METHOD, net, number)
        assert set(losses_of(METHOD, net)) == {"reconstruction", "layers"}
    begin(METHOD, net, 3)
    labels = net.targets.rows.clone()
    assert labels.shape == (40, K)
    assert set(labels.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(labels.sum(1), torch.ones(40))
    assert set(losses_of(METHOD, net)) == {"reconstruction", "layers", "clusters"}
    with torch.no_grad():
        net.groups.weight.mul_(2)  # as training may leave it
    assert "moved" not in begin(METHOD, net, 4).logged
    assert torch.equal(net.targets.rows, labels)
    assert float(net.groups.weight.detach().norm(dim=1)[0]) == pytest.approx(2.0)  # placed once only
    epoch = begin(METHOD, net, 5)
    p = net.groups(net.backbone(IMAGES)).softmax(1).detach()
    torch.testing.assert_close(net.targets.rows, METHOD.targets(p))
    torch.testing.assert_close(epoch.logged["moved"], (METHOD.targets(p) - labels).square().mean())
    assert not epoch.ended
    assert begin(METHOD, net, 6).ended  # nothing was learned since


def test_the_groups_begin_as_k_means_centres_of_length_1() -> None:
    net = net_of()
    begin(METHOD, net, 3)
    codes, labels = net.backbone(IMAGES).detach(), net.targets.rows.argmax(1)
    means = torch.stack([codes[labels == k].mean(0) for k in range(K)])
    torch.testing.assert_close(
        net.groups.weight.detach(), means / means.norm(dim=1, keepdim=True), rtol=1e-3, atol=1e-4
    )
    assert not net.groups.bias.any()


def test_what_a_step_moves() -> None:
    net = net_of()
    assert touched_by_step(METHOD, net, batch_of()) == [{"backbone", "decoder"}]
    begin(METHOD, net, 3)
    assert touched_by_step(METHOD, net, batch_of()) == [{"backbone", "decoder", "groups"}]


def test_shares_must_leave_epochs_to_the_targets() -> None:
    facts = Facts(100, 3, "images", "cpu", side=8)
    check(DEPICT(pretraining=0.9, labelling=0.05), facts)
    with pytest.raises(InputError, match=r"depict\.pretraining \(0\.9\) and depict\.labelling \(0\.1\) are shares"):
        check(DEPICT(pretraining=0.9, labelling=0.1), facts)


def test_the_published_rows_take_the_codes_target() -> None:
    facts = Facts(70_000, 10, "images", "cuda", side=28)
    (method,) = make_plan(RunSettings(n_clusters=10, method="depict", preset="paper"), facts, "mnist").stages
    assert method == DEPICT(target="squared")


def test_another_backbone_is_refused(digits: Source) -> None:
    few = RunSettings(3, "depict", backbone="small-4", device="cpu", epochs=1, family="glyph", calibrate=False)
    with pytest.raises(InputError, match="DEPICT rebuilds the layers of its own encoder"):
        run(digits.items.array, few)  # type: ignore[attr-defined]
