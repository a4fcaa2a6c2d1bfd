"""How far the gradients of every built-in net, as a run lays it out, are from torch's own; for `test_strided.py`.

Called with the numbers of threads. A wrong kernel may hang or abort, hence a process of its own. Prints one line of
JSON for each net.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from coterie.networks.backbones import SmallResNet, build_backbone
from coterie.networks.net import Net
from coterie.types import ItemSpec

WIDTHS = (*range(1, 9), 12, 15, 16)
LIGHT = ("ae", "ae-conv", "sobel+small-4", "sobel+ae-conv")
HEAVY = ("pica-resnet34", "resnet18", "repvgg_a0", "gernet_s")


def images(channels: int, side: int) -> ItemSpec:
    return ItemSpec("images", channels=channels, height=side, width=side)


def nets() -> Iterator[tuple[str, ItemSpec, nn.Module]]:
    """Every kind of net for images; any width of `small-N`, also those that may not be asked for."""
    for side, channels in ((8, 1), (8, 3), (32, 1), (32, 3)):
        spec = images(channels, side)
        for width in WIDTHS:
            yield f"small-{width}", spec, SmallResNet(width, channels, large=False)
        for name in LIGHT:
            yield name, spec, build_backbone(name, spec)
    for name in HEAVY:
        yield name, images(3, 8), build_backbone(name, images(3, 8))
    yield "small-4", images(3, 72), SmallResNet(4, 3, large=True)
    for dim in (12, 70):
        spec = ItemSpec("embeddings", dim=dim)
        yield "mlp", spec, build_backbone("mlp", spec)
        yield "ae", spec, build_backbone("ae", spec)


def gradients(net: nn.Module, items: Tensor) -> Tensor:
    net.train().zero_grad()
    net(items).square().mean().backward()
    return torch.cat([p.grad.double().flatten() for p in net.parameters() if p.grad is not None])


def error(trunk: nn.Module, spec: ItemSpec, threads: list[int]) -> float:
    """The largest relative error of these numbers of threads, against rows, as images come, and no oneDNN."""
    shape = (12, spec.dim) if spec.kind == "embeddings" else (12, spec.channels, spec.height, spec.width)
    items = torch.randn(shape)
    with torch.backends.mkldnn.flags(enabled=False):
        true = gradients(copy.deepcopy(trunk), items)
    size = spec.dim if spec.kind == "embeddings" else spec.channels
    net = Net(trunk, spec, torch.zeros(size), torch.ones(size), half=False)
    worst = 0.0
    for count in threads:
        torch.set_num_threads(count)
        worst = max(worst, float((gradients(net.backbone, items) - true).norm() / true.norm()))
    return worst


if __name__ == "__main__":
    torch.manual_seed(0)
    for name, spec, trunk in nets():
        print(json.dumps([name, str(spec), error(trunk, spec, [int(count) for count in sys.argv[1:]])]), flush=True)
