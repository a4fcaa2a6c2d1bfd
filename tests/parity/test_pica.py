"""PICA against numbers that the authors' released code gave for the stored inputs (README.md of this folder)."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from coterie.networks.backbones import build_backbone
from coterie.objectives.partition import imbalance, partition_loss, partition_uncertainty
from coterie.types import ItemSpec


def stored() -> dict[str, Tensor]:
    with np.load(Path(__file__).parent / "data" / "pica.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


NUMBERS = stored()


@pytest.mark.parametrize("case", ["primary", "over", "sure", "near"])
def test_loss_and_gradients_are_the_authors(case: str) -> None:
    x, y = (NUMBERS[f"{case}.{name}"].float().requires_grad_() for name in "xy")
    p, q = x.softmax(1), y.softmax(1)
    partition = partition_loss(partition_uncertainty(p.repeat(len(q) // len(p), 1), q))
    loss = partition + 2 * imbalance(p)
    loss.backward()
    torch.testing.assert_close(partition.detach(), NUMBERS[f"{case}.partition"])
    torch.testing.assert_close(loss.detach(), NUMBERS[f"{case}.loss"])
    for logits, name in ((x, "dx"), (y, "dy")):
        assert logits.grad is not None
        torch.testing.assert_close(logits.grad, NUMBERS[f"{case}.{name}"], rtol=1e-4, atol=1e-8)


def test_sobel_filter_and_residual_net_are_the_authors() -> None:
    images = NUMBERS["images"].float()
    net = build_backbone("sobel+pica-resnet34", ItemSpec("images", channels=3, height=32, width=32))
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for p in net.parameters():
            if p.ndim == 4:  # convolutions, in the order of the net, as on the other side
                p.copy_(torch.randn(p.shape, generator=generator) * (2 / p[0].numel()) ** 0.5)
        torch.testing.assert_close(net.sobel(images)[:2], NUMBERS["edges"], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(net.train()(images), NUMBERS["features"], rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(net.eval()(images), NUMBERS["features_after"], rtol=1e-3, atol=1e-2)
