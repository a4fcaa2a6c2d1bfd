"""A method's net before training, with weights that are always the same."""

from __future__ import annotations

import torch

from coterie.contract import Method
from coterie.networks.backbones import build_backbone
from coterie.networks.net import Net
from coterie.types import ItemSpec


def untrained_net(method: Method, backbone: str, spec: ItemSpec, k: int) -> Net:
    """The net for such items, in their own scale."""
    torch.manual_seed(0)
    width = spec.dim or spec.channels
    net = Net(build_backbone(backbone, spec), spec, torch.zeros(width), torch.ones(width), half=False)
    net.add(method.heads(net, k))
    return net.train()
