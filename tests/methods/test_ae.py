from __future__ import annotations

import numpy as np
import pytest
import torch

from coterie.algorithms.kmeans import assign
from coterie.contract import Facts, predict
from coterie.methods.ae import AE, practical
from coterie.networks.autoencoder import explained
from coterie.networks.backbones import build_backbone
from coterie.networks.net import Net
from coterie.pipeline import run
from coterie.training.coerce import coerce
from coterie.training.plan import RunSettings
from coterie.types import Batch, InputError, ItemSpec, Source
from helpers.batches import batch_of_views

SPEC = ItemSpec("images", channels=1, height=6, width=5)


def net_of(method: AE) -> Net:
    torch.manual_seed(0)
    net = Net(build_backbone("ae", SPEC), SPEC, torch.zeros(1), torch.ones(1), half=False)
    net.add(method.heads(net, 3))
    return net.train()


def batch_of(images: torch.Tensor) -> Batch:
    generator = torch.Generator().manual_seed(1)
    return batch_of_views({"shifted": images}, generator=generator)


IMAGES = torch.rand(9, 1, 6, 5, generator=torch.Generator().manual_seed(2))


def test_the_loss_is_the_mean_squared_error_of_the_shifted_image() -> None:
    net, batch = net_of(AE()), batch_of(IMAGES)
    (losses,) = list(AE().step(net, batch))
    told = net.decoder(net.backbone(IMAGES)).view_as(IMAGES).detach()
    squares = [(float(a) - float(b)) ** 2 for a, b in zip(told.flatten(), IMAGES.flatten(), strict=True)]
    assert set(losses) == {"reconstruction"}
    assert losses["reconstruction"].item() == pytest.approx(sum(squares) / len(squares), rel=1e-4)


def test_nothing_is_explained_by_the_mean_image_and_all_by_the_image_itself() -> None:
    net, batch = net_of(AE()), batch_of(IMAGES)
    last = net.decoder.trunk[-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(IMAGES.mean(0).flatten())
    list(AE().step(net, batch))
    assert float(batch.logged["explained"]) == pytest.approx(0.0, abs=1e-5)


def test_of_copies_nothing_is_explained_and_of_near_copies_the_share_has_a_bound() -> None:
    errors, item = torch.full((4,), 0.3), torch.rand(1, 30, generator=torch.Generator().manual_seed(0))
    assert float(explained(errors, item.expand(4, -1))) == 0
    near = item + 0.01 * torch.randn(4, 30, generator=torch.Generator().manual_seed(1))
    assert float(explained(errors, near)) == -1
    assert float(explained(0.25 * near.var(0, correction=0).mean().expand(4), near)) == pytest.approx(0.75)


def test_encoder_and_decoder_are_trained_and_nothing_else() -> None:
    net = net_of(AE())
    (losses,) = list(AE().step(net, batch_of(IMAGES)))
    losses["reconstruction"].backward()
    touched = {name.split(".")[0] for name, p in net.named_parameters() if p.grad is not None and p.grad.any()}
    assert touched == {"backbone", "decoder"}
    optimised = {id(p) for group in AE().optimiser(net).param_groups for p in group["params"]}
    assert optimised == {id(p) for p in net.parameters()}


def test_the_answer_is_k_means_on_the_raw_code() -> None:
    net = net_of(AE())
    z = torch.randn(60, 10, generator=torch.Generator().manual_seed(3)) + 2 * torch.eye(10)[torch.arange(60) % 3]
    AE().finish(net, lambda: z, 3, torch.Generator().manual_seed(0))
    p = predict(AE(), net, z)["kmeans"]
    assert torch.equal(p.argmax(1), assign(z, net.groups.centres)[0])
    assert len(p.argmax(1).unique()) == 3
    scaled = predict(AE(), net, 2 * z)["kmeans"]
    assert not torch.allclose(p, scaled)  # the length of a code counts


def test_a_run_sees_pixels_as_fractions_and_reconstructs_better_than_the_mean(digits: Source) -> None:
    settings = RunSettings(n_clusters=4, method="ae", device="cpu", family="glyph", epochs=12, calibrate=False)
    done = run(digits.items.array, settings)  # type: ignore[attr-defined]
    net = done.model.net
    assert (net.mean.tolist(), net.std.tolist()) == ([0.0], [1.0])
    assert done.model.backbone == "ae"
    explained = [record.health["explained"] for record in done.history.records]
    assert explained[-1] > max(0.0, explained[0])


def test_embeddings_are_scaled_to_the_unit_range_feature_by_feature() -> None:
    data = np.random.default_rng(0).normal(size=(80, 6)).astype(np.float32) * np.arange(6, dtype=np.float32)
    net = run(data, RunSettings(n_clusters=3, method="ae", device="cpu", epochs=1, calibrate=False)).model.net
    scaled = (torch.from_numpy(data) - net.mean) / net.std
    torch.testing.assert_close(scaled.amin(0), torch.zeros(6))
    torch.testing.assert_close(scaled.amax(0), torch.tensor([0.0, 1, 1, 1, 1, 1]))


def test_the_practical_preset_counts_iterations() -> None:
    facts = Facts(n=70_000, k=10, kind="images", device="cpu", side=28)
    found = practical(facts)
    assert found["epochs"] * (70_000 // found["batch_size"]) == pytest.approx(10_000, rel=0.02)


def test_restarts_must_be_positive() -> None:
    with pytest.raises(InputError, match=r"ae\.restarts is 0"):
        coerce(AE, {"restarts": 0}, "ae").check(Facts(n=10, k=2, kind="images", device="cpu"))
