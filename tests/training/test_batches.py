"""The batches of an epoch, made one by one or several at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from coterie.contract import views_of
from coterie.data import open_source
from coterie.methods.moco import MoCo
from coterie.networks.backbones import build_backbone
from coterie.networks.net import Net
from coterie.training import batches
from coterie.training.passes import plan_passes
from coterie.types import Batch, ItemSpec
from coterie.views.settings import ViewSettings


def batches_from(step: int) -> list[Batch]:
    images = np.random.default_rng(0).integers(0, 256, (70, 12, 12, 3)).astype(np.uint8)
    items, method = open_source(images).items, MoCo(batch_size=16, queue=16)
    spec = items.spec
    net = Net(build_backbone("small-4", spec), spec, torch.full((3,), 0.4), torch.full((3,), 0.2), half=False)
    plans = plan_passes(method, items, None, 16, 1)
    maker = batches.BatchMaker(method, net, plans, 5, "photo", ViewSettings(), lambda: torch.empty(0))
    return list(batches.batches_of(maker, epoch=1, step=step))


@pytest.mark.parametrize("step", [0, 1, 3])
@pytest.mark.parametrize("together", [2, 3, 16])
def test_batches_are_the_same_however_many_have_their_views_made_at_once(
    monkeypatch: pytest.MonkeyPatch, step: int, together: int
) -> None:
    alone = batches_from(step)
    monkeypatch.setattr(batches, "batches_at_once", lambda *given: together)
    found = batches_from(step)
    assert len(found) == len(alone) == 4 - step
    for one, other in zip(alone, found, strict=True):
        assert torch.equal(one.index, other.index)
        assert (one.number, one.progress, one.generator.initial_seed()) == (
            other.number,
            other.progress,
            other.generator.initial_seed(),
        )
        for name in views_of(MoCo()):
            torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=1e-4, atol=1e-5)


def test_only_images_on_an_accelerator_are_made_at_once_and_large_ones_fewer() -> None:
    small, large, cuda = ItemSpec("images", 1, 28, 28), ItemSpec("images", 3, 224, 224), torch.device("cuda")
    assert batches.batches_at_once(small, 256, torch.device("cpu")) == 1
    assert batches.batches_at_once(ItemSpec("embeddings", dim=64), 256, cuda) == 1
    assert batches.batches_at_once(small, 256, cuda) == batches.AT_ONCE
    assert batches.batches_at_once(large, 256, cuda) == 1
