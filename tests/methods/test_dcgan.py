"""DCGAN as a method; its nets are tested in tests/networks/test_dcgan.py."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from coterie.algorithms.kmeans import kmeans
from coterie.algorithms.principal import principal_directions
from coterie.contract import optimisers_of
from coterie.methods.dcgan import DCGAN
from coterie.networks.backbones import build_backbone
from coterie.networks.features import extract_features
from coterie.networks.net import Net
from coterie.pipeline import run
from coterie.training.plan import RunSettings
from coterie.types import Batch, InputError, ItemSpec, Source
from helpers.batches import batch_of_views
from helpers.phases import touched_by_step

SPEC = ItemSpec("images", 1, 8, 8)
METHOD = DCGAN()
SETTINGS = RunSettings(
    n_clusters=3, method="dcgan", backbone="dcgan-4", device="cpu", epochs=1, family="glyph", calibrate=False
)


def net_of(name: str = "dcgan-4") -> Net:
    torch.manual_seed(0)
    net = Net(build_backbone(name, SPEC), SPEC, torch.zeros(1), torch.ones(1), half=False)
    net.add(METHOD.heads(net, 3))
    return net.train()


def batch_of(size: int = 16) -> Batch:
    views = {"clean": torch.rand(size, 1, 8, 8, generator=torch.Generator().manual_seed(1))}
    generator = torch.Generator().manual_seed(2)
    return batch_of_views(views, generator=generator, per_epoch=9)


def logits_by_hand(net: Net, images: Tensor) -> Tensor:
    return (net.backbone.trunk.last_map(images) @ net.judge.weight.T + net.judge.bias)[:, 0]


@pytest.mark.parametrize("backbone", ["dcgan-4", "small-4"])
def test_each_step_teaches_one_side_only(backbone: str) -> None:
    net = net_of(backbone)
    assert touched_by_step(METHOD, net, batch_of()) == [{"backbone", "judge"}, {"generator"}]


def test_the_optimisers_are_the_papers() -> None:
    optimisers = optimisers_of(METHOD, net_of())
    assert list(optimisers) == ["discriminator", "generator"]
    for optimiser in optimisers.values():
        assert isinstance(optimiser, torch.optim.Adam)
        (group,) = optimiser.param_groups
        assert (group["lr"], group["betas"]) == (2e-4, (0.5, 0.999))


def test_losses_are_the_logarithms_of_the_papers_probabilities() -> None:
    """-log D(x), -log(1 - D(G(z))), then -log D(G(z)), each batch normalised by itself."""
    net, batch = net_of(), batch_of()
    noise = 2 * torch.rand(16, 100, generator=torch.Generator().manual_seed(2)) - 1
    made = net.generator(noise)
    real, other = logits_by_hand(net, batch.clean).sigmoid(), logits_by_hand(net, made).sigmoid()
    first, second = METHOD.step(net, batch)
    torch.testing.assert_close(first.losses["real"], -real.log().mean())
    torch.testing.assert_close(first.losses["made"], -(1 - other).log().mean())
    torch.testing.assert_close(second.losses["generator"], -other.log().mean())
    torch.testing.assert_close(batch.logged["real_believed"], real.mean())
    torch.testing.assert_close(batch.logged["made_believed"], other.mean())


def test_an_undecided_discriminator_loses_ln_2_each_time() -> None:
    net = net_of()
    torch.nn.init.zeros_(net.judge.weight)
    losses = [value for step in METHOD.step(net, batch_of()) for value in step.losses.values()]
    assert [float(loss.detach()) for loss in losses] == pytest.approx(3 * [math.log(2)])


def test_the_generator_learns_from_the_discriminator_as_it_has_become() -> None:
    net = net_of()
    taken = METHOD.step(net, batch_of())
    next(taken)
    with torch.no_grad():
        net.judge.bias.fill_(3.0)
    moved = next(taken).losses["generator"]
    net = net_of()
    _, still = METHOD.step(net, batch_of())
    assert float(moved.detach()) < float(still.losses["generator"].detach()) - 0.4


def test_the_running_statistics_are_those_of_real_images() -> None:
    net, batch = net_of(), batch_of()
    list(METHOD.step(net, batch))
    other = net_of()
    other.backbone.trunk.last_map(batch.clean)
    for name, value in other.backbone.named_buffers():
        if "running" in name:
            torch.testing.assert_close(dict(net.backbone.named_buffers())[name], value, msg=name)


def test_groups_are_those_of_k_means_on_principal_components(digits: Source) -> None:
    found = run(digits.items.array, SETTINGS)  # type: ignore[attr-defined]
    net, items = found.model.net, digits.items
    trunk = net.backbone.trunk
    assert net.width == 256
    random = torch.Generator().manual_seed(0)
    pooled = extract_features(net, items, by=trunk.convolutions)
    assert pooled.shape[1] == 16 * (4 + 8 + 16)
    centre, directions = principal_directions(pooled.clone(), 5, random)
    parts = (pooled - centre) @ directions.T
    embedding = found.assignments.embedding
    assert embedding is not None
    # The strongest components are the same whatever the solver begins with, but for their signs.
    similar = torch.nn.functional.cosine_similarity(parts[:, :2], embedding[:, :2], dim=0).abs()
    assert float(similar.min()) > 0.99
    expected = kmeans(embedding, 3, generator=random, restarts=20)
    distances = (embedding - net.groups.centres[found.assignments.probabilities.argmax(1)]).square().sum()
    assert float(distances) == pytest.approx(expected.inertia, rel=0.02)


def test_a_handful_of_images_has_fewer_components(digits: Source) -> None:
    few: np.ndarray = digits.items.array[:12]  # type: ignore[attr-defined]
    found = run(few, replace(SETTINGS, n_clusters=2, overrides={"batch_size": 6}))
    embedding = found.assignments.embedding
    assert embedding is not None
    assert not bool(embedding[:, 12:].any())


def test_embeddings_are_refused() -> None:
    with pytest.raises(InputError, match="embeddings"):
        run(np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32), replace(SETTINGS, backbone="auto"))
